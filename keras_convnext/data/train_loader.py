"""Augmented batches from a source, on every backend."""

import functools
import itertools
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from keras_convnext._util.annotations import Tensor
from keras_convnext._util.checks import check_process
from keras_convnext._util.checks import one_of
from keras_convnext._util.checks import positive_int
from keras_convnext.data.pipeline import TrainPipeline
from keras_convnext.data.reading import Photograph
from keras_convnext.data.reading import Reader
from keras_convnext.data.reading import TfPhotograph
from keras_convnext.data.source import Source
from keras_convnext.data.source import order_of
from keras_convnext.data.threads import WORKERS
from keras_convnext.data.threads import in_order

# Samples that a thread makes at a time.
CHUNK = 8
# So that no thread rests while the samples of a batch become one.
BATCHES_AT_ONCE = 2


class TrainLoader:
    """Augmented batches of a source; training can go on from any of them.

    Steps count over all epochs: step `s` is in epoch `s // steps_per_epoch`.
    What a batch holds follows from the seed and the number of its step, and
    neither from the batches before nor from threads. Order, crops and
    augmentation are the same in every process count and with every loader;
    only the loaders' decoders differ, by less than a grey level in the mean.

    Args:
        source: a `Source`.
        pipeline: a `TrainPipeline`. Its `batch_size` is that of all processes
            together, and grey images become RGB if it is for three channels.
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
            the same in every process count; what a process mixes with images
            of another it reads itself.

    Attributes:
        steps_per_epoch: int; images of a last batch that is not full are left
            out.
        steps: int, of all epochs.
        skipped: dict from names of images that could not be read to reasons.

    Raises:
        ValueError: for arguments that do not fit each other, and if there are
            fewer images than one batch.

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

    def __init__(
        self,
        source: Source,
        pipeline: TrainPipeline,
        epochs: int,
        seed: int = 0,
        process_index: int = 0,
        process_count: int = 1,
        on_error: str = "skip",
        loader: str | None = None,
        mixup_group: int | None = None,
    ):
        if loader is None:
            # Elsewhere TensorFlow would be imported for it, take a GPU's whole
            # memory, and copy every batch: a fifth of the rate (measured).
            is_tf = keras.backend.backend() == "tensorflow"
            loader = "tf" if is_tf else "python"
        one_of("loader", loader, ("tf", "python"))
        check_process(process_index, process_count)
        size = pipeline.batch_size
        part = _part(size, "process_count", process_count)
        self.source, self.pipeline, self.seed = source, pipeline, seed
        self.loader = loader
        if mixup_group is not None:
            positive_int("mixup_group", mixup_group)
        self._group = part if mixup_group is None else mixup_group
        _part(size, "mixup_group", self._group)
        # Places in a batch, of what this process reads.
        start = process_index * part
        self._places = range(start, start + part)
        if pipeline.mixing is not None:
            self._places = _with_partners(self._places, self._group)
        start = self._places.index(start)
        self._own = slice(start, start + part)
        self.steps_per_epoch = len(source) // size
        self.steps = self.steps_per_epoch * epochs
        if not self.steps_per_epoch:
            raise ValueError(
                "Training leaves out a last batch that is not full, so there "
                f"must be at least {size} images. Received: {len(source)}. "
                "Take a smaller batch, `recipe.with_batch_size"
                f"({max(len(source) // 2, 1)})`, or add images"
            )
        self._photograph = TfPhotograph if loader == "tf" else Photograph
        self._reader = Reader(source, on_error)
        self._orders = functools.lru_cache(maxsize=2)(
            functools.partial(order_of, len(source), seed)
        )
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(WORKERS)

    @property
    def skipped(self) -> dict[str, str]:
        return self._reader.skipped

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
        if self.loader == "python":
            steps = range(first_step, self.steps)
            return in_order(self._batch, steps, BATCHES_AT_ONCE)
        import tensorflow as tf

        example = self.pipeline.batch(self._new(1), (0, 0))

        def batch(step):
            types = [x.dtype for x in example]
            arrays = tf.numpy_function(self._batch, (step,), types)
            count = self._own.stop - self._own.start
            shapes = [(count, *x.shape[1:]) for x in example]
            return tuple(map(tf.ensure_shape, arrays, shapes))

        steps = tf.data.Dataset.range(first_step, self.steps)
        batches = steps.map(batch, num_parallel_calls=BATCHES_AT_ONCE)
        return batches.prefetch(1)

    def _new(self, count):
        pipeline = self.pipeline
        is_float = pipeline.erasing or pipeline.mixing
        dtype = "float32" if is_float else "uint8"
        shape = (count, *pipeline.input_shape)
        return np.zeros(shape, dtype), np.zeros(count, "int32")

    def _batch(self, step):
        epoch, place = divmod(int(step), self.steps_per_epoch)
        size = self.pipeline.batch_size
        with self._lock:  # one thread draws an order, the others wait
            order = self._orders(epoch)
        numbers = order[place * size :][:size].tolist()
        first = int(step) * size
        images, labels = self._new(len(self._places))

        def fill(start):
            for i, x in enumerate(self._places[start : start + CHUNK], start):
                labels[i] = self._fill(images[i], numbers[x], first + x)

        for _ in self._pool.map(fill, range(0, len(images), CHUNK)):
            pass  # but errors are raised
        if self.pipeline.mixing is None:
            return images, labels
        distributions = [
            self.pipeline.mixing.mix_in_place(
                images[part],
                labels[part],
                (self.seed, first // self._group + number),
            )
            for number, part in _by_group(self._places, self._group)
        ]
        return images[self._own], np.concatenate(distributions)[self._own]

    def _fill(self, result, number, place):
        """`pipeline.sample` for a place among those of all epochs.

        Without copies of what is large: only the crop is decoded, and pixels
        are erased where they are to stay.

        Returns:
            The label.
        """
        seed = (self.seed, place)
        if self.source.is_encoded:
            image, number = self._reader.read_near(
                number, lambda content: self._cropped(content, seed)
            )
        else:
            image = self.source.read(number)
            if self.pipeline.crop is not None:
                image = self.pipeline.crop(image, seed=seed)
        image = self._fitting(image, number)
        for layer in self.pipeline.distortions:
            image = layer(image, seed=seed)
        result[...] = image
        if self.pipeline.erasing is not None:
            self.pipeline.erasing.erase_in_place(result, seed)
        return self.source.labels[number]

    def _cropped(self, content, seed):
        photograph = self._photograph(content, self.source.is_upright)
        if self.pipeline.crop is None:
            return photograph.pixels()
        return self.pipeline.crop.crop_file(photograph, seed)

    def _fitting(self, image, number):
        shape = self.pipeline.input_shape
        if image.shape[-1] == 1 < shape[-1]:
            image = np.repeat(image, shape[-1], axis=-1)
        if image.shape != shape:
            raise ValueError(
                f"Expected images of shape {shape}, by the recipe, which "
                f"crops none, and the model. Received: "
                f"{self.source.name(number)!r} of shape {image.shape}. Resize "
                "them, or take a recipe with a `crop_scale`"
            )
        return image


def _part(size, name, count):
    if count < 1 or size % count:
        raise ValueError(
            "Batches (the recipe's `batch_size` over its "
            f"`gradient_accumulation_steps`) must be divisible by `{name}`. "
            f"Received: {size} images and {name}={count}. Change one of them"
        )
    return size // count


def _with_partners(places, group):
    """These places, and those that their images are mixed with, in order."""
    partners = [2 * (x // group * group) + group - 1 - x for x in places]
    return sorted({*places, *partners})


def _by_group(places, group):
    """The number of each group, and the slice of its places among these.

    They are opposite to one another within it, like those of the whole group.
    """
    start = 0
    for number, own in itertools.groupby(places, lambda x: x // group):
        stop = start + len(list(own))
        yield number, slice(start, stop)
        start = stop
