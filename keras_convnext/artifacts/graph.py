"""The model as every exporter sees it: one image in, float32, named outputs."""

import keras

from keras_convnext._util.image_layout import to_layout
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import parse
from keras_convnext.layers import states
from keras_convnext.models import inspection
from keras_convnext.models import rebuilding
from keras_convnext.models.inspection import all_layers
from keras_convnext.models.rematerialization import Rematerialized
from keras_convnext.models.units import units_of


def check(model):
    """Raises `ValueError` for models whose graph cannot be known."""
    is_functional = isinstance(model, keras.Model) and getattr(
        model, "inputs", None
    )
    if not is_functional:
        raise ValueError(
            "Expected a Functional `keras.Model`, whose layers can be read, "
            "such as every constructor of this package returns. Received: "
            f"{type(model).__name__}. Build a subclassed model's layers on a "
            "`keras.Input`, and export `keras.Model(input, output)`"
        )
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        shapes = [tuple(x.shape) for x in model.inputs]
        raise ValueError(
            "Expected a model of one input, a batch of images. Received: "
            f"{model.name!r} with inputs of shape {shapes}. Export "
            "`keras.Model` from one image to what you need"
        )


def as_float32(model):
    """The model, or a copy whose layers compute in float32."""
    dtypes = {(x.compute_dtype, x.variable_dtype) for x in all_layers(model)}
    if dtypes == {("float32", "float32")}:
        return model

    def in_float32(layer):
        if isinstance(layer, Rematerialized):
            inner = [in_float32(x) for x in layer.layers]
            return Rematerialized(inner, name=layer.name, dtype="float32")
        config = states.plain_config(layer)
        if not isinstance(layer, keras.Model):
            config["dtype"] = "float32"
        return layer.__class__.from_config(config)

    plain = rebuilding.functional(model)
    copy = keras.models.clone_model(
        plain,
        input_tensors=image(model, inspection.image_shape(model)[:2]),
        clone_function=in_float32,
        recursive=True,
    )
    for layer, own in zip(all_layers(plain), all_layers(copy), strict=True):
        own.set_weights([_as_float32(x) for x in states.plain_weights(layer)])
    return copy


def named_outputs(model, features=False):
    """The model's outputs by name; a softmax also has its `logits`.

    Numbers in the units of their targets are `values`.
    """
    structure = rebuilding.output_of(model)
    if isinstance(structure, dict):
        outputs = dict(structure)
    elif len(model.outputs) > 1:
        outputs = dict(zip(model.output_names, model.outputs))
    else:
        (output,) = model.outputs
        last = model.layers[-1]
        if _is_head_activation(last):
            outputs = {"scores": output, "logits": last.input}
        elif units_of(model) is not None:
            outputs = {"values": output}
        elif isinstance(last, keras.layers.Dense):
            is_logits = inspection.returns_logits(model)
            outputs = {"logits" if is_logits else "scores": output}
        else:
            outputs = {"features": output}
    if features and "features" not in outputs:
        outputs["features"] = _classifier(model).input
    return outputs


def named(model, features=False):
    """The model with a dict of outputs."""
    model = rebuilding.of_own_layers(model)
    outputs = named_outputs(model, features)
    return keras.Model(model.inputs[0], outputs, name=model.name)


def image(model, size, batch=None):
    """A new float32 input of a model, of the given height and width."""
    channels = inspection.image_shape(model)[2]
    shape = to_layout(*size, channels, inspection.data_format(model))
    return keras.Input(shape, batch, name="image", dtype="float32")


def _is_head_activation(layer):
    if not isinstance(layer, keras.layers.Activation):
        return False
    name = getattr(layer.activation, "__name__", "")
    ours = parse(layer.name).part == Part.HEAD_ACTIVATION
    return ours or name in ("softmax", "sigmoid")


def _classifier(model):
    for layer in model.layers:
        if parse(layer.name).part == Part.HEAD_CLASSIFIER:
            return layer
    raise ValueError(
        "`features=True` takes a model with its classifier; this one's output "
        f"is all there is. Received: {model.name!r}"
    )


def _as_float32(values):
    is_integer = values.dtype.kind in "iu"
    return values if is_integer else values.astype("float32")
