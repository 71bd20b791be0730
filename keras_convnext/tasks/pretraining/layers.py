"""Layers between visible patches and whole maps."""

from typing import Any

import keras
from keras import ops

from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import in_range
from keras_convnext._util.serialization import register
from keras_convnext.layers import Normal
from keras_convnext.tasks.pretraining import patches


class _OfPatches(keras.layers.Layer):
    """Its inputs are a map, and the numbers of patches `(batch, count)`.

    Args:
        rows, columns: of patches in an image.
        **kwargs: `name`, `dtype` and so on.
    """

    @in_range
    def __init__(self, rows: Count, columns: Count, **kwargs: Any):
        super().__init__(**kwargs)
        self.grid = rows, columns

    def get_config(self):
        rows, columns = self.grid
        return {**super().get_config(), "rows": rows, "columns": columns}


@register
class Visible(_OfPatches):
    """The visible patches of maps, one below another; see `packed`."""

    def call(self, inputs):
        maps, visible = inputs
        return patches.packed(maps, visible, self.grid)

    def compute_output_shape(self, input_shape):
        (batch, height, width, channels), (_, count) = input_shape
        rows, columns = self.grid
        return batch, count * height // rows, width // columns, channels


@register
class Canvas(_OfPatches):
    """Whole maps of visible patches, zero elsewhere; see `unpacked`."""

    def call(self, inputs):
        maps, visible = inputs
        return patches.unpacked(maps, visible, self.grid)

    def compute_output_shape(self, input_shape):
        (batch, height, width, channels), (_, count) = input_shape
        rows, columns = self.grid
        return batch, rows * height // count, columns * width, channels


@register
class MaskToken(Canvas):
    """Whole maps of visible patches, with one learned vector elsewhere."""

    def build(self, input_shape):
        (*_, channels), _ = input_shape
        self.token = self.add_weight(
            (channels,), Normal(stddev=0.02), name="token"
        )

    def call(self, inputs):
        _, visible = inputs
        token = ops.convert_to_tensor(self.token, self.compute_dtype)
        maps = super().call(inputs)
        hidden = patches.hidden(visible, self.grid, self.compute_dtype)
        size = maps.shape[1] // self.grid[0], maps.shape[2] // self.grid[1]
        for axis, side in enumerate(size, start=1):
            if side > 1:
                hidden = ops.repeat(hidden, side, axis=axis)
        return maps + hidden * token


@register
class AsOneImage(keras.layers.Layer):
    """A layer that sees a batch as one tall image.

    Args:
        layer: such as a `GlobalResponseNormalization`, whose statistics are
            those of all images then.
        **kwargs: `name`, `dtype` and so on.
    """

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape):
        if not self.layer.built:
            self.layer.build(input_shape)

    def call(self, inputs):
        _, height, width, channels = inputs.shape
        tall = ops.reshape(inputs, (1, -1, width, channels))
        return ops.reshape(self.layer(tall), (-1, height, width, channels))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer}

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**{**config, "layer": layer})
