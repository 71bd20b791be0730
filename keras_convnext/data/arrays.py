"""Batches of images that are already in memory."""

import math

import keras
import numpy as np


def array_batches(images, labels, batch_size, shuffle=False, seed=0):
    """Batches for `model.fit`, through `tf.data` on the TensorFlow backend.

    Other backends get a `keras.utils.PyDataset`, which needs no TensorFlow.

    Args:
        images: array `(n, height, width, channels)`.
        labels: array `(n, ...)`.
        batch_size: int; the last batch may be smaller.
        shuffle: whether to draw a new order every epoch.
        seed: int that the orders follow from.

    Returns:
        A `tf.data.Dataset` or `keras.utils.PyDataset` of `(images, labels)`.

    Example:

    >>> images = np.zeros((5, 8, 8, 1), "uint8")
    >>> len(keras_convnext.data.array_batches(images, np.arange(5), 2))
    3
    """
    if len(images) != len(labels):
        raise ValueError(
            "`images` and `labels` must have the same length. Received: "
            f"{len(images)} images and {len(labels)} labels"
        )
    if keras.backend.backend() != "tensorflow":
        return ArrayBatches(images, labels, batch_size, shuffle, seed)
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    if shuffle:
        dataset = dataset.shuffle(len(images), seed=seed)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


class ArrayBatches(keras.utils.PyDataset):
    """What `array_batches` returns where `tf.data` is not at home."""

    def __init__(self, images, labels, batch_size, shuffle, seed):
        super().__init__()
        self.images = images
        self.labels = labels
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.generator = np.random.default_rng(seed)
        self.order = np.arange(len(images))
        self.on_epoch_end()

    def __len__(self):
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, index):
        start = index * self.batch_size
        chosen = self.order[start : start + self.batch_size]
        return self.images[chosen], self.labels[chosen]

    def on_epoch_end(self):
        if self.shuffle:
            self.generator.shuffle(self.order)
