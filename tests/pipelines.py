"""What the tests of the data pipeline share: photographs, maps, draws."""

import functools

import numpy as np
import tensorflow as tf
from sklearn import datasets

CHINA, FLOWER = datasets.load_sample_images().images
SHAPE = (40, 50)


@functools.cache
def photographs(count=6, height=SHAPE[0], width=SHAPE[1], channels=3):
    """Cuts of the photographs, `(count, height, width, channels)`."""
    generator = np.random.default_rng(0)
    cuts = []
    for number in range(count):
        source = (CHINA, FLOWER)[number % 2]
        top = generator.integers(source.shape[0] - height)
        left = generator.integers(source.shape[1] - width)
        cuts.append(source[top : top + height, left : left + width, :channels])
    return np.stack(cuts)


def mapped(layer, inputs, batch=None, **options):
    """A layer's results over samples in `tf.data`, as NumPy."""
    dataset = tf.data.Dataset.from_tensor_slices(inputs)
    if batch is not None:
        dataset = dataset.batch(batch)
    return list(dataset.map(layer, **options).as_numpy_iterator())


def within(values, mean, deviation):
    """Whether the mean of independent draws is that of their distribution:
    five standard errors, exceeded once in two million times."""
    error = deviation / len(values) ** 0.5
    return abs(np.mean(values) - mean) < 5 * error


class Dice:
    """Stands for the module `random` where timm looks for a box.

    A row holds area, aspect, top and left of one try; the last two are only
    asked for if it fits.
    """

    def __init__(self, rows):
        self._rows = iter(rows)
        self._asked = 2

    def random(self):
        return 0.0

    def uniform(self, low, high):
        if self._asked == 2:
            self._row, self._asked = next(self._rows), 0
        return low + (high - low) * self._next()

    def randint(self, low, high):
        return low + int(self._next() * (high - low + 1))

    def _next(self):
        self._asked += 1
        return self._row[self._asked - 1]
