"""Learning rates of the official code: warm-up, then cosine, power or steps."""

import math
from collections.abc import Sequence

import keras
from keras import ops

from keras_convnext._util.checks import one_of
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import PartAboveZero
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import in_range
from keras_convnext._util.serialization import register

# The last divisor of a warm-up over W steps: V1 reaches the peak at step W-1
# (`linspace` with both ends), V2 at step W, where the cosine begins.
WARMUPS = {"linspace": -1, "exclusive": 0}


class _Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """The arguments of both schedules."""

    def __init__(
        self,
        peak_learning_rate: float,
        warmup_steps: int,
        total_steps: int,
        name: str,
    ):
        super().__init__()
        if warmup_steps >= total_steps:
            raise ValueError(
                "`warmup_steps` must be fewer than `total_steps`: nothing is "
                "left after the warm-up. Train longer or warm up for less. "
                f"Received: warmup_steps={warmup_steps}, "
                f"total_steps={total_steps}"
            )
        self.peak_learning_rate = float(peak_learning_rate)
        self.warmup_steps = int(warmup_steps)
        self.total_steps = int(total_steps)
        self.name = name

    def get_config(self):
        return dict(vars(self))  # the arguments, by their names


@register
class WarmupCosine(_Warmup):
    """Linear warm-up from 0 to the peak, then half a cosine to the minimum.

    Args:
        peak_learning_rate: positive float.
        warmup_steps: int, optimizer steps of warm-up; 0 for none.
        total_steps: int above `warmup_steps`, all optimizer steps of the run.
            The minimum holds for every step after them.
        minimum_learning_rate: float of at least 0; what the cosine tends to.
        warmup: `"linspace"` (V1: the first step has rate 0, step W-1 and step
            W both have the peak) or `"exclusive"` (V2: step i has i/W of the
            peak).

    Returns:
        For a step, a scalar tensor of dtype `keras.config.floatx()`.

    Source: `cosine_scheduler` in the official V1 repository and
    `adjust_learning_rate` in V2's, element for element.

    Examples:
        >>> schedule = keras_convnext.optimizers.WarmupCosine(4e-3, 100, 1000)
        >>> float(schedule(0)), round(float(schedule(99)), 6)
        (0.0, 0.004)
    """

    @in_range
    def __init__(
        self,
        peak_learning_rate: Positive,
        warmup_steps: CountOrZero,
        total_steps: Count,
        minimum_learning_rate: NotNegative = 1e-6,
        warmup: str = "linspace",
        name: str = "warmup_cosine",
    ):
        super().__init__(peak_learning_rate, warmup_steps, total_steps, name)
        one_of("warmup", warmup, WARMUPS)
        if minimum_learning_rate > peak_learning_rate:
            raise ValueError(
                "Expected minimum_learning_rate <= peak_learning_rate. "
                f"Received: minimum_learning_rate={minimum_learning_rate}, "
                f"peak_learning_rate={peak_learning_rate}"
            )
        self.minimum_learning_rate = float(minimum_learning_rate)
        self.warmup = warmup

    def __call__(self, step):
        step = ops.cast(step, keras.config.floatx())
        to_peak = max(self.warmup_steps + WARMUPS[self.warmup], 1)
        warm = self.peak_learning_rate * step / to_peak
        # sin² of the steps that remain is the cosine of those that are gone,
        # without losing the last digits where the rate is smallest.
        remaining = ops.maximum(self.total_steps - step, 0.0)
        quarter = math.pi / 2 / (self.total_steps - self.warmup_steps)
        cosine = self.minimum_learning_rate + (
            self.peak_learning_rate - self.minimum_learning_rate
        ) * ops.square(ops.sin(quarter * remaining))
        return ops.where(step < self.warmup_steps, warm, cosine)


@register
class WarmupPoly(_Warmup):
    """Falls to 0 as a power of the steps that remain, after a linear rise.

    Both factors apply at once: in the warm-up the rate falls already.

    Args:
        peak_learning_rate: positive float.
        warmup_steps: int, optimizer steps of warm-up; 0 for none.
        total_steps: int above `warmup_steps`, all optimizer steps of the run.
        power: positive float, 1 for a straight line.
        warmup_ratio: the factor of the first step, at least 0 and at most 1.

    Returns:
        For a step, a scalar tensor of dtype `keras.config.floatx()`.

    Source: `lr_config` of the official `semantic_segmentation/configs`, as
    mmcv computes the policy `poly` with linear warm-up.

    Examples:
        >>> schedule = keras_convnext.optimizers.WarmupPoly(
        ...     1e-4, 1500, 160000
        ... )
        >>> round(float(schedule(80000)), 9)
        5e-05
    """

    @in_range
    def __init__(
        self,
        peak_learning_rate: Positive,
        warmup_steps: CountOrZero,
        total_steps: Count,
        power: Positive = 1.0,
        warmup_ratio: Part = 1e-6,
        name: str = "warmup_poly",
    ):
        super().__init__(peak_learning_rate, warmup_steps, total_steps, name)
        self.power = float(power)
        self.warmup_ratio = float(warmup_ratio)

    def __call__(self, step):
        step = ops.cast(step, keras.config.floatx())
        remaining = ops.maximum(self.total_steps - step, 0.0)
        rate = (remaining / self.total_steps) ** self.power
        rate = self.peak_learning_rate * rate
        return rate * _risen(step, self.warmup_steps, self.warmup_ratio)


@register
class WarmupStep(_Warmup):
    """The peak after a linear rise, and a part of it after each of some steps.

    Args:
        peak_learning_rate: positive float.
        warmup_steps: int, optimizer steps of warm-up; 0 for none.
        total_steps: int above `warmup_steps`, all optimizer steps of the run.
        drops: ints, steps from which on the rate is lower.
        drop_factor: number above 0 and at most 1, what the rate is multiplied
            with at each.
        warmup_ratio: the factor of the first step, at least 0 and at most 1.

    Returns:
        For a step, a scalar tensor of dtype `keras.config.floatx()`.

    Source: `lr_config` of the official `object_detection/configs`, as mmcv
    computes the policy `step` with linear warm-up.

    Examples:
        >>> schedule = keras_convnext.optimizers.WarmupStep(
        ...     1e-4, 500, 36000, drops=(27000, 33000)
        ... )
        >>> [round(float(schedule(step)), 8) for step in (500, 27000, 33000)]
        [0.0001, 1e-05, 1e-06]
    """

    @in_range
    def __init__(
        self,
        peak_learning_rate: Positive,
        warmup_steps: CountOrZero,
        total_steps: Count,
        drops: Sequence[CountOrZero] = (),
        drop_factor: PartAboveZero = 0.1,
        warmup_ratio: Part = 1e-3,
        name: str = "warmup_step",
    ):
        super().__init__(peak_learning_rate, warmup_steps, total_steps, name)
        self.drops = [int(step) for step in drops]
        self.drop_factor = float(drop_factor)
        self.warmup_ratio = float(warmup_ratio)

    def __call__(self, step):
        step = ops.cast(step, keras.config.floatx())
        rate = _risen(step, self.warmup_steps, self.warmup_ratio)
        for drop in self.drops:
            rate = ops.where(step < drop, rate, rate * self.drop_factor)
        return self.peak_learning_rate * rate


def _risen(step, warmup_steps, warmup_ratio):
    """The factor of a linear warm-up, from the ratio to 1."""
    if not warmup_steps:
        return ops.ones_like(step)
    risen = ops.minimum(step / warmup_steps, 1.0)
    return warmup_ratio + (1 - warmup_ratio) * risen
