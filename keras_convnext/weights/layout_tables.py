"""The tables of names in other packages: one `Layout` for each.

A layout is a table of modules: their name in a file, the part that they are in
our models, and the kind of module, a key of `layouts.KINDS`, which says what
its tensors are called and how they are turned. `{s}` counts stages and `{b}`
blocks; `{ours}` is our name.

To add a layout, add a `Layout` to `LAYOUTS`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from keras_convnext.facts.layer_names import HEAD_WITH_WEIGHTS
from keras_convnext.facts.layer_names import LayerName
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import level_norm


@dataclass(frozen=True)
class Layout:
    """The names and shapes of one package.

    Attributes:
        modules: function of a `Variant`, its table of modules.
        marker: a name that only files of this layout have, behind a prefix.
        ignored: patterns of names that hold no part of the model.
        in_keras: whether tensors are called and shaped as in our models,
            whatever their kind; those of kind `"grouped"` are turned.
        prefix: function of a `Variant`, what the package itself puts before
            the names; read with any other, too.
        outside: modules before whose names it does not stand.
    """

    modules: Callable
    marker: str
    ignored: str = r"(?!)"
    in_keras: bool = False
    prefix: Callable = lambda variant: ""
    outside: tuple[str, ...] = ()


# The official repositories: V1, V2, and isotropic.

OFFICIAL = (
    ("downsample_layers.0.0", Part.STEM_CONV, "conv"),
    ("downsample_layers.0.1", Part.STEM_NORM, "norm"),
    ("downsample_layers.{s}.0", Part.DOWNSAMPLE_NORM, "norm"),
    ("downsample_layers.{s}.1", Part.DOWNSAMPLE_CONV, "conv"),
    ("stages.{s}.{b}", Part.LAYER_SCALE, "layer_scale"),
    ("stages.{s}.{b}.dwconv", Part.DEPTHWISE, "depthwise"),
    ("stages.{s}.{b}.norm", Part.NORM, "norm"),
    ("stages.{s}.{b}.pwconv1", Part.EXPAND, "linear"),
    ("stages.{s}.{b}.grn", Part.GRN, "official_grn"),
    ("stages.{s}.{b}.pwconv2", Part.PROJECT, "linear"),
    ("norm", Part.HEAD_NORM, "norm"),
    ("head", Part.HEAD_CLASSIFIER, "linear"),
)
OFFICIAL_ISOTROPIC = (
    ("stem", Part.STEM_CONV, "conv"),
    ("blocks.{b}", Part.LAYER_SCALE, "layer_scale"),
    ("blocks.{b}.dwconv", Part.DEPTHWISE, "depthwise"),
    ("blocks.{b}.norm", Part.NORM, "norm"),
    ("blocks.{b}.pwconv1", Part.EXPAND, "linear"),
    ("blocks.{b}.pwconv2", Part.PROJECT, "linear"),
    ("norm", Part.HEAD_NORM, "norm"),
    ("head", Part.HEAD_CLASSIFIER, "linear"),
)
# What masked pre-training saves: sparse convolutions (MinkowskiEngine).
FCMAE = (
    ("downsample_layers.0.0", Part.STEM_CONV, "conv"),
    ("downsample_layers.0.1", Part.STEM_NORM, "norm"),
    ("downsample_layers.{s}.0.ln", Part.DOWNSAMPLE_NORM, "norm"),
    ("downsample_layers.{s}.1", Part.DOWNSAMPLE_CONV, "sparse_conv"),
    ("stages.{s}.{b}.dwconv", Part.DEPTHWISE, "sparse_depthwise"),
    ("stages.{s}.{b}.norm.ln", Part.NORM, "norm"),
    ("stages.{s}.{b}.pwconv1.linear", Part.EXPAND, "linear"),
    ("stages.{s}.{b}.grn", Part.GRN, "sparse_grn"),
    ("stages.{s}.{b}.pwconv2.linear", Part.PROJECT, "linear"),
)

# mmpretrain renames the official modules.

MMPRETRAIN_BLOCK = "stages.{s}.{b}"
MMPRETRAIN = (
    *OFFICIAL[:4],
    (MMPRETRAIN_BLOCK, Part.LAYER_SCALE, "layer_scale"),
    (MMPRETRAIN_BLOCK + ".depthwise_conv", Part.DEPTHWISE, "depthwise"),
    (MMPRETRAIN_BLOCK + ".norm", Part.NORM, "norm"),
    (MMPRETRAIN_BLOCK + ".pointwise_conv1", Part.EXPAND, "linear"),
    (MMPRETRAIN_BLOCK + ".grn", Part.GRN, "flat_grn"),
    (MMPRETRAIN_BLOCK + ".pointwise_conv2", Part.PROJECT, "linear"),
    ("norm3", Part.HEAD_NORM, "norm"),
    ("head.fc", Part.HEAD_CLASSIFIER, "linear"),
)

# timm numbers the stem's modules, activations included.

TIMM_STEMS = {
    "patch": (
        ("stem.0", Part.STEM_CONV, "conv"),
        ("stem.1", Part.STEM_NORM, "norm"),
    ),
    "overlap": (
        ("stem.0", Part.STEM_CONV_0, "conv"),
        ("stem.1", Part.STEM_CONV_1, "conv"),
        ("stem.2", Part.STEM_NORM, "norm"),
    ),
    "overlap_act": (
        ("stem.0", Part.STEM_CONV_0, "conv"),
        ("stem.2", Part.STEM_CONV_1, "conv"),
        ("stem.3", Part.STEM_NORM, "norm"),
    ),
}
TIMM_STEMS["overlap_tiered"] = TIMM_STEMS["overlap"]
TIMM_HEADS = {"pool_norm": "head.norm", "norm_pool": "norm_pre"}
# timm stores the products of these sizes as 1×1 convolutions.
TIMM_CONVOLUTIONS = re.compile(r"convnext(v2)?_(zepto|atto|femto|pico|nano).*")


def timm(variant):
    as_convolution = (
        TIMM_CONVOLUTIONS.fullmatch(variant.name)
        or variant.name == "convnext_tiny_hnf"
        or variant.norm != "layer_norm"
    )
    mlp = "pointwise" if as_convolution else "linear"
    return (
        *TIMM_STEMS[variant.stem],
        ("stages.{s}.downsample.0", Part.DOWNSAMPLE_NORM, "norm"),
        ("stages.{s}.downsample.1", Part.DOWNSAMPLE_CONV, "conv"),
        ("stages.{s}.blocks.{b}", Part.LAYER_SCALE, "layer_scale"),
        ("stages.{s}.blocks.{b}.conv_dw", Part.DEPTHWISE, "depthwise"),
        ("stages.{s}.blocks.{b}.norm", Part.NORM, "norm"),
        ("stages.{s}.blocks.{b}.mlp.fc1", Part.EXPAND, mlp),
        ("stages.{s}.blocks.{b}.mlp.grn", Part.GRN, "grn"),
        ("stages.{s}.blocks.{b}.mlp.fc2", Part.PROJECT, mlp),
        (TIMM_HEADS[variant.head], Part.HEAD_NORM, "norm"),
        ("head.pre_logits.fc", Part.HEAD_HIDDEN, "linear"),
        ("head.fc", Part.HEAD_CLASSIFIER, "linear"),
    )


def clip(variant):
    """OpenCLIP: a timm trunk, and a projection instead of its head."""
    trunk = tuple(
        (f"trunk.{module}", part, kind)
        for module, part, kind in timm(variant)
        if part not in (Part.HEAD_HIDDEN, Part.HEAD_CLASSIFIER)
    )
    if variant.head_hidden_size:
        return (
            *trunk,
            ("head.mlp.fc1", Part.HEAD_HIDDEN, "linear"),
            ("head.mlp.fc2", Part.HEAD_CLASSIFIER, "linear"),
        )
    return (*trunk, ("head.proj", Part.HEAD_CLASSIFIER, "linear"))


# Hugging Face transformers: ConvNeXt and ConvNeXt V2, and DINOv3.

STAGE = "encoder.stages.{s}."
TRANSFORMERS = (
    ("embeddings.patch_embeddings", Part.STEM_CONV, "conv"),
    ("embeddings.layernorm", Part.STEM_NORM, "norm"),
    (STAGE + "downsampling_layer.0", Part.DOWNSAMPLE_NORM, "norm"),
    (STAGE + "downsampling_layer.1", Part.DOWNSAMPLE_CONV, "conv"),
    (STAGE + "layers.{b}", Part.LAYER_SCALE, "layer_scale_parameter"),
    (STAGE + "layers.{b}.dwconv", Part.DEPTHWISE, "depthwise"),
    (STAGE + "layers.{b}.layernorm", Part.NORM, "norm"),
    (STAGE + "layers.{b}.pwconv1", Part.EXPAND, "linear"),
    (STAGE + "layers.{b}.grn", Part.GRN, "grn_4d"),
    (STAGE + "layers.{b}.pwconv2", Part.PROJECT, "linear"),
    ("layernorm", Part.HEAD_NORM, "norm"),
    ("classifier", Part.HEAD_CLASSIFIER, "linear"),
)
DINOV3_STAGE = "stages.{s}."
DINOV3 = (
    ("stages.0.downsample_layers.0", Part.STEM_CONV, "conv"),
    ("stages.0.downsample_layers.1", Part.STEM_NORM, "norm"),
    (DINOV3_STAGE + "downsample_layers.0", Part.DOWNSAMPLE_NORM, "norm"),
    (DINOV3_STAGE + "downsample_layers.1", Part.DOWNSAMPLE_CONV, "conv"),
    (DINOV3_STAGE + "layers.{b}", Part.LAYER_SCALE, "layer_scale"),
    (DINOV3_STAGE + "layers.{b}.depthwise_conv", Part.DEPTHWISE, "depthwise"),
    (DINOV3_STAGE + "layers.{b}.layer_norm", Part.NORM, "norm"),
    (DINOV3_STAGE + "layers.{b}.pointwise_conv1", Part.EXPAND, "linear"),
    (DINOV3_STAGE + "layers.{b}.pointwise_conv2", Part.PROJECT, "linear"),
    ("layer_norm", Part.HEAD_NORM, "norm"),
)

# torchvision: stem, blocks and downsampling in one sequence.

TORCHVISION_BLOCK = "{odd}.{b}"
TORCHVISION = (
    ("0.0", Part.STEM_CONV, "conv"),
    ("0.1", Part.STEM_NORM, "norm"),
    ("{even}.0", Part.DOWNSAMPLE_NORM, "norm"),
    ("{even}.1", Part.DOWNSAMPLE_CONV, "conv"),
    (TORCHVISION_BLOCK, Part.LAYER_SCALE, "layer_scale_3d"),
    (TORCHVISION_BLOCK + ".block.0", Part.DEPTHWISE, "depthwise"),
    (TORCHVISION_BLOCK + ".block.2", Part.NORM, "norm"),
    (TORCHVISION_BLOCK + ".block.3", Part.EXPAND, "linear"),
    (TORCHVISION_BLOCK + ".block.5", Part.PROJECT, "linear"),
    ("classifier.0", Part.HEAD_NORM, "norm"),
    ("classifier.2", Part.HEAD_CLASSIFIER, "linear"),
)

# keras.applications, whose names are nearly ours, and our own.

KERAS_BLOCK = "stage_{s}_block_{b}_"
KERAS_APPLICATIONS = (
    ("stem_conv", Part.STEM_CONV, "conv"),
    ("stem_layernorm", Part.STEM_NORM, "layer_norm"),
    ("downsampling_layernorm_{before}", Part.DOWNSAMPLE_NORM, "layer_norm"),
    ("downsampling_conv_{before}", Part.DOWNSAMPLE_CONV, "conv"),
    (KERAS_BLOCK + "depthwise_conv", Part.DEPTHWISE, "grouped"),
    (KERAS_BLOCK + "layernorm", Part.NORM, "layer_norm"),
    (KERAS_BLOCK + "pointwise_conv_1", Part.EXPAND, "conv"),
    (KERAS_BLOCK + "pointwise_conv_2", Part.PROJECT, "conv"),
    (KERAS_BLOCK + "layer_scale", Part.LAYER_SCALE, "layer_scale"),
    ("head_layernorm", Part.HEAD_NORM, "layer_norm"),
    ("head_dense", Part.HEAD_CLASSIFIER, "conv"),
)


def ours(variant):
    """The identity: timm's modules under the names of our layers."""
    present = {
        Part.STEM_NORM: variant.stem_norm,
        Part.GRN: variant.grn,
        Part.LAYER_SCALE: variant.layer_scale_init_value,
        Part.HEAD_HIDDEN: variant.head_hidden_size,
    }
    return tuple(
        ("{ours}", part, kind)
        for _, part, kind in timm(variant)
        if present.get(part, True)
    )


# A ConvNeXt in a segmenter or detector: without classifier, and with a norm
# behind each stage.

LEVEL_NORMS = tuple(level_norm(stage) for stage in range(4))


def backbone(table):
    """A package's table of a ConvNeXt, as OpenMMLab's models hold it."""
    return tuple(
        (f"backbone.{module}", part, kind)
        for module, part, kind in table
        if part not in HEAD_WITH_WEIGHTS
    )


OPENMMLAB_NORMS = tuple(
    (f"backbone.{norm}", norm, "layer_norm") for norm in LEVEL_NORMS
)


def our_backbone(variant):
    """The identity, for the same."""
    return (
        *(row for row in ours(variant) if row[1] not in HEAD_WITH_WEIGHTS),
        *((norm, norm, "layer_norm") for norm in LEVEL_NORMS),
    )


LAYOUTS = {
    "keras": Layout(
        ours,
        f"{LayerName('', 0, 0, Part.DEPTHWISE)}/kernel",
        in_keras=True,
    ),
    "official": Layout(
        lambda variant: OFFICIAL,
        "stages.0.0.dwconv.weight",
        # DINOv3 and EUPE: one norm per stage, and heads of the pre-training.
        ignored=r"(.*\.)?(norms|projectors)\..*|(.*\.)?mask_token",
    ),
    "official_isotropic": Layout(
        lambda variant: OFFICIAL_ISOTROPIC, "blocks.0.dwconv.weight"
    ),
    "mmpretrain": Layout(
        lambda variant: MMPRETRAIN,
        "stages.0.0.depthwise_conv.weight",
        prefix=lambda variant: "backbone.",
        outside=("head",),
    ),
    "fcmae": Layout(
        lambda variant: FCMAE,
        "stages.0.0.dwconv.kernel",
        ignored=r"(decoder|proj|pred)\..*|mask_token",
        prefix=lambda variant: "encoder.",
    ),
    "timm": Layout(timm, "stages.0.blocks.0.conv_dw.weight"),
    "clip": Layout(
        clip,
        "trunk.stages.0.blocks.0.conv_dw.weight",
        # The text tower; not what stands beside a trunk alone.
        ignored=r"(?!(visual|trunk|head)\.).*",
    ),
    "transformers": Layout(
        lambda variant: TRANSFORMERS,
        "encoder.stages.0.layers.0.dwconv.weight",
        prefix=lambda variant: "convnextv2." if variant.grn else "convnext.",
        outside=("classifier",),
    ),
    "dinov3": Layout(
        lambda variant: DINOV3, "stages.0.layers.0.depthwise_conv.weight"
    ),
    "torchvision": Layout(
        lambda variant: TORCHVISION,
        "1.0.block.0.weight",
        prefix=lambda variant: "features.",
        outside=("classifier",),
    ),
    "keras_applications": Layout(
        lambda variant: KERAS_APPLICATIONS,
        KERAS_BLOCK.format(s=0, b=0) + "depthwise_conv/kernel",
        ignored=r".*prestem_normalization/.*",
        in_keras=True,
    ),
}
