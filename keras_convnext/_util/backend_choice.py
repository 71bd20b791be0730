"""Lets Keras start on the backend that is there.

Keras takes TensorFlow unless it is told otherwise, and fails to be imported
where only JAX or PyTorch is installed.
"""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

DEFAULT = "tensorflow"
OTHERS = ("jax", "torch")


def choose() -> None:
    """Sets `KERAS_BACKEND` if Keras' own choice is not installed.

    What the user chose stays: the variable itself, a backend other than the
    default in Keras' file of settings, and whatever Keras has started with.

    Raises:
        ImportError: if no backend is installed.
    """
    if "keras" in sys.modules or os.environ.get("KERAS_BACKEND"):
        return
    if _configured() != DEFAULT or find_spec(DEFAULT):
        return
    for name in OTHERS:
        if find_spec(name):
            os.environ["KERAS_BACKEND"] = name
            return
    raise ImportError(
        "Keras needs TensorFlow, JAX or PyTorch, and none is installed. Run "
        '`pip install "keras-convnext[torch]"`, or [tensorflow] or [jax].'
    )


def keras_home():
    """The path of Keras' own folder of settings and downloads."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()


def _configured():
    try:
        text = (keras_home() / "keras.json").read_text()
        return json.loads(text)["backend"]
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT


choose()
