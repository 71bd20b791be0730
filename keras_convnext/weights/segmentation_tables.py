"""The tables of names of UperNets, as those of `layout_tables`.

A backbone in the names of its package, and the heads: convolutions without
bias, each with a batch normalization behind it, and two classifiers.
"""

from keras_convnext.weights.layout_tables import LEVEL_NORMS
from keras_convnext.weights.layout_tables import MMPRETRAIN
from keras_convnext.weights.layout_tables import OFFICIAL
from keras_convnext.weights.layout_tables import OPENMMLAB_NORMS
from keras_convnext.weights.layout_tables import TRANSFORMERS
from keras_convnext.weights.layout_tables import Layout
from keras_convnext.weights.layout_tables import backbone
from keras_convnext.weights.layout_tables import our_backbone

# The convolutions in mmseg's names and in ours.
CONVOLUTIONS = (
    *((f"decode_head.psp_modules.{i}.1", f"decode_psp_{i}") for i in range(4)),
    ("decode_head.bottleneck", "decode_bottleneck"),
    *(
        (f"decode_head.lateral_convs.{i}", f"decode_lateral_{i}")
        for i in range(3)
    ),
    *((f"decode_head.fpn_convs.{i}", f"decode_fpn_{i}") for i in range(3)),
    ("decode_head.fpn_bottleneck", "decode_fusion"),
    ("auxiliary_head.convs.0", "auxiliary"),
)


def _heads(norm, classifier):
    """Both heads, by what batch normalizations and classifiers are called."""
    rows = []
    for module, part in CONVOLUTIONS:
        rows.append((f"{module}.conv", f"{part}_conv", "conv"))
        rows.append((f"{module}.{norm}", f"{part}_norm", "batch_norm"))
    for head in ("decode", "auxiliary"):
        rows.append((f"{head}_head.{classifier}", f"{head}_classifier", "conv"))
    return tuple(rows)


MMSEG = (
    *backbone(OFFICIAL),
    # Later releases of mmseg take the backbone from mmpretrain.
    *(row for row in backbone(MMPRETRAIN) if row not in backbone(OFFICIAL)),
    *OPENMMLAB_NORMS,
    *_heads("bn", "conv_seg"),
)
TRANSFORMERS_UPERNET = (
    *backbone(TRANSFORMERS),
    *(
        (f"backbone.hidden_states_norms.stage{stage}", norm, "layer_norm")
        for stage, norm in enumerate(LEVEL_NORMS, start=1)
    ),
    *_heads("batch_norm", "classifier"),
)


def our_upernet(variant):
    """The identity: the names that an UperNet on this variant has."""
    return (
        *our_backbone(variant),
        *((part, part, kind) for _, part, kind in _heads("", "")),
    )


LAYOUTS = {
    "mmseg": Layout(
        lambda variant: MMSEG,
        "decode_head.conv_seg.weight",
    ),
    "transformers_upernet": Layout(
        lambda variant: TRANSFORMERS_UPERNET,
        "decode_head.classifier.weight",
    ),
    "keras_upernet": Layout(
        our_upernet, "decode_classifier/kernel", in_keras=True
    ),
}
