"""Loss and metric for masks in which some pixels do not count."""

import keras

IGNORED = 255


def pixel_cross_entropy() -> keras.losses.Loss:
    """Cross-entropy of logits for every pixel that counts.

    The mean over all pixels whose label is not 255, as transformers has it.

    Returns:
        A `keras.losses.SparseCategoricalCrossentropy`.

    Example:

    >>> loss = keras_convnext.segmentation.pixel_cross_entropy()
    >>> masks = np.array([[[0, 255]]])
    >>> round(float(loss(masks, np.zeros((1, 1, 2, 4)))), 4)
    1.3863
    """
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=IGNORED
    )


def mean_iou(classes: int) -> keras.metrics.Metric:
    """Mean intersection over union of the classes, from logits and masks.

    Over all pixels whose label is not 255, of all batches together. Classes
    that are neither there nor predicted do not count.

    Args:
        classes: int.

    Returns:
        A `keras.metrics.MeanIoU`.

    Example:

    >>> metric = keras_convnext.segmentation.mean_iou(2)
    >>> logits = np.array([[[[2.0, 1.0], [2.0, 1.0]]]])
    >>> metric.update_state(np.array([[[0, 255]]]), logits)
    >>> float(metric.result())
    1.0
    """
    return keras.metrics.MeanIoU(
        classes, name="mean_iou", ignore_class=IGNORED, sparse_y_pred=False
    )
