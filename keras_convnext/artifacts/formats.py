"""The formats that models are exported to: one row for each.

A module of the same name in this folder writes it.
"""

from dataclasses import dataclass
from dataclasses import replace

from keras_convnext._util.requirements import is_installed
from keras_convnext._util.requirements import missing


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        ending: of its files; `""` for a folder.
        writing: modules that the writer needs, of `PACKAGES`.
        running: the same of the runtime.
        backend: that the writer runs on; `None` for any.
        quantizations: beside `None`, which is float32.
        batch: images that its files take at once; `None` for any number.
        beside: name of the file of weights that may lie beside the first.
        inside: of a folder, the file in it that tells the format.
    """

    ending: str
    writing: tuple[str, ...]
    running: tuple[str, ...] = ()
    backend: str | None = None
    quantizations: tuple[str, ...] = ()
    batch: int | None = None
    beside: str | None = None
    inside: str | None = None


# The ONNX file in a folder of Triton or of a web page.
MODEL_FILE = "model.onnx"
ONNX = Format(
    ".onnx",
    ("onnx",),
    running=("onnxruntime",),
    quantizations=("float16", "int8_weight_only", "int8"),
    beside="{name}.data",  # of large models
)
FORMATS = {
    "saved_model": Format(
        "", ("tensorflow",), backend="tensorflow", inside="saved_model.pb"
    ),
    "tflite": Format(
        ".tflite",
        ("tensorflow", "ai_edge_litert"),
        backend="tensorflow",
        quantizations=("float16", "dynamic", "int8"),
        batch=1,  # what delegates of phones take
    ),
    "onnx": ONNX,
    "openvino": Format(".xml", ("onnx", "openvino"), beside="{stem}.bin"),
    "torch": Format(".pt2", ("torch",), backend="torch"),
    "triton": replace(ONNX, ending="", beside=None, inside="config.pbtxt"),
    "web": replace(ONNX, ending="", beside=None, inside="keras_convnext.json"),
}


def check_packages(format, quantization, photographs):
    """Raises `ImportError` before any work if a package is missing.

    Args:
        format: a key of `FORMATS`.
        quantization: other than float32, which some runtimes' tools write.
        photographs: whether scikit-learn's are needed to compare on.
    """
    needed = FORMATS[format].writing
    if photographs or quantization is not None:
        needed += FORMATS[format].running
    if photographs:
        needed += ("sklearn",)
    for module in needed:
        if not is_installed(module):
            raise missing(module, f"exports to {format!r}", extras=["export"])
