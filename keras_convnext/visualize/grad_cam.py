"""Grad-CAM: where in an image a class is seen, on every backend."""

import contextlib
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers
from keras import ops
from PIL import Image

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import ArrayLike
from keras_convnext._util.image_layout import from_layout
from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import in_range
from keras_convnext.facts.layer_names import parse
from keras_convnext.images.levels import check_levels
from keras_convnext.layers import states
from keras_convnext.models import inspection
from keras_convnext.models.flattening import flattened
from keras_convnext.visualize.maps import maps_of


@in_range
def grad_cam(
    model: keras.Model,
    images: ArrayLike,
    classes: CountOrZero | Sequence[CountOrZero] | None = None,
    layer: str | None = None,
) -> tuple[Array, Array]:
    """Heat maps of what speaks for a class.

    The channels of a layer are summed, each weighted by the mean gradient of
    the class' logit to it; what is negative is cut off.

    Args:
        model: a classifier, such as `ConvNeXtTiny(weights="imagenet")`, or a
            Functional or Sequential model with a ConvNeXt inside, called as
            a layer or not.
        images: array `(batch, height, width, channels)`, or `(batch, channels,
            height, width)`, as `model` takes it.
        classes: int, or one for each image; the best ones if `None`.
        layer: name of a layer with maps of the image that all that follows
            reads from, such as the last of a stage; the last of the last
            stage if `None`. Layers of nested models have names as well, with
            `"model/layer"` for one that several have.

    Returns:
        `(maps, classes)`: `float32` array `(batch, height, width)` of 0–1,
        the greatest value of every map 1 unless nothing speaks for the class;
        and an int array `(batch,)`.

    Raises:
        ValueError: for models that do not classify, for layers and classes
            that there are none of, and on TensorFlow for models quantized to
            float8.

    Source: Selvaraju et al., arXiv:1610.02391, equations 1 and 2.

    Examples:
        >>> model = keras_convnext.ConvNeXtAtto(weights=None)
        >>> images = np.zeros((1, 224, 224, 3), "float32")
        >>> maps, classes = keras_convnext.visualize.grad_cam(model, images)
        >>> maps.shape
        (1, 224, 224)
    """
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(
            "Expected a batch of images (batch, height, width, channels). "
            f"Received: an array of shape {images.shape}. Add an axis to one "
            "image: `image[None]`"
        )
    if inspection.normalizes(model):
        check_levels(images, "`grad_cam`")
    graph = flattened(model)
    _check_classifier(model, graph)
    _check_gradients(model, graph)
    source, name = _source(model, graph, layer)
    with _logits(graph) as logits:
        features = graph.features(images, source)

        def scores_of(features):
            return graph.run({id(source): features}, logits)

        scores = scores_of(features)
        if scores is None:
            raise ValueError(
                "Expected a layer that all that follows reads from, such as "
                f"the last of a block. Received: {name!r}, which a shortcut "
                "leads around, or another branch"
            )
        chosen = _classes(scores, classes)

        def score(features):
            mask = ops.one_hot(chosen, scores.shape[-1])
            return ops.sum(ops.cast(scores_of(features), "float32") * mask)

        slopes = _gradient(score, features)
    features, slopes = (
        ops.convert_to_numpy(ops.cast(x, "float32")) for x in (features, slopes)
    )
    weights = slopes.mean((1, 2), keepdims=True)
    heat = np.maximum((features * weights).sum(-1), 0)
    highest = heat.max((1, 2), keepdims=True)
    heat = np.divide(heat, highest, out=heat, where=highest > 0)
    shape = images.shape[1:]
    height, width, _ = from_layout(shape, inspection.data_format(model))
    maps = [
        Image.fromarray(one).resize((width, height), Image.Resampling.BILINEAR)
        for one in heat
    ]
    return np.clip([np.asarray(one) for one in maps], 0, 1), chosen


def _check_classifier(model, graph):
    shapes = [tuple(x.shape) for x in graph.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise ValueError(
            "Expected a classifier. Received: "
            f"{model.name!r} with outputs of shape {shapes}. "
            "Build it with its top"
        )


def _check_gradients(model, graph):
    """Raises `ValueError` for layers that the backend has no gradients of."""
    if keras.backend.backend() != "tensorflow":
        return
    for call in graph.calls:
        if states.quantization_of(call.layer) == "float8":
            raise ValueError(
                "Expected a model with gradients: Keras' float8 has none for "
                "TensorFlow outside of training. Received: "
                f"{model.name!r}, quantized to float8, such as "
                f"{call.layer.name!r}. Take the model from before `quantize`, "
                "or another backend: its file is the same"
            )


def _source(model, graph, name):
    """The output of a layer and its name; the last block's end if `None`."""
    inspection.check_not_rematerialized(model)
    if name is not None:
        return maps_of(model, graph, name), name
    ends = [
        x
        for x in graph.calls
        if isinstance(x.layer, layers.Add) and len(x.output.shape) == 4
    ]
    blocks = [x for x in ends if parse(x.path[-1]).block is not None]
    for last in (blocks or ends)[-1:]:
        name = "/".join(last.path)
        return maps_of(model, graph, name), name
    raise ValueError(
        "Expected a ConvNeXt, or the name of a layer. Received: "
        f"{model.name!r}, in which no blocks end. Pass `layer`"
    )


@contextlib.contextmanager
def _logits(graph):
    """The classifier's output before its softmax or sigmoid.

    Of a dense layer that has the activation itself this is the output while
    the activation is away.
    """
    (output,) = graph.outputs
    last = next(x for x in reversed(graph.calls) if x.output is output)
    if isinstance(last.layer, layers.Activation | layers.Softmax):
        yield last.inputs[0]
        return
    activation = getattr(last.layer, "activation", None)
    if not isinstance(last.layer, layers.Dense):
        yield output
        return
    last.layer.activation = keras.activations.linear
    try:
        yield output
    finally:
        last.layer.activation = activation


def _classes(scores, classes):
    count, outputs = scores.shape
    if classes is None:
        return ops.convert_to_numpy(ops.argmax(scores, -1))
    classes = np.broadcast_to(np.asarray(classes), (count,))
    if classes.dtype.kind not in "iu" or not (
        0 <= classes.min() <= classes.max() < outputs
    ):
        raise ValueError(
            f"Expected class numbers of 0 to {outputs - 1}, one for all images "
            f"or one for each. Received: {classes.tolist()}"
        )
    return classes


def _gradient(function, x):
    """Of a function to a scalar, on the running backend."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.grad(function)(x)
    if backend == "torch":
        import torch

        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(function(x), x)[0]
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x)
