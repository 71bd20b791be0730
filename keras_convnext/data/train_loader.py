"""Augmented batches of a source for a run that can stop anywhere."""

import copy
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import Self

import keras
import numpy as np

from keras_convnext._util.annotations import Tensor
from keras_convnext._util.checks import check_process
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import in_range
from keras_convnext.data.batches import Batches
from keras_convnext.data.pipeline import TrainPipeline
from keras_convnext.data.reading import Reader
from keras_convnext.data.reading import check_readable
from keras_convnext.data.source import Source
from keras_convnext.data.stepping import by_step
from keras_convnext.data.stepping import loader_of
from keras_convnext.data.stepping import part_of
from keras_convnext.images.reading import Photograph
from keras_convnext.images.reading import TfPhotograph


class TrainLoader(Batches):
    """Augmented batches of a source; training can go on from any of them.

    Steps count over all epochs: step `s` is in epoch `s // steps_per_epoch`.
    A batch depends on the seed and the number of its step, and neither on the
    batches before nor on threads. Order, crops and
    augmentation are the same in every process count and with every loader;
    only the loaders' decoders differ, by less than a gray level in the mean.
    It is also a `keras.utils.PyDataset`: `fit` takes it epoch after epoch.

    Args:
        source: a `Source`.
        pipeline: a `TrainPipeline`. Its `batch_size` is that of all processes
            together, and gray images become RGB if it is for three channels.
        epochs: int.
        seed: int that order, augmentation and mixing follow from.
        process_index, process_count: ints; each process gets its equal part
            of every batch.
        on_error: `"skip"` takes the next image in place of one that cannot be
            read, and warns; `"raise"` ends with its name.
        loader: `"tf"` for `tf.data`, `"python"` for threads without
            TensorFlow, `None` for `tf.data` on the TensorFlow backend.
        mixup_group: int, how many images of a batch are mixed with one
            another; those of a process if `None`. With a number, batches are
            the same for every number of processes. A process then also reads
            the images of other processes that it mixes with its own.

    Attributes:
        steps_per_epoch: int; images of a last batch that is not full are left
            out.
        steps: int, of all epochs.
        skipped: dict from names of images that could not be read to reasons.

    Raises:
        ValueError: for arguments that do not fit each other, if there are
            fewer images than one batch, and if none of a class can be read.

    Examples:
        >>> recipe = keras_convnext.recipes.digits
        >>> digits, _ = keras_convnext.data.open_splits("digits")
        >>> pipeline = recipe.train_pipeline(10, mean=(0.3,), std=(0.35,))
        >>> loader = keras_convnext.data.TrainLoader(digits, pipeline, epochs=2)
        >>> loader.steps_per_epoch
        44
        >>> images, labels = next(iter(loader.batches(first_step=50)))
        >>> tuple(images.shape)
        (32, 8, 8, 1)
    """

    @in_range
    def __init__(
        self,
        source: Source,
        pipeline: TrainPipeline,
        epochs: Count,
        seed: Seed = 0,
        process_index: CountOrZero = 0,
        process_count: Count = 1,
        on_error: str = "skip",
        loader: str | None = None,
        mixup_group: Count | None = None,
    ):
        loader = loader_of(loader)
        check_process(process_index, process_count)
        size = pipeline.batch_size
        part = part_of(size, "process_count", process_count)
        self._group = part if mixup_group is None else mixup_group
        part_of(size, "mixup_group", self._group)
        super().__init__(pipeline, source, size, shuffle=True, seed=seed)
        self.loader = loader
        self._answer: Callable[..., Any] = lambda *batch: batch
        self.steps_per_epoch = len(self)
        self.steps = self.steps_per_epoch * epochs
        start = process_index * part
        self._places = range(start, start + part)
        if pipeline.mixing is not None:
            self._places = _with_partners(self._places, self._group)
        start = self._places.index(start)
        self._kept = slice(start, start + part)
        photograph = TfPhotograph if loader == "tf" else Photograph
        if source.is_encoded and on_error == "skip":
            check_readable(source)
        elif not source.is_encoded:
            self._fitting(source.read(0), 0)
        self._reader = Reader(source, on_error, photograph)
        self.skipped = self._reader.skipped

    def with_pipeline(self, pipeline: TrainPipeline) -> Self:
        """The same images in the same order, made by another pipeline.

        Args:
            pipeline: a `TrainPipeline` for images of another size.

        Returns:
            A `TrainLoader` that reads as this one does.
        """
        other = copy.copy(self)
        other.__dict__.pop("_spec", None)
        other.pipeline = pipeline
        return other

    def answered(self, answer: Callable[..., tuple[Any, Any]]) -> Self:
        """The same batches, each of which goes through a function.

        Args:
            answer: function of images and labels that returns both; labels in
                a dict of arrays with a row for each image.
        """
        other = copy.copy(self)
        other._answer = answer
        return other

    def batches(self, first_step: int = 0) -> Iterable[tuple[Tensor, Tensor]]:
        """All batches from a step on, to the end of the last epoch.

        Args:
            first_step: int, counted over all epochs.

        Returns:
            A `tf.data.Dataset`, or an iterator over NumPy arrays, of `(images,
            labels)` for `model.fit(..., steps_per_epoch=...,
            shuffle=False)`: images of 0–255, and class numbers or, after
            mixing, distributions.
        """

        def batch(step):
            made = self.make(*divmod(step, self.steps_per_epoch))
            return self._answer(*made)

        steps = range(first_step, self.steps)
        return by_step(batch, steps, self.loader, self._specs)

    def _specs(self):
        """The shapes and dtypes of a batch, in its structure."""
        shape, dtype = self._spec
        one = (
            np.zeros((1, *shape), dtype),
            np.zeros_like(self.source.labels[:1]),
        )
        example = self.pipeline.batch(one, (0, 0))
        count = self._kept.stop - self._kept.start

        def spec(x):
            shape = count, *x.shape[1:]
            return keras.InputSpec(dtype=x.dtype.name, shape=shape)

        return keras.tree.map_structure(spec, self._answer(*example))

    def _first(self, epoch, index):
        return (epoch * self.steps_per_epoch + index) * self.batch_size

    def _groups(self, first):
        """Images that are opposite to one another also within the group."""
        numbers = (first + np.array(self._places)) // self._group
        for number in range(numbers[0], numbers[-1] + 1):
            yield number, slice(*np.searchsorted(numbers, (number, number + 1)))

    def _example(self):
        return np.zeros(self.pipeline.input_shape, "uint8"), 0

    def _fill(self, out, number, seed):
        def sample(image, number):
            pair = self._fitting(image, number), self.source.labels[number]
            return self.pipeline.sample(pair, seed, out)["labels"]

        return self._reader.read_near(number, sample)

    def _fitting(self, image, number):
        """The image, with the channels of the model's."""
        shape = self.pipeline.input_shape
        if image.shape[-1] == 1 < shape[-1]:
            image = np.repeat(image, shape[-1], axis=-1)
        # A crop has the size.
        start = 0 if self.pipeline.crop is None else -1
        if image.shape[start:] != shape[start:]:
            raise ValueError(
                f"Expected images of shape {shape}, by the recipe, which "
                f"crops none, and the model. Received: "
                f"{self.source.name(number)!r} of shape {image.shape}. Resize "
                "them, or let the recipe do it: crop_scale=(1, 1) keeps the "
                "whole of each"
            )
        return image


def _with_partners(places, group):
    """These places, and those that their images are mixed with, in order."""
    partners = [2 * (x // group * group) + group - 1 - x for x in places]
    return sorted({*places, *partners})
