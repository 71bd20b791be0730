"""How other packages name and store the same tensors.

A layout is a table of modules: their name there, the name of our layer, and
the kind of module, which says what its tensors are called and how they are
turned. `pairs` spells a table out for one architecture, so that conversion in
either direction is a walk over the same list and no tensor is found by its
position. `{s}` counts stages and `{b}` blocks.

To add a layout, add a `Layout` to `LAYOUTS`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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
    """The identity: every name that our files can hold."""
    stem = ("stem_conv",)
    if variant.stem != "patch":
        stem = ("stem_conv_0", "stem_conv_1")
    norm = {
        "layer_norm": "keras_norm",
        "rms_norm": "keras_rms",
        "simple_norm": "keras_scale",
    }[variant.norm]
    kinds = {
        **{name: "keras_conv" for name in stem},
        "stem_norm": norm,
        "stage_{s}_downsample_norm": norm,
        "stage_{s}_downsample_conv": "keras_conv",
        BLOCK + "depthwise": "keras_conv",
        BLOCK + "norm": norm,
        BLOCK + "expand": "keras_conv",
        BLOCK + "grn": "keras_norm",
        BLOCK + "project": "keras_conv",
        BLOCK + "layer_scale": "keras_scale",
        "head_norm": norm,
        "head_hidden": "keras_conv",
        CLASSIFIER: "keras_conv",
    }
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


# Conversions on the way in and on the way out.


def _same(tensor):
    return tensor


def _flat(tensor):
    return tensor.reshape(-1)


def _to_shape(*shape):
    return lambda tensor: tensor.reshape(shape)


def _axes(*order):
    return lambda tensor: tensor.transpose(order)


def _matrix(tensor):
    # Pointwise convolutions are linear layers with two unit axes.
    return tensor.reshape(tensor.shape[:2]).transpose()


def _pointwise(tensor):
    return tensor.transpose()[..., None, None]


def _sparse_conv(tensor):
    """(4, in, out) -> (2, 2, in, out); sparse kernels count columns first."""
    side = round(len(tensor) ** 0.5)
    kernel = tensor.reshape(side, side, *tensor.shape[1:])
    return kernel.transpose(1, 0, 2, 3)


def _from_sparse_conv(tensor):
    return tensor.transpose(1, 0, 2, 3).reshape(-1, *tensor.shape[2:])


def _sparse_depthwise(tensor):
    return _sparse_conv(tensor[..., None])


def _from_sparse_depthwise(tensor):
    return _from_sparse_conv(tensor)[..., 0]


# kind: (variable there, variable here, way in, way out), ...
KINDS = {
    "conv": (
        ("weight", "kernel", _axes(2, 3, 1, 0), _axes(3, 2, 0, 1)),
        ("bias", "bias", _flat, _same),
    ),
    "depthwise": (
        ("weight", "kernel", _axes(2, 3, 0, 1), _axes(2, 3, 0, 1)),
        ("bias", "bias", _flat, _same),
    ),
    "linear": (
        ("weight", "kernel", _matrix, _axes(1, 0)),
        ("bias", "bias", _flat, _same),
    ),
    "pointwise": (
        ("weight", "kernel", _matrix, _pointwise),
        ("bias", "bias", _flat, _same),
    ),
    "sparse_conv": (
        ("kernel", "kernel", _sparse_conv, _from_sparse_conv),
        ("bias", "bias", _flat, _to_shape(1, -1)),
    ),
    "sparse_depthwise": (
        ("kernel", "kernel", _sparse_depthwise, _from_sparse_depthwise),
        ("bias", "bias", _flat, _to_shape(1, -1)),
    ),
    "layer_norm": (
        ("weight", "gamma", _flat, _same),
        ("bias", "beta", _flat, _same),
    ),
    "rms_norm": (("weight", "scale", _flat, _same),),
    "simple_norm": (("weight", "gamma", _flat, _same),),
    "layer_scale": (("gamma", "gamma", _flat, _same),),
    "layer_scale_parameter": (
        ("layer_scale_parameter", "gamma", _flat, _same),
    ),
    "layer_scale_3d": (("layer_scale", "gamma", _flat, _to_shape(-1, 1, 1)),),
    "grn": (
        ("weight", "gamma", _flat, _same),
        ("bias", "beta", _flat, _same),
    ),
    "grn_4d": (
        ("weight", "gamma", _flat, _to_shape(1, 1, 1, -1)),
        ("bias", "beta", _flat, _to_shape(1, 1, 1, -1)),
    ),
    "official_grn": (
        ("gamma", "gamma", _flat, _to_shape(1, 1, 1, -1)),
        ("beta", "beta", _flat, _to_shape(1, 1, 1, -1)),
    ),
    "keras_conv": (
        ("kernel", "kernel", _same, _same),
        ("bias", "bias", _same, _same),
    ),
    "keras_grouped": (
        ("kernel", "kernel", _axes(0, 1, 3, 2), _axes(0, 1, 3, 2)),
        ("bias", "bias", _same, _same),
    ),
    "keras_norm": (
        ("gamma", "gamma", _same, _same),
        ("beta", "beta", _same, _same),
    ),
    "keras_rms": (("scale", "scale", _same, _same),),
    "keras_scale": (("gamma", "gamma", _same, _same),),
}


@dataclass(frozen=True)
class Pair:
    """One tensor: its name there and here, and how it is turned."""

    there: str
    here: str
    way_in: Callable
    way_out: Callable


def recognise(names):
    """The layout of a file from the names in it, and their prefix.

    Returns:
        `(layout, prefix)`, the layout's key in `LAYOUTS`.

    Raises:
        ValueError: if no layout has such names.
    """
    found = [
        (len(name) - len(layout.marker), key, name)
        for name in names
        for key, layout in LAYOUTS.items()
        if name.endswith(layout.marker)
    ]
    if not found:
        raise ValueError(
            "`weights` must be a ConvNeXt in one of the layouts "
            f"{list(LAYOUTS)}. Received: a file with the names "
            f"{sorted(names)[:5]}…"
        )
    # `clip` ends like `timm`, with a longer marker: the shortest prefix wins.
    prefix_length, key, name = min(found)
    return key, name[:prefix_length]


def pairs(layout, variant):
    """Every tensor that a file of `variant` may hold in this layout."""
    found = []
    separator = "/" if layout.startswith("keras") else "."
    for there, here, kind in LAYOUTS[layout].modules(variant):
        for place in _places(there + here, variant):
            kind_here = variant.norm if kind == "norm" else kind
            for parameter, variable, way_in, way_out in KINDS[kind_here]:
                found.append(
                    Pair(
                        f"{there.format(**place)}{separator}{parameter}",
                        f"{here.format(**place)}/{variable}",
                        way_in,
                        way_out,
                    )
                )
    return found


def _places(template, variant):
    def place(stage, block=0):
        return {
            "s": stage,
            "b": block,
            "before": stage - 1,
            "even": 2 * stage,
            "odd": 2 * stage + 1,
        }

    stages = range(len(variant.depths))
    if "{b}" in template:
        return [place(s, b) for s in stages for b in range(variant.depths[s])]
    if "{s}" in template:
        return [place(s) for s in stages[1:]]
    return [place(0)]


def match(names, layout, variant, prefix=""):
    """Finds the place of every name of a file.

    Names that the layout ignores are dropped.

    Returns:
        `(known, unknown)`: `Pair`s by the names in the file, and other names.
    """
    table = {pair.there: pair for pair in pairs(layout, variant)}
    ignored = re.compile(LAYOUTS[layout].ignored)
    known, unknown = {}, []
    for name in names:
        pair = table.get(_known_name(name.removeprefix(prefix), layout))
        if pair is not None:
            known[name] = pair
        elif not ignored.fullmatch(name):
            unknown.append(name)
    return known, unknown


def from_layout(tensors, layout, variant, prefix=""):
    """Turns a file's arrays into ours: `{"layer/variable": array}`.

    Names that the layout does not know are kept, so that whoever assigns the
    tensors reports them.
    """
    known, unknown = match(tensors, layout, variant, prefix)
    converted = {
        pair.here: pair.way_in(tensors[name]) for name, pair in known.items()
    }
    converted.update((name, tensors[name]) for name in unknown)
    if layout == "clip" and f"{CLASSIFIER}/kernel" in converted:
        # The projection of CLIP has no bias.
        kernel = converted[f"{CLASSIFIER}/kernel"]
        converted.setdefault(
            f"{CLASSIFIER}/bias", np.zeros(kernel.shape[1], kernel.dtype)
        )
    return converted


def to_layout(tensors, layout, variant):
    """The way back: `from_layout` of the result gives `tensors` again."""
    prefix = LAYOUTS[layout].prefix(variant)
    table = {pair.here: pair for pair in pairs(layout, variant)}
    converted = {}
    for name, tensor in tensors.items():
        pair = table.get(name)
        if pair is None:
            raise ValueError(
                f"The layout {layout!r} has no place for {name!r} of "
                f"{variant.name!r}. Choose another: {list(LAYOUTS)}"
            )
        plain = layout == "transformers" and pair.there.startswith("classifier")
        there = pair.there if plain else prefix + pair.there
        converted[there] = np.ascontiguousarray(pair.way_out(tensor))
    return converted


def _known_name(name, layout):
    """keras.applications numbers what it does not name."""
    if layout != "keras_applications":
        return name
    name = re.sub(r"^layer_normalization(_\d+)?/", "head_layernorm/", name)
    return re.sub(r"layer_scale/\w+$", "layer_scale/gamma", name)
