"""A model for inference only: the same outputs from fewer operations."""

import keras
import numpy as np

from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import parse
from keras_convnext.layers import ImageNormalization
from keras_convnext.layers import LayerScale
from keras_convnext.layers import states
from keras_convnext.layers.initializers import skip_random_numbers
from keras_convnext.models import inspection
from keras_convnext.models import rebuilding
from keras_convnext.models.rematerialization import Rematerialized

# Random in training, and nothing but what they are given in inference.
FOR_TRAINING = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.RandomBrightness,
    keras.layers.RandomContrast,
    keras.layers.RandomFlip,
    keras.layers.RandomRotation,
    keras.layers.RandomTranslation,
    keras.layers.RandomZoom,
)


def optimize_for_inference(
    model: keras.Model, fold_normalization: bool = True
) -> keras.Model:
    """A copy of a model without what only training needs.

    Layer scale is multiplied into the dense layer before it. Dropout,
    stochastic depth and Keras' random augmentation are left out. The
    normalization of the image becomes part of the first convolution, where
    that pads nothing: a patch stem.
    LoRA is added to the kernels, and rematerialized blocks become plain ones.
    The copy takes the same images.

    Args:
        model: a Functional `keras.Model` with a ConvNeXt of this package, or
            several, nested or not.
        fold_normalization: whether the first convolution takes over the
            normalization.

    Returns:
        A model of the same class with weights of its own. It cannot take the
        weights of the first, or go on training like it.

    Raises:
        ValueError: for models whose layers are not known, and quantized ones:
            quantize the copy.

    Examples:
        >>> model = keras_convnext.ConvNeXtAtto(weights=None)
        >>> fast = keras_convnext.optimize_for_inference(model)
        >>> len(fast.layers) < len(model.layers)
        True
    """
    if not getattr(model, "inputs", None):
        raise ValueError(
            "Expected a Functional `keras.Model`, such as every constructor "
            f"of this package returns. Received: {type(model).__name__}"
        )
    inspection.check_not_quantized(model)
    copies: dict[int, keras.Model] = {}

    def copy_of(model):
        """The one copy of a model, wherever it is nested."""
        if id(model) not in copies:
            copies[id(model)] = _copy(model, fold_normalization, copy_of)
        return copies[id(model)]

    with skip_random_numbers():
        return copy_of(model)


def _copy(model, fold_normalization, copy_of):
    """A copy of one model, given what copies those nested in it.

    Names are unique among a model's own layers only.
    """
    if isinstance(model, keras.Sequential):
        model = rebuilding.functional(model)
    layers = {layer.name: layer for layer in _unfolded(model.layers)}
    scaled = _scaled(layers)
    normalized = _normalized(layers) if fold_normalization else {}
    dropped = {*scaled.values(), *normalized.values()} | {
        name
        for name, layer in layers.items()
        if isinstance(layer, FOR_TRAINING)
    }
    copies = {}

    def copied(layer):
        if isinstance(layer, keras.Model):
            return copy_of(layer)
        if isinstance(layer, Rematerialized):
            return Rematerialized([copied(x) for x in layer.layers])
        config = _without_regularizers(states.plain_config(layer))
        if layer.name in normalized:
            config["use_bias"] = True
        copy = type(layer).from_config(config)
        copies[layer.name] = copy
        return copy

    def called(layer, *args, **kwargs):
        if layer.name in dropped:
            return args[0]
        if isinstance(layer, Rematerialized):
            (x,) = args
            for part in layer.layers:
                x = called(part, x)
            return x
        return layer(*args, **kwargs)

    result = keras.models.clone_model(
        model, clone_function=copied, call_function=called
    )
    for name, layer in layers.items():
        # Others were dropped, and never built, or have been copied whole.
        copy = copies.get(name)
        if copy is None or not copy.weights:
            continue
        weights = states.plain_weights(layer)
        if name in scaled:
            (gamma,) = layers[scaled[name]].get_weights()
            weights = [weight * gamma for weight in weights]
        if name in normalized:
            weights = _with_normalization(weights, layers[normalized[name]])
        copy.set_weights(weights)
    return result


def _without_regularizers(config):
    """Those of activities divide by the size of the batch, which PyTorch's
    export then takes for fixed."""
    return {
        name: None if name.endswith("_regularizer") else value
        for name, value in config.items()
    }


def _unfolded(layers):
    """Layers, in place of rematerialized blocks those inside."""
    for layer in layers:
        is_block = isinstance(layer, Rematerialized)
        yield from layer.layers if is_block else [layer]


def _scaled(layers):
    """Name of the layer scale behind each dense layer that can take it.

    Behind an activation, which somebody may have set, nothing is linear.
    """
    scales = {}
    for name, layer in layers.items():
        scale = parse(name)
        before = str(scale.of(Part.PROJECT))
        is_scale = scale.part == Part.LAYER_SCALE
        activation = getattr(layers.get(before), "activation", None)
        is_linear = activation is keras.activations.linear
        if is_scale and isinstance(layer, LayerScale) and is_linear:
            scales[before] = name
    return scales


def _normalized(layers):
    """Name of the normalization before each convolution that can fold it.

    Other stems pad with zeros, which are none behind the normalization; and
    half precision has too few digits for pixels.
    """
    normalizations = {}
    for name, layer in layers.items():
        stem = parse(name)
        before = str(stem.of(Part.NORMALIZATION))
        if (
            stem.part == Part.STEM_CONV
            and isinstance(layers.get(before), ImageNormalization)
            and layer.padding == "valid"
            and layer.compute_dtype in ("float32", "float64")
        ):
            normalizations[name] = before
    return normalizations


def _with_normalization(weights, normalization):
    """Kernel and bias for pixels of 0–255."""
    kernel, *bias = (np.asarray(weight, "float64") for weight in weights)
    folded = kernel * normalization.scale[:, None]
    offset = (kernel * normalization.offset[:, None]).sum((0, 1, 2))
    return [folded, offset + sum(bias)]
