"""The papers' training recipes, as `compile` and `fit`."""

from keras_convnext.data.augmentation import CutMix
from keras_convnext.data.augmentation import MixUp
from keras_convnext.data.augmentation import MixupCutmix
from keras_convnext.data.augmentation import RandAugment
from keras_convnext.data.augmentation import RandomErasing
from keras_convnext.data.augmentation import RandomFlip
from keras_convnext.data.augmentation import RandomResizedCrop
from keras_convnext.data.pipeline import EvalPipeline
from keras_convnext.data.pipeline import TrainPipeline
from keras_convnext.models.sigmoid import with_sigmoid
from keras_convnext.models.units import with_units
from keras_convnext.training.optimizers import AdamW
from keras_convnext.training.optimizers import WarmupCosine
from keras_convnext.training.optimizers import averaged_weights
from keras_convnext.training.optimizers import layer_decay_scales
from keras_convnext.training.recipes.losses import AsymmetricLoss
from keras_convnext.training.recipes.losses import StandardizedLoss
from keras_convnext.training.recipes.objective import SoftTargetCrossEntropy
from keras_convnext.training.recipes.objective import TopKAccuracy
from keras_convnext.training.recipes.recipe import Recipe
from keras_convnext.training.recipes.records import RECIPES
from keras_convnext.training.recipes.records import digits
from keras_convnext.training.recipes.records import finetune_384
from keras_convnext.training.recipes.records import finetune_from_22k
from keras_convnext.training.recipes.records import finetune_from_22k_384
from keras_convnext.training.recipes.records import get_recipe
from keras_convnext.training.recipes.records import imagenet1k
from keras_convnext.training.recipes.records import imagenet22k
from keras_convnext.training.recipes.records import isotropic
from keras_convnext.training.recipes.records import multi_label
from keras_convnext.training.recipes.records import regression
from keras_convnext.training.recipes.records import small_data
from keras_convnext.training.recipes.records import v2_finetune
from keras_convnext.training.recipes.records import v2_finetune_from_22k
from keras_convnext.training.recipes.records import v2_imagenet22k

__all__ = [
    "AdamW",
    "AsymmetricLoss",
    "CutMix",
    "EvalPipeline",
    "MixUp",
    "MixupCutmix",
    "RECIPES",
    "RandAugment",
    "RandomErasing",
    "RandomFlip",
    "RandomResizedCrop",
    "Recipe",
    "SoftTargetCrossEntropy",
    "StandardizedLoss",
    "TopKAccuracy",
    "TrainPipeline",
    "WarmupCosine",
    "averaged_weights",
    "digits",
    "finetune_384",
    "finetune_from_22k",
    "finetune_from_22k_384",
    "get_recipe",
    "imagenet1k",
    "imagenet22k",
    "isotropic",
    "layer_decay_scales",
    "multi_label",
    "regression",
    "small_data",
    "v2_finetune",
    "v2_finetune_from_22k",
    "v2_imagenet22k",
    "with_sigmoid",
    "with_units",
]
