"""Layer-wise learning-rate decay: which layer learns how fast.

A group's rate is decay^(head − id): the head has the full rate, the stem the
smallest. Ids follow from the layers' names alone, so a backbone inside a
detector, or behind a `layer_prefix`, is found as well.
"""

import re
from collections import defaultdict

import keras

from keras_convnext._util.checks import one_of
from keras_convnext.models.inspection import all_layers

# What follows the prefix of a tower, which its blocks tell: `stem_` is in the
# names of other layers, too.
_NAME = (
    r"(?:(?P<stem>stem)|stage_(?P<stage>\d+)_"
    r"(?:downsample|block_(?P<block>\d+)))_"
)
_BLOCK = re.compile(r"(.*?)stage_(\d+)_block_(\d+)_")


def layer_decay_scales(
    model: keras.Model, layer_decay: float, groups: str = "group"
) -> dict[str, float]:
    """The factor on the learning rate of every layer below the head.

    Args:
        model: a `keras.Model` with a ConvNeXt's layers, possibly nested.
        layer_decay: number above 0 and at most 1; 1 scales nothing.
        groups: `"group"`: the official V1 groups. The stem, the first and the
            second stage have one each, the third has one for every three
            blocks, the last stage one; with 27 blocks these are the official
            12, with nine the 6 of the official detectors. `"single"`: V2's
            groups of one block, the stem with the first block and each
            downsampling with the block that follows. Models of other than
            four stages, isotropic ones among them, have under `"group"` one
            group for the stem and one for every block (ours: the official
            code does not know them).

    Returns:
        Dict from layer name to factor, for layers with weights. What it does
        not name (norm, head, layers of others) has factor 1.

    Raises:
        ValueError: if `layer_decay` is out of range, `groups` unknown, or
            the model has no layers of a ConvNeXt.

    Source: `LayerDecayValueAssigner` and `get_num_layer_for_convnext` of the
    official repositories; facts of V2's `single` from its `optim_factory.py`.

    Examples:
        >>> model = keras_convnext.ConvNeXtBase(weights=None)
        >>> scales = keras_convnext.recipes.layer_decay_scales(model, 0.7)
        >>> round(scales["stem_conv"], 6), scales["stage_3_downsample_conv"]
        (0.009689, 0.7)
    """
    one_of("groups", groups, GROUPS)
    if not 0 < layer_decay <= 1:
        raise ValueError(
            "`layer_decay` must be above 0 and at most 1. Received: "
            f"layer_decay={layer_decay!r}"
        )
    if layer_decay == 1:
        return {}
    names = [layer.name for layer in all_layers(model) if layer.weights]
    towers = _towers(names)
    if not towers:
        raise ValueError(
            "Layer decay needs the layers of a ConvNeXt ('stem_conv', "
            "'stage_0_block_0_depthwise', …) to tell how deep each lies. Pass "
            "`layer_decay=1`, or give the optimizer factors of your own: "
            "`AdamW(learning_rate_scales={'layer': 0.5})`. Received: the "
            f"model {model.name!r} without such layers"
        )
    scales = {}
    for prefix, depths in towers.items():
        for name in names:
            match = re.match(re.escape(prefix) + _NAME, name)
            if match:
                group, head = GROUPS[groups](match, depths)
                scales[name] = layer_decay ** (head - group)
    return scales


def _towers(names):
    """How many blocks each stage has, for each tower by its prefix."""
    towers = defaultdict(lambda: defaultdict(int))
    for match in filter(None, map(_BLOCK.match, names)):
        stages, stage = towers[match[1]], int(match[2])
        stages[stage] = max(stages[stage], int(match[3]) + 1)
    return {
        prefix: [depth for _, depth in sorted(stages.items())]
        for prefix, stages in towers.items()
    }


def _by_group(match, depths):
    """Id of a layer and id of the head under V1's rule."""
    if len(depths) != 4:
        return _by_block(match, depths)
    last = 3 + -(-depths[2] // 3)
    if match["stem"]:
        return 0, last + 1
    stage, block = int(match["stage"]), int(match["block"] or 0)
    ids = (1, 2, 3 + block // 3, last)
    return ids[stage], last + 1


def _by_block(match, depths):
    """A group for the stem and one for every block with what leads to it."""
    if match["stem"]:
        return 0, sum(depths) + 1
    stage, block = int(match["stage"]), int(match["block"] or 0)
    return 1 + sum(depths[:stage]) + block, sum(depths) + 1


def _single(match, depths):
    """V2's rule: the stem shares the group of the first block."""
    group, head = _by_block(match, depths)
    return max(group, 1), head


GROUPS = {"group": _by_group, "single": _single}
