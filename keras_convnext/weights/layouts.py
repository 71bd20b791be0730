"""Tensors in other packages' names and shapes, and back.

`pairs` spells a table of `LAYOUTS` out for one architecture, so that
conversion in either direction is a walk over the same list and no tensor is
found by its position.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import names_of
from keras_convnext.weights import layout_tables
from keras_convnext.weights.segmentation_tables import LAYOUTS as SEGMENTERS

LAYOUTS = {**layout_tables.LAYOUTS, **SEGMENTERS}

# How tensors are turned: on the way in, and on the way out.


def _same(tensor):
    return tensor


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


def _sparse_depthwise(tensor):
    return _sparse_conv(tensor[..., None])


_flat = _to_shape(-1)
SAME = (_same, _same)
VECTOR = (_flat, _same)
LAST_OF_FOUR = (_flat, _to_shape(1, 1, 1, -1))
FIRST_OF_THREE = (_flat, _to_shape(-1, 1, 1))
CONV = (_axes(2, 3, 1, 0), _axes(3, 2, 0, 1))
DEPTHWISE = (_axes(2, 3, 0, 1), _axes(2, 3, 0, 1))
GROUPED = (_axes(0, 1, 3, 2), _axes(0, 1, 3, 2))
LINEAR = (_matrix, _axes(1, 0))
POINTWISE = (_matrix, _pointwise)

BIAS = ("bias", "bias", VECTOR)
AFFINE = (("weight", "gamma", VECTOR), ("bias", "beta", VECTOR))
# kind: (variable in the file, variable here, how it is turned), ...
KINDS = {
    "conv": (("weight", "kernel", CONV), BIAS),
    "depthwise": (("weight", "kernel", DEPTHWISE), BIAS),
    "grouped": (("kernel", "kernel", GROUPED), BIAS),
    "linear": (("weight", "kernel", LINEAR), BIAS),
    "pointwise": (("weight", "kernel", POINTWISE), BIAS),
    # Sparse layers are read, and never written.
    "sparse_conv": (("kernel", "kernel", (_sparse_conv, None)), BIAS),
    "sparse_depthwise": (("kernel", "kernel", (_sparse_depthwise, None)), BIAS),
    "layer_norm": AFFINE,
    "rms_norm": (("weight", "scale", VECTOR),),
    "simple_norm": (("weight", "gamma", VECTOR),),
    "batch_norm": (
        *AFFINE,
        ("running_mean", "moving_mean", VECTOR),
        ("running_var", "moving_variance", VECTOR),
    ),
    "layer_scale": (("gamma", "gamma", VECTOR),),
    "layer_scale_parameter": (("layer_scale_parameter", "gamma", VECTOR),),
    "layer_scale_3d": (("layer_scale", "gamma", FIRST_OF_THREE),),
    "grn": AFFINE,
    "grn_4d": tuple((*names, LAST_OF_FOUR) for *names, _ in AFFINE),
    "official_grn": (
        ("gamma", "gamma", LAST_OF_FOUR),
        ("beta", "beta", LAST_OF_FOUR),
    ),
}


@dataclass(frozen=True)
class Pair:
    """One tensor: its name in a file and in ours, and how it is turned."""

    theirs: str
    ours: str
    way_in: Callable
    way_out: Callable


def recognize(names):
    """The layout of a file from the names in it, and their prefix.

    Returns:
        `(layout, prefix)`, the layout's key in `LAYOUTS`.

    Raises:
        ValueError: if no layout has such names.
    """
    candidates = [
        (len(name) - len(layout.marker), key not in SEGMENTERS, key, name)
        for name in names
        for key, layout in LAYOUTS.items()
        if name.endswith(layout.marker)
    ]
    if not candidates:
        raise ValueError(
            "`weights` must be a ConvNeXt in one of the layouts "
            f"{list(LAYOUTS)}. Received: a file with the names "
            f"{sorted(names)[:5]}…"
        )
    # `clip` ends like `timm`, with a longer marker: the shortest prefix wins.
    # Segmenters have the names of a backbone as well.
    prefix_length, _, key, name = min(candidates)
    return key, name[:prefix_length]


def pairs(layout, variant):
    """Every tensor that a file of `variant` may hold in this layout."""
    table = LAYOUTS[layout]
    separator = "/" if table.in_keras else "."
    for module, part, kind in table.modules(variant):
        for layer in names_of(part, variant.depths):
            theirs = module.format(**_fields(layer))
            variables = KINDS[variant.norm if kind == "norm" else kind]
            for parameter, variable, ways in variables:
                if table.in_keras and kind != "grouped":
                    parameter, ways = variable, SAME
                yield Pair(
                    f"{theirs}{separator}{parameter}",
                    f"{layer}/{variable}",
                    *ways,
                )


def _fields(layer):
    """What stands in tables for the numbers of a stage and a block."""
    stage = layer.stage or 0
    return {
        "ours": layer,
        "s": stage,
        "b": layer.block,
        "before": stage - 1,
        "even": 2 * stage,
        "odd": 2 * stage + 1,
    }


def match(names, layout, variant, prefix=""):
    """Finds the place of every name of a file.

    Names that the layout ignores are dropped.

    Returns:
        `(placed, unknown)`: `Pair`s by the names in the file, and other names.
    """
    table = {pair.theirs: pair for pair in pairs(layout, variant)}
    ignored = re.compile(LAYOUTS[layout].ignored)
    placed, unknown = {}, []
    for name in names:
        pair = table.get(_named(name.removeprefix(prefix), layout))
        if pair is not None:
            placed[name] = pair
        elif not ignored.fullmatch(name):
            unknown.append(name)
    return placed, unknown


def from_layout(tensors, layout, variant, prefix=""):
    """Turns a file's arrays into ours: `{"layer/variable": array}`.

    Names that the layout does not know are kept, so that whoever assigns the
    tensors reports them.
    """
    placed, unknown = match(tensors, layout, variant, prefix)
    converted = {
        pair.ours: pair.way_in(tensors[name]) for name, pair in placed.items()
    }
    converted.update((name, tensors[name]) for name in unknown)
    kernel = converted.get(f"{Part.HEAD_CLASSIFIER}/kernel")
    if layout == "clip" and kernel is not None:
        # The projection of CLIP has no bias.
        bias = np.zeros(kernel.shape[1], kernel.dtype)
        converted.setdefault(f"{Part.HEAD_CLASSIFIER}/bias", bias)
    return converted


def to_ours(tensors, variant):
    """`from_layout`, the layout and prefix recognized."""
    layout, prefix = recognize(tensors)
    return from_layout(tensors, layout, variant, prefix)


def to_layout(tensors, layout, variant):
    """The way back: `from_layout` of the result gives `tensors` again."""
    table = {pair.ours: pair for pair in pairs(layout, variant)}
    converted = {}
    for name, tensor in tensors.items():
        pair = table.get(name)
        if pair is None:
            raise ValueError(
                f"The layout {layout!r} has no place for {name!r} of "
                f"{variant.name!r}. Choose another: {list(LAYOUTS)}"
            )
        theirs = pair.theirs
        if layout == "transformers" and not theirs.startswith("classifier"):
            theirs = f"convnext{'v2' if variant.grn else ''}.{theirs}"
        converted[theirs] = np.ascontiguousarray(pair.way_out(tensor))
    return converted


def _named(name, layout):
    """A name as in the table: keras.applications numbers some instead."""
    if layout != "keras_applications":
        return name
    name = re.sub(r"^layer_normalization(_\d+)?/", "head_layernorm/", name)
    return re.sub(r"layer_scale/\w+$", "layer_scale/gamma", name)
