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

from keras_convnext.layers import GlobalResponseNormalization
from keras_convnext.layers import LayerScale
from keras_convnext.layers import SimpleNormalization
from keras_convnext.layers import forms
from keras_convnext.layers import torch_functions
from keras_convnext.layers.activations import gelu
from keras_convnext.layers.plain import Dense
from keras_convnext.models.compilation import dropped

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
# Layers of a block, which compute each image on its own and at its size.
IN_ROW = (
    Dense,
    GlobalResponseNormalization,
    LayerScale,
    layers.Activation,
    layers.DepthwiseConv2D,
    layers.LayerNormalization,
    layers.RMSNormalization,
    SimpleNormalization,
)
# A batch whose widest tensor is larger goes through a block some images at a
# time, whose widest is at most so large: it stays in the processor's caches,
# and memory that the system would hand out anew is used again.
WIDE_BYTES, CACHED_BYTES = 16 * 2**20, 8 * 2**20


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
        self.in_row = bool(self.plain) and isinstance(self.layer, IN_ROW)
        if self.plain and self.may_overwrite:
            self.overwriting = layer_forms.torch_into or self.plain

    def __call__(self, inputs, training, is_plain, may_overwrite):
        if is_plain and self.plain and not self.layer.activity_regularizer:
            run = self.overwriting if may_overwrite else self.plain
            return run(self.layer, inputs)
        if self.takes_training:
            return self.layer(inputs, training=training)
        return self.layer(inputs)


class Chain:
    """Steps in a row, each the only one to read what the last gave out."""

    def __init__(self, steps):
        self.steps = steps
        self.inputs, self.output = steps[0].inputs, steps[-1].output
        self.forgotten = steps[0].forgotten
        self.width = max(getattr(step.layer, "units", 0) for step in steps)

    def __call__(self, inputs, training, is_plain, may_overwrite, kept):
        def run(x):
            for step in self.steps:
                drawn = kept.get(id(step.layer))
                if drawn is not None:
                    x = dropped(step.layer, x, drawn)
                else:
                    x = step(x, training, is_plain, may_overwrite)
            return x

        count = self._cached_count(inputs) if is_plain and may_overwrite else 0
        if not count:
            return run(inputs)
        import torch

        return torch.cat([run(part) for part in inputs.split(count)])

    def _cached_count(self, inputs):
        """How many images at a time stay in caches; 0 for a whole batch."""
        if len(self.steps) == 1 or len(inputs.shape) != 4:
            return 0
        positions = inputs.shape[1] * inputs.shape[2]
        size = positions * self.width * inputs.element_size()
        is_small = len(inputs) * size < WIDE_BYTES
        if is_small or not torch_functions.runs_eagerly_on_cpu(inputs):
            return 0
        return max(1, CACHED_BYTES // size)


def chains(steps):
    """Steps as `Chain`s as long as they can be."""
    steps, chain = list(steps), []
    for step in steps:
        follows = chain and step.inputs == step.forgotten == [chain[-1].output]
        if chain and not (follows and step.in_row and chain[-1].in_row):
            yield Chain(chain)
            chain = []
        chain.append(step)
    if chain:
        yield Chain(chain)


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
        self.steps = []
        for i, (layer, keys, key) in enumerate(steps):
            if not isinstance(layer, layers.InputLayer):
                forgotten = [x for x in set(keys) if last[x] == i]
                may_overwrite = fresh.issuperset(forgotten) and bool(forgotten)
                step = Step(layer, keys, key, forgotten, may_overwrite)
                self.steps.append(step)
        self._chains = list(chains(self.steps))
        # The dicts themselves, which hooks are added to and removed from.
        self._hooks = [
            getattr(layer, name) for layer, _, _ in steps for name in HOOKS
        ]

    def is_free(self):
        """Whether nobody listens to the layers, and nobody records them."""
        return is_free(self._hooks)

    def is_heard(self):
        """Whether somebody listens to the layers."""
        return is_heard(self._hooks)

    def __call__(self, inputs, training):
        """Outputs for a tensor, as of the model's own `call`."""
        import torch

        return self.run(inputs, training, not torch.is_grad_enabled())

    def run(self, inputs, training, may_overwrite, kept=None):
        """The same for the compiler, whose dropouts have drawn already.

        Args:
            inputs: a tensor.
            training: bool or `None`.
            may_overwrite: whether outputs may be written into inputs.
            kept: dict from the id of a dropout to what it keeps.
        """
        values = {self._input: inputs}
        policies = {step.layer.dtype_policy.name for step in self.steps}
        is_plain = len(policies) == 1 and policies <= PLAIN_DTYPES
        for chain in self._chains:
            needed = [values[key] for key in chain.inputs]
            for key in chain.forgotten:
                del values[key]
            needed = needed[0] if len(needed) == 1 else needed
            values[chain.output] = chain(
                needed, training, is_plain, may_overwrite, kept or {}
            )
        return values[self._output]


def is_free(hooks):
    """Whether there are no hooks, these among them, and nobody records."""
    import torch

    return not (
        is_heard(hooks)
        or torch.jit.is_tracing()
        or torch.compiler.is_compiling()
    )


def is_heard(hooks):
    """Whether there are hooks, these or those of all modules."""
    import torch

    return any(hooks) or torch.nn.modules.module._has_any_global_hook()


def allocates(layer):
    """Whether its output is never its input, or a view of it."""
    return isinstance(layer, Dense) or getattr(layer, "activation", 0) is gelu


def _ids(tensors):
    return [id(tensor) for tensor in keras.tree.flatten(tensors)]
