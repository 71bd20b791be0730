"""Optional packages, and the error that says how to get them."""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import sys

from keras_convnext._util.telling import tell
from keras_convnext._util.version import __version__

# By the module to import: the name on PyPI, and the extra that brings it.
PACKAGES = {
    "ai_edge_litert": ("ai-edge-litert", "export"),
    "fastapi": ("fastapi", "serve"),
    "matplotlib": ("matplotlib", "train"),
    "mlflow": ("mlflow-skinny", "mlflow"),
    "onnx": ("onnx", "export"),
    "onnxruntime": ("onnxruntime", "export"),
    "openvino": ("openvino", "openvino"),
    "pycocotools": ("pycocotools", "detection"),
    "pyarrow": ("pyarrow", "lists"),
    "prometheus_client": ("prometheus-client", "serve"),
    "python_multipart": ("python-multipart", "serve"),
    "scipy": ("scipy", "demo"),
    "sklearn": ("scikit-learn", "demo"),
    "tensorboard": ("tensorboard", "train"),
    "tensorflow": ("tensorflow", "tensorflow"),
    "tensorflow_datasets": ("tensorflow-datasets", "tfds"),
    "tf2onnx": ("tf2onnx", "export"),
    "timm": ("timm", "publish"),
    "torch": ("torch", "torch"),
    "transformers": ("transformers", "publish"),
    "uvicorn": ("uvicorn", "serve"),
    "wandb": ("wandb", "wandb"),
}
# By their names on PyPI, those that decide how a model computes.
COMPUTING = ("jax", "numpy", "pillow", "tensorflow", "tensorflow-cpu", "torch")


def is_installed(module):
    return importlib.util.find_spec(module) is not None


def require(module, purpose, otherwise=""):
    """Imports a module, or says which extra of this package brings it.

    Args:
        module: name of a module of one of `PACKAGES`.
        purpose: what it is needed for, as in "needed for pictures".
        otherwise: what can be done without it, as in "or use `load_image`".

    Raises:
        ImportError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing(module, purpose, otherwise) from error


def missing(module, purpose, otherwise="", extras=()):
    """The `ImportError` of `require`.

    Args:
        module, purpose, otherwise: as for `require`.
        extras: others that the purpose takes.
    """
    package, extra = PACKAGES[module.partition(".")[0]]
    extras = ",".join(dict.fromkeys([*extras, extra]))
    return ImportError(
        f"{package} is not installed, which is needed for {purpose}. Run "
        f'`pip install "keras-convnext[{extras}]"`'
        f"{', or ' if otherwise else ''}{otherwise}"
    )


def tell_left_out(made):
    """Says on stderr what there will not be for want of packages.

    Hours of work are not to end for want of a picture.

    Args:
        made: dict from packages to what they make.
    """
    for package, what in made.items():
        if not is_installed(package):
            tell(
                f"No {what} without {package}: "
                'pip install "keras-convnext[train]"'
            )


def versions(packages: tuple[str, ...] = COMPUTING) -> dict[str, str]:
    """Of this package, Keras and what it may run on, as far as installed."""
    import keras

    result = {
        "keras_convnext": __version__,
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "python": sys.version.split()[0],
    }
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            result[name] = importlib.metadata.version(name)
    return result
