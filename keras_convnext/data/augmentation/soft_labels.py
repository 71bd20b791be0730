"""Labels as smoothed probabilities, `(batch, classes)`, never broadcast."""

import numpy as np


def soft_labels(labels, num_classes=None, smoothing=0.0):
    """Labels as probabilities: `(1 - smoothing) * one_hot + smoothing / K`.

    Args:
        labels: array of ints `(batch,)` or `(batch, 1)`, or of one-hot or
            soft labels `(batch, classes)`.
        num_classes: int, needed for ints; 1 for floats of one column, which
            are numbers and no classes.
        smoothing: float of 0–1.

    Returns:
        `float32` array `(batch, classes)`.

    Raises:
        ValueError: for other shapes, and classes that do not exist.

    Examples:
        >>> keras_convnext.data.augmentation.soft_labels.soft_labels(
        ...     np.array([1]), num_classes=2, smoothing=0.5
        ... ).tolist()
        [[0.25, 0.75]]
    """
    labels = np.asarray(labels)
    classes, is_sparse = meaning(labels, num_classes)
    if is_sparse:
        labels = labels.reshape(-1)
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(
                "Labels must be at least 0 and below `num_classes`. "
                f"Received: labels from {labels.min()} to "
                f"{labels.max()}, num_classes={classes}. Count them from 0"
            )
        labels = labels[:, None] == np.arange(classes)
    return labels.astype("float32") * (1 - smoothing) + smoothing / classes


def meaning(labels, num_classes):
    """How many classes, and whether labels are ints for them.

    Args:
        labels: array, or tensor of TensorFlow whose shape is static.
        num_classes: int or `None`.
    """
    dtype, shape = labels.dtype.name, labels.shape
    rank = getattr(shape, "rank", labels.ndim)
    last = shape[-1] if rank == 2 else None
    is_int = "int" in dtype
    if rank == 1 and is_int or rank == 2 and is_int and last == 1:
        if num_classes is None:
            raise ValueError(
                "Labels that are ints need the number of classes: pass "
                f"`num_classes`, or one-hot labels. Received: {dtype} labels "
                f"of shape {shape}, num_classes=None"
            )
        return num_classes, True
    is_number = is_int or "float" in dtype or dtype == "bool"
    is_row = last is not None and (last > 1 or num_classes == 1)
    if not (is_number and is_row) or num_classes not in (None, last):
        raise ValueError(
            "Expected labels of shape (batch,) that are ints, or one-hot or "
            "soft labels of shape (batch, classes) with as many classes as "
            f"`num_classes`. Received: {dtype} labels of shape {shape}, "
            f"num_classes={num_classes}. Convert them, or fix their shape "
            "with `tf.ensure_shape`"
        )
    return last, False
