"""The losses of recipes: for many labels or none, and for numbers, too."""

from collections.abc import Callable
from collections.abc import Sequence
from functools import partial
from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import in_range
from keras_convnext._util.serialization import register
from keras_convnext.training.recipes.objective import SoftTargetCrossEntropy

# timm's: below it no logarithm is taken.
LEAST = 1e-8
# What powers are taken of, so that the gradient of 0 ** 0 is a number.
TINY = 1e-12


@register
class AsymmetricLoss(keras.losses.Loss):
    """The asymmetric loss (ASL) of logits for images of many labels or none.

    Binary cross-entropy in which what is easy counts less, above all of the
    many labels that an image does not have; those below `clip` not at all.

    Args:
        gamma_negative: power that lowers the weight of easy labels that an
            image does not have.
        gamma_positive: the same for labels that it has.
        clip: probability that is taken off those of labels that an image does
            not have.
        label_smoothing: part of every target that becomes one half.
        name, **kwargs: as for `keras.losses.Loss`; its `dtype` is the
            precision of the sum.

    Call arguments:
        y_true: labels `(batch, classes)`, 0 to 1.
        y_pred: logits `(batch, classes)`.

    The result is the mean over images and classes, timm's `reduction="mean"`.

    Source: Ben-Baruch et al., arXiv:2009.14119; timm's
    `AsymmetricLossMultiLabel`.

    Examples:
        >>> loss = keras_convnext.recipes.AsymmetricLoss()
        >>> labels, logits = np.array([[1.0, 0.0]]), np.array([[0.0, -9.0]])
        >>> round(float(loss(labels, logits)), 4)
        0.1733
    """

    @in_range
    def __init__(
        self,
        gamma_negative: NotNegative = 4.0,
        gamma_positive: NotNegative = 1.0,
        clip: PartBelowOne = 0.05,
        label_smoothing: Part = 0.0,
        name: str = "asymmetric_loss",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.gamma_negative = float(gamma_negative)
        self.gamma_positive = float(gamma_positive)
        self.clip = float(clip)
        self.label_smoothing = float(label_smoothing)

    def call(self, y_true, y_pred):
        smoothing = self.label_smoothing
        y_true = ops.cast(y_true, y_pred.dtype)
        y_true = y_true * (1 - smoothing) + smoothing / 2
        y_false = 1 - y_true
        is_there = ops.sigmoid(y_pred)
        is_not = ops.minimum(1 - is_there + self.clip, 1.0)
        losses = y_true * ops.log(ops.maximum(is_there, LEAST))
        losses += y_false * ops.log(ops.maximum(is_not, LEAST))
        right = is_there * y_true + is_not * y_false
        power = self.gamma_positive * y_true + self.gamma_negative * y_false
        weight = ops.power(ops.maximum(1 - right, TINY), power)
        return -ops.mean(losses * weight, axis=-1)

    def get_config(self):
        return {
            **super().get_config(),
            "gamma_negative": self.gamma_negative,
            "gamma_positive": self.gamma_positive,
            "clip": self.clip,
            "label_smoothing": self.label_smoothing,
        }


@register
class StandardizedLoss(keras.losses.Loss):
    """Huber's or the squared loss of errors, in deviations of each target.

    So that years and millimeters count alike, and a learning rate fits both.

    Args:
        std: one number per target, what an error is divided by.
        delta: from which error on, in these deviations, Huber's loss grows
            linearly; `None` for the squared loss.
        name, **kwargs: as for `keras.losses.Loss`; its `dtype` is the
            precision of the sum.

    Call arguments:
        y_true: numbers `(batch, targets)`, of one target also `(batch,)`.
        y_pred: predictions `(batch, targets)` in the same units.

    The result is the mean over images and targets, as that of PyTorch's
    `HuberLoss` and `MSELoss`.

    Examples:
        >>> loss = keras_convnext.recipes.StandardizedLoss([10.0], delta=1.0)
        >>> float(loss(np.array([[40.0]]), np.array([[45.0]])))
        0.125
    """

    @in_range
    def __init__(
        self,
        std: Sequence[Positive],
        delta: Positive | None = None,
        name: str = "standardized_loss",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.std = [float(x) for x in std]
        self.delta = delta

    def call(self, y_true, y_pred):
        y_true = ops.reshape(
            ops.cast(y_true, y_pred.dtype), (-1, len(self.std))
        )
        std = ops.convert_to_tensor(self.std, y_pred.dtype)
        errors = (y_pred - y_true) / std
        if self.delta is None:
            return ops.mean(ops.square(errors), axis=-1)
        return keras.losses.huber(ops.zeros_like(errors), errors, self.delta)

    def get_config(self):
        return {**super().get_config(), "std": self.std, "delta": self.delta}


@register
class PositiveWeightedCrossEntropy(keras.losses.Loss):
    """Binary cross-entropy of logits in which labels that are there weigh more.

    Args:
        class_weights: numbers `(classes,)`, what the term of a label that an
            image has is multiplied with.
        label_smoothing: part of every target that becomes one half.
        name, **kwargs: as for `keras.losses.Loss`.

    Call arguments:
        y_true: labels `(batch, classes)`, 0 to 1.
        y_pred: logits `(batch, classes)`.

    The result is the mean over images and classes, that of PyTorch's
    `BCEWithLogitsLoss(pos_weight=...)`.
    """

    @in_range
    def __init__(
        self,
        class_weights: Sequence[NotNegative],
        label_smoothing: Part = 0.0,
        name: str = "positive_weighted_cross_entropy",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.class_weights = [float(x) for x in class_weights]
        self.label_smoothing = float(label_smoothing)

    def call(self, y_true, y_pred):
        smoothing = self.label_smoothing
        y_true = ops.cast(y_true, y_pred.dtype)
        y_true = y_true * (1 - smoothing) + smoothing / 2
        weights = ops.array(self.class_weights, y_pred.dtype)
        losses = weights * y_true * ops.softplus(-y_pred)
        return ops.mean(losses + (1 - y_true) * ops.softplus(y_pred), axis=-1)

    def get_config(self):
        return {
            **super().get_config(),
            "class_weights": self.class_weights,
            "label_smoothing": self.label_smoothing,
        }


class Objective(NamedTuple):
    """What a recipe's `loss` stands for.

    Attributes:
        loss: function of `dtype`, and of `label_smoothing` or, for numbers,
            of their `std`; where classes can have weights, of `class_weights`.
        task: that of the `Source`s it is for.
        unweighed: why classes can have no weights; `None` where they can.
    """

    loss: Callable[..., keras.losses.Loss]
    task: str = "multi-label"
    unweighed: str | None = None


def _binary(class_weights=None, **options):
    if class_weights is not None:
        return PositiveWeightedCrossEntropy(class_weights, **options)
    return keras.losses.BinaryCrossentropy(from_logits=True, **options)


def _focal(**options):
    # Lin et al., arXiv:1708.02002: the best of their table 1b.
    return keras.losses.BinaryFocalCrossentropy(
        apply_class_balancing=True,
        alpha=0.25,
        gamma=2.0,
        from_logits=True,
        **options,
    )


BY_HARDNESS = "weighs every label by how hard it is"
NO_CLASSES = "is for numbers in place of classes"

# By the word in the field `loss` of recipes.
OBJECTIVES = {
    "softmax": Objective(SoftTargetCrossEntropy, "single-label"),
    "binary": Objective(_binary),
    "asymmetric": Objective(AsymmetricLoss, unweighed=BY_HARDNESS),
    "focal": Objective(_focal, unweighed=BY_HARDNESS),
    "huber": Objective(
        partial(StandardizedLoss, delta=1.0), "regression", NO_CLASSES
    ),
    "squared": Objective(StandardizedLoss, "regression", NO_CLASSES),
}
