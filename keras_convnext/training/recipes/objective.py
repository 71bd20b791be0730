"""Loss and metrics for logits, against class numbers or distributions.

Mixed batches have distributions for labels where validation data often has
class numbers; one compiled model must take both.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import in_range
from keras_convnext._util.serialization import register

# What no image weighs, unless all its classes weigh nothing.
TINY = 1e-7


@register
class SoftTargetCrossEntropy(keras.losses.CategoricalCrossentropy):
    """Cross-entropy of logits, averaged over the batch.

    Args:
        label_smoothing: float of 0–1; the part of every target that is spread
            over all classes. 0 where mixing has done it already.
        class_weights: numbers `(classes,)`, what the loss of an image of each
            class is multiplied with; all alike if `None`. The loss of a mixed
            image is the mixture of its classes' weighted ones. It stays a mean
            over images: their weights do not divide it.
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
        class_weights: Sequence[NotNegative] | None = None,
        **kwargs: Any,
    ):
        kwargs.pop("from_logits", None)
        super().__init__(
            from_logits=True,
            label_smoothing=label_smoothing,
            name=name,
            **kwargs,
        )
        self.class_weights = None
        if class_weights is not None:
            self.class_weights = [float(x) for x in class_weights]

    def call(self, y_true, y_pred):
        if _are_numbers(y_true, y_pred):
            numbers = ops.reshape(ops.cast(y_true, "int32"), (-1,))
            y_true = ops.one_hot(numbers, y_pred.shape[-1], dtype=y_pred.dtype)
        if self.class_weights is None:
            return super().call(y_true, y_pred)
        y_true = ops.cast(y_true, y_pred.dtype)
        weighted = y_true * ops.array(self.class_weights, y_pred.dtype)
        # TensorFlow's gradient is right for targets that sum to 1 alone.
        weights = ops.sum(weighted, axis=-1)
        shares = weighted / ops.maximum(weights, TINY)[..., None]
        return weights * super().call(shares, y_pred)

    def get_config(self):
        return {**super().get_config(), "class_weights": self.class_weights}


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


@register
class ClassCounts(keras.metrics.Metric):
    """Of each class how many images have it, get it, and get it rightly.

    Its result is an empty dict: rates of these counts are computed on the
    host, in double precision.

    Args:
        classes: int.
        name, dtype: as for `keras.metrics.Metric`.

    Attributes:
        actual, predicted, right: variables `(classes,)`.

    Labels are as for `TopKAccuracy`; images of no class do not count.
    """

    def __init__(
        self,
        classes: Count,
        name: str = "class_counts",
        dtype: str | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.classes = classes
        self.actual, self.predicted, self.right = (
            self.add_variable((classes,), "zeros", name=name)
            for name in ("actual", "predicted", "right")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.convert_to_tensor(y_true)
        if _are_numbers(y_true, y_pred):
            actual = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        else:
            actual = ops.argmax(y_true, axis=-1)
        actual = self._rows(actual)
        is_image = ops.sum(actual, axis=-1, keepdims=True)
        predicted = self._rows(ops.argmax(y_pred, axis=-1)) * is_image
        for variable, counted in (
            (self.actual, actual),
            (self.predicted, predicted),
            (self.right, actual * predicted),
        ):
            variable.assign(variable + ops.sum(counted, axis=0))

    def _rows(self, numbers):
        """One-hot rows; of numbers that are no class, which end PyTorch's
        `one_hot`, rows of 0."""
        places = ops.arange(self.classes, dtype="int32")
        is_class = ops.cast(numbers, "int32")[:, None] == places
        return ops.cast(is_class, self.dtype)

    def result(self):
        return {}

    def get_config(self):
        return {
            "classes": self.classes,
            "name": self.name,
            "dtype": self.dtype,
        }


def accuracies(classes):
    """The metrics of a training with one class for each image."""
    more = [TopKAccuracy(5)] if classes > 10 else []
    return [TopKAccuracy(1, name="accuracy"), *more]


def _are_numbers(y_true, y_pred):
    """Whether labels are class numbers, in place of distributions."""
    rank = len(y_true.shape)
    return rank < len(ops.shape(y_pred)) or (
        y_true.shape[-1] == 1 and ops.shape(y_pred)[-1] != 1
    )
