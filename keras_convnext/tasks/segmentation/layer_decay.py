"""Layer-wise learning-rate decay as the official segmenters have it."""

from keras_convnext._util.ranges import PartAboveZero
from keras_convnext._util.ranges import in_range
from keras_convnext.tasks.segmentation.model import SegmentationModel
from keras_convnext.training.optimizers.layer_decay import head_of
from keras_convnext.training.optimizers.layer_decay import scales_by


@in_range
def stage_wise_scales(
    model: SegmentationModel, layer_decay: PartAboveZero
) -> dict[str, float]:
    """The factor on the learning rate of every layer below the heads.

    The blocks of stage 0 to 3 have decay^(N − stage); the stem and all
    downsampling layers share decay^(N + 1); heads and the norms of the levels
    have the full rate. N counts the groups of classification, 6 for Tiny and
    12 for Small to XLarge: 3, and one for every three blocks of the third
    stage.

    Args:
        model: a `SegmentationModel`.
        layer_decay: number above 0 and at most 1; 1 scales nothing.

    Returns:
        Dict from layer name to factor.

    Source: type `stage_wise` of `LearningRateDecayOptimizerConstructor` in
    the official `semantic_segmentation`.

    Examples:
        >>> from keras_convnext.tasks import segmentation
        >>> model = segmentation.ade20k.build("convnext_tiny", 150)
        >>> scales = segmentation.stage_wise_scales(model, 0.9)
        >>> names = "stem_conv", "stage_3_block_0_norm"
        >>> [round(scales[name], 5) for name in names]
        [0.4783, 0.729]
    """
    return scales_by(_stage_wise, model, layer_decay)


def _stage_wise(name, depths):
    """A group for each stage, and one below for all that leads to stages."""
    group = 0 if name.block is None else name.stage + 1
    return group, head_of(depths)
