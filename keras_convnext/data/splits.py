"""What is written on a command line, as a training and a validation set."""

from pathlib import Path

import numpy as np

from keras_convnext.data.digits import load_digits
from keras_convnext.data.folder import ImageFolder
from keras_convnext.data.source import Arrays
from keras_convnext.data.source import Subset

SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "validation", "valid", "test"),
}


def open_splits(data, validation=None, validation_split=0.1, seed=0):
    """Opens a training and a validation set."""
    if validation is not None:
        return open_data(data), open_data(validation, "validation")
    if data == "digits":
        return open_data(data), open_data(data, "validation")
    folder = Path(data)
    if _part(folder, "train") and _part(folder, "validation"):
        return open_data(data), open_data(data, "validation")
    return held_out(open_data(data), validation_split, seed)


def open_data(data, split="train"):
    if data == "digits":
        images, labels = load_digits()[split == "validation"]
        return Arrays(images, labels)
    folder = Path(data)
    return ImageFolder(_part(folder, split) or folder)


def held_out(source, fraction, seed):
    """Two parts of a source: each class gives `fraction` to the second."""
    generator = np.random.default_rng([seed, len(source)])
    is_held_out = np.zeros(len(source), bool)
    for label in range(len(source.classes)):
        numbers = np.flatnonzero(source.labels == label)
        count = max(1, round(fraction * len(numbers)))
        is_held_out[generator.permutation(numbers)[:count]] = True
    return (
        Subset(source, np.flatnonzero(~is_held_out)),
        Subset(source, np.flatnonzero(is_held_out)),
    )


def _part(folder, split):
    """The folder of a split, or `None`."""
    for name in SPLITS[split]:
        if (folder / name).is_dir():
            return folder / name
    return None
