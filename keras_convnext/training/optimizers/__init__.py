"""The papers' optimizer, its schedules, layer decay and moving average."""

from keras_convnext.training.optimizers.adamw import AdamW
from keras_convnext.training.optimizers.averaging import SwapAveragedWeights
from keras_convnext.training.optimizers.averaging import averaged_weights
from keras_convnext.training.optimizers.layer_decay import layer_decay_scales
from keras_convnext.training.optimizers.schedules import WarmupCosine
from keras_convnext.training.optimizers.schedules import WarmupPoly
from keras_convnext.training.optimizers.schedules import WarmupStep

__all__ = [
    "AdamW",
    "SwapAveragedWeights",
    "WarmupCosine",
    "WarmupPoly",
    "WarmupStep",
    "averaged_weights",
    "layer_decay_scales",
]
