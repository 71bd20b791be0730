"""What a model costs: parameters, multiply-adds and activations."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
from keras import layers

from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import in_range
from keras_convnext.facts.layer_names import scope_of
from keras_convnext.layers import states
from keras_convnext.layers.initializers import skip_random_numbers
from keras_convnext.models import rebuilding
from keras_convnext.models.rematerialization import Rematerialized


@in_range
def profile(
    model: keras.Model, input_shape: Sequence[Count] | None = None
) -> "Profile":
    """Counts parameters, multiply-adds and activations of a model.

    As the paper counts: the multiply-adds of convolutions and dense layers
    for one image, and nothing of normalizations, activations and additions.
    Activations are the elements that these layers give out. A layer that is
    called twice counts twice, its parameters once. A detector's heads count for
    all of its proposals, and for masks of all of its detections. LoRA and what
    `model.quantize` adds are not counted: one merges into the kernel, and the
    other leaves it its shape.

    Args:
        model: a Functional or Sequential `keras.Model` with one input of
            images, nested ones included.
        input_shape: shape of one image without the batch; needed where the
            model's own has sizes of `None`.

    Returns:
        A `Profile`.

    Raises:
        ValueError: for other models, sizes that are not known, and layers
            with weights whose multiply-adds are not known.

    Source: V1 paper, table 1 and appendix; timm and fvcore count alike.

    Examples:
        >>> model = keras_convnext.ConvNeXtAtto(weights=None)
        >>> profile = keras_convnext.profile(model)
        >>> profile.parameters, profile.macs
        (3695520, 547332480)
    """
    inputs, shape = _one_of_each(model, input_shape)
    rows: list[LayerProfile] = []
    seen: set[int] = set()
    _walk(model, inputs, rows, seen)
    return Profile(model.name, shape, tuple(rows))


def _one_of_each(model, input_shape):
    """The inputs of a model for one image, and the shape of that."""
    every = getattr(model, "inputs", None) or []
    # Beside images detectors take their sizes.
    images = [x for x in every if len(every) == 1 or len(x.shape) == 4]
    shape = input_shape
    if shape is None and len(images) == 1:
        shape = images[0].shape[1:]
    is_known = isinstance(shape, (tuple, list)) and all(
        isinstance(side, int) for side in shape
    )
    if not is_known or (every and len(images) != 1):
        raise ValueError(
            "Expected a model with one input of known size. Received: "
            f"{model.name!r} with inputs of shape {[x.shape for x in every]}. "
            "Pass `input_shape=(height, width, channels)`"
        )
    inputs = [
        keras.KerasTensor(
            (1, *(shape if x is images[0] else x.shape[1:])), x.dtype
        )
        for x in every
    ]
    return inputs, tuple(shape)


@contextlib.contextmanager
def without_numbers():
    """Models built inside have no useful weights, and on torch no memory.

    Examples:
        >>> with keras_convnext.models.profiling.without_numbers():
        ...     model = keras_convnext.ConvNeXtAtto(weights=None)
        >>> keras_convnext.profile(model).macs
        547332480
    """
    is_torch = keras.backend.backend() == "torch"
    device = keras.device("meta") if is_torch else contextlib.nullcontext()
    with skip_random_numbers(), device:
        yield


@dataclass(frozen=True)
class LayerProfile:
    """What one call of a layer costs, for one image.

    Attributes:
        name: of the layer.
        kind: its class.
        stage: `"stem"`, `"stage_0"` …, `"head"` or `""`, by its name.
        output_shape: without the batch.
        parameters: trainable and other ones; 0 when it is called again.
        macs: multiply-adds; 0 but for convolutions and dense layers.
        activations: elements given out; 0 but for these layers.
    """

    name: str
    kind: str
    stage: str
    output_shape: tuple
    parameters: int
    macs: int
    activations: int


@dataclass(frozen=True)
class Profile:
    """What a model costs for one image; printable as a table of its stages.

    Attributes:
        name: of the model.
        input_shape: of one image.
        layers: tuple of `LayerProfile`, in order of computation.
    """

    name: str
    input_shape: tuple
    layers: tuple

    @property
    def parameters(self) -> int:
        """Number of all parameters."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and dense layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def activations(self) -> int:
        """Elements that convolutions and dense layers give out."""
        return sum(layer.activations for layer in self.layers)

    def stages(self) -> dict[str, "Profile"]:
        """The same sums as a `Profile` for each stage, by name, in order."""
        names = dict.fromkeys(layer.stage for layer in self.layers)
        return {
            name: Profile(
                name,
                self.input_shape,
                tuple(x for x in self.layers if x.stage == name),
            )
            for name in names
        }

    def as_dict(self):
        """The sums of all and of each stage, as JSON's types."""
        stages = {name: x._sums() for name, x in self.stages().items()}
        return {
            "input_shape": list(self.input_shape),
            **self._sums(),
            "stages": stages,
        }

    def _sums(self):
        names = ("parameters", "macs", "activations")
        return {name: getattr(self, name) for name in names}

    def __str__(self):
        rows = {name or "other": x for name, x in self.stages().items()}
        rows["total"] = self
        lines = [f"{'':10}{'parameters':>14}{'MACs':>18}{'activations':>14}"]
        for name, stage in rows.items():
            if stage.parameters or stage.macs or name == "total":
                lines.append(
                    f"{name:10}{stage.parameters:14,}{stage.macs:18,}"
                    f"{stage.activations:14,}"
                )
        return "\n".join(lines)


def _walk(model, inputs, rows, seen):
    """Adds a row for each call of a layer, shared layers included."""

    def visit(step, *args, **kwargs):
        layer = getattr(step, "layer", step)
        if isinstance(layer, Rematerialized):
            (x,) = args
            for part in layer.layers:
                x = visit(rebuilding.step(part), x)
            return x
        outputs = step(*args, **kwargs)
        if isinstance(layer, keras.Model):
            _walk(layer, keras.tree.flatten(args), rows, seen)
        elif isinstance(layer, keras.layers.Layer):
            rows.append(_row(layer, keras.tree.flatten(args), outputs, seen))
        return outputs

    if not getattr(model, "inputs", None):
        raise ValueError(
            "Expected a Functional or Sequential model, whose layers are "
            f"known. Received: {model.name!r} of type {type(model).__name__}"
        )
    inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in inputs]
    plain = keras.Model(model.inputs, model.outputs)
    rebuilding.rebuild(plain, inputs, rebuilding.step, visit)


def _row(layer, inputs, outputs, seen):
    first = keras.tree.flatten(outputs)[0]
    is_new = id(layer) not in seen
    seen.add(id(layer))
    macs = _macs(layer, inputs[0].shape, first.shape)
    # Of one image, which may have many rows.
    elements = math.prod(first.shape)
    return LayerProfile(
        layer.name,
        type(layer).__name__,
        scope_of(layer.name),
        tuple(first.shape[1:]),
        states.plain_count(layer) if is_new else 0,
        macs,
        elements if macs else 0,
    )


def _macs(layer, input_shape, output_shape):
    shapes = states.plain_shapes(layer)
    weights = sum(math.prod(x) for x in shapes if len(x) > 1)
    if not weights:
        return 0
    if isinstance(layer, TRANSPOSED):
        shape = input_shape
    elif isinstance(layer, PRODUCTS):
        shape = output_shape
    else:
        raise ValueError(
            "Expected layers of images: convolutions, dense layers, and such "
            "as have no matrix of weights. Received: "
            f"{layer.name!r} of type {type(layer).__name__}, whose "
            "multiply-adds are not known. Profile the model without it"
        )
    is_first = getattr(layer, "data_format", None) == "channels_first"
    places = shape[2:] if is_first else shape[1:-1]
    return weights * math.prod((shape[0], *places))


# Layers that multiply with all of their kernels at every position: of their
# inputs, and of their outputs.
TRANSPOSED = (
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)
PRODUCTS = (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Dense,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
)
