"""The model as a `tf.function` whose graph converts well."""

import keras
from keras import ops

from keras_convnext import layers as own
from keras_convnext.artifacts import graph
from keras_convnext.layers import activations
from keras_convnext.layers import depthwise
from keras_convnext.layers import norms
from keras_convnext.layers import plain
from keras_convnext.models import inspection


def dense(layer, x):
    """At any size a 1×1 convolution: a matrix product's shape arithmetic
    would stay in the graph."""
    if len(x.shape) != 4 or None not in x.shape[1:]:
        return layer(x)
    kernel = ops.reshape(layer.kernel, (1, 1, *layer.kernel.shape))
    x = ops.conv(x, kernel, data_format="channels_last")
    if layer.use_bias:
        x = ops.add(x, layer.bias)
    return layer.activation(x)


def layer_normalization(layer, x):
    centred = x - ops.mean(x, -1, keepdims=True)
    # Not `ops.square`: the converter would subtract the mean twice.
    variance = ops.mean(centred * centred, -1, keepdims=True)
    return centred * ops.rsqrt(variance + layer.epsilon) * layer.gamma + (
        layer.beta
    )


def global_response_normalization(layer, x):
    """Without the guard of gradients, which nobody takes here."""
    energy = ops.sum(ops.square(x), axis=(1, 2), keepdims=True)
    norms = ops.sqrt(energy)
    mean = ops.mean(norms, -1, keepdims=True)
    response = norms / (mean + layer.epsilon)
    return x * (layer.gamma * response + 1.0) + layer.beta


def native_depthwise(layer, x):
    x = depthwise.native_depthwise(
        x, layer.kernel, layer.dilation_rate, layer.bias
    )
    return layer.activation(x)


def activation(layer, x):
    """The GELU of float64 models is a formula that LiteRT has no word for."""
    is_formula = layer.activation is activations.gelu
    return keras.activations.gelu(x) if is_formula else layer(x)


REWRITES = {
    depthwise.DepthwiseConv2D: native_depthwise,
    keras.layers.Activation: activation,
    keras.layers.Dense: dense,
    keras.layers.Dropout: lambda layer, x: x,
    own.GlobalResponseNormalization: global_response_normalization,
    plain.Dense: dense,
    norms.LayerNormalization: layer_normalization,
}


def twin(model, tensor):
    """The same graph and weights on a new input, with layers rewritten."""

    def step(layer):
        if isinstance(layer, keras.Model):
            inner = twin(graph.functional(layer), _any_input(layer))
            return graph.step(layer, lambda layer, x: inner(x))
        return graph.step(layer, REWRITES.get(type(layer)))

    return graph.rebuild(model, tensor, step)


def _any_input(model):
    """A new input of a nested model: maps of any size, or vectors."""
    shape = model.inputs[0].shape
    if len(shape) == 4:
        return graph.image(model, (None, None))
    return keras.Input(shape[1:], dtype="float32")


def forward(model, options):
    """A function from the artefact's images to a dict of its outputs."""
    import tensorflow as tf

    named = graph.named(model, options.features)
    rewritten = twin(named, graph.image(named, options.size))
    turn = options.data_format != inspection.data_format(model)
    to_last = options.data_format == "channels_first"

    def forward(image):
        x = tf.cast(image, tf.float32)
        if turn:
            x = tf.transpose(x, (0, 2, 3, 1) if to_last else (0, 3, 1, 2))
        return rewritten(x, training=False)

    forward.model = rewritten
    return forward
