"""Tensors in other packages' names and shapes, and back.

`pairs` spells a table of `LAYOUTS` out for one architecture, so that
conversion in either direction is a walk over the same list and no tensor is
found by its position.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field

import numpy as np

from keras_convnext.facts.layer_names import HEAD_WITH_WEIGHTS
from keras_convnext.facts.layer_names import LayerName
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import names_of
from keras_convnext.weights import layout_tables
from keras_convnext.weights.detection_tables import LAYOUTS as DETECTORS
from keras_convnext.weights.segmentation_tables import LAYOUTS as SEGMENTERS

LAYOUTS = {**layout_tables.LAYOUTS, **SEGMENTERS, **DETECTORS}
# What wrappers of PyTorch put inside of names; and timm's `features_only`,
# which flattens the outermost modules.
WRAPPED = re.compile(
    r"(^|\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
FLATTENED = re.compile(r"(^|\.)(s(?:tem|tages))_(\d+)\.")
# Tensors of training that are no part of a model: counters of averages, of
# batch normalization and of profilers; beside the backbone also parameters of
# losses.
COUNTERS = re.compile(
    r"(.*[./])?(n_averaged|num_averaged|num_updates|num_batches_tracked|"
    r"total_ops|total_params|steps?|epochs?|iter|initted|decay)"
)
BESIDE = re.compile(
    r"(.*\.)?(criterion|criteria|loss|loss_fn|loss_func|loss_function)\..*"
)
# Those of images, which the model has by `mean=` and `std=`.
NORMALIZATION = re.compile(r"(?:.*\.)?(?:(?:pixel|img|image)_)?(mean|std)")

# Rows and columns of a region's features, of which boxes are computed.
REGION_SIDE = 7

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


def _from_sparse_conv(kernel):
    """And back."""
    columns_first = kernel.transpose(1, 0, 2, 3)
    return columns_first.reshape(-1, *kernel.shape[2:])


def _sparse_depthwise(tensor):
    return _sparse_conv(tensor[..., None])


def _from_sparse_depthwise(kernel):
    return _from_sparse_conv(kernel)[..., 0]


def _of_regions(tensor):
    """(units, channels · 7 · 7) -> (7 · 7 · channels, units)."""
    units, side = len(tensor), REGION_SIDE
    tensor = tensor.reshape(units, -1, side, side).transpose(2, 3, 1, 0)
    return tensor.reshape(-1, units)


def _from_regions(tensor):
    units, side = tensor.shape[1], REGION_SIDE
    tensor = tensor.reshape(side, side, -1, units).transpose(3, 2, 0, 1)
    return tensor.reshape(units, -1)


_flat = _to_shape(-1)
SAME = (_same, _same)
VECTOR = (_flat, _same)
LAST_OF_TWO = (_flat, _to_shape(1, -1))
LAST_OF_FOUR = (_flat, _to_shape(1, 1, 1, -1))
FIRST_OF_THREE = (_flat, _to_shape(-1, 1, 1))
CONV = (_axes(2, 3, 1, 0), _axes(3, 2, 0, 1))
DEPTHWISE = (_axes(2, 3, 0, 1), _axes(2, 3, 0, 1))
GROUPED = (_axes(0, 1, 3, 2), _axes(0, 1, 3, 2))
LINEAR = (_matrix, _axes(1, 0))
OF_REGIONS = (_of_regions, _from_regions)
POINTWISE = (_matrix, _pointwise)
SPARSE = (_sparse_conv, _from_sparse_conv)
SPARSE_DEPTHWISE = (_sparse_depthwise, _from_sparse_depthwise)

BIAS = ("bias", "bias", VECTOR)
SPARSE_BIAS = ("bias", "bias", LAST_OF_TWO)
AFFINE = (("weight", "gamma", VECTOR), ("bias", "beta", VECTOR))
# kind: (variable in the file, variable here, how it is turned), ...
KINDS = {
    "conv": (("weight", "kernel", CONV), BIAS),
    "conv_without_bias": (("weight", "kernel", CONV),),
    "depthwise": (("weight", "kernel", DEPTHWISE), BIAS),
    "grouped": (("kernel", "kernel", GROUPED), BIAS),
    "linear": (("weight", "kernel", LINEAR), BIAS),
    "linear_of_regions": (("weight", "kernel", OF_REGIONS), BIAS),
    "pointwise": (("weight", "kernel", POINTWISE), BIAS),
    "sparse_conv": (("kernel", "kernel", SPARSE), SPARSE_BIAS),
    "sparse_depthwise": (("kernel", "kernel", SPARSE_DEPTHWISE), SPARSE_BIAS),
    "sparse_grn": tuple((x, x, LAST_OF_TWO) for x in ("gamma", "beta")),
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
    "flat_grn": (("gamma", "gamma", VECTOR), ("beta", "beta", VECTOR)),
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

    @property
    def is_head(self):
        return _is_head(self.ours)


def _is_head(name):
    """Whether one of our names is of the head."""
    return name.split("/")[0] in HEAD_WITH_WEIGHTS


@dataclass(frozen=True)
class Place:
    """Where a model is among the tensors of a file."""

    layout: str
    prefix: str

    @property
    def outer(self):
        """The shorter prefixes, under which a head may stand beside it."""
        ends = [i for i, x in enumerate(self.prefix[:-1], 1) if x in "./"]
        return ["", *(self.prefix[:end] for end in ends)][::-1]


def places(names, keys=LAYOUTS):
    """The models that names belong to, those with the shortest prefix first.

    Args:
        names: of tensors.
        keys: of `LAYOUTS`, those to look for.
    """
    markers = {key: LAYOUTS[key].marker for key in keys}
    found = set()
    for name in map(tidied, names):
        # `clip` ends like `timm`, with a longer marker.
        matching = [
            (len(marker), key)
            for key, marker in markers.items()
            if name.endswith(marker) and _may_precede(name, marker, key)
        ]
        if matching:
            length, key = max(matching)
            found.add(Place(key, name[:-length]))
    # Segmenters and detectors have the names of a backbone as well.
    return sorted(
        found,
        key=lambda x: (
            len(x.prefix),
            x.layout in layout_tables.LAYOUTS,
            x.prefix,
        ),
    )


def _may_precede(name, marker, key):
    """Whether the rest of a name is a prefix; ours may be any text."""
    rest = name.removesuffix(marker)
    return LAYOUTS[key].in_keras or rest == "" or rest.endswith(".")


def tidied(name):
    """A name without what wrappers put inside."""
    while (short := WRAPPED.sub(r"\1", name)) != name:
        name = short
    return FLATTENED.sub(r"\1\2.\3.", name)


def unknown_layout(path, names):
    return ValueError(
        "`weights` must be a ConvNeXt in one of the layouts "
        f"{list(LAYOUTS)}. Received: {os.fspath(path)!r} with the names "
        f"{sorted(names)[:5]}…"
    )


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


@dataclass(frozen=True)
class Match:
    """What the names of a file are to a model.

    Attributes:
        placed: `Pair`s by the names in the file.
        inside: names among those of the backbone that it does not have.
        beside: other names: heads of other kinds and whole other models.
    """

    placed: dict
    inside: list
    beside: list


def match(names, place, variant, others=()):
    """Finds the place of every name of a file.

    Names that the layout ignores are dropped.

    Args:
        names: of tensors.
        place: the `Place` of the model.
        variant: its `Variant`.
        others: `Place`s of other models, whose tensors are none of this one.
    """
    layout = LAYOUTS[place.layout]
    table = {pair.theirs: pair for pair in pairs(place.layout, variant)}
    roots = {_root(x.theirs) for x in table.values() if not x.is_head}
    taken = {x.prefix for x in others}
    outer = [x for x in place.outer if x not in taken and place.prefix]
    is_pyramid = f"{place.prefix}norm0.weight" in names
    placed, inside, beside = {}, [], []

    def found(name):
        """The pair of a name, by its own prefix or those outside of it."""
        if name.startswith(place.prefix):
            pair = table.get(_named(name[len(place.prefix) :], place.layout))
            is_level = is_pyramid and pair and pair.is_head
            return None if is_level else pair
        for prefix in outer:
            if name.startswith(prefix):
                pair = table.get(_named(name[len(prefix) :], place.layout))
                if pair and pair.is_head:
                    return pair
        return None

    used = set()
    # Those of the model itself come before what stands beside it.
    for name in sorted(names, key=lambda x: not x.startswith(place.prefix)):
        short = tidied(name)
        owners = [x for x in (*taken, place.prefix) if short.startswith(x)]
        if max(owners, key=len, default=place.prefix) != place.prefix:
            continue  # of another model
        pair = found(short)
        rest = short.removeprefix(place.prefix)
        if pair and pair.ours not in used:
            placed[name] = pair
            used.add(pair.ours)
        elif re.fullmatch(layout.ignored, _within(short, place)):
            continue
        elif short.startswith(place.prefix) and _root(rest) in roots:
            inside.append(name)
        else:
            beside.append(name)
    return Match(placed, inside, beside)


def _root(name):
    """The first word or number of a name: `stages` of `stages.0.1.gamma`."""
    return re.match(r"[A-Za-z]+|\d+|", name)[0]


def _within(name, place):
    """A name without the prefix of what the model lies in."""
    return name.removeprefix(place.outer[0])


@dataclass(frozen=True)
class Converted:
    """Arrays of a file in our names, and those that are no part of a model.

    Attributes:
        tensors: `{"layer/variable": array}`. Names within the backbone that
            the layout does not know are kept, so that whoever assigns the
            tensors reports them.
        beside: other arrays, by the names in the file.
        prefix: that of the model in the file.
        normalization: `"mean"` and `"std"` of images, those of them that the
            file has, for pixels of 0–1 or of 0–255.
    """

    tensors: dict
    beside: dict
    prefix: str = ""
    normalization: dict = field(default_factory=dict)


def from_layout(tensors, place, variant, others=()):
    """Turns a file's arrays into ours, a `Converted`."""
    found = match(tensors, place, variant, others)
    converted = {
        pair.ours: _turned(pair, tensors[name])
        for name, pair in found.placed.items()
    }
    for name in found.inside:
        if not _is_counter(name, tensors[name]):
            converted[name] = tensors[name]
    beside = {
        name: tensors[name]
        for name in found.beside
        if not _is_counter(name, tensors[name]) and not BESIDE.fullmatch(name)
    }
    normalization = {}
    for name in list(beside):
        if statistic := NORMALIZATION.fullmatch(name):
            normalization[statistic[1]] = beside.pop(name).reshape(-1)
    kernel = converted.get(f"{Part.HEAD_CLASSIFIER}/kernel")
    if kernel is not None and kernel.ndim == 2:
        # A projection without bias, such as CLIP's.
        bias = np.zeros(kernel.shape[1], kernel.dtype)
        converted.setdefault(f"{Part.HEAD_CLASSIFIER}/bias", bias)
    return Converted(converted, beside, place.prefix, normalization)


def _turned(pair, tensor):
    """The array in our axes; one of another rank as it is, to be reported."""
    try:
        return pair.way_in(tensor)
    except ValueError:
        return tensor


def _is_counter(name, tensor):
    is_count = tensor.size == 1 and tensor.dtype.kind in "iub"
    return is_count or COUNTERS.fullmatch(name) is not None


def fits(tensors, variant):
    """Whether arrays in our names are a variant's, but for its head."""
    expected = {pair.ours for pair in pairs("keras", variant)}
    if set(map(_is_head, expected ^ tensors.keys())) - {True}:
        return False
    kernels = []
    for stage in range(len(variant.depths)):
        first = LayerName("", stage, 0, Part.DEPTHWISE)
        kernels.append(tensors[f"{first}/kernel"].shape[:3:2])
    return kernels == list(zip(variant.kernel_sizes, variant.dims))


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
        form, theirs = LAYOUTS[layout], pair.theirs
        if theirs.split(".")[0] not in form.outside:
            theirs = form.prefix(variant) + theirs
        converted[theirs] = np.ascontiguousarray(pair.way_out(tensor))
    return converted


def _named(name, layout):
    """A name as in the table: keras.applications numbers some instead."""
    if layout != "keras_applications":
        return name
    name = re.sub(r"^layer_normalization(_\d+)?/", "head_layernorm/", name)
    return re.sub(r"layer_scale/\w+$", "layer_scale/gamma", name)
