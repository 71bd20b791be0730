"""Images to train on."""

from keras_convnext.data.arrays import array_batches
from keras_convnext.data.digits import load_digits

__all__ = ["array_batches", "load_digits"]
