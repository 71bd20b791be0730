"""Exported files, run without any code of this package."""

import json
import subprocess
import sys

import keras
import numpy as np
from families import FAMILIES
from peers import PEERS
from peers import load_peer
from sklearn import datasets

from keras_convnext.images.transform import load_image
from keras_convnext.models.construction import build

PHOTOGRAPHS = datasets.load_sample_images().images
PEER_OF = {"isotropic_layer_scale": "official_isotropic"}
SAVED_MODEL = """
import sys
import numpy as np
import tensorflow as tf

folder, inputs, outputs = sys.argv[1:]
signatures = tf.saved_model.load(folder).signatures
results = {}
for signature, values in np.load(inputs).items():
    values = values.tolist() if values.dtype.kind == "S" else values
    serve = signatures[signature]
    (name,) = serve.structured_input_signature[1]
    for output, x in serve(**{name: tf.constant(values)}).items():
        results[f"{signature}/{output}"] = x.numpy()
np.savez(outputs, **results)
assert "keras_convnext" not in sys.modules
"""


def photographs(height=64, width=64):
    """The two photographs of scikit-learn, as `uint8`."""
    return np.stack(
        [load_image(x, (height, width), mode="center") for x in PHOTOGRAPHS]
    )


def crops(count, size=64):
    """Many different pieces of the photographs."""
    corners = np.random.default_rng(1).integers(0, 428 - 2 * size, (count, 2))
    return np.stack(
        [
            PHOTOGRAPHS[i % 2][y : y + 2 * size : 2, x : x + 2 * size : 2]
            for i, (y, x) in enumerate(corners)
        ]
    )


def pair(name, **options):
    """A reduced model with randomized weights, and its PyTorch original."""
    variant = FAMILIES[name]
    layout = PEER_OF.get(name, "timm")
    peer = PEERS[layout](variant, 11)
    if name == "overlap":
        # Behind two small convolutions all images are the same.
        peer.stem[0].weight.data.mul_(100)
    options = {"input_shape": (64, 64, 3), **options}
    model = build(variant, weights=None, classes=11, **options)
    return load_peer(model, peer, layout), peer


def run_onnx(path, images):
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images})))


def run_tflite(path, images):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    run = interpreter.get_signature_runner("serving_default")
    (entry,) = run.get_input_details().values()
    results = []
    for image in images:
        scale, zero = entry["quantization"]
        if scale:
            image = np.round(image / scale + zero)
        outputs = run(image=image[None].astype(entry["dtype"]))
        for name, details in run.get_output_details().items():
            scale, zero = details["quantization"]
            if scale:
                outputs[name] = (outputs[name].astype(float) - zero) * scale
        results.append(outputs)
    return {k: np.concatenate([x[k] for x in results]) for k in results[0]}


def run_saved_model(path, images):
    results = run_signatures(path, serving_default=images)
    return {key.partition("/")[2]: x for key, x in results.items()}


def run_signatures(path, **inputs_of):
    """Outputs by `signature/name`, in a process of TensorFlow alone."""
    inputs, outputs = path.parent / "inputs.npz", path.parent / "outputs.npz"
    np.savez(inputs, **inputs_of)
    subprocess.run(
        [sys.executable, "-c", SAVED_MODEL, path, inputs, outputs], check=True
    )
    return dict(np.load(outputs))


RUN = {
    "onnx": run_onnx,
    "saved_model": run_saved_model,
    "tflite": run_tflite,
}
ENDING = {"onnx": ".onnx", "saved_model": "", "tflite": ".tflite"}


def outputs_of(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


def metadata_of(path):
    """The JSON text inside, found as a foreign tool would."""
    if path.suffix == ".onnx":
        import onnx

        (entry,) = onnx.load(path).metadata_props
        assert entry.key == "keras_convnext"
        return json.loads(entry.value)
    if path.suffix == ".tflite":
        content = path.read_bytes()
        start = content.index(b'{"producer"')
        text = content[start:].decode(errors="ignore")
        return json.JSONDecoder().raw_decode(text)[0]
    return json.loads((path / "assets" / "keras_convnext.json").read_text())
