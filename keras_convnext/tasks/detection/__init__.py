"""Object detection: the paper's detectors, and the parts they are made of."""

from keras_convnext.tasks.detection.ap import AveragePrecision
from keras_convnext.tasks.detection.ap import average_precision
from keras_convnext.tasks.detection.ap import results_of
from keras_convnext.tasks.detection.boxes import box_iou
from keras_convnext.tasks.detection.cascade import CascadeMaskRCNN
from keras_convnext.tasks.detection.drawing import drawn
from keras_convnext.tasks.detection.drawing import write_drawn
from keras_convnext.tasks.detection.evaluation import evaluate
from keras_convnext.tasks.detection.exported import detect_exported
from keras_convnext.tasks.detection.inference import Detections
from keras_convnext.tasks.detection.inference import detect
from keras_convnext.tasks.detection.mask_rcnn import MaskRCNN
from keras_convnext.tasks.detection.model import DetectionModel
from keras_convnext.tasks.detection.recipe import DetectionRecipe
from keras_convnext.tasks.detection.recipe import coco_cascade
from keras_convnext.tasks.detection.recipe import coco_mask_rcnn
from keras_convnext.tasks.detection.roi_align import roi_align
from keras_convnext.tasks.detection.run import train
from keras_convnext.tasks.detection.suppression import non_max_suppression
from keras_convnext.weights.registry import checkpoints

CHECKPOINTS = (*checkpoints("mask_rcnn"), *checkpoints("cascade_mask_rcnn"))

__all__ = [
    "AveragePrecision",
    "CHECKPOINTS",
    "CascadeMaskRCNN",
    "DetectionModel",
    "DetectionRecipe",
    "Detections",
    "MaskRCNN",
    "average_precision",
    "box_iou",
    "coco_cascade",
    "coco_mask_rcnn",
    "detect",
    "detect_exported",
    "drawn",
    "evaluate",
    "non_max_suppression",
    "results_of",
    "roi_align",
    "train",
    "write_drawn",
]
