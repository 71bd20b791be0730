"""The tables of names in other packages: one `Layout` for each.

A layout is a table of modules: their name there, the name of our layer, and
the kind of module, a key of `layouts.KINDS`, which says what its tensors are
called and how they are turned. `{s}` counts stages and `{b}` blocks.

To add a layout, add a `Layout` to `LAYOUTS`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

BLOCK = "stage_{s}_block_{b}_"
CLASSIFIER = "head_classifier"


@dataclass(frozen=True)
class Layout:
    """The names and shapes of one package.

    Attributes:
        modules: function of a `Variant`, its table of modules.
        marker: a name that only files of this layout have, behind a prefix.
        ignored: patterns of names that hold no part of the model.
        prefix: function of a `Variant`, put before names when writing.
    """

    modules: Callable
    marker: str
    ignored: str = r"(?!)"
    prefix: Callable = lambda variant: ""


# The official repositories: V1, V2, and isotropic.

OFFICIAL = (
    ("downsample_layers.0.0", "stem_conv", "conv"),
    ("downsample_layers.0.1", "stem_norm", "norm"),
    ("downsample_layers.{s}.0", "stage_{s}_downsample_norm", "norm"),
    ("downsample_layers.{s}.1", "stage_{s}_downsample_conv", "conv"),
    ("stages.{s}.{b}", BLOCK + "layer_scale", "layer_scale"),
    ("stages.{s}.{b}.dwconv", BLOCK + "depthwise", "depthwise"),
    ("stages.{s}.{b}.norm", BLOCK + "norm", "norm"),
    ("stages.{s}.{b}.pwconv1", BLOCK + "expand", "linear"),
    ("stages.{s}.{b}.grn", BLOCK + "grn", "official_grn"),
    ("stages.{s}.{b}.pwconv2", BLOCK + "project", "linear"),
    ("norm", "head_norm", "norm"),
    ("head", CLASSIFIER, "linear"),
)
OFFICIAL_ISOTROPIC = (
    ("stem", "stem_conv", "conv"),
    ("blocks.{b}", BLOCK + "layer_scale", "layer_scale"),
    ("blocks.{b}.dwconv", BLOCK + "depthwise", "depthwise"),
    ("blocks.{b}.norm", BLOCK + "norm", "norm"),
    ("blocks.{b}.pwconv1", BLOCK + "expand", "linear"),
    ("blocks.{b}.pwconv2", BLOCK + "project", "linear"),
    ("norm", "head_norm", "norm"),
    ("head", CLASSIFIER, "linear"),
)
# What masked pre-training saves: sparse convolutions (MinkowskiEngine).
FCMAE = (
    ("downsample_layers.0.0", "stem_conv", "conv"),
    ("downsample_layers.0.1", "stem_norm", "norm"),
    ("downsample_layers.{s}.0.ln", "stage_{s}_downsample_norm", "norm"),
    ("downsample_layers.{s}.1", "stage_{s}_downsample_conv", "sparse_conv"),
    ("stages.{s}.{b}.dwconv", BLOCK + "depthwise", "sparse_depthwise"),
    ("stages.{s}.{b}.norm.ln", BLOCK + "norm", "norm"),
    ("stages.{s}.{b}.pwconv1.linear", BLOCK + "expand", "linear"),
    ("stages.{s}.{b}.grn", BLOCK + "grn", "official_grn"),
    ("stages.{s}.{b}.pwconv2.linear", BLOCK + "project", "linear"),
)

# timm numbers the stem's modules, activations included.

TIMM_STEMS = {
    "patch": (("stem.0", "stem_conv", "conv"), ("stem.1", "stem_norm", "norm")),
    "overlap": (
        ("stem.0", "stem_conv_0", "conv"),
        ("stem.1", "stem_conv_1", "conv"),
        ("stem.2", "stem_norm", "norm"),
    ),
    "overlap_act": (
        ("stem.0", "stem_conv_0", "conv"),
        ("stem.2", "stem_conv_1", "conv"),
        ("stem.3", "stem_norm", "norm"),
    ),
}
TIMM_STEMS["overlap_tiered"] = TIMM_STEMS["overlap"]
TIMM_BODY = (
    ("stages.{s}.downsample.0", "stage_{s}_downsample_norm", "norm"),
    ("stages.{s}.downsample.1", "stage_{s}_downsample_conv", "conv"),
    ("stages.{s}.blocks.{b}", BLOCK + "layer_scale", "layer_scale"),
    ("stages.{s}.blocks.{b}.conv_dw", BLOCK + "depthwise", "depthwise"),
    ("stages.{s}.blocks.{b}.norm", BLOCK + "norm", "norm"),
    ("stages.{s}.blocks.{b}.mlp.fc1", BLOCK + "expand", "timm_mlp"),
    ("stages.{s}.blocks.{b}.mlp.grn", BLOCK + "grn", "grn"),
    ("stages.{s}.blocks.{b}.mlp.fc2", BLOCK + "project", "timm_mlp"),
)
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
    body = tuple(
        (there, here, mlp if kind == "timm_mlp" else kind)
        for there, here, kind in TIMM_BODY
    )
    return (
        *TIMM_STEMS[variant.stem],
        *body,
        (TIMM_HEADS[variant.head], "head_norm", "norm"),
        ("head.pre_logits.fc", "head_hidden", "linear"),
        ("head.fc", CLASSIFIER, "linear"),
    )


def clip(variant):
    """OpenCLIP: a timm trunk, and a projection instead of its head."""
    trunk = tuple(
        (f"trunk.{there}", here, kind)
        for there, here, kind in timm(variant)
        if here not in ("head_hidden", CLASSIFIER)
    )
    if variant.head_hidden_size:
        return (
            *trunk,
            ("head.mlp.fc1", "head_hidden", "linear"),
            ("head.mlp.fc2", CLASSIFIER, "linear"),
        )
    return (*trunk, ("head.proj", CLASSIFIER, "linear"))


# Hugging Face transformers: ConvNeXt and ConvNeXt V2, and DINOv3.

STAGE = "encoder.stages.{s}."
TRANSFORMERS = (
    ("embeddings.patch_embeddings", "stem_conv", "conv"),
    ("embeddings.layernorm", "stem_norm", "norm"),
    (STAGE + "downsampling_layer.0", "stage_{s}_downsample_norm", "norm"),
    (STAGE + "downsampling_layer.1", "stage_{s}_downsample_conv", "conv"),
    (STAGE + "layers.{b}", BLOCK + "layer_scale", "layer_scale_parameter"),
    (STAGE + "layers.{b}.dwconv", BLOCK + "depthwise", "depthwise"),
    (STAGE + "layers.{b}.layernorm", BLOCK + "norm", "norm"),
    (STAGE + "layers.{b}.pwconv1", BLOCK + "expand", "linear"),
    (STAGE + "layers.{b}.grn", BLOCK + "grn", "grn_4d"),
    (STAGE + "layers.{b}.pwconv2", BLOCK + "project", "linear"),
    ("layernorm", "head_norm", "norm"),
    ("classifier", CLASSIFIER, "linear"),
)
DINOV3_STAGE = "stages.{s}."
DINOV3 = (
    ("stages.0.downsample_layers.0", "stem_conv", "conv"),
    ("stages.0.downsample_layers.1", "stem_norm", "norm"),
    (
        DINOV3_STAGE + "downsample_layers.0",
        "stage_{s}_downsample_norm",
        "norm",
    ),
    (
        DINOV3_STAGE + "downsample_layers.1",
        "stage_{s}_downsample_conv",
        "conv",
    ),
    (DINOV3_STAGE + "layers.{b}", BLOCK + "layer_scale", "layer_scale"),
    (
        DINOV3_STAGE + "layers.{b}.depthwise_conv",
        BLOCK + "depthwise",
        "depthwise",
    ),
    (DINOV3_STAGE + "layers.{b}.layer_norm", BLOCK + "norm", "norm"),
    (DINOV3_STAGE + "layers.{b}.pointwise_conv1", BLOCK + "expand", "linear"),
    (DINOV3_STAGE + "layers.{b}.pointwise_conv2", BLOCK + "project", "linear"),
    ("layer_norm", "head_norm", "norm"),
)

# torchvision: stem, blocks and downsampling in one sequence.

TORCHVISION_BLOCK = "features.{odd}.{b}"
TORCHVISION = (
    ("features.0.0", "stem_conv", "conv"),
    ("features.0.1", "stem_norm", "norm"),
    ("features.{even}.0", "stage_{s}_downsample_norm", "norm"),
    ("features.{even}.1", "stage_{s}_downsample_conv", "conv"),
    (TORCHVISION_BLOCK, BLOCK + "layer_scale", "layer_scale_3d"),
    (TORCHVISION_BLOCK + ".block.0", BLOCK + "depthwise", "depthwise"),
    (TORCHVISION_BLOCK + ".block.2", BLOCK + "norm", "norm"),
    (TORCHVISION_BLOCK + ".block.3", BLOCK + "expand", "linear"),
    (TORCHVISION_BLOCK + ".block.5", BLOCK + "project", "linear"),
    ("classifier.0", "head_norm", "norm"),
    ("classifier.2", CLASSIFIER, "linear"),
)

# keras.applications, and our own names.

KERAS_APPLICATIONS = (
    ("stem_conv", "stem_conv", "keras_conv"),
    ("stem_layernorm", "stem_norm", "keras_norm"),
    (
        "downsampling_layernorm_{before}",
        "stage_{s}_downsample_norm",
        "keras_norm",
    ),
    ("downsampling_conv_{before}", "stage_{s}_downsample_conv", "keras_conv"),
    (BLOCK + "depthwise_conv", BLOCK + "depthwise", "keras_grouped"),
    (BLOCK + "layernorm", BLOCK + "norm", "keras_norm"),
    (BLOCK + "pointwise_conv_1", BLOCK + "expand", "keras_conv"),
    (BLOCK + "pointwise_conv_2", BLOCK + "project", "keras_conv"),
    (BLOCK + "layer_scale", BLOCK + "layer_scale", "keras_scale"),
    ("head_layernorm", "head_norm", "keras_norm"),
    ("head_dense", CLASSIFIER, "keras_conv"),
)


def own(variant):
    """The identity: the names that a model of this variant has."""
    norm = {
        "layer_norm": "keras_norm",
        "rms_norm": "keras_rms",
        "simple_norm": "keras_scale",
    }[variant.norm]
    stem = ("stem_conv",)
    if variant.stem != "patch":
        stem = ("stem_conv_0", "stem_conv_1")
    kinds = {name: "keras_conv" for name in stem}
    if variant.stem_norm:
        kinds["stem_norm"] = norm
    kinds["stage_{s}_downsample_norm"] = norm
    kinds["stage_{s}_downsample_conv"] = "keras_conv"
    kinds[BLOCK + "depthwise"] = "keras_conv"
    kinds[BLOCK + "norm"] = norm
    kinds[BLOCK + "expand"] = "keras_conv"
    if variant.grn:
        kinds[BLOCK + "grn"] = "keras_norm"
    kinds[BLOCK + "project"] = "keras_conv"
    if variant.layer_scale_init_value:
        kinds[BLOCK + "layer_scale"] = "keras_scale"
    kinds["head_norm"] = norm
    if variant.head_hidden_size:
        kinds["head_hidden"] = "keras_conv"
    kinds[CLASSIFIER] = "keras_conv"
    return tuple((name, name, kind) for name, kind in kinds.items())


LAYOUTS = {
    "keras": Layout(own, "stage_0_block_0_depthwise/kernel"),
    "official": Layout(
        lambda variant: OFFICIAL,
        "downsample_layers.0.0.weight",
        # DINOv3 and EUPE: one norm per stage, and heads of the pre-training.
        ignored=r"(.*\.)?(norms|projectors)\..*|(.*\.)?mask_token",
    ),
    "official_isotropic": Layout(
        lambda variant: OFFICIAL_ISOTROPIC, "blocks.0.dwconv.weight"
    ),
    "fcmae": Layout(
        lambda variant: FCMAE,
        "stages.0.0.dwconv.kernel",
        ignored=r"(decoder|proj|pred)\..*|mask_token",
    ),
    "timm": Layout(timm, "stages.0.blocks.0.conv_dw.weight"),
    "clip": Layout(
        clip,
        "trunk.stages.0.blocks.0.conv_dw.weight",
        # The text tower.
        ignored=r"(?!visual\.).*",
        prefix=lambda variant: "visual.",
    ),
    "transformers": Layout(
        lambda variant: TRANSFORMERS,
        "embeddings.patch_embeddings.weight",
        prefix=lambda variant: "convnextv2." if variant.grn else "convnext.",
    ),
    "dinov3": Layout(
        lambda variant: DINOV3, "stages.0.layers.0.depthwise_conv.weight"
    ),
    "torchvision": Layout(lambda variant: TORCHVISION, "features.0.0.weight"),
    "keras_applications": Layout(
        lambda variant: KERAS_APPLICATIONS,
        "stage_0_block_0_depthwise_conv/kernel",
        ignored=r".*prestem_normalization/.*",
    ),
}
