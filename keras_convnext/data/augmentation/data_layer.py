"""Layers of the data pipeline, which work on arrays."""

import numbers
import sys
import zlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_convnext._util.annotations import Tensor
from keras_convnext._util.ranges import Whole
from keras_convnext._util.ranges import in_range
from keras_convnext.data.augmentation.seeds import Seeds
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

    They work alike under every Keras backend: NumPy and Pillow do the work.
    TensorFlow tensors, eager or in `tf.data`, come to them through
    `tf.numpy_function`; arrays do not need TensorFlow to be installed.

    Subclasses implement `_augment(inputs, words)`, and where inference is not
    the identity `_evaluate(inputs)`, both from dict to dict of arrays. `words`
    is a list for `numpy.random.default_rng`, and differs between classes of
    layers. `_specs(inputs)` tells the dtypes and shapes of what both change,
    `takes` which classes images may have, and `figures` the names of the
    constructor's arguments, which are attributes.

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

    takes: tuple[type, ...] = (np.ndarray,)  # beside tensors of TensorFlow
    figures: tuple[str, ...] = ()
    _evaluate: Callable | None = None

    @in_range
    def __init__(self, seed: Whole | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.seed = None if seed is None else int(seed)
        self.built = True  # there is nothing to build
        self._seeds = Seeds(seed)

    def call(self, inputs, training=True, seed=None, **options):
        is_dict = isinstance(inputs, Mapping)
        features = dict(inputs) if is_dict else {"images": inputs}
        self._check(features, training)
        if not training and self._evaluate is None:
            return inputs
        if seed is not None and not is_tf_tensor(seed):
            seed = pair_of(seed)
        is_tf = is_tf_tensor(features["images"])
        run = self._run_tf if is_tf else self._run
        outputs = run(features, training, seed, **options)
        return outputs if is_dict else outputs["images"]

    # Keras' own would make a tensor of the backend of every input.
    __call__ = call

    def _augment(self, inputs, words):
        raise NotImplementedError

    def _specs(self, inputs):
        """The dtype and shape of each result that is none of the inputs."""
        raise NotImplementedError

    def get_config(self):
        figures = {name: getattr(self, name) for name in self.figures}
        return {**super().get_config(), "seed": self.seed, **figures}

    def _run_tf(self, features, training, seed, **options):
        import tensorflow as tf

        specs = self._specs(features)
        tensors = [features[key] for key in specs]
        seeds = [seed] if is_tf_tensor(seed) else []

        def run(*arrays):
            pair = arrays[-1] if seeds else seed
            inputs = dict(zip(specs, arrays))
            results = self._run(inputs, training, pair, **options)
            return [results[key] for key in specs]

        types = [dtype for dtype, _ in specs.values()]
        # Eagerly, one result does not come as a list.
        results = tf.nest.flatten(
            tf.numpy_function(run, tensors + seeds, types)
        )
        shapes = [shape for _, shape in specs.values()]
        results = map(tf.ensure_shape, results, shapes)
        return {**features, **dict(zip(specs, results))}

    def _run(self, features, training, seed, **options):
        if not training:
            return self._evaluate(features)
        seed = self._seeds.next() if seed is None else seed
        salt = zlib.crc32(type(self).__name__.encode()) >> 1
        words = pair_of(seed).view("uint32").tolist()
        return self._augment(features, [salt, *words], **options)

    def _check(self, features, training):
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
        if not is_tf and not isinstance(images, self.takes):
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


class ImageLayer(DataLayer):
    """Base of layers that work on one image at a time, each with its draws.

    Subclasses implement `_augment_image(image, generator)`, and may narrow
    `channels`, and name the `result_dtype` if it is not the images' own.
    """

    channels: tuple[int, ...] | None = None  # numbers of them; any
    result_dtype: str | None = None

    def _augment_image(self, image, generator):
        raise NotImplementedError

    def _augment(self, inputs, words, **options):
        def augment(image, number):
            generator = np.random.default_rng([*words, number])
            return self._augment_image(image, generator, **options)

        return mapped(augment, inputs)

    def _specs(self, inputs):
        images = inputs["images"]
        return {"images": (self.result_dtype or images.dtype, images.shape)}

    def _check(self, features, training):
        super()._check(features, training)
        shape = features["images"].shape
        if self.channels is not None and shape[-1] not in self.channels:
            raise ValueError(
                f"{type(self).__name__} expects images of "
                f"{' or '.join(map(str, self.channels))} channels, the last "
                f"axis. Received: images of shape {shape}. Decode them with "
                "`channels=3`, fix their shape with `tf.ensure_shape`, or "
                "pass one number for each channel where the layer takes them"
            )


def mapped(function, inputs):
    """A dict with `function(image, number)` of each image."""
    images = inputs["images"]
    if images.ndim == 3:
        return {**inputs, "images": function(images, 0)}
    images = [function(image, i) for i, image in enumerate(images)]
    return {**inputs, "images": np.stack(images)}


def is_tf_tensor(value: Any | Tensor) -> bool:
    """Without importing TensorFlow, which then made no tensors either."""
    tf = sys.modules.get("tensorflow")
    return tf is not None and isinstance(value, tf.Tensor)


def gray_levels(image):
    """Rounded and clipped to `uint8`."""
    if image.dtype == "uint8":
        return image
    return np.clip(np.rint(image.astype("float32")), 0, 255).astype("uint8")


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
