"""Fixed scales inside of the model: of pixels that go in, and of targets that
come out."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy
from keras import ops

from keras_convnext._util.ranges import Finite
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import in_range
from keras_convnext._util.serialization import register
from keras_convnext.layers import forms


class Fixed(keras.layers.Layer):
    """A scale and an offset on the last axis, which nothing trains.

    Whatever Keras' global image data format is (`keras.layers.Rescaling`
    follows that one, and `keras.layers.Normalization` turns into extra inputs
    in ONNX files). Derived classes say both in `_scale_and_offset`.

    Args:
        mean, std: one number for each place on the last axis.
        **kwargs: `name`, `dtype` and so on.
    """

    @in_range
    def __init__(
        self, mean: Sequence[Finite], std: Sequence[Positive], **kwargs: Any
    ):
        # Without autocasting, mixed precision would round the pixels.
        super().__init__(autocast=False, **kwargs)
        self.mean = [float(value) for value in mean]
        self.std = [float(value) for value in std]
        self.scale, self.offset = self._scale_and_offset(
            numpy.array(self.mean), numpy.array(self.std)
        )
        # Plain numbers for PyTorch's compiler, which takes no NumPy scalars.
        self.constants = (
            tuple(self.scale.tolist()),
            tuple(self.offset.tolist()),
        )

    def call(self, inputs):
        dtype = self.compute_dtype
        scale, offset = (
            ops.convert_to_tensor(values, dtype) for values in self.constants
        )
        return ops.cast(inputs, dtype) * scale + offset

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "std": self.std}


@register
class ImageNormalization(Fixed):
    """Normalizes pixels of 0–255 by one mean and deviation per channel.

    Args:
        mean, std: one number per channel, for pixels scaled to 0–1.
        **kwargs: `name`, `dtype` and so on.

    Call arguments:
        inputs: tensor `(..., channels)` of any dtype with values of 0–255.

    Returns:
        `(inputs / 255 - mean) / std` in the layer's dtype.

    Examples:
        >>> layer = keras_convnext.layers.ImageNormalization([0.5], [0.25])
        >>> float(layer(keras.ops.full((1, 1, 1, 1), 255.0))[0, 0, 0, 0])
        2.0
    """

    def _scale_and_offset(self, mean, std):
        return 1 / (255 * std), -mean / std


@register
class TargetUnits(Fixed):
    """Turns standardized numbers into those of the units that targets have.

    The last layer of models of regression, see
    `keras_convnext.recipes.with_units`.

    Args:
        mean, std: one number per target, of those that were trained on.
        **kwargs: `name`, `dtype` and so on.

    Call arguments:
        inputs: tensor `(batch, targets)` of any float dtype.

    Returns:
        `inputs * std + mean` in the layer's dtype.

    Examples:
        >>> layer = keras_convnext.layers.TargetUnits([40.0], [13.0])
        >>> float(layer(np.array([[1.0]], "float32"))[0, 0])
        53.0
    """

    def _scale_and_offset(self, mean, std):
        return std, mean


def _onnx(g, layer, x):
    scaled = g.add("Mul", x, layer.scale)
    return g.add("Add", scaled, layer.offset, name=layer.name)


forms.add(ImageNormalization, TargetUnits, onnx=_onnx, torch=forms.call)
