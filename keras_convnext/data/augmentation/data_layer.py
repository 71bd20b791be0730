"""Layers of the data pipeline: TensorFlow in `tf.data`, NumPy elsewhere."""

import numbers
import sys
import zlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import Tensor
from keras_convnext.data.augmentation.seeds import Seeds
from keras_convnext.data.augmentation.seeds import not_a_pair
from keras_convnext.data.augmentation.seeds import pair_of

IMAGE_DTYPES = ("uint8", "float16", "bfloat16", "float32", "float64")

# What a layer that moves pixels would leave where it was.
LOCATED = ("bounding_boxes", "keypoints", "segmentation_masks")

ADVICE = (
    "Call it in `dataset.map(...)` or in a data loader, before the batch "
    "reaches the model"
)


class DataLayer(keras.layers.Layer):
    """Base of the layers that belong in the data pipeline, not in a model.

    They work alike under every Keras backend. TensorFlow tensors, eager or in
    `tf.data`, are worked on by TensorFlow alone; NumPy arrays by NumPy and
    Pillow alone, without TensorFlow being installed.

    Subclasses implement `augment_tf(inputs, seed)` and
    `augment_numpy(inputs, seed)`, and where inference is not the identity
    `evaluate_tf(inputs)` and `evaluate_numpy(inputs)`, all from dict to dict.
    `seed` is a tensor `(2,)` or a list of words for
    `numpy.random.default_rng`, and differs between classes of layers.

    Args:
        seed: int, from which the layer draws when a call brings no seed; the
            same int gives the same results call by call, and so a repeatable
            serial `map`. `None` starts from Python's `random`, which
            `keras.utils.set_random_seed` fixes.
        **kwargs: `name` and so on.

    Call arguments:
        inputs: dict with the key `"images"`, whose other keys pass through,
            or images alone. Images are `uint8` or float with values of 0–255,
            `(height, width, channels)` or `(batch, height, width, channels)`,
            whatever Keras' image data format.
        training: bool; `False` is the identity where not said otherwise.
        seed: pair of ints, or tensor or array `(2,)` of them, of which alone
            the outcome then depends, with the class of the layer and the
            input: two layers of one class need two seeds. It makes parallel
            maps repeatable, and draws of several worker processes differ.

    Raises:
        ValueError: for images of other types, dtypes and ranks, and where
            boxes, keypoints or masks would no longer fit their image.

    Examples:
        >>> flip = keras_convnext.recipes.RandomFlip()
        >>> sample = {"images": np.zeros((8, 8, 3), "uint8"), "labels": 1}
        >>> sorted(flip(sample, seed=(0, 1)))
        ['images', 'labels']
        >>> import tensorflow as tf
        >>> dataset = tf.data.Dataset.from_tensors(sample).map(flip)
    """

    def __init__(self, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if seed is not None and not isinstance(seed, numbers.Integral):
            raise ValueError(
                f"`seed` must be an int, or None. Received: seed={seed!r}. "
                "Pass a pair of ints to the call instead"
            )
        self.seed = None if seed is None else int(seed)
        self.built = True  # there is nothing to build
        self._seeds = Seeds(seed)

    def __call__(self, inputs, training=True, seed=None):
        # Keras' own would make a tensor of the backend of every input.
        return self.call(inputs, training=training, seed=seed)

    def call(self, inputs, training=True, seed=None):
        is_dict = isinstance(inputs, Mapping)
        features = dict(inputs) if is_dict else {"images": inputs}
        is_tf = self._check(features, training)
        run = self._run_tf if is_tf else self._run_numpy
        outputs = run(features, training, seed)
        return outputs if is_dict else outputs["images"]

    def augment_tf(
        self, inputs: dict[str, Any], seed: Tensor
    ) -> dict[str, Any]:
        raise NotImplementedError

    def augment_numpy(
        self, inputs: dict[str, Any], seed: Sequence[int]
    ) -> dict[str, Any]:
        raise NotImplementedError

    def evaluate_tf(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs

    def evaluate_numpy(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}

    def _run_tf(self, features, training, seed):
        import tensorflow as tf

        # AutoGraph would rewrite all that is called from `dataset.map`.
        plain = tf.autograph.experimental.do_not_convert
        if not training:
            return plain(self.evaluate_tf)(features)
        if seed is None:
            seed = self._seeds.next_tf()
        elif not is_tf_tensor(seed):
            seed = tf.constant(pair_of(seed))
        elif not (seed.dtype.is_integer and seed.shape.is_compatible_with(2)):
            raise not_a_pair(seed)
        salted = tf.random.fold_in(tf.cast(seed, tf.int64), self._salt())
        return plain(self.augment_tf)(features, salted)

    def _run_numpy(self, features, training, seed):
        if not training:
            return self.evaluate_numpy(features)
        seed = self._seeds.next() if seed is None else seed
        return self.augment_numpy(features, self.words_of(seed))

    def words_of(self, seed: Sequence[int]) -> list[int]:
        """What a pair of ints comes to in this layer's `augment_numpy`."""
        words = pair_of(seed).view("uint32").tolist()
        return [self._salt(), *words]

    def _salt(self):
        return zlib.crc32(type(self).__name__.encode()) >> 1

    def _check(self, features, training):
        """Raises for what cannot be worked on. Returns: is it TensorFlow?"""
        name = type(self).__name__
        if not isinstance(training, (bool, np.bool_)):
            raise ValueError(
                f"`training` must be True or False. Received: {training!r}. "
                f"To map {name} over (image, label) pairs, make dicts of "
                'them: {"images": image, "labels": label}'
            )
        if "images" not in features:
            raise ValueError(
                f'{name} expects a dict with the key "images". Received: the '
                f"keys {list(features)}. Rename yours"
            )
        images = features["images"]
        is_tf = is_tf_tensor(images)
        if not is_tf and not isinstance(images, np.ndarray):
            raise ValueError(
                f"{name} belongs in the data pipeline: it expects NumPy "
                "arrays, or TensorFlow tensors as in `tf.data`. Received: "
                f"images of type {type(images).__name__}. {ADVICE}"
            )
        rank = images.shape.rank if is_tf else images.ndim
        if images.dtype.name not in IMAGE_DTYPES or rank not in (3, 4):
            raise ValueError(
                f"{name} expects images of uint8 or float with values of "
                "0–255 and of the shape (height, width, channels) or (batch, "
                "height, width, channels). Received: "
                f"{images.dtype.name} images of shape {images.shape}. Convert "
                "them, or fix their rank with `tf.ensure_shape`"
            )
        located = [key for key in LOCATED if key in features]
        if training and located:
            raise ValueError(
                f"{name} changes images and would leave {located} as they "
                f"are. Received: the keys {list(features)}. Use KerasCV's "
                "layers for detection and segmentation"
            )
        return is_tf


class ImageLayer(DataLayer):
    """Base of layers that work on one image at a time, each with its draws.

    Subclasses implement `image_tf(image, seed)` and
    `image_numpy(image, generator)`, and may narrow `channels` and
    `output_dtype`.
    """

    channels: tuple[int, ...] | None = None  # numbers of them; any
    output_dtype: str | None = None  # that of the input

    def image_tf(self, image: Tensor, seed: Tensor) -> Tensor:
        raise NotImplementedError

    def image_numpy(
        self, image: Array, generator: np.random.Generator
    ) -> Array:
        raise NotImplementedError

    def augment_tf(
        self, inputs: dict[str, Any], seed: Tensor
    ) -> dict[str, Any]:
        import tensorflow as tf

        def augment(image, number):
            return self.image_tf(image, tf.random.fold_in(seed, number))

        return self.map_tf(augment, inputs)

    def augment_numpy(
        self, inputs: dict[str, Any], seed: Sequence[int]
    ) -> dict[str, Any]:
        def augment(image, number):
            generator = np.random.default_rng([*seed, number])
            return self.image_numpy(image, generator)

        return self.map_numpy(augment, inputs)

    def map_tf(
        self, function: Callable[[Any, Any], Any], inputs: dict[str, Any]
    ) -> dict[str, Any]:
        import tensorflow as tf

        images = inputs["images"]
        self._check_channels(images.shape)
        if images.shape.rank == 3:
            return {**inputs, "images": function(images, 0)}
        numbers = tf.range(tf.shape(images)[0])
        images = tf.map_fn(
            lambda item: function(*item),
            (images, numbers),
            fn_output_signature=self.output_dtype or images.dtype,
        )
        return {**inputs, "images": images}

    def map_numpy(
        self, function: Callable[[Any, Any], Any], inputs: dict[str, Any]
    ) -> dict[str, Any]:
        images = inputs["images"]
        self._check_channels(images.shape)
        if images.ndim == 3:
            return {**inputs, "images": function(images, 0)}
        images = [function(image, i) for i, image in enumerate(images)]
        return {**inputs, "images": np.stack(images)}

    def _check_channels(self, shape):
        if self.channels is not None and shape[-1] not in self.channels:
            raise ValueError(
                f"{type(self).__name__} expects images of "
                f"{' or '.join(map(str, self.channels))} channels, the last "
                f"axis. Received: images of shape {shape}. Decode them with "
                "`channels=3`, fix their shape with `tf.ensure_shape`, or "
                "pass one number for each channel where the layer takes them"
            )


def is_tf_tensor(value):
    """Without importing TensorFlow, which then made no tensors either."""
    tf = sys.modules.get("tensorflow")
    return tf is not None and isinstance(value, tf.Tensor)


def grey_levels(image):
    """Rounded and clipped to `uint8`."""
    if image.dtype == "uint8":
        return image
    return np.clip(np.rint(image.astype("float32")), 0, 255).astype("uint8")


def tf_grey_levels(image):
    import tensorflow as tf

    if image.dtype == tf.uint8:
        return image
    return tf.saturate_cast(tf.round(tf.cast(image, tf.float32)), tf.uint8)


def channel_numbers(name, values, lengths=None):
    """Checks one number for each channel; the result is a tuple of floats."""
    if isinstance(values, numbers.Real):
        values = (values,)
    values = tuple(float(value) for value in values)
    if not values or lengths is not None and len(values) not in lengths:
        raise ValueError(
            f"`{name}` must hold one number for each channel, or one for all"
            f"{f': {lengths} in all' if lengths else ''}. Received: "
            f"{name}={values}"
        )
    return values


def probability_of(name, value):
    if not isinstance(value, numbers.Real) or not 0 <= value <= 1:
        raise ValueError(
            f"`{name}` must be a number of 0–1. Received: {name}={value!r}"
        )
    return float(value)
