"""Layer-wise learning-rate decay: which layer learns how fast.

A group's rate is decay^(head − id): the head has the full rate, the stem the
smallest. Ids follow from the layers' names alone, so a backbone inside a
detector, or behind a `layer_prefix`, is found as well. A rule of ids is a
function from a `LayerName` and the number of blocks of each stage to the id
of the layer and that of the head.
"""

from collections import defaultdict
from collections.abc import Callable

import keras

from keras_convnext._util.checks import one_of
from keras_convnext._util.ranges import PartAboveZero
from keras_convnext._util.ranges import in_range
from keras_convnext.facts.layer_names import HEAD
from keras_convnext.facts.layer_names import LayerName
from keras_convnext.facts.layer_names import parse
from keras_convnext.models.inspection import all_layers

Rule = Callable[[LayerName, list[int]], tuple[int, int]]


@in_range
def layer_decay_scales(
    model: keras.Model, layer_decay: PartAboveZero, groups: str = "group"
) -> dict[str, float]:
    """The factor on the learning rate of every layer below the head.

    Args:
        model: a `keras.Model` with a ConvNeXt's layers, possibly nested.
        layer_decay: number above 0 and at most 1; 1 scales nothing.
        groups: `"group"`: the official V1 groups. The stem, the first and the
            second stage have one each, the third has one for every three
            blocks, the last stage one. With 27 blocks these are the official
            12, with nine the 6 of the official detectors. `"single"`: V2's
            groups of one block, the stem with the first block and each
            downsampling with the block that follows. Models of other than
            four stages, isotropic ones among them, have under `"group"` one
            group for the stem and one for every block. The official code does
            not know them.

    Returns:
        Dict from layer name to factor, for layers with weights. The others
        (norm, head, layers of other packages) have factor 1.

    Raises:
        ValueError: if `layer_decay` is out of range, `groups` unknown, or
            the model has no layers of a ConvNeXt.

    Source: `LayerDecayValueAssigner` and `get_num_layer_for_convnext` of the
    official repositories; facts of V2's `single` from its `optim_factory.py`.

    Examples:
        >>> model = keras_convnext.ConvNeXtBase(weights=None)
        >>> scales = keras_convnext.optimizers.layer_decay_scales(model, 0.7)
        >>> round(scales["stem_conv"], 6), scales["stage_3_downsample_conv"]
        (0.009689, 0.7)
    """
    one_of("groups", groups, GROUPS)
    return scales_by(GROUPS[groups], model, layer_decay)


def scales_by(
    rule: Rule, model: keras.Model, layer_decay: float
) -> dict[str, float]:
    """`layer_decay_scales` by a rule of any task."""
    if layer_decay == 1:
        return {}
    names = [name for _, name in backbone_layers(model)]
    if not names:
        raise ValueError(
            "Layer decay needs the layers of a ConvNeXt ('stem_conv', "
            "'stage_0_block_0_depthwise', …) to tell how deep each lies. Pass "
            "`layer_decay=1`, or give the optimizer factors of your own: "
            "`AdamW(learning_rate_scales={'layer': 0.5})`. Received: the "
            f"model {model.name!r} without such layers"
        )
    towers = _towers(names)
    scales = {}
    for name in names:
        group, head = rule(name, towers[name.prefix])
        scales[str(name)] = layer_decay ** (head - group)
    return scales


def backbone_layers(
    model: keras.Model,
) -> list[tuple[keras.layers.Layer, LayerName]]:
    """The layers with weights below a ConvNeXt's head, with their names."""
    layers = [(x, parse(x.name)) for x in all_layers(model) if x.weights]
    towers = _towers([name for _, name in layers])
    # `stem_` ends words in the names of other layers, too.
    return [
        (layer, name)
        for layer, name in layers
        if name.prefix in towers and name.scope not in ("", HEAD)
    ]


def _towers(names):
    """How many blocks each stage has, for each tower by its prefix."""
    towers = defaultdict(lambda: defaultdict(int))
    for name in names:
        if name.block is not None:
            stages = towers[name.prefix]
            stages[name.stage] = max(stages[name.stage], name.block + 1)
    return {
        prefix: [depth for _, depth in sorted(stages.items())]
        for prefix, stages in towers.items()
    }


def head_of(depths):
    """Id of the head in models of four stages."""
    return 4 + -(-depths[2] // 3)


def _by_group(name, depths):
    """Id of a layer and id of the head under V1's rule."""
    if len(depths) != 4:
        return _by_block(name, depths)
    head = head_of(depths)
    if name.stage is None:
        return 0, head
    block = name.block or 0
    ids = (1, 2, 3 + block // 3, head - 1)
    return ids[name.stage], head


def _by_block(name, depths):
    """A group for the stem and one for every block with what leads to it."""
    head = sum(depths) + 1
    if name.stage is None:
        return 0, head
    return 1 + sum(depths[: name.stage]) + (name.block or 0), head


def _single(name, depths):
    """V2's rule: the stem shares the group of the first block."""
    group, head = _by_block(name, depths)
    return max(group, 1), head


GROUPS = {"group": _by_group, "single": _single}
