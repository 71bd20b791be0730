"""Runs a model's layers on PyTorch with less work around them.

TensorFlow and JAX trace a model once and run the graph. On PyTorch Keras runs
every layer anew in each call: a tenth of a millisecond of Python around each,
a third of a Tiny's time for one image, and all their outputs kept until the
last is done.

Where somebody listens to the layers or records them, they run as Keras runs
them: each is a `torch.nn.Module`, whose hooks fire when it is called.
"""

import inspect
from dataclasses import dataclass

import keras
from keras import layers

from keras_convnext.layers import forms
from keras_convnext.layers.activations import gelu
from keras_convnext.layers.plain import Dense

# PyTorch has no public way to ask a module for its hooks;
# tests/models/test_execution.py fails by name where one of them is not noticed.
HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
# Without mixed precision there is nothing to cast on the way.
PLAIN_DTYPES = {"float32", "float64"}


@dataclass
class Step:
    """The call of one layer: the numbers of its inputs and output, the values
    that no later call needs, and whether it may write into its input."""

    layer: keras.layers.Layer
    inputs: list
    output: int
    forgotten: list
    may_overwrite: bool

    def __post_init__(self):
        parameters = inspect.signature(self.layer.call).parameters
        self.takes_training = "training" in parameters
        # The attribute has no public name; without it nothing is computed
        # again, and the scope would have no effect.
        is_remat = getattr(self.layer, "_remat_mode", None) is not None
        layer_forms = forms.of(self.layer)
        self.plain = None if is_remat else layer_forms.torch
        self.overwriting = self.plain
        if self.plain and self.may_overwrite:
            self.overwriting = layer_forms.torch_into or self.plain

    def __call__(self, inputs, training, is_plain, has_gradients):
        if is_plain and self.plain and not self.layer.activity_regularizer:
            run = self.plain if has_gradients else self.overwriting
            return run(self.layer, inputs)
        if self.takes_training:
            return self.layer(inputs, training=training)
        return self.layer(inputs)


def execution_of(model):
    """The `Execution` of a model; `None` if it has no use for one."""
    if keras.backend.backend() != "torch":
        return None
    steps = [(x, _ids(x.input), id(x.output)) for x in model.layers]
    inputs, outputs = _ids(model.inputs), _ids(model.outputs)
    # A list of one output would have to be returned as one.
    if len(inputs) != 1 or not isinstance(model.output, keras.KerasTensor):
        return None
    # Of a layer that is called twice Keras tells the first call's alone.
    made = {key for _, _, key in steps}
    needed = {*outputs, *(key for _, keys, _ in steps for key in keys)}
    return Execution(steps, *inputs, *outputs) if needed <= made else None


class Execution:
    """The order in which to run a Functional model's layers, and forget them.

    Args:
        steps: triples of a layer, the ids of its inputs and of its output.
        input_id, output_id: those of the model.
    """

    def __init__(self, steps, input_id, output_id):
        self._input, self._output = input_id, output_id
        last = {key: i for i, (_, keys, _) in enumerate(steps) for key in keys}
        last[self._output] = len(steps)
        fresh = {key for layer, _, key in steps if allocates(layer)}
        self._steps = []
        for i, (layer, keys, key) in enumerate(steps):
            if not isinstance(layer, layers.InputLayer):
                forgotten = [x for x in set(keys) if last[x] == i]
                may_overwrite = fresh.issuperset(forgotten) and bool(forgotten)
                step = Step(layer, keys, key, forgotten, may_overwrite)
                self._steps.append(step)
        # The dicts themselves, which hooks are added to and removed from.
        self._hooks = [
            getattr(layer, name) for layer, _, _ in steps for name in HOOKS
        ]

    def is_free(self):
        """Whether nobody listens to the layers, and nobody records them."""
        return is_free(self._hooks)

    def __call__(self, inputs, training):
        """Outputs for a tensor, as of the model's own `call`."""
        import torch

        has_gradients = torch.is_grad_enabled()
        values = {self._input: inputs}
        policies = {step.layer.dtype_policy.name for step in self._steps}
        is_plain = len(policies) == 1 and policies <= PLAIN_DTYPES
        for step in self._steps:
            needed = [values[key] for key in step.inputs]
            needed = needed[0] if len(needed) == 1 else needed
            values[step.output] = step(
                needed, training, is_plain, has_gradients
            )
            for key in step.forgotten:
                del values[key]
        return values[self._output]


def is_free(hooks):
    """Whether there are no hooks, these among them, and nobody records."""
    import torch

    return not (
        any(hooks)
        or torch.nn.modules.module._has_any_global_hook()
        or torch.jit.is_tracing()
        or torch.compiler.is_compiling()
    )


def allocates(layer):
    """Whether its output is never its input, or a view of it."""
    return isinstance(layer, Dense) or getattr(layer, "activation", 0) is gelu


def _ids(tensors):
    return [id(tensor) for tensor in keras.tree.flatten(tensors)]
