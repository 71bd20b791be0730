"""How each kind of layer runs and is written outside of Keras' own call.

A layer's file ends in one `add`: the record of its forms. Whoever writes or
runs layers asks `of`, and knows no kind by itself.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from keras import activations


@dataclass(frozen=True)
class Forms:
    """What is known of one class of layers.

    Attributes:
        variables: names of its weights, in the order in which Keras saves
            them.
        onnx: function of a `Graph` (`artifacts/onnx_graph.py`), the layer and
            the names of its inputs; adds nodes, and returns the name of the
            output.
        torch: function of the layer and its inputs that computes what `call`
            does, for layers that have no masks, state or training mode.
        torch_into: the same, into the memory of the inputs.
        tensorflow: function of the layer and its inputs that TensorFlow's
            converters turn into fewer operations; `None` for the layer itself.
    """

    variables: tuple[str, ...] = ()
    onnx: Callable | None = None
    torch: Callable | None = None
    torch_into: Callable | None = None
    tensorflow: Callable | None = None


# By exact class: nobody knows what a subclass computes.
_FORMS: dict[type, Forms] = {}
# Functions that write an activation into a `Graph`.
ACTIVATIONS: dict[Callable, Callable] = {}


def add(*kinds, **forms):
    """Registers the forms of one class, or of several that compute alike."""
    for kind in kinds:
        _FORMS[kind] = Forms(**forms)


def of(layer):
    """The `Forms` of a layer; empty for kinds that nobody registered."""
    return _FORMS.get(type(layer), Forms())


def kinds():
    """All classes that have forms."""
    return tuple(_FORMS)


def variables_by_folder():
    """Names of weights by the folder that Keras' files have for a class."""
    return {
        _snake_case(kind.__name__): x.variables for kind, x in _FORMS.items()
    }


def _snake_case(name):
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def call(layer, inputs):
    """The layer's own `call`, without what Keras does around it."""
    return layer.call(inputs)


def same(layer, inputs):
    return inputs


def onnx_same(g, layer, x):
    return x


def onnx_operation(op, **attributes):
    """Writes one operation of one input."""
    return lambda g, x: g.add(op, x, **attributes)


def onnx_activation(g, layer, x):
    """Writes the activation of a layer that has one."""
    write = ACTIVATIONS.get(layer.activation)
    if write is None:
        raise unknown_in_onnx(layer, f"with activation {layer.activation!r}")
    return write(g, x)


class UnknownInOnnx(ValueError):
    """A layer that has no ONNX form.

    Attributes:
        layer: what it is, in words.
    """

    def __init__(self, layer):
        super().__init__(
            "Expected layers that have an ONNX form. Received: " + layer
        )
        self.layer = layer


def unknown_in_onnx(layer, reason):
    return UnknownInOnnx(f"{layer.name!r}, a {type(layer).__name__} {reason}")


ACTIVATIONS.update(
    {
        activations.elu: onnx_operation("Elu"),
        activations.gelu: onnx_operation("Gelu"),
        activations.hard_silu: onnx_operation("HardSwish"),
        activations.linear: lambda g, x: x,
        activations.mish: onnx_operation("Mish"),
        activations.relu: onnx_operation("Relu"),
        activations.sigmoid: onnx_operation("Sigmoid"),
        activations.silu: lambda g, x: g.add("Mul", x, g.add("Sigmoid", x)),
        activations.softmax: onnx_operation("Softmax", axis=-1),
        activations.softplus: onnx_operation("Softplus"),
        activations.tanh: onnx_operation("Tanh"),
    }
)
