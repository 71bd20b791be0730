"""The learning rate of the official segmenters: warm-up, then a power."""

import keras
from keras import ops

from keras_convnext._util.serialization import register


@register
class WarmupPoly(keras.optimizers.schedules.LearningRateSchedule):
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
        >>> schedule = keras_convnext.segmentation.WarmupPoly(
        ...     1e-4, 1500, 160000
        ... )
        >>> round(float(schedule(80000)), 9)
        5e-05
    """

    def __init__(
        self,
        peak_learning_rate: float,
        warmup_steps: int,
        total_steps: int,
        power: float = 1.0,
        warmup_ratio: float = 1e-6,
        name: str = "warmup_poly",
    ):
        super().__init__()
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                "Expected 0 <= warmup_steps < total_steps. Train longer or "
                f"warm up for less. Received: warmup_steps={warmup_steps}, "
                f"total_steps={total_steps}"
            )
        if peak_learning_rate <= 0 or power <= 0 or not 0 <= warmup_ratio <= 1:
            raise ValueError(
                "Expected a positive `peak_learning_rate` and `power`, and a "
                "`warmup_ratio` from 0 to 1. Received: "
                f"{peak_learning_rate}, {power} and {warmup_ratio}"
            )
        self.peak_learning_rate = float(peak_learning_rate)
        self.warmup_steps = int(warmup_steps)
        self.total_steps = int(total_steps)
        self.power = float(power)
        self.warmup_ratio = float(warmup_ratio)
        self.name = name

    def __call__(self, step):
        step = ops.cast(step, keras.config.floatx())
        remaining = ops.maximum(self.total_steps - step, 0.0)
        rate = (remaining / self.total_steps) ** self.power
        rate = self.peak_learning_rate * rate
        if not self.warmup_steps:
            return rate
        risen = ops.minimum(step / self.warmup_steps, 1.0)
        return rate * (self.warmup_ratio + (1 - self.warmup_ratio) * risen)

    def get_config(self):
        return {
            "peak_learning_rate": self.peak_learning_rate,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "power": self.power,
            "warmup_ratio": self.warmup_ratio,
            "name": self.name,
        }
