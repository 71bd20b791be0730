"""Exported files in their runtimes; `worker` runs this file, without Keras."""

import numpy as np

PRECISIONS = {
    "float32": "f32",
    "mixed_bfloat16": "bf16",
    "mixed_float16": "f16",
}


class Runtime:
    """A file that takes pixels, or else normalized images, channels first."""

    takes_normalized = False

    def prepare(self, images, _):
        if self.takes_normalized:
            images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        return lambda: self.predict(images)

    def finish(self):
        """Results are fetched: there is nothing to wait for."""

    def peak_bytes(self):
        return None


class OnnxRuntimeOurs(Runtime):
    def __init__(self, job):
        import onnxruntime

        if job["dtype"] != "float32":
            raise ValueError("the exported file computes in float32")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        options.log_severity_level = 3
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        known = onnxruntime.get_available_providers()
        providers = [x for x in wanted if x in known]
        self.session = onnxruntime.InferenceSession(
            job["path"], options, providers=providers
        )
        self.device = self.session.get_providers()[0]
        self.input = self.session.get_inputs()[0].name
        # Ours gives the logits beside them.
        self.outputs = [self.session.get_outputs()[0].name]

    def predict(self, images):
        return self.session.run(self.outputs, {self.input: images})[0]


class OnnxRuntimeTimm(OnnxRuntimeOurs):
    takes_normalized = True


class OpenvinoOurs(Runtime):
    def __init__(self, job):
        import openvino

        self.device = "CPU"
        core = openvino.Core()
        model = core.read_model(job["path"])
        shape = model.inputs[0].partial_shape
        shape[0] = job["batch_size"]
        model.reshape(shape)
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[job["dtype"]],
            "INFERENCE_NUM_THREADS": job["threads"],
        }
        self.compiled = core.compile_model(model, self.device, settings)

    def predict(self, images):
        return self.compiled(images)[0]


class OpenvinoTimm(OpenvinoOurs):
    takes_normalized = True
