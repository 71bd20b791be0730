"""Batches for training and evaluation from a source, on every backend."""

import functools
import importlib.util
import math
import os
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from keras_convnext.arguments import one_of
from keras_convnext.data.source import order_of
from keras_convnext.images import _read
from keras_convnext.images import load_image_for

TRIES = 10


class TrainLoader:
    """Augmented batches of a source, in an order that a run can go on in.

    Steps count over all epochs: step `s` is in epoch `s // steps_per_epoch`.
    What a batch holds follows from the seed and the number of its step, and
    neither from what came before nor from threads.

    Args:
        source: a `Source`.
        pipeline: a `TrainPipeline`; its `batch_size` is that of all processes
            together.
        epochs: int.
        seed: int that order, augmentation and mixing follow from.
        process_index, process_count: ints; each process gets its equal part
            of every batch.
        on_error: `"skip"` takes the next image in place of one that cannot be
            read, and warns; `"raise"` ends with its name.
        loader: `"tf"` for `tf.data`, `"python"` for threads without
            TensorFlow, `None` for `tf.data` where TensorFlow is installed.
        mixup_group: int, how many images are mixed with one another; `None`
            for those of a process.

    Attributes:
        steps_per_epoch: int; the images of a last batch that is not full are
            left out.
        steps: int, of all epochs.
        skipped: dict from names of images that could not be read to reasons.
    """

    def __init__(
        self,
        source,
        pipeline,
        epochs,
        seed=0,
        process_index=0,
        process_count=1,
        on_error="skip",
        loader=None,
        mixup_group=None,
    ):
        if loader is None:
            has_tensorflow = importlib.util.find_spec("tensorflow")
            loader = "tf" if has_tensorflow else "python"
        one_of("loader", loader, ("tf", "python"))
        self.source, self.pipeline, self.seed = source, pipeline, seed
        self.loader = loader
        self.process_index = process_index
        self.local_batch_size = pipeline.batch_size // process_count
        self.mixup_group = mixup_group or self.local_batch_size
        self.steps_per_epoch = len(source) // pipeline.batch_size
        self.steps = self.steps_per_epoch * epochs
        self._reader = Reader(source, on_error)
        self._order_of = functools.lru_cache(maxsize=2)(
            functools.partial(order_of, len(source), seed)
        )

    @property
    def skipped(self):
        return self._reader.skipped

    def batches(self, first_step=0):
        """All batches from a step on, to the end of the last epoch.

        Returns:
            A `tf.data.Dataset`, or an iterator of arrays, of `(images,
            labels)` as `model.fit(batches, steps_per_epoch=...,
            shuffle=False)` takes them.
        """
        if self.loader == "tf":
            return self._tf_batches(first_step)
        steps = range(first_step, self.steps)
        return _in_order(self._batch, steps, os.cpu_count())

    def _numbers(self, step):
        """Numbers of the images of a step, and their places in the run."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        batch_size, own = self.pipeline.batch_size, self.local_batch_size
        start = step_in_epoch * batch_size + self.process_index * own
        numbers = self._order_of(epoch)[start : start + own]
        first = step * batch_size + self.process_index * own
        return numbers, np.arange(first, first + own)

    def _sample(self, number, place):
        image, number = self._reader.image_near(number)
        sample = self.pipeline.sample(
            {"images": image, "labels": self.source.labels[number]},
            (self.seed, place),
        )
        return sample["images"], sample["labels"]

    def _batch(self, step):
        numbers, places = self._numbers(step)
        samples = [self._sample(*pair) for pair in zip(numbers, places)]
        images, labels = (np.stack(x) for x in zip(*samples))
        groups = range(0, len(images), self.mixup_group)
        parts = [
            self.pipeline.batch(
                (
                    images[i : i + self.mixup_group],
                    labels[i : i + self.mixup_group],
                ),
                (self.seed, places[i] // self.mixup_group),
            )
            for i in groups
        ]
        images, labels = (np.concatenate(x) for x in zip(*parts))
        return images, labels

    def _tf_batches(self, first_step):
        import tensorflow as tf

        image, label = self._sample(0, 0)

        def sample(number, place):
            x, y = tf.numpy_function(
                self._sample, (number, place), (image.dtype, label.dtype)
            )
            return tf.ensure_shape(x, image.shape), tf.ensure_shape(y, ())

        def mixed(images, labels, places):
            seed = tf.stack([self.seed, places[0] // self.mixup_group])
            return self.pipeline.batch((images, labels), seed)

        steps = tf.data.Dataset.range(first_step, self.steps)
        numbers = steps.map(
            lambda step: tf.numpy_function(
                self._numbers, (step,), (tf.int64, tf.int64)
            )
        ).unbatch()
        samples = numbers.map(
            lambda number, place: (*sample(number, place), place),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        batches = samples.batch(self.mixup_group, drop_remainder=True)
        batches = batches.map(mixed, num_parallel_calls=tf.data.AUTOTUNE)
        groups = self.local_batch_size // self.mixup_group
        if groups > 1:
            batches = batches.unbatch().batch(self.local_batch_size, True)
        count = max(self.steps - first_step, 0)
        batches = batches.apply(tf.data.experimental.assert_cardinality(count))
        return batches.prefetch(tf.data.AUTOTUNE)


class EvalLoader(keras.utils.PyDataset):
    """Every image of a source once, in order, as evaluation sees it.

    Args:
        source: a `Source`.
        preprocessing: a `Preprocessing`, as `model.preprocessing`, or an
            `EvalPipeline`.
        batch_size: int; the last batch may be smaller.
        on_error: `"skip"` leaves out what cannot be read, and warns;
            `"raise"` ends with its name.
        process_index, process_count: ints; process `p` of `n` gets the images
            `p`, `p + n`, `p + 2 n` …

    Attributes:
        skipped: dict from names of images that could not be read to reasons.
    """

    def __init__(
        self,
        source,
        preprocessing,
        batch_size,
        on_error="skip",
        process_index=0,
        process_count=1,
    ):
        super().__init__(workers=os.cpu_count())
        self.source, self.preprocessing = source, preprocessing
        self.batch_size = batch_size
        self._reader = Reader(source, on_error)
        self._numbers = range(process_index, len(source), process_count)

    @property
    def skipped(self):
        return self._reader.skipped

    def __len__(self):
        return math.ceil(len(self._numbers) / self.batch_size)

    def __getitem__(self, index):
        numbers, images = self.load(index)
        return images, self.source.labels[numbers]

    def load(self, index):
        """Numbers and images of a batch, without those that are skipped."""
        start = index * self.batch_size
        loaded = [
            (number, image)
            for number in self._numbers[start : start + self.batch_size]
            if (image := self._reader.attempt(number, self._image)) is not None
        ]
        numbers, images = zip(*loaded)
        return np.array(numbers), np.stack(images)

    def _image(self, content):
        if isinstance(content, np.ndarray):
            return content
        return load_image_for(
            self.preprocessing, content, self.source.is_upright
        )


class Reader:
    """Images by number, and what to do about those that cannot be read."""

    def __init__(self, source, on_error):
        one_of("on_error", on_error, ("skip", "raise"))
        self.source, self.on_error = source, on_error
        self.skipped = {}

    def image_near(self, number):
        """The first of some images that can be read, and its number."""
        for tried in (number + np.arange(TRIES)) % len(self.source):
            image = self.attempt(tried, self._pixels)
            if image is not None:
                return image, tried
        raise ValueError("ten images after one another cannot be read")

    def attempt(self, number, decode):
        """What `decode` makes of an image; `None` if it cannot be read."""
        try:
            return decode(self.source.read(number))
        except (ValueError, OSError) as error:
            name, reason = self.source.name(number), str(error)
            if self.on_error == "raise":
                raise ValueError(f"{name}: {reason}") from error
            if name not in self.skipped:
                self.skipped[name] = reason
                warnings.warn(
                    f"{len(self.skipped)} images skipped so far. {name}: "
                    f"{reason}",
                    stacklevel=2,
                )
            return None

    def _pixels(self, content):
        if isinstance(content, np.ndarray):
            return content
        return np.asarray(_read(content, self.source.is_upright))


def _in_order(function, items, workers):
    """Yields `function(item)` of all items, some of them ahead, in threads."""
    with ThreadPoolExecutor(workers) as pool:
        pending = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
