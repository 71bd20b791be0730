"""How other packages name and store the same tensors.

A layout is a table of modules: their name there, the name of our layer, and
the kind of module, which says what its tensors are called and how they are
turned. `pairs` spells a table out for one architecture, so that conversion in
either direction is a walk over the same list and no tensor is found by its
position. `{s}` counts stages and `{b}` blocks.
"""

from dataclasses import dataclass

BLOCK = "stage_{s}_block_{b}_"

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
    ("head", "head_classifier", "linear"),
)
OFFICIAL_ISOTROPIC = (
    ("stem", "stem_conv", "conv"),
    ("blocks.{b}", BLOCK + "layer_scale", "layer_scale"),
    ("blocks.{b}.dwconv", BLOCK + "depthwise", "depthwise"),
    ("blocks.{b}.norm", BLOCK + "norm", "norm"),
    ("blocks.{b}.pwconv1", BLOCK + "expand", "linear"),
    ("blocks.{b}.pwconv2", BLOCK + "project", "linear"),
    ("norm", "head_norm", "norm"),
    ("head", "head_classifier", "linear"),
)
_TIMM_BODY = (
    ("stages.{s}.downsample.0", "stage_{s}_downsample_norm", "norm"),
    ("stages.{s}.downsample.1", "stage_{s}_downsample_conv", "conv"),
    ("stages.{s}.blocks.{b}", BLOCK + "layer_scale", "layer_scale"),
    ("stages.{s}.blocks.{b}.conv_dw", BLOCK + "depthwise", "depthwise"),
    ("stages.{s}.blocks.{b}.norm", BLOCK + "norm", "norm"),
    ("stages.{s}.blocks.{b}.mlp.fc1", BLOCK + "expand", "linear"),
    ("stages.{s}.blocks.{b}.mlp.grn", BLOCK + "grn", "grn"),
    ("stages.{s}.blocks.{b}.mlp.fc2", BLOCK + "project", "linear"),
    ("head.pre_logits.fc", "head_hidden", "linear"),
    ("head.fc", "head_classifier", "linear"),
)
# timm numbers the stem's modules, activations included.
_TIMM_STEMS = {
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
_TIMM_STEMS["overlap_tiered"] = _TIMM_STEMS["overlap"]
_TIMM_HEADS = {"pool_norm": "head.norm", "norm_pool": "norm_pre"}

_TRANSFORMERS_BODY = (
    ("embeddings.patch_embeddings", "stem_conv", "conv"),
    ("embeddings.layernorm", "stem_norm", "norm"),
    (
        "encoder.stages.{s}.downsampling_layer.0",
        "stage_{s}_downsample_norm",
        "norm",
    ),
    (
        "encoder.stages.{s}.downsampling_layer.1",
        "stage_{s}_downsample_conv",
        "conv",
    ),
    (
        "encoder.stages.{s}.layers.{b}",
        BLOCK + "layer_scale",
        "layer_scale_parameter",
    ),
    ("encoder.stages.{s}.layers.{b}.dwconv", BLOCK + "depthwise", "depthwise"),
    ("encoder.stages.{s}.layers.{b}.layernorm", BLOCK + "norm", "norm"),
    ("encoder.stages.{s}.layers.{b}.pwconv1", BLOCK + "expand", "linear"),
    ("encoder.stages.{s}.layers.{b}.grn", BLOCK + "grn", "grn"),
    ("encoder.stages.{s}.layers.{b}.pwconv2", BLOCK + "project", "linear"),
    ("layernorm", "head_norm", "norm"),
)


def official(variant):
    isotropic = len(variant.depths) == 1
    return OFFICIAL_ISOTROPIC if isotropic else OFFICIAL


def timm(variant):
    head = (_TIMM_HEADS[variant.head], "head_norm", "norm")
    return _TIMM_STEMS[variant.stem] + _TIMM_BODY + (head,)


def transformers(variant):
    root = "convnextv2" if variant.grn else "convnext"
    body = tuple(
        (f"{root}.{there}", here, kind)
        for there, here, kind in _TRANSFORMERS_BODY
    )
    return body + (("classifier", "head_classifier", "linear"),)


LAYOUTS = {
    "official": official,
    "timm": timm,
    "transformers": transformers,
}


def _flat(tensor):
    return tensor.reshape(-1)


def _axes(*order):
    def transpose(tensor):
        # Pointwise convolutions are linear layers with two unit axes.
        return tensor.reshape(tensor.shape[: len(order)]).transpose(order)

    return transpose


# (variable there, variable here, conversion on the way in)
KINDS = {
    "conv": (
        ("weight", "kernel", _axes(2, 3, 1, 0)),
        ("bias", "bias", _flat),
    ),
    "depthwise": (
        ("weight", "kernel", _axes(2, 3, 0, 1)),
        ("bias", "bias", _flat),
    ),
    "linear": (
        ("weight", "kernel", _axes(1, 0)),
        ("bias", "bias", _flat),
    ),
    "layer_norm": (("weight", "gamma", _flat), ("bias", "beta", _flat)),
    "rms_norm": (("weight", "scale", _flat),),
    "simple_norm": (("weight", "gamma", _flat),),
    "layer_scale": (("gamma", "gamma", _flat),),
    "layer_scale_parameter": (("layer_scale_parameter", "gamma", _flat),),
    "grn": (("weight", "gamma", _flat), ("bias", "beta", _flat)),
    "official_grn": (("gamma", "gamma", _flat), ("beta", "beta", _flat)),
}


@dataclass(frozen=True)
class Pair:
    """One tensor: its name there and here, and how it is turned."""

    there: str
    here: str
    convert: object


def pairs(layout, variant):
    """Every tensor that a file of `variant` may hold in this layout."""
    found = []
    for there, here, kind in LAYOUTS[layout](variant):
        for place in _places(there + here, variant):
            kind_here = variant.norm if kind == "norm" else kind
            for parameter, variable, convert in KINDS[kind_here]:
                found.append(
                    Pair(
                        f"{there.format(**place)}.{parameter}",
                        f"{here.format(**place)}/{variable}",
                        convert,
                    )
                )
    return found


def convert(tensors, layout, variant):
    """Turns a peer's arrays into ours: `{"layer/variable": array}`.

    Names that the layout does not know are kept as they are, so that whoever
    assigns the tensors reports them.
    """
    table = {pair.there: pair for pair in pairs(layout, variant)}
    converted = {}
    for name, tensor in tensors.items():
        pair = table.get(name)
        if pair is None:
            converted[name] = tensor
        else:
            converted[pair.here] = pair.convert(tensor)
    return converted


def _places(template, variant):
    stages = range(len(variant.depths))
    if "{b}" in template:
        return [
            {"s": s, "b": b} for s in stages for b in range(variant.depths[s])
        ]
    if "{s}" in template:
        return [{"s": s} for s in stages[1:]]
    return [{}]
