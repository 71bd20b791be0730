"""The formats that models are exported to: one row for each."""

from dataclasses import dataclass

from keras_convnext._util.requirements import is_installed
from keras_convnext._util.requirements import missing


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        ending: of its files; `""` for a folder.
        writer: name of the module in this folder that writes it.
        backend: that the writer runs on; `None` for any.
        writing: modules that the writer needs, of `PACKAGES`.
        running: the same of the runtime.
        quantizations: beside `None`, which is float32.
        beside: name of the file of weights that may lie beside the first.
    """

    ending: str
    writer: str
    backend: str | None
    writing: tuple[str, ...]
    running: tuple[str, ...]
    quantizations: tuple[str, ...] = ()
    beside: str | None = None


FORMATS = {
    "saved_model": Format(
        ending="",
        writer="saved_model",
        backend="tensorflow",
        writing=("tensorflow",),
        running=(),
    ),
    "tflite": Format(
        ending=".tflite",
        writer="tflite",
        backend="tensorflow",
        writing=("tensorflow", "ai_edge_litert"),
        running=(),
        quantizations=("float16", "dynamic", "int8"),
    ),
    "onnx": Format(
        ending=".onnx",
        writer="onnx",
        backend=None,
        writing=("onnx",),
        running=("onnxruntime",),
        quantizations=("int8",),
        beside="{name}.data",  # of large models
    ),
    "openvino": Format(
        ending=".xml",
        writer="openvino",
        backend=None,
        writing=("onnx", "openvino"),
        running=(),
        beside="{stem}.bin",
    ),
    "torch": Format(
        ending=".pt2",
        writer="torch",
        backend="torch",
        writing=("torch",),
        running=(),
    ),
}


def check_packages(format, quantization, photographs):
    """Raises `ImportError` before any work if a package is missing.

    Args:
        format: a key of `FORMATS`.
        quantization: int8 is calibrated in the runtime.
        photographs: whether scikit-learn's are needed to compare on.
    """
    needed = FORMATS[format].writing
    if photographs or quantization == "int8":
        needed += FORMATS[format].running
    if photographs:
        needed += ("sklearn",)
    for module in needed:
        if not is_installed(module):
            raise missing(module, f"exports to {format!r}", extras=["export"])
