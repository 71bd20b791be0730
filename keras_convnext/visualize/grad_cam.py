"""Grad-CAM: where in an image a class is seen, on every backend."""

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
from keras_convnext.images.levels import check_levels
from keras_convnext.models import inspection
from keras_convnext.visualize.maps import check_maps


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
        model: a classifier, such as `ConvNeXtTiny(weights="imagenet")`.
        images: array `(batch, height, width, channels)`, or `(batch, channels,
            height, width)`, as `model` takes it.
        classes: int, or one for each image; the best ones if `None`.
        layer: name of a layer with maps of the image that all that follows
            reads from, such as the last of a stage; the last of the last
            stage if `None`.

    Returns:
        `(maps, classes)`: `float32` array `(batch, height, width)` of 0–1,
        the greatest value of every map 1 unless nothing speaks for the class;
        and an int array `(batch,)`.

    Raises:
        ValueError: for models that do not classify, and for layers and
            classes that there are none of.

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
    source = _layer(model, layer)
    scores_of = _rest(model, source)
    features = keras.Model(model.input, source.output)(images, training=False)
    chosen = _classes(scores_of(features), classes)

    def score(features):
        mask = ops.one_hot(chosen, model.output_shape[-1])
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


def _layer(model, name):
    inspection.check_not_rematerialized(model)
    if name is not None:
        layer = model.get_layer(name)
    else:
        ends = [x for x in model.layers if isinstance(x, layers.Add)]
        if not ends:
            raise ValueError(
                "Expected a ConvNeXt, or the name of a layer. Received: "
                f"{model.name!r}, in which no blocks end. Pass `layer`"
            )
        layer = ends[-1]
    check_maps(model, layer)
    return layer


def _rest(model, layer):
    """The function from a layer's output to the logits."""
    start, logits = id(layer.output), id(_logits(model))
    reached, steps = {start}, []
    for other in model.layers[model.layers.index(layer) + 1 :]:
        needed = keras.tree.map_structure(id, other.input)
        if reached.issuperset(keras.tree.flatten(needed)):
            reached.add(id(other.output))
            steps.append((other, needed))
    if logits not in reached:
        raise ValueError(
            "Expected a layer that all that follows reads from, such as the "
            "last of a block. Received: "
            f"{layer.name!r}, which a shortcut leads around"
        )

    def scores(features):
        values = {start: features}
        for step, needed in steps:
            inputs = keras.tree.map_structure(values.get, needed)
            values[id(step.output)] = step(inputs)
        return values[logits]

    return scores


def _logits(model):
    """The classifier's output before its softmax or sigmoid."""
    if len(model.output.shape) != 2:
        raise ValueError(
            "Expected a classifier. Received: "
            f"{model.name!r} with outputs of shape {model.output.shape}. "
            "Build it with its top"
        )
    last = model.layers[-1]
    is_activation = isinstance(last, layers.Activation)
    return last.input if is_activation else model.output


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
