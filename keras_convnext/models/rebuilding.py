"""A model's graph on another input, without a trace in the model itself."""

import warnings

import keras

from keras_convnext.layers import states


class Step(keras.layers.Layer):
    """Stands for a layer in a rebuilt graph, and shares its weights.

    Calling the layer itself would add nodes to the user's model.
    """

    def __init__(self, layer, call=None):
        super().__init__(dtype=layer.dtype_policy, autocast=False)
        self.layer = layer
        self.rewritten = call or (
            lambda layer, *xs, **named: layer(*xs, **named)
        )
        self.built = True

    def call(self, *inputs, **kwargs):
        return self.rewritten(self.layer, *inputs, **_for_inference(kwargs))

    def compute_output_spec(self, *inputs, **kwargs):
        return self.layer.compute_output_spec(*inputs, **_for_inference(kwargs))


def _for_inference(kwargs):
    """Without `training`, and without what Keras passes though it is `None`."""
    return {
        name: x
        for name, x in kwargs.items()
        if x is not None and name != "training"
    }


def step(layer, call=None):
    """A `Step`; bare operations have neither weights nor nodes to spare."""
    is_layer = isinstance(layer, keras.layers.Layer)
    return Step(layer, call) if is_layer else layer


def rebuild(model, image, clone_function, call_function=None):
    """The graph on another input; see `keras.models.clone_model`."""
    return keras.models.clone_model(
        model,
        input_tensors=image,
        clone_function=clone_function,
        call_function=call_function,
    )


def copied_onto(model, tensors):
    """The model's outputs on tensors of another graph, by copies of its layers.

    Args:
        tensors: in the structure of the model's input.
    """
    fresh = keras.tree.map_structure(
        lambda x: keras.Input(x.shape[1:], dtype=x.dtype, name=x.name),
        model.input,
    )
    copy, made = _recorded(model, fresh, step)
    places = {id(x): place for place, x in enumerate(made)}
    copies = {}

    def copied(layer):
        config = states.plain_config(layer)
        return copies.setdefault(layer.name, type(layer).from_config(config))

    with warnings.catch_warnings():
        # These have not the names of inputs, for they are none.
        warnings.simplefilter("ignore", UserWarning)
        _, made = _recorded(model, tensors, copied)
    for layer in model.layers:
        if layer.weights:
            copies[layer.name].set_weights(states.plain_weights(layer))
    return keras.tree.map_structure(lambda x: made[places[id(x)]], copy.output)


def _recorded(model, tensors, clone_function):
    """The graph on other tensors, and all that it makes, in order."""
    made = []

    def call(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        made.extend(keras.tree.flatten(outputs))
        return outputs

    return rebuild(model, tensors, clone_function, call), made


def of_own_layers(model):
    """The model, or a copy of one that shares its layers with another.

    Of a layer that is called in two models, as those of a rematerialized one
    are, Keras tells what it was called with in the first.
    """
    last = model.layers[-1]
    if len(model.outputs) > 1 or last.output is model.outputs[0]:
        return model
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def functional(model):
    """Of one input, also what was a `Sequential`."""
    return keras.Model(model.inputs[0], output_of(model), name=model.name)


def output_of(model):
    """The outputs in their structure; one alone as a tensor, or in a dict."""
    if isinstance(model, keras.Sequential):  # which may have no `output`
        return model.outputs[0]
    is_plain = len(model.outputs) == 1 and not isinstance(model.output, dict)
    return model.outputs[0] if is_plain else model.output
