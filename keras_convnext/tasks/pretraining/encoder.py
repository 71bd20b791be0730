"""An encoder that computes visible patches, by the layers of a ConvNeXt."""

import keras

from keras_convnext.facts.layer_names import LayerName
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import parse
from keras_convnext.models import inspection
from keras_convnext.models.builder import total_stride
from keras_convnext.models.flattening import flattened
from keras_convnext.models.model import ConvNeXtModel
from keras_convnext.models.model import ModelCard
from keras_convnext.tasks.pretraining.layers import AsOneImage
from keras_convnext.tasks.pretraining.layers import Canvas
from keras_convnext.tasks.pretraining.layers import Visible

# Over what GRN takes its norms: the visible positions of an image, as the
# paper's JAX code and fine-tuning, or of a batch, as the official sparse code.
STATISTICS = ("image", "batch")
# In these a position is computed from itself alone, or from a square of
# pixels that lies within a patch.
WITHIN_PATCHES = {
    *(Part.CARD, Part.NORMALIZATION, Part.STEM_CONV, Part.STEM_NORM),
    *(Part.DOWNSAMPLE_NORM, Part.DOWNSAMPLE_CONV, Part.NORM, Part.EXPAND),
    *(Part.ACTIVATION, Part.GRN, Part.PROJECT, Part.ADD),
}


def check_encoder(model):
    """Raises `ValueError` for a model that cannot be pre-trained."""
    if not isinstance(model, ConvNeXtModel):
        raise ValueError(
            "Expected a ConvNeXt V2 of this package as encoder, such as "
            "`keras_convnext.ConvNeXtV2Atto(weights=None, include_top=False)`."
            f" Received: {model!r}"
        )
    variant = model.variant
    problem = None
    if not variant.grn:
        problem = (
            "without global response normalization, as of V1: under masks its "
            "channels collapse into one another, and the paper finds no gain "
            "(arXiv:2301.00808, Section 4). Take a `convnextv2_…`"
        )
    elif variant.stem != "patch":
        problem = (
            f"with the stem {variant.stem!r}, which looks from one patch into "
            "the next. Take an architecture whose stem is 'patch'"
        )
    elif inspection.data_format(model) == "channels_first":
        problem = (
            "in channels_first. Build it with `data_format='channels_last'`: "
            "the weights are the same"
        )
    elif not inspection.normalizes(model):
        problem = (
            "built with `include_preprocessing=False`, where pixels of 0–255 "
            "are taken. Build it without that: the weights are the same"
        )
    if problem:
        raise ValueError(
            "Expected an encoder that can be pre-trained under masks. "
            f"Received: {model.name!r} {problem}"
        )


def patch_size(model):
    """Side of a patch in pixels: what one last position of a model spans."""
    return total_stride(model.variant)


def end_of(model):
    """The name of the layer that ends the last stage."""
    depths = model.variant.depths
    stage = len(depths) - 1
    return str(LayerName(prefix_of(model), stage, depths[-1] - 1, Part.ADD))


def prefix_of(model):
    """What the names of a model's layers begin with."""
    card = next(x for x in model.layers if isinstance(x, ModelCard))
    return parse(card.name).prefix


def masked(model, images, visible, grid, statistics="image"):
    """The last feature map of a model, from the visible patches alone.

    Hidden pixels are never read. A depthwise convolution sees visible
    positions in their places, and zeros in those of hidden ones; of what it
    returns, visible positions stay. All other layers compute within patches.

    Args:
        model: a `ConvNeXtModel`, whose layers these are.
        images: symbolic tensor `(batch, height, width, channels)`.
        visible: symbolic tensor of ints `(batch, count)`.
        grid: rows and columns of patches.
        statistics: one of `STATISTICS`.

    Returns:
        A symbolic tensor, the patches as `packed` has them.
    """
    graph, end = flattened(model), end_of(model)
    rows, columns = grid

    def beside(layer, kind, word):
        name, dtype = f"{layer.name}_{word}", layer.dtype_policy
        return kind(rows, columns, name=name, dtype=dtype)

    def called(layer, *args):
        part = parse(layer.name).part
        if part == Part.DEPTHWISE:
            maps = beside(layer, Canvas, "canvas")([*args, visible])
            return beside(layer, Visible, "visible")([layer(maps), visible])
        _check_within_patches(model, layer, part)
        if part == Part.GRN and statistics == "batch":
            name, dtype = f"{layer.name}_batch", layer.dtype_policy
            layer = AsOneImage(layer, name=name, dtype=dtype)
        return layer(*args)

    (image,) = graph.inputs
    name = f"{prefix_of(model)}visible_patches"
    pack = Visible(rows, columns, name=name, dtype=images.dtype)
    values = {id(image): pack([images, visible])}
    for call in graph.calls:
        args = keras.tree.map_structure(lambda x: values[id(x)], call.args)
        values[id(call.output)] = called(call.layer, *args)
        if call.layer.name == end:
            break
    return values[id(call.output)]


def _check_within_patches(model, layer, part):
    """Raises `ValueError` for layers that look beyond a patch."""
    is_known = part in WITHIN_PATCHES
    if part in (Part.STEM_CONV, Part.DOWNSAMPLE_CONV):
        is_known = layer.kernel_size == layer.strides
    if not is_known:
        raise ValueError(
            "Expected an encoder with its total stride and without drop path. "
            f"Received: {model.name!r} with the layer {layer.name!r}. Build it "
            "without `output_stride` and `drop_path_rate`: the weights are the "
            "same"
        )
