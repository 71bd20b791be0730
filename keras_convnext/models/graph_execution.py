"""`execution.Execution` for models of any graph: with several inputs and
outputs, and with layers that are called more than once.

Keras keeps what every layer has given out until the last is done: of a detector
on a photograph 3 GB, most of which is never read again. To ask the system for
that memory and to give it back takes a fifth of the time as well.
"""

from dataclasses import dataclass
from dataclasses import field
from typing import Any

import keras

from keras_convnext.layers import forms
from keras_convnext.models import rebuilding
from keras_convnext.models.execution import HOOKS
from keras_convnext.models.execution import PLAIN_DTYPES
from keras_convnext.models.execution import allocates
from keras_convnext.models.execution import is_free


@dataclass
class Call:
    """One call of a layer: its arguments, with tensors of the graph in the
    places of others, the tensors given out, and those that it is the last to
    need."""

    layer: Any
    args: tuple
    kwargs: dict
    outputs: list
    forgotten: list = field(default_factory=list)
    may_overwrite: bool = False

    @property
    def needed(self):
        tensors = keras.tree.flatten((self.args, self.kwargs))
        return [id(x) for x in tensors if isinstance(x, keras.KerasTensor)]

    def __call__(self, values, is_plain, has_gradients):
        args, kwargs = keras.tree.map_structure(
            lambda x: values[id(x)] if isinstance(x, keras.KerasTensor) else x,
            (self.args, self.kwargs),
        )
        layer_forms = forms.of(self.layer)
        run = layer_forms.torch
        if self.may_overwrite and not has_gradients:
            run = layer_forms.torch_into or run
        if is_plain and run and len(args) == 1 and not kwargs:
            return run(self.layer, args[0])
        return self.layer(*args, **kwargs)


class GraphExecution:
    """Runs a Functional model for inference, and forgets what is read.

    Args:
        model: a Functional `keras.Model`, whose layers are no models.
    """

    def __init__(self, model):
        self._calls = []
        self._structure = model.output
        plain = keras.Model(model.inputs, model.outputs)
        inputs = [
            keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name)
            for x in model.inputs
        ]
        rebuilt = rebuilding.rebuild(
            plain, inputs, rebuilding.step, self._record
        )
        self._inputs = inputs
        self._outputs = rebuilt.outputs
        self._plan()
        layers = [x.layer for x in self._calls]
        self._hooks = [
            getattr(layer, name)
            for layer in layers
            if isinstance(layer, keras.Layer)
            for name in HOOKS
        ]
        self._layers = [x for x in layers if isinstance(x, keras.Layer)]

    def _record(self, step, *args, **kwargs):
        outputs = step(*args, **kwargs)
        layer = getattr(step, "layer", step)
        flat = keras.tree.flatten(outputs)
        kwargs = {k: x for k, x in kwargs.items() if x is not None}
        self._calls.append(Call(layer, args, kwargs, flat))
        return outputs

    def _plan(self):
        last = {x: i for i, one in enumerate(self._calls) for x in one.needed}
        kept = {id(x) for x in self._outputs}
        self._read = {*last, *kept}
        fresh = {
            id(one.outputs[0]) for one in self._calls if allocates(one.layer)
        }
        for i, one in enumerate(self._calls):
            one.forgotten = [
                x for x in set(one.needed) if last[x] == i and x not in kept
            ]
            is_fresh = fresh.issuperset(one.forgotten)
            one.may_overwrite = is_fresh and bool(one.forgotten)

    def is_free(self):
        """Whether nobody listens to the layers, and nobody records them."""
        return is_free(self._hooks)

    def __call__(self, inputs):
        """Outputs of a model for a dict of inputs by name."""
        import torch

        has_gradients = torch.is_grad_enabled()
        values = {
            id(x): keras.ops.convert_to_tensor(inputs[x.name], x.dtype)
            for x in self._inputs
        }
        policies = {layer.dtype_policy.name for layer in self._layers}
        is_plain = policies <= PLAIN_DTYPES
        for one in self._calls:
            outputs = keras.tree.flatten(one(values, is_plain, has_gradients))
            values.update(zip(map(id, one.outputs), outputs))
            for key in one.forgotten:
                del values[key]
            for x in one.outputs:
                if id(x) not in self._read:
                    del values[id(x)]
        flat = [values[id(x)] for x in self._outputs]
        return keras.tree.pack_sequence_as(self._structure, flat)


def predictor(model):
    """The function that computes a batch soonest: arrays in, arrays out.

    Args:
        model: a Functional `keras.Model` of one input.
    """
    is_nested = any(isinstance(x, keras.Model) for x in model.layers)
    if keras.backend.backend() != "torch" or is_nested:
        return model.predict_on_batch
    import torch

    execution, name = GraphExecution(model), model.inputs[0].name

    def run(inputs):
        if not execution.is_free():
            return model.predict_on_batch(inputs)
        with torch.inference_mode():
            outputs = execution({name: inputs})
        return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)

    return run
