"""Semantic segmentation: the paper's UperNets, trained and applied."""

from keras_convnext.tasks.segmentation.inference import MULTI_SCALE
from keras_convnext.tasks.segmentation.inference import class_probabilities
from keras_convnext.tasks.segmentation.inference import read_pixels
from keras_convnext.tasks.segmentation.inference import segment
from keras_convnext.tasks.segmentation.layer_decay import stage_wise_scales
from keras_convnext.tasks.segmentation.model import SegmentationModel
from keras_convnext.tasks.segmentation.objective import mean_iou
from keras_convnext.tasks.segmentation.objective import pixel_cross_entropy
from keras_convnext.tasks.segmentation.overlay import overlaid
from keras_convnext.tasks.segmentation.overlay import palette
from keras_convnext.tasks.segmentation.overlay import write_overlay
from keras_convnext.tasks.segmentation.recipe import SegmentationRecipe
from keras_convnext.tasks.segmentation.recipe import ade20k
from keras_convnext.tasks.segmentation.upernet import UperNet
from keras_convnext.training.optimizers.schedules import WarmupPoly
from keras_convnext.weights.registry import checkpoints

CHECKPOINTS = checkpoints("segment")

__all__ = [
    "CHECKPOINTS",
    "MULTI_SCALE",
    "SegmentationModel",
    "SegmentationRecipe",
    "UperNet",
    "WarmupPoly",
    "ade20k",
    "class_probabilities",
    "mean_iou",
    "overlaid",
    "palette",
    "pixel_cross_entropy",
    "read_pixels",
    "segment",
    "stage_wise_scales",
    "write_overlay",
]
