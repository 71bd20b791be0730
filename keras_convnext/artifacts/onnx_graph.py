"""A Functional model as an ONNX graph, written layer by layer.

Converters trace frameworks and leave their shape arithmetic behind: a Tiny has
666 nodes through tf2onnx, 230 through torch's exporter and 205 here, and none
of them need TensorFlow or torch. Maps stay channels_last, as in the model: ONNX
Runtime then takes the transpositions around a convolution into its kernel.
"""

import keras
import numpy as np
from keras import activations
from keras import layers

from keras_convnext import layers as own
from keras_convnext.layers import depthwise
from keras_convnext.layers import norms
from keras_convnext.layers import plain
from keras_convnext.layers.activations import gelu
from keras_convnext.models import model as own_model

FLOAT = 1  # onnx.TensorProto.FLOAT
OPSET = 20  # the first with Gelu
IR_VERSION = 9  # what belongs to it
FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)


class Graph:
    """Nodes and constants, in the order in which they were added.

    Args:
        reserved: names that no node may take: of inputs and outputs.
    """

    def __init__(self, reserved=()):
        self.nodes = []
        self.constants = {}
        self.taken = set(reserved)

    def unique(self, name):
        """The name, with a number if a layer is called twice."""
        if name in self.taken:
            name = self.unique(f"{name}_{len(self.taken)}")
        self.taken.add(name)
        return name

    def add(self, op, *inputs, name=None, output=None, **attributes):
        """One node; returns the name of its output, which is the node's."""
        import onnx

        inputs = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        name = output or self.unique(name or op)
        self.nodes.append(
            onnx.helper.make_node(op, inputs, [name], name, **attributes)
        )
        return name

    def constant(self, values, name=None):
        values = np.asarray(values)
        if values.dtype.kind == "f":
            values = values.astype("float32")
        name = self.unique(name or "constant")
        self.constants[name] = np.ascontiguousarray(values)
        return name

    def weight(self, layer, attribute, change=lambda x: x):
        values = keras.ops.convert_to_numpy(getattr(layer, attribute))
        return self.constant(change(values), f"{layer.name}/{attribute}")


def convolution(g, layer, x):
    if layer.padding == "valid":
        padding = {"pads": [0, 0, 0, 0]}
    else:
        padding = {"auto_pad": "SAME_UPPER"}
    weights = [g.weight(layer, "kernel", lambda k: k.transpose(3, 2, 0, 1))]
    return _convolve(g, layer, x, weights, layer.groups, padding)


def depthwise_convolution(g, layer, x):
    rows, columns = (
        rate * (size // 2)
        for rate, size in zip(layer.dilation_rate, layer.kernel_size)
    )
    padding = {"pads": [rows, columns, rows, columns]}
    weights = [g.weight(layer, "kernel", lambda k: k.transpose(2, 3, 0, 1))]
    return _convolve(g, layer, x, weights, layer.kernel.shape[2], padding)


def _convolve(g, layer, x, weights, group, padding):
    if layer.use_bias:
        weights.append(g.weight(layer, "bias"))
    x = g.add("Transpose", x, perm=FIRST)
    x = g.add(
        "Conv",
        x,
        *weights,
        name=layer.name,
        kernel_shape=layer.kernel_size,
        strides=layer.strides,
        dilations=layer.dilation_rate,
        group=group,
        **padding,
    )
    return activate(g, layer, g.add("Transpose", x, perm=LAST))


def dense(g, layer, x):
    x = g.add("MatMul", x, g.weight(layer, "kernel"))
    if layer.use_bias:
        x = g.add("Add", x, g.weight(layer, "bias"), name=layer.name)
    return activate(g, layer, x)


def padding(g, layer, x):
    (top, bottom), (left, right) = layer.padding
    return g.add("Pad", x, [0, top, left, 0, 0, bottom, right, 0])


def layer_normalization(g, layer, x):
    config = layer.get_config()
    if config["axis"] not in (-1, [-1]) or not layer.center or not layer.scale:
        raise _unknown(layer, f"with axis={config['axis']}, or not affine")
    scale, shift = g.weight(layer, "gamma"), g.weight(layer, "beta")
    return g.add(
        "LayerNormalization",
        x,
        scale,
        shift,
        name=layer.name,
        axis=-1,
        epsilon=layer.epsilon,
    )


def rms_normalization(g, layer, x):
    energy = g.add("ReduceMean", g.add("Mul", x, x), [-1])
    return _divided(g, layer, x, energy, g.weight(layer, "scale"))


def simple_normalization(g, layer, x):
    deviations = g.add("Sub", x, g.add("ReduceMean", x, [-1]))
    squares = g.add("ReduceSumSquare", deviations, [-1])
    variance = g.add("Div", squares, np.float32(layer.channels - 1))
    return _divided(g, layer, x, variance, g.weight(layer, "gamma"))


def _divided(g, layer, x, square, scale):
    root = g.add("Sqrt", g.add("Add", square, np.float32(layer.epsilon)))
    return g.add("Mul", g.add("Div", x, root), scale)


def global_response_normalization(g, layer, x):
    norms = g.add("ReduceL2", x, [1, 2])
    mean = g.add("ReduceMean", norms, [-1])
    response = g.add(
        "Div", norms, g.add("Add", mean, np.float32(layer.epsilon))
    )
    scale = g.add("Mul", response, g.weight(layer, "gamma"))
    scaled = g.add("Mul", x, g.add("Add", scale, np.float32(1)))
    return g.add("Add", scaled, g.weight(layer, "beta"), name=layer.name)


def layer_scale(g, layer, x):
    return g.add("Mul", x, g.weight(layer, "gamma"), name=layer.name)


def image_normalization(g, layer, x):
    std = np.array(layer.std)
    x = g.add("Mul", x, 1 / (255 * std))
    return g.add("Add", x, -np.array(layer.mean) / std, name=layer.name)


def pool(op):
    def pool(g, layer, x):
        keep = int(layer.keepdims)
        return g.add(op, x, [1, 2], keepdims=keep, name=layer.name)

    return pool


def permute(g, layer, x):
    return g.add("Transpose", x, perm=(0, *layer.dims))


def add(g, layer, x):
    total = x[0]
    for name in x[1:]:
        total = g.add("Add", total, name)
    return total


def nothing(g, layer, x):
    return x


def activate(g, layer, x):
    write = ACTIVATIONS.get(layer.activation)
    if write is None:
        raise _unknown(layer, f"with activation {layer.activation!r}")
    return write(g, x)


def _unknown(layer, what):
    known = sorted({x.__name__ for x in LAYERS})
    return ValueError(
        f"ONNX files are written from layers of {known}, channels_last, with "
        f"activations of {[x.__name__ for x in ACTIVATIONS]}. Received: "
        f"{layer.name!r}, a {type(layer).__name__} {what}. Export to "
        "'saved_model', or a model without this layer"
    )


def _one(op, **attributes):
    return lambda g, x: g.add(op, x, **attributes)


ACTIVATIONS = {
    activations.elu: _one("Elu"),
    activations.gelu: _one("Gelu"),
    own.gelu_tanh: _one("Gelu", approximate="tanh"),
    gelu: _one("Gelu"),
    activations.hard_silu: _one("HardSwish"),
    activations.linear: lambda g, x: x,
    activations.mish: _one("Mish"),
    activations.relu: _one("Relu"),
    activations.sigmoid: _one("Sigmoid"),
    activations.silu: lambda g, x: g.add("Mul", x, g.add("Sigmoid", x)),
    activations.softmax: _one("Softmax", axis=-1),
    activations.softplus: _one("Softplus"),
    activations.tanh: _one("Tanh"),
}


# By exact class: what a subclass computes is not known.
LAYERS = {
    depthwise.DepthwiseConv2D: depthwise_convolution,
    layers.Activation: activate,
    layers.Add: add,
    layers.Conv2D: convolution,
    layers.Dense: dense,
    layers.Dropout: nothing,
    layers.GlobalAveragePooling2D: pool("ReduceMean"),
    layers.GlobalMaxPooling2D: pool("ReduceMax"),
    layers.LayerNormalization: layer_normalization,
    layers.Permute: permute,
    layers.ZeroPadding2D: padding,
    own.GlobalResponseNormalization: global_response_normalization,
    own.ImageNormalization: image_normalization,
    own.LayerScale: layer_scale,
    own.SimpleNormalization: simple_normalization,
    own_model.ModelCard: nothing,
    plain.Add: add,
    plain.Conv2D: convolution,
    plain.Dense: dense,
    plain.GlobalAveragePooling2D: pool("ReduceMean"),
    norms.LayerNormalization: layer_normalization,
    norms.RMSNormalization: rms_normalization,
}


def write_layer(g, layer, inputs):
    """The nodes of one layer, given the names of its inputs."""
    write = LAYERS.get(type(layer))
    if write is None:
        raise _unknown(layer, "layer")
    if getattr(layer, "data_format", None) == "channels_first":
        raise _unknown(layer, "of channels_first")
    return write(g, layer, inputs)
