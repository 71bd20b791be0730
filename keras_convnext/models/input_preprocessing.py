"""`preprocess_input`, as in keras.applications, for any weights."""

import keras
import numpy as np

from keras_convnext._util.annotations import Tensor
from keras_convnext._util.image_layout import data_format as resolve_data_format
from keras_convnext.images.levels import check_levels
from keras_convnext.models.inspection import info_of
from keras_convnext.weights import registry


def preprocess_input(
    x: Tensor,
    data_format: str | None = None,
    weights: str | keras.Model | None = None,
) -> Tensor:
    """Normalizes images for models built without preprocessing.

    Models normalize by themselves unless built with
    `include_preprocessing=False`: then without `weights` this function is the
    identity, as in `keras.applications.convnext`.

    Args:
        x: array or tensor of images in RGB with values of 0–255.
        data_format: `"channels_last"` or `"channels_first"`; defaults to
            `keras.config.image_data_format()`.
        weights: what to normalize for: a tag or alias of
            `keras_convnext.list_weights()`, `"model.tag"`, or a model that is
            or holds a ConvNeXt of this package.

    Returns:
        `(x / 255 - mean) / std` as float32, or `x` itself.

    Raises:
        ValueError: for unknown weights, and other numbers of channels.

    Examples:
        >>> images = np.full((1, 224, 224, 3), 255.0)
        >>> preprocess_input(images, weights="imagenet").max()  # doctest: +SKIP
        2.64
    """
    if weights is None:
        return x
    if isinstance(x, np.ndarray):
        check_levels(x, "`preprocess_input`")
    if isinstance(weights, str):
        preprocessing = registry.preprocessing_of(weights)
    else:
        preprocessing = _preprocessing_in(weights)
    mean = np.array(preprocessing.mean, "float32")
    std = np.array(preprocessing.std, "float32")
    first = resolve_data_format(data_format) == "channels_first"
    channels = x.shape[-3 if first else -1]
    if channels != len(mean):
        raise ValueError(
            f"These weights normalize {len(mean)} channels. Received: images "
            f"of shape {tuple(x.shape)}"
        )
    if first:
        mean, std = mean[:, None, None], std[:, None, None]
    if isinstance(x, np.ndarray):
        return (x.astype("float32") / 255 - mean) / std
    return (keras.ops.cast(x, "float32") / 255 - mean) / std


def _preprocessing_in(model):
    info = info_of(model) if isinstance(model, keras.Model) else None
    if info is None or info.preprocessing is None:
        raise ValueError(
            "`weights` must be a tag, or a model that holds a ConvNeXt of this "
            f"package. Received: {model!r}"
        )
    return info.preprocessing
