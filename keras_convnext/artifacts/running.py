"""Whatever a model was exported to, opened and run in the same way."""

from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.requirements import require
from keras_convnext.artifacts import graph
from keras_convnext.artifacts import metadata as embedded
from keras_convnext.artifacts import tflite
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.models import inspection


def open_artifact(path: PathLike) -> "Artifact":
    """Opens a `.keras` file, or what `keras_convnext.export` wrote.

    Args:
        path: of a `.keras`, `.onnx`, `.tflite`, `.xml` (OpenVINO) or `.pt2`
            file, or of the folder of a SavedModel.

    Returns:
        An `Artifact`.

    Raises:
        ValueError: if it is none of these, or was not written by this package.
        ImportError: without the package that runs it, with the extra.

    Examples:
        >>> artifact = open_artifact("model.onnx")  # doctest: +SKIP
        >>> artifact.predict(images).argmax(axis=1)  # doctest: +SKIP
    """
    path = Path(path)
    kind = "" if path.is_dir() else path.suffix
    if kind not in RUNTIMES or (path.is_dir() and not _is_saved_model(path)):
        raise ValueError(
            "Expected a file that ends in one of "
            f"{[x for x in RUNTIMES if x]}, or the folder of a SavedModel. "
            f"Received: {str(path)!r}"
        )
    if not path.exists():
        raise ValueError(f"The file must exist. Received: {str(path)!r}")
    return RUNTIMES[kind](path)


class Artifact:
    """A model in some runtime.

    Attributes:
        metadata: the dict of `metadata.of_model`.
    """

    def __init__(self, path: PathLike, metadata: dict[str, Any] | None):
        self.path = path
        if metadata is None:
            raise ValueError(
                "Expected a file that `keras_convnext.export` wrote, with its "
                f"preprocessing and classes inside. Received: {str(path)!r}"
            )
        self.metadata = metadata

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The `Preprocessing` of the images, or `None`."""
        return embedded.preprocessing(self.metadata)

    def run(self, inputs: Array) -> dict[str, Array]:
        """Every output by name, for inputs as the artifact takes them.

        Args:
            inputs: array `(n, ...)` in `metadata["data_format"]` and
                `metadata["input_dtype"]`.

        Returns:
            A dict from names to float arrays `(n, ...)`.
        """
        raise NotImplementedError

    def predict(self, images: Array) -> Array:
        """Probabilities, or whatever else the classifier's activation gives.

        Args:
            images: array `(n, height, width, channels)` of 0–255.

        Returns:
            Array `(n, classes)`; logits are put through a softmax.

        Raises:
            ValueError: without a classifier.
        """
        known = self.metadata["outputs"]
        if not {"logits", "scores"} & set(known):
            raise ValueError(
                "Expected a model with its classifier. Received: "
                f"{str(self.path)!r} with outputs {known}. `run` returns them"
            )
        outputs = self.run(embedded.inputs(self.metadata, images))
        if "scores" in outputs:
            return outputs["scores"]
        logits = outputs["logits"].astype("float64")
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)


class KerasArtifact(Artifact):
    """A Keras model in this process, on its backend."""

    def __init__(self, path, model=None):
        if model is None:
            model = keras.saving.load_model(path, compile=False)
        graph.check(model)
        size = inspection.image_shape(model)[:2]
        data_format = inspection.data_format(model)
        super().__init__(path, embedded.of_model(model, size, data_format))
        self.model = graph.named(model)

    def run(self, inputs):
        outputs = self.model.predict_on_batch(inputs)
        return {name: np.asarray(x) for name, x in outputs.items()}


class OnnxArtifact(Artifact):
    """An ONNX file in ONNX Runtime, on the CPU."""

    def __init__(self, path):
        onnxruntime = require("onnxruntime", "ONNX files")
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            str(path), settings, providers=["CPUExecutionProvider"]
        )
        known = self.session.get_modelmeta().custom_metadata_map
        super().__init__(path, embedded.from_json(known.get(embedded.KEY)))

    def run(self, inputs):
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, {"image": inputs})))


class TfliteArtifact(Artifact):
    """A TFLite file in the LiteRT interpreter, image by image."""

    def __init__(self, path):
        interpreter = require("ai_edge_litert.interpreter", "TFLite files")
        super().__init__(path, embedded.from_json(tflite.read_metadata(path)))
        self.interpreter = interpreter.Interpreter(str(path))
        # Allocated for the first image: where any size will do, the file
        # says 1×1, of which nothing is left behind the stem.
        self.shape = None
        (self.input,) = self.interpreter.get_input_details()
        self.outputs = self.interpreter.get_output_details()

    def run(self, inputs):
        results = [self._run_one(image[None]) for image in inputs]
        return {
            name: np.concatenate([result[i] for result in results])
            for i, name in enumerate(self.metadata["outputs"])
        }

    def _run_one(self, image):
        index = self.input["index"]
        if image.shape != self.shape:
            self.interpreter.resize_tensor_input(index, image.shape)
            self.interpreter.allocate_tensors()
            self.shape = image.shape
        self.interpreter.set_tensor(index, _quantized(image, self.input))
        self.interpreter.invoke()
        return [
            _dequantized(self.interpreter.get_tensor(x["index"]), x)
            for x in self.outputs
        ]


class SavedModelArtifact(Artifact):
    """A SavedModel in TensorFlow, whatever backend Keras runs on."""

    def __init__(self, path):
        tensorflow = require("tensorflow", "SavedModels")
        file = path / "assets" / embedded.FILE
        known = file.read_text(encoding="utf-8") if file.exists() else None
        super().__init__(path, embedded.from_json(known))
        self.tensorflow = tensorflow
        self.loaded = tensorflow.saved_model.load(str(path))

    def run(self, inputs):
        serve = self.loaded.signatures["serving_default"]
        outputs = serve(image=self.tensorflow.constant(inputs))
        return {name: x.numpy() for name, x in outputs.items()}


class OpenvinoArtifact(Artifact):
    """OpenVINO IR on the CPU, in float32."""

    def __init__(self, path):
        openvino = require("openvino", "OpenVINO files")
        core = openvino.Core()
        loaded = core.read_model(path)
        info = loaded.get_rt_info()
        known = info[embedded.KEY].value if embedded.KEY in info else None
        super().__init__(path, embedded.from_json(known))
        self.compiled = core.compile_model(
            loaded, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )

    def run(self, inputs):
        results = self.compiled(inputs)
        return {name: results[name] for name in self.metadata["outputs"]}


class TorchArtifact(Artifact):
    """A `.pt2` program in torch, whatever backend Keras runs on."""

    def __init__(self, path):
        self.torch = require("torch", "`.pt2` files")
        extra = {embedded.FILE: ""}
        program = self.torch.export.load(str(path), extra_files=extra)
        super().__init__(path, embedded.from_json(extra[embedded.FILE]))
        self.program = program.module()

    def run(self, inputs):
        with self.torch.no_grad():
            outputs = self.program(self.torch.from_numpy(inputs))
        return {name: x.numpy() for name, x in outputs.items()}


RUNTIMES = {
    "": SavedModelArtifact,
    ".keras": KerasArtifact,
    ".onnx": OnnxArtifact,
    ".pt2": TorchArtifact,
    ".tflite": TfliteArtifact,
    ".xml": OpenvinoArtifact,
}


def operations(path):
    """How often each operation is in a file; `None` where nothing tells."""
    if path.suffix == ".tflite":
        return dict(tflite.operations(path))
    if path.suffix == ".onnx":
        onnx = require("onnx", "ONNX files")
        nodes = onnx.load(path, load_external_data=False).graph.node
        return dict(Counter(node.op_type for node in nodes))
    return None


def _is_saved_model(path):
    return (path / "saved_model.pb").exists()


def _quantized(values, details):
    scale, zero = details["quantization"]
    if not scale:
        return values.astype(details["dtype"])
    limits = np.iinfo(details["dtype"])
    levels = np.round(values / scale) + zero
    return np.clip(levels, limits.min, limits.max).astype(details["dtype"])


def _dequantized(values, details):
    scale, zero = details["quantization"]
    if not scale:
        return values
    return (values.astype("float32") - zero) * np.float32(scale)
