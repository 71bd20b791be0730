"""The formats that models are exported to: one row for each."""

from dataclasses import dataclass

from keras_convnext.artifacts.requirements import require_installed


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        ending: of its files; `""` for a folder.
        writer: name of the module in this folder that writes it.
        backend: that the writer runs on; `None` for any.
        writing: packages that the writer needs, by the module to import.
        running: the same of the runtime.
        quantizations: beside `None`, which is float32.
        beside: name of the file of weights that may lie beside the first.
    """

    ending: str
    writer: str
    backend: str | None
    writing: dict[str, str]
    running: dict[str, str]
    quantizations: tuple[str, ...] = ()
    beside: str | None = None


FORMATS = {
    "saved_model": Format(
        ending="",
        writer="saved_model",
        backend="tensorflow",
        writing={"tensorflow": "tensorflow"},
        running={},
    ),
    "tflite": Format(
        ending=".tflite",
        writer="tflite",
        backend="tensorflow",
        writing={
            "tensorflow": "tensorflow",
            "ai_edge_litert": "ai-edge-litert",
        },
        running={},
        quantizations=("float16", "dynamic", "int8"),
    ),
    "onnx": Format(
        ending=".onnx",
        writer="onnx",
        backend=None,
        writing={"onnx": "onnx"},
        running={"onnxruntime": "onnxruntime"},
        quantizations=("int8",),
        beside="{name}.data",  # of large models
    ),
    "openvino": Format(
        ending=".xml",
        writer="openvino",
        backend=None,
        writing={"onnx": "onnx", "openvino": "openvino"},
        running={},
        beside="{stem}.bin",
    ),
    "torch": Format(
        ending=".pt2",
        writer="torch",
        backend="torch",
        writing={"torch": "torch"},
        running={},
    ),
}


def check_packages(format, quantization, photographs):
    """Raises `ImportError` before any work if a package is missing.

    Args:
        format: a key of `FORMATS`.
        quantization: int8 is calibrated in the runtime.
        photographs: whether scikit-learn's are needed to compare on.
    """
    needed = dict(FORMATS[format].writing)
    if photographs or quantization == "int8":
        needed |= FORMATS[format].running
    if photographs:
        needed["sklearn"] = "scikit-learn"
    for module, package in needed.items():
        require_installed(module, package)
