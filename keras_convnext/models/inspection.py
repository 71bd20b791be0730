"""Facts about any Keras model that holds a ConvNeXt, read off its layers."""

from keras_convnext._util.checks import ArgumentError
from keras_convnext._util.image_layout import from_layout
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import parse
from keras_convnext.layers import ImageNormalization
from keras_convnext.layers import states
from keras_convnext.models.builder import total_stride
from keras_convnext.models.model import ModelCard
from keras_convnext.models.rematerialization import Rematerialized


def all_layers(model):
    """The layers of a model, in place of nested models those inside."""
    for layer in model.layers:
        if hasattr(layer, "layers"):  # rematerialized blocks, too
            yield from all_layers(layer)
        else:
            yield layer


def info_of(model):
    """The `ModelInfo` of the first ConvNeXt in a model, or `None`."""
    cards = (x.info for x in all_layers(model) if isinstance(x, ModelCard))
    return next(cards, None)


def check_not_quantized(model):
    """Raises `ValueError` for a model that `model.quantize` has changed."""
    for layer in all_layers(model):
        mode = states.quantization_of(layer)
        if mode is not None:
            raise ValueError(
                "Expected a model of floats: of a quantized one the scales "
                f"would be lost. Received: {model.name!r} with layers "
                f"quantized to {mode}, such as {layer.name!r}. {states.REMEDY}"
            )


def check_not_rematerialized(model):
    """Raises `ValueError` where layers belong to another model's graph."""
    for layer in model.layers:
        if isinstance(layer, Rematerialized):
            raise ValueError(
                "Expected a model whose layers are its own. Received: "
                f"{model.name!r} with the rematerialized block {layer.name!r}. "
                "Pass the model that `rematerialized` was given, which has "
                "the same weights; a loaded one becomes plain by "
                "`optimize_for_inference`"
            )


def data_format(model):
    """`"channels_first"` or `"channels_last"`: of the model's input."""
    parts = {parse(layer.name).part for layer in all_layers(model)}
    is_first = Part.TO_CHANNELS_LAST in parts
    return "channels_first" if is_first else "channels_last"


def image_shape(model):
    """`(height, width, channels)` of the input, height and width perhaps
    `None`."""
    return from_layout(model.inputs[0].shape[1:], data_format(model))


def normalizes(model):
    """Whether the normalization of pixels is inside the model."""
    return any(isinstance(x, ImageNormalization) for x in all_layers(model))


def check_size(model, size):
    """Raises `ArgumentError` for images of which no pixel would be left."""
    card = info_of(model)
    # Steps of the roadmap have a card without a variant.
    least = total_stride(card.variant) if card and card.variant else 1
    if min(size) < least:
        raise ArgumentError(
            f"`image_size` must be at least {least} pixels, the total stride "
            f"of {model.name!r}. Received: image_size={tuple(size)}",
            "image_size",
        )
