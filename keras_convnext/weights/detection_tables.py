"""The tables of names of detectors, as those of `layout_tables`.

A backbone in the names of its package, a feature pyramid, the proposals' head,
and the heads of boxes and masks: one of each kind in a Mask R-CNN, three in a
Cascade Mask R-CNN. Its convolutions have a batch normalization each.
"""

from keras_convnext.weights.layout_tables import MMPRETRAIN
from keras_convnext.weights.layout_tables import OFFICIAL
from keras_convnext.weights.layout_tables import OPENMMLAB_NORMS
from keras_convnext.weights.layout_tables import Layout
from keras_convnext.weights.layout_tables import backbone
from keras_convnext.weights.layout_tables import our_backbone

STAGES = 3  # of a Cascade Mask R-CNN
CONVOLUTIONS = 4  # of a head

PYRAMID = (
    *((f"neck.lateral_convs.{i}.conv", f"fpn_lateral_{i}") for i in range(4)),
    *((f"neck.fpn_convs.{i}.conv", f"fpn_output_{i}") for i in range(4)),
    ("rpn_head.rpn_conv", "rpn_conv"),
    ("rpn_head.rpn_cls", "rpn_scores"),
    ("rpn_head.rpn_reg", "rpn_deltas"),
)


def _boxes(theirs, ours, fully_connected, convolutions):
    """A head of boxes, by what stands in the names for its stage."""
    theirs, ours = f"roi_head.bbox_head{theirs}", f"box{ours}"
    rows = []
    for i in range(convolutions):
        module, part = f"{theirs}.shared_convs.{i}", f"{ours}_conv_{i}"
        rows.append((f"{module}.conv", part, "conv_without_bias"))
        rows.append((f"{module}.bn", f"{part}_norm", "batch_norm"))
    for i in range(fully_connected):
        # The first one takes the features of a region, rows of channels.
        kind = "linear" if i else "linear_of_regions"
        rows.append((f"{theirs}.shared_fcs.{i}", f"{ours}_fc_{i}", kind))
    return (
        *rows,
        (f"{theirs}.fc_cls", f"{ours}_classifier", "linear"),
        (f"{theirs}.fc_reg", f"{ours}_deltas", "linear"),
    )


def _masks(theirs, ours):
    theirs, ours = f"roi_head.mask_head{theirs}", f"mask{ours}"
    return (
        *(
            (f"{theirs}.convs.{i}.conv", f"{ours}_conv_{i}", "conv")
            for i in range(CONVOLUTIONS)
        ),
        # Transposed convolutions have inputs and outputs the other way round,
        # there and here.
        (f"{theirs}.upsample", f"{ours}_upsample", "conv"),
        (f"{theirs}.conv_logits", f"{ours}_classifier", "conv"),
    )


# By the key of `registry.TASKS`.
HEADS = {
    "mask_rcnn": (*_boxes("", "", 2, 0), *_masks("", "")),
    "cascade_mask_rcnn": tuple(
        row
        for k in range(STAGES)
        for row in (
            *_boxes(f".{k}", f"_{k}", 1, CONVOLUTIONS),
            *_masks(f".{k}", f"_{k}"),
        )
    ),
}
# Of both detectors: their names are different ones.
ALL = (
    *((module, part, "conv") for module, part in PYRAMID),
    *(row for rows in HEADS.values() for row in rows),
)


def openmmlab(first, second):
    """Reads a backbone in either package's names, and writes the second's."""
    return (*backbone(first), *backbone(second), *OPENMMLAB_NORMS, *ALL)


def our_detector(variant):
    """The identity: the names that detectors on this variant have."""
    rows = ((part, part, kind) for _, part, kind in ALL)
    return (*our_backbone(variant), *rows)


MARKER = "rpn_head.rpn_conv.weight"
LAYOUTS = {
    # The official repository and mmdet 2, and what mmdet 3 has itself.
    "official_mmdet": Layout(
        lambda variant: openmmlab(MMPRETRAIN, OFFICIAL), MARKER
    ),
    "mmdet": Layout(lambda variant: openmmlab(OFFICIAL, MMPRETRAIN), MARKER),
    "keras_detector": Layout(our_detector, "rpn_conv/kernel", in_keras=True),
}
