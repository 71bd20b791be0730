"""A model's graph on another input, without a trace in the model itself."""

import keras


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


def functional(model):
    """Of one input and plain outputs, also what was a `Sequential`."""
    outputs = model.outputs
    output = outputs[0] if len(outputs) == 1 else outputs
    return keras.Model(model.inputs[0], output, name=model.name)
