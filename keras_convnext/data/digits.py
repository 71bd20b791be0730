"""The handwritten digits that come with scikit-learn: no download."""

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.requirements import require


def load_digits() -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Loads 1797 gray scans of handwritten digits, 8×8 pixels each.

    The split is fixed: every fifth scan is held out for testing.

    Returns:
        `(train_images, train_labels), (test_images, test_labels)`: images as
        `uint8` arrays `(n, 8, 8, 1)` with values of 0–255, labels as `int32`
        arrays `(n,)` with values of 0–9.

    Raises:
        ImportError: if scikit-learn is not installed.

    Source: UCI "Optical Recognition of Handwritten Digits", CC BY 4.0.

    Examples:
        >>> train, test = keras_convnext.data.load_digits()
        >>> train[0].shape, test[0].shape
        ((1438, 8, 8, 1), (359, 8, 8, 1))
    """
    datasets = require("sklearn.datasets", "the handwritten digits")
    digits = datasets.load_digits()
    # Scans have 17 gray levels.
    images = np.round(digits.images * (255 / 16)).astype("uint8")[..., None]
    labels = digits.target.astype("int32")
    held_out = np.arange(len(labels)) % 5 == 4
    train = images[~held_out], labels[~held_out]
    return train, (images[held_out], labels[held_out])
