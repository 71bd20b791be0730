"""The layers and activations that ConvNeXt needs and Keras lacks."""

from keras_convnext.layers.activations import gelu_tanh
from keras_convnext.layers.depthwise import DepthwiseConv2D
from keras_convnext.layers.grn import GlobalResponseNormalization
from keras_convnext.layers.image_normalization import ImageNormalization
from keras_convnext.layers.image_normalization import TargetUnits
from keras_convnext.layers.initializers import Normal
from keras_convnext.layers.layer_scale import LayerScale
from keras_convnext.layers.norms import SimpleNormalization

__all__ = [
    "DepthwiseConv2D",
    "GlobalResponseNormalization",
    "ImageNormalization",
    "LayerScale",
    "Normal",
    "SimpleNormalization",
    "TargetUnits",
    "gelu_tanh",
]
