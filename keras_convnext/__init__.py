"""ConvNeXt for Keras 3, on TensorFlow, JAX and PyTorch."""

# First: Ctrl-C counts from here on.
from keras_convnext._util import ctrl_c
from keras_convnext._util import startup  # noqa: F401

# isort: split
# The command answers `--help` before Keras is there, and then imports this.
if not ctrl_c.is_command():
    from keras_convnext._api import *  # noqa: F403
    from keras_convnext._api import __all__ as __all__
    from keras_convnext._api import __version__ as __version__
