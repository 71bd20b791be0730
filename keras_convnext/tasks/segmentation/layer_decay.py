"""Layer-wise learning-rate decay as the official segmenters have it."""

import re

from keras_convnext.models.inspection import all_layers
from keras_convnext.tasks.segmentation.model import SegmentationModel

_NAME = re.compile(
    r".*?(?:(?P<down>stem|stage_\d+_downsample)|"
    r"stage_(?P<stage>\d+)_block_\d+)_"
)


def stage_wise_scales(
    model: SegmentationModel, layer_decay: float
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
    if not 0 < layer_decay <= 1:
        raise ValueError(
            "`layer_decay` must be above 0 and at most 1. Received: "
            f"layer_decay={layer_decay!r}"
        )
    groups = 3 + -(-model.variant.depths[2] // 3)
    scales = {}
    for layer in all_layers(model):
        match = _NAME.match(layer.name)
        if match and layer.weights:
            stage = -1 if match["down"] else int(match["stage"])
            scales[layer.name] = layer_decay ** (groups - stage)
    return scales
