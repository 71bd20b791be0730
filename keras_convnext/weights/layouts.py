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
    "batch_norm": (
        ("weight", "gamma", _flat, _same),
        ("bias", "beta", _flat, _same),
        ("running_mean", "moving_mean", _flat, _same),
        ("running_var", "moving_variance", _flat, _same),
    ),
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
    "keras_batch_norm": tuple(
        (name, name, _same, _same)
        for name in ("gamma", "beta", "moving_mean", "moving_variance")
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


def recognize(names):
    """The layout of a file from the names in it, and their prefix.

    Returns:
        `(layout, prefix)`, the layout's key in `LAYOUTS`.

    Raises:
        ValueError: if no layout has such names.
    """
    found = [
        (len(name) - len(layout.marker), key not in SEGMENTERS, key, name)
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
    # Segmenters have the names of a backbone as well.
    prefix_length, _, key, name = min(found)
    return key, name[:prefix_length]


def pairs(layout, variant):
    """Every tensor that a file of `variant` may hold in this layout."""
    found = []
    separator = "/" if layout.startswith("keras") else "."
    for there, part, kind in LAYOUTS[layout].modules(variant):
        for here in names_of(part, variant.depths):
            module = there.format(**_fields(here))
            kind_here = variant.norm if kind == "norm" else kind
            for parameter, variable, way_in, way_out in KINDS[kind_here]:
                found.append(
                    Pair(
                        f"{module}{separator}{parameter}",
                        f"{here}/{variable}",
                        way_in,
                        way_out,
                    )
                )
    return found


def _fields(here):
    """What stands in tables for the numbers of a stage and a block."""
    stage = here.stage or 0
    return {
        "here": here,
        "s": stage,
        "b": here.block,
        "before": stage - 1,
        "even": 2 * stage,
        "odd": 2 * stage + 1,
    }


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
