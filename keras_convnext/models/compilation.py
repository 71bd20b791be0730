"""A model for `torch.compile`: one function of images and weights.

PyTorch's compiler follows Python line by line. Around each layer Keras has so
many that a small model takes a minute, and ends in thousands of checks before
every call, or is given up. A graph holds arithmetic alone: here the compiler
writes all layers into it as one function that it does not read. What they
compute is recorded behind that, from tensors, in the time of a few calls.
"""

import keras

from keras_convnext.layers import forms

# What a graph is made for, of layers that have it: where one of these changes,
# PyTorch makes another graph. Each is read, and costs a check in every call.
WATCHED = {
    keras.layers.Activation: ("activation",),
    keras.layers.Conv2D: ("lora_enabled", "dtype_policy"),
    keras.layers.Dense: ("lora_enabled", "dtype_policy"),
}
# Which calls of a model are one function: none, those of inference, all.
NONE, INFERENCE, ALL = range(3)
NO_COMPILER = (
    "Expected a C++ compiler, with which PyTorch compiles models for CPUs. "
    "Received: none. Install one (`apt-get install g++`; on macOS "
    "`xcode-select --install`), name another in the environment variable "
    "`CXX`, or leave out `jit_compile=True`: the model runs as well without"
)


class Compilable:
    """The layers of an `Execution` as one function of tensors.

    Args:
        execution: the `Execution`.
    """

    def __init__(self, execution):
        import torch

        self._execution = execution
        self._layers = [step.layer for step in execution.steps]
        self._watched = [
            (layer, name)
            for layer in self._layers
            for kind, names in WATCHED.items()
            if isinstance(layer, kind)
            for name in names
        ]
        self._dropouts = [x for x in self._layers if is_dropout(x)]
        self._variables, self._weights = [], []
        # PyTorch knows functions by themselves, not by the objects they are of.
        self._prepared = torch.compiler.assume_constant_result(
            lambda: self._prepare()
        )
        self._function = torch.compiler.allow_in_graph(
            lambda *arguments: self._compute(*arguments)
        )
        self._drawn = torch.compiler.disable(self._draw)
        self.step = torch.compiler.disable(self._step)
        self.is_in_step = False
        self._compiled = None

    def __call__(self, inputs, training):
        """What the compiler reads: outputs, or `None` where Keras has to run
        the layers."""
        covered = self._prepared()
        if covered == NONE or (training and covered == INFERENCE):
            return None
        for layer, name in self._watched:
            getattr(layer, name)
        kept = self._drawn(inputs) if training and self._dropouts else []
        return self._function(inputs, self._weights, kept)

    def _step(self, step, *args, **kwargs):
        """One of Keras' steps, in which the model alone is compiled."""
        self.is_in_step = True
        try:
            return step(*args, **kwargs)
        finally:
            self.is_in_step = False

    def compiled(self, inputs, training):
        """Outputs as of `__call__`, by PyTorch's compiler."""
        import torch

        if self._compiled is None:
            self._compiled = torch.compile(self.__call__)
        try:
            return self._compiled(inputs, training)
        except Exception as error:  # PyTorch's, of several kinds
            if "InvalidCxxCompiler" in f"{type(error).__name__} {error}":
                raise RuntimeError(NO_COMPILER) from error
            raise

    def _prepare(self):
        """Which calls are covered; called each time a graph is made."""
        self._variables[:] = [
            variable
            for layer in self._layers
            for variable in layer.variables
            if not is_dropout(layer)
        ]
        self._weights[:] = [variable.value for variable in self._variables]
        if self._execution.is_heard() or any(
            layer.activity_regularizer for layer in self._layers
        ):
            return NONE
        return ALL if all(map(is_stateless, self._layers)) else INFERENCE

    def _draw(self, inputs):
        """What each dropout keeps, as bool tensors.

        Outside of the graph, in which seeds are no numbers.
        """
        import torch

        return [
            layer.call(
                torch.ones(
                    noise_shape(layer, len(inputs)), device=inputs.device
                ),
                training=True,
            )
            > 0
            for layer in self._dropouts
        ]

    def _compute(self, inputs, weights, kept):
        layers = map(id, self._dropouts)
        with keras.StatelessScope(zip(self._variables, weights)):
            return self._execution.run(
                inputs, bool(kept), False, dict(zip(layers, kept))
            )


def is_followed():
    """Whether PyTorch's compiler follows this call, and not its exporter."""
    import torch

    return (
        torch.compiler.is_dynamo_compiling()
        and not torch.compiler.is_exporting()
    )


def is_dropout(layer):
    """Whether it is a dropout whose draws have a known shape."""
    return (
        type(layer) is keras.layers.Dropout
        and layer.rate > 0
        and None not in noise_shape(layer, 1)
    )


def noise_shape(layer, batch_size):
    """Of what a dropout draws for a batch."""
    shape = list(layer.noise_shape or layer.input.shape)
    known = (batch_size, *layer.input.shape[1:])
    shape[0] = None
    return [x if y is None else y for x, y in zip(known, shape)]


def is_stateless(layer):
    """Whether training changes nothing of it but by gradients."""
    known = forms.of(layer).torch or is_dropout(layer)
    return bool(known) or not layer.variables


def dropped(layer, inputs, kept):
    """`inputs` of a dropout, as Keras has it, given what is kept."""
    import torch

    kept = kept.broadcast_to(inputs.shape)
    scaled = inputs / ((1.0 - layer.rate) or 1.0)
    return torch.where(kept, scaled, torch.zeros_like(inputs))
