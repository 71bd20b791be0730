"""Facts about any Keras model that holds a ConvNeXt, read off its layers."""

import keras

from keras_convnext._util.image_layout import from_layout
from keras_convnext.facts import labels
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import parse
from keras_convnext.layers import ImageNormalization
from keras_convnext.layers import states
from keras_convnext.models.builder import total_stride
from keras_convnext.models.model import ModelCard
from keras_convnext.models.rematerialization import Rematerialized


def layers_by_path(model, path=()):
    """Pairs of a path and a layer, in place of nested models those inside.

    A path is a tuple: the names of the models around, and the layer's own.
    """
    for layer in model.layers:
        own = (*path, layer.name)
        if hasattr(layer, "layers"):  # rematerialized blocks, too
            yield from layers_by_path(layer, own)
        else:
            yield own, layer


def all_layers(model):
    """The layers of a model, in place of nested models those inside."""
    return (layer for _, layer in layers_by_path(model))


def models_by_path(model, path=()):
    """Pairs of a path and a model, for all that are nested in another."""
    for layer in getattr(model, "layers", ()):
        if isinstance(layer, keras.Model):
            own = (*path, layer.name)
            yield own, layer
            yield from models_by_path(layer, own)


def find(paths, name):
    """The one path that a name stands for.

    Args:
        paths: iterable of tuples of names.
        name: of a layer; behind those of the models around it, with `/`
            between, where several have it.

    Raises:
        ValueError: if there is none, or more than one.
    """
    paths = list(dict.fromkeys(paths))
    parts = tuple(name.split("/"))
    found = [x for x in paths if x[-len(parts) :] == parts]
    # A name alone is first of all that of a layer outside.
    found = [x for x in found if x == parts] or found
    if not found:
        known = ["/".join(x) for x in paths]
        raise ValueError(f"No such layer: {name}. Existing layers are: {known}")
    if len(found) > 1:
        raise ValueError(
            f"Several nested models have a layer {name!r}. Pass one of "
            f"{['/'.join(x) for x in found]}"
        )
    return found[0]


def info_of(model):
    """The `ModelInfo` of the first ConvNeXt in a model, or `None`."""
    return next(iter(infos_of(model)), None)


def infos_of(model):
    """All `ModelInfo` in a model. What stands on a ConvNeXt has its own behind
    that one's."""
    return [x.info for x in all_layers(model) if isinstance(x, ModelCard)]


def classes_of(info, count):
    """Pairs of id and name for so many outputs: a model's own names, or those
    of ImageNet; `None` where nothing tells."""
    names = info.class_names
    if names is not None and len(names) == count:
        return [[str(index), name] for index, name in enumerate(names)]
    if info.label_set == "clip" or count not in labels.LABEL_SETS:
        return None
    return [list(pair) for pair in labels.label_set(count)]


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
        if isinstance(layer, keras.Model):
            check_not_rematerialized(layer)
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


def returns_logits(model):
    """Whether a classifier ends without an activation."""
    last = last_layer(model)
    is_dense = isinstance(last, keras.layers.Dense)
    return is_dense and last.activation is keras.activations.linear


def last_layer(model):
    """The one that the outputs come from, also of a nested model."""
    last = model.layers[-1]
    return last_layer(last) if isinstance(last, keras.Model) else last


def preprocessing_of(model, size=None, info=None):
    """The `Preprocessing` of the first ConvNeXt in a model, or `None`.

    It is for images of `size`; of that which the whole takes if `None`. An
    `info` takes the place of that ConvNeXt's.
    """
    info = info or info_of(model)
    preprocessing = info and info.preprocessing
    size = image_shape(model)[:2] if size is None else tuple(size)
    if preprocessing and None not in size:
        return preprocessing.at_size(size)
    return preprocessing


def takes(model, shape):
    """Whether a model takes images `(height, width, channels)`."""
    taken = tuple(model.inputs[0].shape[1:])
    return len(taken) == 3 and all(
        side in (None, given) for side, given in zip(taken, shape)
    )


def normalizes(model):
    """Whether the normalization of pixels is inside the model."""
    return any(isinstance(x, ImageNormalization) for x in all_layers(model))


def check_size(model, size):
    """Raises `ValueError` for images of which no pixel would be left."""
    card = info_of(model)
    # Steps of the roadmap have a card without a variant.
    least = total_stride(card.variant) if card and card.variant else 1
    if min(size) < least:
        raise ValueError(
            f"`image_size` must be at least {least} pixels, the total stride "
            f"of {model.name!r}. Received: image_size={tuple(size)}"
        )
