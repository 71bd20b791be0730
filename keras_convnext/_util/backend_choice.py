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
BACKENDS = (DEFAULT, *OTHERS)
# Keras has more, which run models but do not train them.
KNOWN = (*BACKENDS, "numpy", "openvino")


def choose() -> str | None:
    """Sets `KERAS_BACKEND` if Keras' own choice is not installed.

    What the user chose stays: the variable itself, a backend other than the
    default in Keras' file of settings, and whatever Keras has started with.

    Returns:
        The backend; `None` if Keras has started already.

    Raises:
        ValueError: if the user chose what is no backend.
        ImportError: if that is not installed, or none is.
    """
    if "keras" in sys.modules:
        return None
    told = os.environ.get("KERAS_BACKEND")
    if told:
        return _checked(told, "KERAS_BACKEND")
    configured = _configured()
    if configured != DEFAULT:
        return _checked(configured, f"`backend` in {str(_settings())!r}")
    for name in BACKENDS:
        if find_spec(name):
            if name != DEFAULT:
                os.environ["KERAS_BACKEND"] = name
            return name
    raise ImportError(
        "Keras needs TensorFlow, JAX or PyTorch, and none is installed. Run "
        '`pip install "keras-convnext[torch]"`, or [tensorflow] or [jax].'
    )


def keras_home():
    """The path of Keras' own folder of settings and downloads."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()


def cache_folder():
    """The path of what this package keeps there."""
    return keras_home() / "models" / "keras_convnext"


def _settings():
    return keras_home() / "keras.json"


def _configured():
    """The backend in Keras' settings; Keras passes over what is no JSON."""
    try:
        settings = json.loads(_settings().read_text())
    except (OSError, ValueError):
        return DEFAULT
    if not isinstance(settings, dict):
        raise ValueError(
            "Keras' file of settings must hold a JSON object, such as "
            '{"backend": "torch"}. Received: a '
            f"{type(settings).__name__} in {str(_settings())!r}. Mend or "
            "remove it"
        )
    return settings.get("backend", DEFAULT)


def _checked(name, place):
    """A backend that the user chose, if it is one that is there."""
    installed = [x for x in BACKENDS if find_spec(x)]
    there = f"Installed: {', '.join(installed) or 'none of them'}"
    if name not in KNOWN:
        raise ValueError(
            f"{place} must be tensorflow, jax or torch. Received: {name!r}. "
            f"{there}"
        )
    if name != "numpy" and not find_spec(name):
        raise ImportError(
            f"{place} is {name!r}, which is not installed. Run `pip install "
            f'"keras-convnext[{name}]"`, or set KERAS_BACKEND to another of '
            f"tensorflow, jax and torch. {there}"
        )
    return name
