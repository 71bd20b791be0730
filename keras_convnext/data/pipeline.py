"""A recipe's data maps: from single images to what `fit` takes."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import Tensor
from keras_convnext._util.limits import check_memory
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Finite
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import in_range
from keras_convnext.data.augmentation import MixupCutmix
from keras_convnext.data.augmentation import RandAugment
from keras_convnext.data.augmentation import RandomErasing
from keras_convnext.data.augmentation import RandomFlip
from keras_convnext.data.augmentation import RandomResizedCrop
from keras_convnext.data.augmentation.data_layer import is_tf_tensor
from keras_convnext.data.batches import Batches
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD
from keras_convnext.images.levels import check_levels
from keras_convnext.images.reading import Photograph


class Pipeline:
    """A map over samples, then one over batches; what both pipelines share.

    Call it on a source of single samples for batches of them:

    - a `tf.data.Dataset` of `(image, label)` or `{"images", "labels"}`, for
      a `tf.data.Dataset` (any backend trains on it);
    - a pair of arrays `(images, labels)`, a `Source`, or anything with `len`
      and `[i]` that gives `(image, label)`, for a `keras.utils.PyDataset` that
      needs no TensorFlow.

    `TrainLoader` makes its batches by the same two maps, `sample` and `batch`;
    use them in a loader of your own, too: both take TensorFlow tensors as well
    as NumPy arrays, both in the convention `{"images", "labels"}` of Keras'
    own layers, so that those fit between.

    Under one seed the results repeat, whatever runs in parallel.

    Args:
        recipe: a `Recipe`.
        seed: int that all augmentation and mixing follows from.
    """

    training = True

    @in_range
    def __init__(self, recipe: Any, seed: Seed = 0):
        self.batch_size = _micro_batch(recipe)
        self.seed = seed
        self.sampling_exponent = 0.0
        self.crop: Callable | None = None
        self.distortions: list[Callable] = []
        self.erasing: Callable | None = None
        self.mixing: Callable | None = None

    def sample(
        self,
        sample: Any,
        seed: Sequence[int] | Tensor | None = None,
        out: Array | None = None,
    ) -> dict[str, Any]:
        """One image and its label, augmented.

        Args:
            sample: `(image, label)` or `{"images": image, "labels": label}`;
                images are `uint8`, `(height, width, channels)`, or a
                `Photograph`, of which only the crop is decoded.
            seed: pair of ints that the outcome follows from.
            out: array for the resulting image, as in NumPy.

        Returns:
            The sample as a dict.
        """
        sample = _as_dict(sample)
        _check_single(sample["images"])
        _tell_floats(sample["images"])
        if self.crop is not None:
            sample = self.crop(sample, training=self.training, seed=seed)
        elif isinstance(sample["images"], Photograph):
            sample["images"] = sample["images"].pixels()
        for layer in self.distortions:
            sample = layer(sample, seed=seed)
        if out is not None:
            _check_shape(sample["images"], out)
            out[...] = sample["images"]
            sample["images"] = out
        if self.erasing is not None:
            sample = self.erasing(sample, seed=seed, out=out)
        return sample

    def batch(
        self,
        batch: Any,
        seed: Sequence[int] | Tensor | None = None,
        out: Array | None = None,
    ) -> tuple[Any, Any]:
        """A batch of samples, mixed, as the pair that `fit` takes.

        Args:
            batch: dict or pair of images `(batch, height, width, channels)`
                and labels.
            seed: pair of ints that the outcome follows from.
            out: `float32` array for the mixed images, as in NumPy; it may be
                those given.

        Returns:
            `(images, labels)`: images of 0–255, and class numbers or, after
            mixing, `float32` distributions `(batch, classes)`.
        """
        batch = _as_dict(batch)
        if self.mixing is not None:
            batch = self.mixing(batch, seed=seed, out=out)
        return batch["images"], batch["labels"]

    @in_range
    def __call__(
        self,
        source: Any,
        batch_size: Count | None = None,
        shuffle: bool | None = None,
    ) -> Any:
        """Batches of all samples of a source.

        Args:
            source: see the class; a dataset is to be shuffled already.
            batch_size: int; the recipe's if `None`.
            shuffle: whether to draw a new order of arrays every epoch; only
                training does if `None`.

        Raises:
            ValueError: if the source has fewer samples than one batch of
                training, is batched already, or has weights; and if it has no
                `labels`, by which to draw rare classes more often.
        """
        batch_size = batch_size or self.batch_size
        if self.sampling_exponent:
            _check_has_labels(source)
        if hasattr(source, "element_spec"):
            self.check_count(source.cardinality().numpy(), batch_size)
            return self._tf_batches(source, batch_size)
        if isinstance(source, tuple):
            source = _Pairs(*_pair(source))
        shuffle = self.training if shuffle is None else shuffle
        return Batches(self, source, batch_size, shuffle, self.seed)

    def check_count(self, count: int, batch_size: int) -> None:
        """Raises `ValueError` if training has too few images for a batch."""
        if self.training and 0 <= count < batch_size:
            raise ValueError(
                "Training leaves out a last batch that is not full, so there "
                f"must be at least {batch_size} images. Received: {count}. "
                "Take a smaller batch, `recipe.with_batch_size"
                f"({max(count // 2, 1)})`, or add images"
            )

    def _tf_batches(self, dataset, batch_size):
        import tensorflow as tf

        def mapped(dataset, function, stream):
            # Seeds come beside the samples: numbers drawn inside of parallel
            # calls would depend on which is first.
            seeds = tf.data.Dataset.random(
                2 * self.seed + stream, rerandomize_each_iteration=True
            ).batch(2, drop_remainder=True)
            pairs = tf.data.Dataset.zip(dataset, seeds)
            return pairs.map(function, num_parallel_calls=tf.data.AUTOTUNE)

        dataset = mapped(dataset, self.sample, 0)
        dataset = dataset.batch(batch_size, drop_remainder=self.training)
        return mapped(dataset, self.batch, 1).prefetch(tf.data.AUTOTUNE)


class TrainPipeline(Pipeline):
    """A recipe's training augmentation: crop, flip, RandAugment, erasing, mix.

    See `Pipeline` for what it takes and gives.

    Args:
        recipe: a `Recipe`, with one value in every field.
        classes: int; needed where the recipe mixes.
        seed: int that all augmentation and mixing follows from.
        mean, std: what the model normalizes with: the color that fills what
            comes from outside an image, and the noise of erased pixels.

    Examples:
        >>> recipe = keras_convnext.recipes.small_data.replace(image_size=64)
        >>> train = recipe.train_pipeline(classes=2)
        >>> images = np.zeros((40, 80, 100, 3), "uint8")
        >>> batches = train((images, np.arange(40) % 2))
        >>> batches[0][0].shape
        (32, 64, 64, 3)
    """

    @in_range
    def __init__(
        self,
        recipe: Any,
        classes: Count | None,
        seed: Seed = 0,
        mean: Sequence[Finite] = IMAGENET_MEAN,
        std: Sequence[NotNegative] = IMAGENET_STD,
    ):
        super().__init__(recipe, seed)
        self.sampling_exponent = recipe.class_sampling_exponent
        size = recipe.image_size
        check_memory(
            4 * size * size * len(mean),
            f"An image of the recipe's image_size={size}",
        )
        self.input_shape = (size, size, len(mean))
        if recipe.crop_scale is not None:
            self.crop = RandomResizedCrop(
                size, recipe.crop_scale, recipe.crop_ratio
            )
        if recipe.horizontal_flip:
            self.distortions.append(RandomFlip(recipe.horizontal_flip))
        if recipe.rand_augment is not None:
            self.distortions.append(RandAugment(recipe.rand_augment, mean))
        if recipe.random_erasing:
            self.erasing = RandomErasing(recipe.random_erasing, mean, std)
        if recipe.mixes:
            self.mixing = MixupCutmix(
                recipe.mixup_alpha,
                recipe.cutmix_alpha,
                recipe.switch_probability,
                0.0 if recipe.smooths_in_loss else recipe.label_smoothing,
                num_classes=classes,
            )


class EvalPipeline(Pipeline):
    """A recipe's evaluation transform: the official resize and crop.

    See `Pipeline` for what it takes and gives; labels stay class numbers, and
    the last batch may be smaller.

    Args:
        recipe: a `Recipe`.
    """

    training = False

    def __init__(self, recipe: Any):
        super().__init__(recipe)
        if recipe.crop_scale is not None:
            self.crop = RandomResizedCrop(recipe.image_size)


def _check_has_labels(source):
    """Raises `ValueError` for what can only be read from end to end."""
    if isinstance(source, tuple) or hasattr(source, "labels"):
        return
    raise ValueError(
        "To draw rare classes more often, all labels must be known before the "
        "first image is read: `class_sampling_exponent` takes a pair of arrays "
        f"or a `Source`. Received: {type(source).__name__}. Pass one of those, "
        "or weigh the classes in place of drawing them: `class_weight_exponent`"
    )


class _Pairs:
    """Images and labels in memory, as a source of samples."""

    def __init__(self, images, labels):
        if len(images) != len(labels):
            raise ValueError(
                "Images and labels must be as many as each other. Received: "
                f"{len(images)} images and {len(labels)} labels"
            )
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def _micro_batch(recipe):
    """How many images `fit` gets at a time."""
    size, steps = recipe.batch_size, recipe.gradient_accumulation_steps
    if size % steps:
        raise ValueError(
            "A recipe's `batch_size` must be divisible by its "
            "`gradient_accumulation_steps`: micro-batches are equal parts. "
            f"Received: batch_size={size} and "
            f"gradient_accumulation_steps={steps}. Change one of them"
        )
    return size // steps


def _check_shape(image, out):
    if image.shape != out.shape:
        raise ValueError(
            "All images of a batch must have one shape. Received: one of shape "
            f"{image.shape}, where {out.shape} was expected. Resize them, or "
            "take a recipe with a `crop_scale`"
        )


def _tell_floats(image):
    """Warns of floats that are no pixels of 0–255, in `tf.data` too."""
    name = "A recipe's pipeline"
    if isinstance(image, np.ndarray):
        check_levels(image, name)
    elif is_tf_tensor(image) and image.dtype.is_floating:
        import tensorflow as tf

        tf.numpy_function(lambda x: check_levels(x, name), [image], [])


def _check_single(images):
    shape = getattr(images, "shape", ())  # a `Photograph` is one image
    rank = getattr(shape, "rank", len(shape))
    if rank is not None and rank > 3:
        raise ValueError(
            "A pipeline makes the batches itself: `recipe.train_pipeline` and "
            "`eval_pipeline` take single images (height, width, channels). "
            f"Received: a batch of them, of shape {tuple(shape)}. Pass the "
            "data without `.batch(…)`, or `dataset.unbatch()`"
        )
    if rank in (0, 1, 2) and not isinstance(images, Photograph):
        raise ValueError(
            "A pipeline takes images of shape (height, width, channels). "
            f"Received: an image of shape {tuple(shape)}. Give gray ones the "
            "channels of the model: `np.repeat(images[..., None], 3, axis=-1)`"
        )


def _pair(sample):
    if len(sample) != 2:
        raise _weighted(f"{len(sample)} values")
    return sample


def _weighted(received):
    return ValueError(
        "A pipeline takes pairs of image and label, which it may mix with one "
        f"another, and no weight for each. Received: {received}. Leave the "
        "weights out, or weigh classes by `fit(…, class_weight=…)`"
    )


def _as_dict(sample):
    if isinstance(sample, Mapping):
        if weights := [name for name in sample if "weight" in name]:
            raise _weighted(f"a sample with {weights}")
        return dict(sample)
    images, labels = _pair(sample)
    if not (is_tf_tensor(images) or isinstance(images, Photograph)):
        images = np.asarray(images)
    return {"images": images, "labels": labels}
