"""What a layer makes of an image, and with which kernels."""

import keras
import numpy as np
from keras import ops

from keras_convnext._util.annotations import ArrayLike
from keras_convnext._util.annotations import Figure
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import in_range
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import parse
from keras_convnext.images.levels import check_levels
from keras_convnext.models import inspection
from keras_convnext.models.flattening import Flattened
from keras_convnext.models.flattening import flattened
from keras_convnext.models.inspection import find
from keras_convnext.visualize.figures import grid
from keras_convnext.visualize.figures import show


def maps_of(
    model: keras.Model, graph: Flattened, name: str
) -> keras.KerasTensor:
    """The symbolic output of a layer by name.

    Raises:
        ValueError: unless it is called once, and gives maps of images.
    """
    tensors = graph.named[find(graph.named, name)]
    if len(tensors) > 1:
        raise ValueError(
            f"Expected a layer that is called once. Received: {name!r}, which "
            f"{model.name!r} calls {len(tensors)} times. Build a model with "
            "one of the calls"
        )
    (tensor,) = tensors
    is_first = id(tensor) in _channels_first(model, graph)
    if len(tensor.shape) != 4 or is_first:
        raise ValueError(
            "Expected a layer with maps (batch, height, width, channels). "
            f"Received: {name!r}{', channels first,' * is_first} with "
            f"{tensor.shape}"
        )
    return tensor


# After these the channels are where the value says.
DOORS = {
    Part.TO_CHANNELS_LAST: "channels_last",
    Part.TO_CHANNELS_FIRST: "channels_first",
}


def _channels_first(model, graph):
    """The ids of all tensors with channels first; inside ours there are none.

    A layer without a layout of its own keeps that of its inputs.
    """
    found = set()
    if inspection.data_format(model) == "channels_first":
        found.update(id(x) for x in graph.inputs)
    for call in graph.calls:
        own = getattr(call.layer, "data_format", None)
        layout = DOORS.get(parse(call.path[-1]).part, own)
        is_kept = any(id(x) in found for x in call.inputs)
        if layout == "channels_first" or (layout is None and is_kept):
            found.update(id(x) for x in keras.tree.flatten(call.output))
    return found


@in_range
def feature_maps(
    model: keras.Model,
    image: ArrayLike,
    layer: str,
    count: Count = 16,
    figure: Figure | None = None,
) -> Figure:
    """Draws a layer's outputs for an image, the strongest channels first.

    Args:
        model: a Functional or Sequential model.
        image: array `(height, width, channels)`, or `(channels, height,
            width)`, as `model` takes it.
        layer: name of a layer with maps of the image, channels last, as all
            are inside a ConvNeXt of either layout. Or of a layer in a nested
            model, or `"model/layer"` where several have it.
        count: int, how many channels.
        figure: matplotlib figure or subfigure to draw into; a new one if
            `None`.

    Returns:
        The figure. Each channel is scaled from its least to its greatest
        value.

    Raises:
        ValueError: for layers that there are none of, or without maps.
        ImportError: without matplotlib.

    Examples:
        >>> figure = keras_convnext.visualize.feature_maps(
        ...     keras_convnext.ConvNeXtAtto(weights=None),
        ...     np.zeros((224, 224, 3), "uint8"),
        ...     "stem_norm",
        ... )
    """
    inspection.check_not_rematerialized(model)
    graph = flattened(model)
    chosen = maps_of(model, graph, layer)
    if inspection.normalizes(model):
        check_levels(image, "`feature_maps`")
    outputs = graph.features(np.asarray(image)[None], chosen)
    maps = ops.convert_to_numpy(ops.cast(outputs, "float32"))[0]
    strength = maps.std((0, 1))
    channels = np.argsort(-strength, kind="stable")[:count]
    figure, axes = grid(len(channels), figure)
    for axis, channel in zip(axes, channels):
        show(axis, maps[..., channel], f"{channel}", cmap="viridis")
    return figure


@in_range
def filters(
    model: keras.Model,
    layer: str | None = None,
    count: Count = 32,
    figure: Figure | None = None,
) -> Figure:
    """Draws the kernels of a convolution, those with the greatest norm first.

    Args:
        model: a Functional or Sequential model.
        layer: name of a convolution: of one or three channels, or depthwise;
            the first convolution of the model if `None`. Those of nested
            models as for `feature_maps`.
        count: int, how many kernels.
        figure: matplotlib figure or subfigure to draw into; a new one if
            `None`.

    Returns:
        The figure. Each kernel is scaled from its least to its greatest
        value.

    Raises:
        ValueError: for layers without such kernels.
        ImportError: without matplotlib.

    Examples:
        >>> figure = keras_convnext.visualize.filters(
        ...     keras_convnext.ConvNeXtAtto(weights=None)
        ... )
    """
    kernel, name = _kernel(model, layer)
    is_depthwise = kernel.shape[-1] == 1
    if is_depthwise:
        kernel = kernel.swapaxes(2, 3)
    if kernel.shape[2] not in (1, 3):
        raise ValueError(
            "Expected kernels of one or three channels, or depthwise ones. "
            f"Received: {name!r} with a kernel of shape {kernel.shape}"
        )
    norms = np.square(kernel).sum((0, 1, 2))
    chosen = np.argsort(-norms, kind="stable")[:count]
    figure, axes = grid(len(chosen), figure, size=0.9)
    for axis, number in zip(axes, chosen):
        one = kernel[..., number]
        low, high = one.min(), one.max()
        show(axis, (one - low) / max(high - low, 1e-12))
    figure.suptitle(name, fontsize=9)
    return figure


def _kernel(model, name):
    layers = dict(inspection.layers_by_path(model))
    for path in [find(layers, name)] if name else layers:
        layer = layers[path]
        kernel = getattr(layer, "kernel", None)
        if kernel is not None and len(kernel.shape) == 4:
            return np.asarray(ops.convert_to_numpy(kernel)), layer.name
    raise ValueError(
        "Expected a convolution. Received: "
        f"{name or model.name!r}, which has no kernel of height and width"
    )
