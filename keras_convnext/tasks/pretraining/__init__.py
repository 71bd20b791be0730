"""Learning without labels: masked autoencoders of ConvNeXt V2 (FCMAE)."""

from keras_convnext.tasks.pretraining.loader import MaskedLoader
from keras_convnext.tasks.pretraining.masks import visible_patches
from keras_convnext.tasks.pretraining.model import FCMAE
from keras_convnext.tasks.pretraining.model import MaskedAutoencoder
from keras_convnext.tasks.pretraining.pictures import reconstructed
from keras_convnext.tasks.pretraining.pictures import side_by_side
from keras_convnext.tasks.pretraining.recipe import PretrainingRecipe
from keras_convnext.tasks.pretraining.recipe import v2_pretrain
from keras_convnext.tasks.pretraining.run import train

__all__ = [
    "FCMAE",
    "MaskedAutoencoder",
    "MaskedLoader",
    "PretrainingRecipe",
    "reconstructed",
    "side_by_side",
    "train",
    "v2_pretrain",
    "visible_patches",
]
