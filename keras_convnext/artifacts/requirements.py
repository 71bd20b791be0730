"""Optional packages, and the error that says how to get them."""

import importlib

from keras_convnext._util.optional import is_installed

# What each format takes to write, and to run.
WRITING = {
    "saved_model": {"tensorflow": "tensorflow"},
    "tflite": {
        "tensorflow": "tensorflow",
        "ai_edge_litert": "ai-edge-litert",
    },
    "onnx": {"onnx": "onnx"},
    "openvino": {"onnx": "onnx", "openvino": "openvino"},
    "torch": {"torch": "torch"},
}
RUNNING = {"onnx": {"onnxruntime": "onnxruntime"}}
EXTRAS = {
    "openvino": "export,openvino",
    "tensorflow": "export,tensorflow",
    "torch": "export,torch",
}


def check(format, quantization, verify):
    """Raises `ImportError` before any work if a package is missing."""
    needed = dict(WRITING[format])
    if verify or quantization == "int8":
        needed.update(RUNNING.get(format, {}))
    if verify:
        needed["sklearn"] = "scikit-learn"
    for module, package in needed.items():
        if not is_installed(module):
            raise _missing(module, package)


def require(module, package=None):
    """Imports a module, or says which extra of this package brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing(module, package) from error


def _missing(module, package):
    name = module.partition(".")[0]
    extra = EXTRAS.get(name, "export")
    return ImportError(
        f"This takes {package or name}, which is not installed. Run "
        f'`pip install "keras-convnext[{extra}]"`'
    )
