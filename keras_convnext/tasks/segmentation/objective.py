"""Loss and metric for masks in which some pixels do not count."""

import keras
import numpy as np
from keras import ops

from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import in_range
from keras_convnext._util.serialization import register

IGNORED = 255
FIRST = 64  # masks that are looked at, where they come in one array


def check_masks(masks, model):
    """Raises `ValueError` for numbers that are neither classes nor 255."""
    masks = np.asarray(ops.convert_to_numpy(masks[:FIRST]))
    classes = model.outputs[0].shape[-1]
    is_class = (masks >= 0) & (masks < classes)
    others = np.unique(masks[~is_class & (masks != IGNORED)])
    if others.size:
        raise ValueError(
            f"The masks of {model.name!r} hold its classes, 0 to "
            f"{classes - 1}, and {IGNORED} where a pixel does not count. "
            f"Received: {others[:5].tolist()}. Count the classes from 0, or "
            "build the model for all"
        )


def pixel_cross_entropy() -> keras.losses.Loss:
    """Cross-entropy of logits for every pixel that counts.

    The mean over all pixels whose label is not 255, as transformers has it.

    Returns:
        A `keras.losses.SparseCategoricalCrossentropy`.

    Examples:
        >>> loss = keras_convnext.segmentation.pixel_cross_entropy()
        >>> masks = np.array([[[0, 255]]])
        >>> round(float(loss(masks, np.zeros((1, 1, 2, 4)))), 4)
        1.3863
    """
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=IGNORED
    )


@in_range
def mean_iou(classes: Count) -> keras.metrics.Metric:
    """Mean intersection over union of the classes, from logits and masks.

    Over all pixels whose label is not 255, of all batches together. Classes
    that are neither there nor predicted do not count. Labels that are no class
    make it NaN.

    Args:
        classes: int.

    Returns:
        A `keras.metrics.MeanIoU` that counts faster.

    Examples:
        >>> metric = keras_convnext.segmentation.mean_iou(2)
        >>> logits = np.array([[[[2.0, 1.0], [2.0, 1.0]]]])
        >>> metric.update_state(np.array([[[0, 255]]]), logits)
        >>> round(float(metric.result()), 4)
        1.0
    """
    return MeanIoU(
        classes, name="mean_iou", ignore_class=IGNORED, sparse_y_pred=False
    )


@register
class MeanIoU(keras.metrics.MeanIoU):
    """Keras' own, but for how pixels are counted, and labels that are none.

    On PyTorch Keras 3.15 scatters them one by one, which takes several times
    as long as the rest of a training step.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.unknown = self.add_variable((), "zeros", name="unknown")

    def reset_state(self):
        super().reset_state()
        self.unknown.assign(0)

    def result(self):
        # Labels are counted in graphs, which can raise nothing.
        value = super().result()
        return ops.where(self.unknown > 0, float("nan"), value)

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise ValueError(
                "Pixels count fully or, with the label 255, not at all. "
                "Received: a `sample_weight`"
            )
        labels = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        predicted = ops.cast(ops.argmax(y_pred, axis=-1), "int32")
        cells = labels * self.num_classes + ops.reshape(predicted, (-1,))
        count = self.num_classes**2
        # One cell more, for those that do not count.
        is_class = (labels >= 0) & (labels < self.num_classes)
        cells = ops.where(is_class, cells, count)
        counts = ops.segment_sum(
            ops.ones_like(cells, dtype=self.dtype), cells, count + 1
        )
        matrix = ops.reshape(counts[:count], (self.num_classes,) * 2)
        is_known = is_class | (labels == self.ignore_class)
        unknown = ops.sum(ops.cast(~is_known, self.unknown.dtype))
        self.unknown.assign_add(unknown)
        self.total_cm.assign_add(ops.cast(matrix, self.total_cm.dtype))
