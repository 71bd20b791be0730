"""Mask R-CNN on a ConvNeXt, the first of the paper's detectors."""

from collections.abc import Sequence

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import in_range
from keras_convnext.models.model import ConvNeXtModel
from keras_convnext.tasks.detection import construction
from keras_convnext.tasks.detection.model import DetectionModel

# What deltas are multiplied with.
STDS = (0.1, 0.1, 0.2, 0.2)
FULLY_CONNECTED = 2


@in_range
def MaskRCNN(
    model: ConvNeXtModel,
    classes: Count | Sequence[str] | None = None,
    weights: PathLike | None = None,
    channels: Count | None = None,
    units: Count | None = None,
    short_side: Count | None = None,
    proposals: Count = 1000,
    detections: Count = 100,
    score_threshold: Part = 0.05,
    name: str = "mask_rcnn",
) -> DetectionModel:
    """Builds a Mask R-CNN on a ConvNeXt: boxes, classes and masks of objects.

    A feature pyramid over the four stages; proposals of boxes on five levels;
    one head that classifies and moves them, and one that draws a mask in each.
    Layers and weights are shared with `model`: `weights` are loaded into it,
    too.

    Args:
        model: a `ConvNeXtModel` of four stages in `channels_last`, such as
            `ConvNeXtTiny(include_top=False)`, which takes images of any size.
            Drop path is its own.
        classes: int, or a list with the name of each; `None` for as many as
            the weights have, with their names, 80 without weights. With
            another number than that of the weights the last layers of the
            heads start from random numbers, and a warning says so.
        weights: `None` for random heads; `"coco"` or another tag of
            `detection.CHECKPOINTS`; a URL, `"hf://org/repo[@revision]"`, or a
            file of this package, of the official repository or of mmdet.
        channels: width of the feature pyramid and of the convolutions; `None`
            for that of the weights, 256 without weights.
        units: of the fully connected layers; `None` for those of the weights,
            1024 without weights.
        short_side: in pixels of the images, as `detect` resizes them; the
            long side is at most five thirds of it. `None` for that of the
            weights, or 800.
        proposals: how many boxes the heads look at in each image. They take
            most of the time in small images.
        detections: rows of the result, at most.
        score_threshold: from 0 to 1; what scores less is left out.
        name: name of the model.

    Returns:
        A `DetectionModel`, a Functional `keras.Model`.

    Raises:
        ValueError: if `model` cannot carry a detector, for arguments out of
            range, and for weights that do not fit: every tensor of a file is
            used exactly once.

    Source: arXiv:1703.06870, arXiv:2201.03545 §4, the official repository's
    `object_detection/configs`, and mmdet 2.11.

    Examples:
        >>> backbone = keras_convnext.ConvNeXtAtto(
        ...     weights=None, include_top=False
        ... )
        >>> model = keras_convnext.detection.MaskRCNN(
        ...     backbone, classes=5, channels=16, units=32, proposals=20
        ... )
        >>> model.output["masks"].shape
        (None, 100, 28, 28)
    """
    options = construction.Options(
        classes,
        weights,
        channels,
        units,
        short_side,
        proposals,
        detections,
        score_threshold,
        name,
    )
    return construction.build("mask_rcnn", model, options, _boxes)


def _boxes(regions):
    features = regions.features(
        "box_roi_align", construction.BOX_SIDE, regions.boxes
    )
    logits, deltas = regions.heads.boxes("", features, FULLY_CONNECTED)
    return regions.boxes, [logits], deltas, STDS
