"""Batches of a pipeline, each of which follows from its number."""

import functools
import math
import sys
from collections.abc import Iterable
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext.data.balancing import BalancedOrder
from keras_convnext.data.source import order_of
from keras_convnext.data.threads import WORKERS

# Samples that a thread makes at a time.
CHUNK = 8


class Batches(keras.utils.PyDataset):
    """Batches of samples by a pipeline's maps; `fit` takes an epoch of them.

    What a batch holds follows from the seed, the epoch and its number in it,
    and neither from the batches before nor from threads.

    Args:
        pipeline: a `Pipeline`.
        source: anything with `len` and `[i]` that gives `(image, label)`.
        batch_size: int.
        shuffle: whether every epoch has an order of its own, in which rare
            classes come more often if the pipeline says so.
        seed: int that order, augmentation and mixing follow from.

    Raises:
        ValueError: if training has too few images for a batch.
    """

    def __init__(
        self,
        pipeline: Any,
        source: Any,
        batch_size: int,
        shuffle: bool,
        seed: int,
    ):
        super().__init__()
        pipeline.check_count(len(source), batch_size)
        self.pipeline, self.source, self.seed = pipeline, source, seed
        self.batch_size = batch_size
        self.epoch = 0
        # Those in a batch whose samples are made, and which of them are kept.
        self._places: Sequence[int] = range(batch_size)
        self._kept = slice(None)

        balanced = None
        if shuffle and pipeline.sampling_exponent:
            balanced = BalancedOrder(source.labels, pipeline.sampling_exponent)

        def order(epoch):
            if balanced is not None:
                return balanced(seed, epoch)
            count = len(source)
            return order_of(count, seed, epoch) if shuffle else np.arange(count)

        self._order = functools.lru_cache(maxsize=2)(order)
        self._pool = ThreadPoolExecutor(WORKERS)
        self._memory = Memory()

    def __len__(self) -> int:
        whole = math.floor if self.pipeline.training else math.ceil
        return whole(len(self.source) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        return self.make(self.epoch, index)

    def on_epoch_end(self) -> None:
        self.epoch += 1

    def make(self, epoch: int, index: int) -> tuple[Array, Array]:
        """A batch by its number in an epoch, as the pair that `fit` takes."""
        start = index * self.batch_size
        order = self._order(epoch)
        numbers = order[start : start + self.batch_size].tolist()
        first = self._first(epoch, index)
        places = self._places[: len(numbers)]
        shape, dtype = self._spec
        images = self._memory.array((len(places), *shape), dtype)

        def fill(start):
            return [
                self._fill(images[i], numbers[x], (self.seed, first + x))
                for i, x in enumerate(places[start : start + CHUNK], start)
            ]

        chunks = self._pool.map(fill, range(0, len(places), CHUNK))
        labels = np.stack([label for chunk in chunks for label in chunk])
        mixed = [
            self.pipeline.batch(
                (images[part], labels[part]), (self.seed, number), images[part]
            )
            for number, part in self._groups(first)
        ]
        labels = np.concatenate([labels for _, labels in mixed])
        return images[self._kept], labels[self._kept]

    def _first(self, epoch: int, index: int) -> int:
        """Which of the samples of all epochs a batch begins with."""
        return epoch * len(self.source) + index * self.batch_size

    def _groups(self, first: int) -> Iterable[tuple[int, slice]]:
        """The number of what is mixed with one another, and which that is."""
        return [(first, slice(None))]

    @functools.cached_property
    def _spec(self):
        """The shape and dtype of a sample, by an example."""
        image = self.pipeline.sample(self._example(), (0, 0))["images"]
        is_mixed = self.pipeline.mixing is not None
        return image.shape, "float32" if is_mixed else image.dtype

    def _example(self) -> tuple[Any, Any]:
        return self.source[0]

    def _fill(self, out: Array, number: int, seed: tuple[int, int]) -> Any:
        """Makes the sample of an image; returns its label."""
        return self.pipeline.sample(self.source[number], seed, out)["labels"]


class Memory:
    """Arrays in memory that is used again when nobody holds it any more.

    Fresh memory costs more than filling it: the system clears every page.

    Examples:
        >>> from keras_convnext.data.batches import Memory
        >>> memory = Memory()
        >>> place = memory.array((2, 3), "float32").ctypes.data
        >>> place == memory.array((2, 3), "float32").ctypes.data
        True
    """

    # As many batches as wait in threads; of more, the memory is given back.
    KEPT = WORKERS + 2

    def __init__(self):
        self._owners = []

    def array(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array of any contents, of which nothing else holds a part."""
        for owner in self._owners:
            is_free = sys.getrefcount(owner) == HELD_HERE_ALONE
            if is_free and (owner.shape, owner.dtype) == (shape, dtype):
                return owner[...]
        owner = np.empty(shape, dtype)
        self._owners = [*self._owners, owner][-self.KEPT :]
        # Views, and views of views, hold the array whose memory they are.
        return owner[...]


def _held():
    """The references to what stands in a list alone, as a loop counts them."""
    for owner in [object()]:
        return sys.getrefcount(owner)


HELD_HERE_ALONE = _held()
