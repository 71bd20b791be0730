"""Images to train on."""

from keras_convnext.data.digits import load_digits

__all__ = ["load_digits"]
