"""Loss and metrics for logits, against class numbers or distributions.

Mixed batches have distributions for labels where validation data often has
class numbers; one compiled model must take both.
"""

from typing import Any

import keras
from keras import ops

from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import in_range
from keras_convnext._util.serialization import register


@register
class SoftTargetCrossEntropy(keras.losses.CategoricalCrossentropy):
    """Cross-entropy of logits, averaged over the batch.

    Args:
        label_smoothing: float of 0–1; the part of every target that is spread
            over all classes. 0 where mixing has done it already.
        name, **kwargs: as for `keras.losses.CategoricalCrossentropy`; its
            `dtype` is the precision of the sum.

    Call arguments:
        y_true: class numbers `(batch,)`, or distributions `(batch, classes)`
            such as one-hot vectors.
        y_pred: logits `(batch, classes)`.

    Examples:
        >>> loss = keras_convnext.recipes.SoftTargetCrossEntropy()
        >>> logits = np.array([[2.0, 0.0]])
        >>> number, one_hot = np.array([0]), np.array([[1.0, 0.0]])
        >>> float(loss(number, logits)) == float(loss(one_hot, logits))
        True
    """

    @in_range
    def __init__(
        self,
        label_smoothing: Part = 0.0,
        name: str = "soft_target_cross_entropy",
        **kwargs: Any,
    ):
        kwargs.pop("from_logits", None)
        super().__init__(
            from_logits=True,
            label_smoothing=label_smoothing,
            name=name,
            **kwargs,
        )

    def call(self, y_true, y_pred):
        if _are_numbers(y_true, y_pred):
            numbers = ops.reshape(ops.cast(y_true, "int32"), (-1,))
            y_true = ops.one_hot(numbers, y_pred.shape[-1], dtype=y_pred.dtype)
        return super().call(y_true, y_pred)


@register
class TopKAccuracy(keras.metrics.Mean):
    """How often the right class is among the `k` largest logits.

    Args:
        k: int.
        name, dtype: as for `keras.metrics.Metric`.

    Labels are class numbers or distributions, of which the likeliest class is
    the right one.

    Examples:
        >>> metric = keras_convnext.recipes.TopKAccuracy(2)
        >>> logits = np.array([[0.1, 0.5, 0.4], [0.1, 0.5, 0.4]])
        >>> metric.update_state(np.array([0, 2]), logits)
        >>> float(metric.result())
        0.5
    """

    @in_range
    def __init__(
        self, k: Count = 1, name: str | None = None, dtype: str | None = None
    ):
        super().__init__(name=name or f"top{k}_accuracy", dtype=dtype)
        self.k = k

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.convert_to_tensor(y_true)
        if _are_numbers(y_true, y_pred):
            classes = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        else:
            classes = ops.argmax(y_true, axis=-1)
        hits = ops.in_top_k(classes, ops.cast(y_pred, "float32"), self.k)
        return super().update_state(hits, sample_weight)

    def get_config(self):
        return {"k": self.k, "name": self.name, "dtype": self.dtype}


def _are_numbers(y_true, y_pred):
    """Whether labels are class numbers, in place of distributions."""
    rank = len(y_true.shape)
    return rank < len(ops.shape(y_pred)) or (
        y_true.shape[-1] == 1 and ops.shape(y_pred)[-1] != 1
    )
