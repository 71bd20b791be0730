"""Object detection: the paper's detectors, and the parts they are made of."""

from keras_convnext.tasks.detection.boxes import box_iou
from keras_convnext.tasks.detection.roi_align import roi_align
from keras_convnext.tasks.detection.suppression import non_max_suppression

__all__ = ["box_iou", "non_max_suppression", "roi_align"]
