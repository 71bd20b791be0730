"""A Functional model as an ONNX graph, written layer by layer.

Converters trace frameworks and leave their shape arithmetic behind: a Tiny has
666 nodes through tf2onnx, 230 through torch's exporter and 205 here, and none
of them need TensorFlow or torch. Maps stay channels_last, as in the model: ONNX
Runtime then takes the transpositions around a convolution into its kernel.
"""

import inspect

import keras
import numpy as np
import onnx

from keras_convnext.layers import forms

OPSET = 20  # the first with Gelu
IR_VERSION = 9  # what belongs to it


class Graph:
    """Nodes and initializers, in the order in which they were added.

    Args:
        reserved: names that no node may take: of inputs and outputs.
    """

    def __init__(self, reserved=()):
        self.nodes, self.initializers = [], []
        self.taken = set(reserved)

    def unique(self, name):
        """The name, with a number if a layer is called twice."""
        if name in self.taken:
            name = self.unique(f"{name}_{len(self.taken)}")
        self.taken.add(name)
        return name

    def add(self, op, *inputs, name=None, output=None, outputs=1, **attributes):
        """One node; returns the name of its output, which is the node's.

        With several `outputs` a tuple of their names.
        """
        inputs = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        name = output or self.unique(name or op)
        names = [name, *(self.unique(op) for _ in range(1, outputs))]
        self.nodes.append(
            onnx.helper.make_node(op, inputs, names, name, **attributes)
        )
        return name if outputs == 1 else tuple(names)

    def cast(self, x, dtype):
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.add("Cast", x, to=kind)

    def constant(self, values, name=None):
        values = np.asarray(values)
        if values.dtype.kind == "f":
            values = values.astype("float32")
        name = self.unique(name or "constant")
        values = np.asarray(values, order="C")  # scalars stay scalars
        self.initializers.append(onnx.numpy_helper.from_array(values, name))
        return name

    def weight(self, layer, attribute, change=lambda x: x):
        values = keras.ops.convert_to_numpy(getattr(layer, attribute))
        return self.constant(change(values), f"{layer.name}/{attribute}")


def write_layer(g, layer, *inputs):
    """The nodes of one layer, given the names of its arguments; the names of
    its outputs."""
    write = forms.of(layer).onnx
    if write is None:
        raise forms.unknown_in_onnx(layer, "layer")
    if getattr(layer, "data_format", None) == "channels_first":
        raise forms.unknown_in_onnx(layer, "of channels_first")
    try:
        inspect.signature(write).bind(g, layer, *inputs)
    except TypeError as error:
        raise forms.unknown_in_onnx(layer, "of several arguments") from error
    return write(g, layer, *inputs)
