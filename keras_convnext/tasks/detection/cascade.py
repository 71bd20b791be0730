"""Cascade Mask R-CNN on a ConvNeXt, the second of the paper's detectors."""

from collections.abc import Sequence

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import in_range
from keras_convnext.models.model import ConvNeXtModel
from keras_convnext.tasks.detection import construction
from keras_convnext.tasks.detection.layers import MergedRows
from keras_convnext.tasks.detection.layers import RefineBoxes
from keras_convnext.tasks.detection.model import DetectionModel
from keras_convnext.weights.detection_tables import CONVOLUTIONS

# What the deltas of each stage are multiplied with.
STDS = (
    (0.1, 0.1, 0.2, 0.2),
    (0.05, 0.05, 0.1, 0.1),
    (0.033, 0.033, 0.067, 0.067),
)
FULLY_CONNECTED = 1


@in_range
def CascadeMaskRCNN(
    model: ConvNeXtModel,
    classes: Count | Sequence[str] | None = None,
    weights: PathLike | None = None,
    channels: Count | None = None,
    units: Count | None = None,
    short_side: Count | None = None,
    proposals: Count = 1000,
    detections: Count = 100,
    score_threshold: Part = 0.05,
    name: str = "cascade_mask_rcnn",
) -> DetectionModel:
    """Builds a Cascade Mask R-CNN on a ConvNeXt.

    As `MaskRCNN`, with three heads of boxes, each of which looks where the
    one before it has moved the boxes, and a head of masks for each. Scores
    come from the mean of their logits, masks are means of probabilities.

    Args:
        model, …, name: as for `MaskRCNN`.

    Returns:
        A `DetectionModel`, a Functional `keras.Model`.

    Raises:
        ValueError: as `MaskRCNN`.

    Source: arXiv:1906.09756, arXiv:2201.03545 §4, the official repository's
    `object_detection/configs`, and mmdet 2.11.

    Examples:
        >>> backbone = keras_convnext.ConvNeXtAtto(
        ...     weights=None, include_top=False
        ... )
        >>> model = keras_convnext.detection.CascadeMaskRCNN(
        ...     backbone, classes=5, channels=16, units=32, proposals=20
        ... )
        >>> model.output["boxes"].shape
        (None, 100, 4)
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
    return construction.build("cascade_mask_rcnn", model, options, _boxes)


def _boxes(regions):
    heads, boxes = regions.heads, regions.boxes
    logits, deltas = [], None
    rows = heads.named(MergedRows, "box_rows")(regions.valid)
    for k in range(len(STDS)):
        if k:
            refine = heads.named(RefineBoxes, f"box_{k}_boxes", STDS[k - 1])
            boxes = refine(boxes, logits[-1], deltas, regions.sizes)
        features = regions.features(
            f"box_{k}_roi_align", construction.BOX_SIDE, boxes
        )
        scores, deltas = heads.boxes(
            f"_{k}", features, FULLY_CONNECTED, CONVOLUTIONS, rows
        )
        logits.append(scores)
    return boxes, logits, deltas, STDS[-1]
