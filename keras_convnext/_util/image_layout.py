"""The order of an image's axes: `channels_last` or `channels_first`."""

import keras

from keras_convnext._util.checks import one_of

DATA_FORMATS = ("channels_last", "channels_first")


def data_format(value):
    if value is None:
        return keras.config.image_data_format()
    one_of("data_format", value, DATA_FORMATS)
    return value


def to_layout(height, width, channels, data_format):
    if data_format == "channels_first":
        return (channels, height, width)
    return (height, width, channels)


def from_layout(shape, data_format):
    """Height, width and channels of an image shape in either layout."""
    if data_format == "channels_first":
        return (shape[1], shape[2], shape[0])
    return tuple(shape)
