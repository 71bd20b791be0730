"""A model's graph with the layers of nested models in their place.

A backbone that is called as a layer is one layer to Keras, and those inside
have the outputs of the backbone's own input. Whoever looks at layers or runs a
part of a model looks here.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from keras_convnext.models import rebuilding
from keras_convnext.models.rematerialization import Rematerialized


@dataclass(frozen=True)
class Call:
    """One call of a layer, or of an operation without a layer.

    Attributes:
        layer: the user's own; calling it adds nothing to the user's graph.
        path: tuple of the names of the models around it, and its own.
        args, kwargs: what it is called with, tensors symbolic.
        output: a symbolic tensor, or a structure of several.
    """

    layer: Callable
    path: tuple
    args: tuple
    kwargs: dict
    output: Any

    @property
    def inputs(self):
        """All symbolic tensors that it is called with."""
        return [
            x
            for x in keras.tree.flatten((self.args, self.kwargs))
            if _is_symbolic(x)
        ]


class Flattened:
    """The calls of a Functional or Sequential model, in order.

    Attributes:
        inputs, outputs: lists of symbolic tensors.
        calls: list of `Call`.
        named: dict from the path of a layer or of a nested model to the
            symbolic outputs of its calls.
    """

    def __init__(self, model):
        self.calls, self.named, self._same, self._alive = [], {}, {}, []
        self.inputs = _inputs_like(model.inputs)
        self.outputs = self._walk(model, self.inputs, ())

    def run(self, given, wanted):
        """The value of a tensor from the values of others, for inference.

        Args:
            given: dict from the `id` of a symbolic tensor to its value.
            wanted: a symbolic tensor.

        Returns:
            The value, or `None` if it does not follow from them alone.
        """
        values = dict(given)
        for call in self.calls:
            if id(wanted) in values:
                break
            if any(id(x) not in values for x in call.inputs):
                continue
            args, kwargs = keras.tree.map_structure(
                lambda x: values[id(x)] if _is_symbolic(x) else x,
                (call.args, call.kwargs),
            )
            if _takes_training(call.layer):
                kwargs["training"] = False
            outputs = call.layer(*args, **kwargs)
            for x, value in zip(_flat(call.output), _flat(outputs)):
                values.setdefault(id(x), value)
        return values.get(id(wanted))

    def features(self, images, wanted):
        """The value of a tensor for an array of images."""
        (image,) = self.inputs
        images = keras.ops.convert_to_tensor(images, image.dtype)
        return self.run({id(image): images}, wanted)

    def _walk(self, model, inputs, path):
        """Adds the calls of one model; its outputs."""

        def visit(step, *args, **kwargs):
            layer = getattr(step, "layer", step)
            outputs = step(*args, **kwargs)
            self._add(layer, path, args, kwargs, outputs)
            return outputs

        entrances = dict(zip(_ids(model.inputs), inputs))
        for layer in model.layers:
            is_input = isinstance(layer, keras.layers.InputLayer)
            if is_input and id(layer.output) in entrances:
                own = self._own(entrances[id(layer.output)])
                self._name((*path, layer.name), own)
        plain = keras.Model(model.inputs, model.outputs)
        copy = rebuilding.rebuild(plain, inputs, rebuilding.step, visit)
        self._alive.append(copy)  # or others take the ids of its tensors
        return [self._own(x) for x in copy.outputs]

    def _add(self, layer, path, args, kwargs, output):
        path = (*path, layer.name)
        args, kwargs = keras.tree.map_structure(self._own, (args, kwargs))
        if isinstance(layer, Rematerialized):
            (x,) = args
            for part in layer.layers:
                y = part.compute_output_spec(x)
                self._add(part, path, (x,), {}, y)
                x = y
            self._same[id(output)] = x
        elif isinstance(layer, keras.Model) and has_graph(layer):
            given = _inputs_like(_flat(args))
            self._same.update(zip(_ids(given), _flat(args)))
            inner = self._walk(layer, given, path)
            self._same.update(zip(_ids(_flat(output)), inner))
        else:
            self.calls.append(Call(layer, path, args, kwargs, output))
        for x in _flat(output):
            self._name(path, self._own(x))
            self._alive.append(x)

    def _own(self, x):
        """The tensor that stands for this one in `calls`."""
        return self._same.get(id(x), x)

    def _name(self, path, tensor):
        self.named.setdefault(path, []).append(tensor)


def has_graph(model: keras.Model) -> bool:
    """Whether the calls inside a model are known: of subclassed ones not."""
    return bool(getattr(model, "inputs", None))


def flattened(model: keras.Model) -> Flattened:
    """The graph of a model of one image, those of nested models within.

    Raises:
        ValueError: for models whose graph is not known, and those of several
            inputs.
    """
    if not has_graph(model):
        raise ValueError(
            "Expected a Functional or Sequential model with an input, whose "
            f"layers are known. Received: {model.name!r} of type "
            f"{type(model).__name__}. Begin a Sequential model with "
            "`keras.Input(shape)`; build a subclassed model's layers on one"
        )
    if len(model.inputs) != 1:
        shapes = [tuple(x.shape) for x in model.inputs]
        raise ValueError(
            "Expected a model of one input, a batch of images. Received: "
            f"{model.name!r} with inputs of shape {shapes}. Pass the part of "
            "one image: `keras.Model(image, output)`"
        )
    return Flattened(model)


def _inputs_like(tensors):
    return [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in tensors]


def _takes_training(layer):
    is_layer = isinstance(layer, keras.layers.Layer)
    return is_layer and "training" in inspect.signature(layer.call).parameters


def _is_symbolic(x):
    return isinstance(x, keras.KerasTensor)


def _flat(structure):
    return keras.tree.flatten(structure)


def _ids(tensors):
    return [id(tensor) for tensor in tensors]
