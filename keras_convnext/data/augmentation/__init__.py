"""Layers of the data pipeline, in `tf.data` or without TensorFlow."""

from keras_convnext.data.augmentation.image_layers import RandAugment
from keras_convnext.data.augmentation.image_layers import RandomErasing
from keras_convnext.data.augmentation.image_layers import RandomFlip
from keras_convnext.data.augmentation.image_layers import RandomResizedCrop
from keras_convnext.data.augmentation.mixing import CutMix
from keras_convnext.data.augmentation.mixing import MixUp
from keras_convnext.data.augmentation.mixing import MixupCutmix

__all__ = [
    "CutMix",
    "MixUp",
    "MixupCutmix",
    "RandAugment",
    "RandomErasing",
    "RandomFlip",
    "RandomResizedCrop",
]
