"""Accuracy in which every class counts alike, from counts of classes."""

import numpy as np

from keras_convnext._util.annotations import Array


def scores_of(
    actual: Array, predicted: Array, right: Array
) -> dict[str, float]:
    """Balanced accuracy and macro F1, as scikit-learn defines them.

    Args:
        actual: numbers `(classes,)`, how many images have each class.
        predicted: how many get it.
        right: how many have it and get it.

    Returns:
        A dict of the parts 0–1 `balanced_accuracy`, the mean recall of the
        classes that have images, and `f1_macro`, the mean F1 of those that
        have images or are predicted. Without images both are NaN.
    """
    actual, predicted, right = (
        np.rint(np.asarray(x, "float64")) for x in (actual, predicted, right)
    )
    has_images, total = actual > 0, actual + predicted
    is_met = total > 0
    if not has_images.any():
        return {"balanced_accuracy": np.nan, "f1_macro": np.nan}
    recalls = right[has_images] / actual[has_images]
    f1 = 2 * right[is_met] / total[is_met]
    return {
        "balanced_accuracy": float(recalls.mean()),
        "f1_macro": float(f1.mean()),
    }
