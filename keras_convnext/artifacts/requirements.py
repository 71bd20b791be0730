"""Optional packages, and the error that says how to get them."""

import importlib

from keras_convnext._util.optional import is_installed

EXTRAS = {
    "openvino": "export,openvino",
    "tensorflow": "export,tensorflow",
    "torch": "export,torch",
}


def require_installed(module, package=None):
    """Raises `ImportError` for a missing package without importing it."""
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
