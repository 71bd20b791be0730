"""The model class: a Functional `keras.Model` that knows what it is."""

import os
import shutil
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_convnext._util.serialization import register
from keras_convnext.facts import labels
from keras_convnext.facts.info import ModelInfo
from keras_convnext.facts.variants import Variant
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.layers import forms
from keras_convnext.models.compilation import Compilable
from keras_convnext.models.compilation import is_followed
from keras_convnext.models.execution import execution_of
from keras_convnext.models.names import Named

# Of a summary: columns for shapes and counts, what stands around all four, and
# the narrowest column.
SUMMARY, SUMMARY_LINES, LEAST = (14, 10), 13, 8


@register
class ModelCard(Named, keras.layers.Layer):
    """Passes images through unchanged and carries a `ModelInfo`.

    Keras rebuilds a Functional model from its layers alone: only what a
    layer's config holds survives `clone_model`, nesting and reloading.
    """

    remedy = (
        "Layers are named independently of the model's name: build the second "
        "ConvNeXt on a tensor of the first's model with "
        "`layer_prefix='second_'`, or call both as layers"
    )

    def __init__(self, info=None, **kwargs):
        # Without autocasting, mixed precision would round the pixels.
        super().__init__(autocast=False, **kwargs)
        if isinstance(info, dict):
            info = ModelInfo.from_config(info)
        self.info = info or ModelInfo()

    def call(self, inputs):
        return inputs

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def get_config(self):
        return {**super().get_config(), "info": asdict(self.info)}


forms.add(ModelCard, onnx=forms.onnx_same)


@register
class ConvNeXtModel(Named, keras.Model):
    """A Functional model that knows its variant, weights and preprocessing.

    Every public constructor returns one. It behaves as any Functional model;
    what it knows survives `save`, `load_model`, `clone_model` and being nested
    in another saved model.

    Args:
        inputs, outputs, name: as for `keras.Model`; a `ModelCard` is among
            the layers between them.

    Examples:
        >>> model = keras_convnext.ConvNeXtAtto(weights=None)
        >>> model.variant.depths
        (2, 2, 6, 2)
        >>> model.preprocessing.mean
        (0.485, 0.456, 0.406)
    """

    remedy = (
        "Build one of the models with a name of its own, `name='second'`, or "
        "set it before the model is called: `model.name = 'second'`"
    )

    # Keras recognizes the constructor of a Functional model by exactly these
    # names; with any other `get_config` would lose the graph.
    def __init__(
        self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any
    ):
        super().__init__(inputs, outputs, name=name, **kwargs)
        self._execution = execution_of(self)
        self._compilable = None
        if self._execution is not None:
            self._compilable = Compilable(self._execution)

    def call(self, inputs, training=None, mask=None, **kwargs):
        if self._may_run_directly(inputs) and mask is None and not kwargs:
            inputs = ops.convert_to_tensor(inputs, self.inputs[0].dtype)
            outputs = self._run_directly(inputs, training)
            if outputs is not None:
                return outputs
        return super().call(inputs, training=training, mask=mask, **kwargs)

    def train_step(self, *args: Any, **kwargs: Any) -> Any:
        """Keras' own; on torch, `jit_compile=True` compiles the model alone."""
        return self._step(super().train_step, *args, **kwargs)

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        """As `train_step`."""
        return self._step(super().test_step, *args, **kwargs)

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """As `train_step`."""
        return self._step(super().predict_step, *args, **kwargs)

    def _step(self, step, *args, **kwargs):
        if self._compilable is not None and is_followed():
            return self._compilable.step(step, *args, **kwargs)
        return step(*args, **kwargs)

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Keras' own export, whose errors name this package's.

        Raises:
            ValueError: if Keras cannot export the model.
            ImportError: without the packages that Keras needs.
        """
        try:
            # Some of Keras' writers take no paths but strings.
            super().export(os.fspath(filepath), *args, **kwargs)
        except Exception as error:  # Keras' and its converters', of any kind
            is_missing = isinstance(error, ImportError)
            raise (ImportError if is_missing else ValueError)(
                f"Keras could not export {self.name!r}: "
                f"{str(error).strip()[:300]}\n"
                "Export it with this package, which writes SavedModel, "
                "TFLite, ONNX, OpenVINO and PyTorch files on every backend: "
                "`keras_convnext.export(model, 'model.onnx')`"
            ) from error

    def _may_run_directly(self, inputs):
        """Whether it is one array or tensor of the right rank, for PyTorch."""
        return (
            self._execution is not None
            and not isinstance(inputs, keras.KerasTensor)
            and hasattr(inputs, "shape")
            and len(inputs.shape) == len(self.inputs[0].shape)
        )

    def _run_directly(self, inputs, training):
        """Outputs without Keras' work around the layers; `None` where it has
        to be done."""
        if is_followed():
            return self._compilable(inputs, training)
        if self._compilable.is_in_step:
            return self._compilable.compiled(inputs, training)
        if self._execution.is_free():
            return self._execution(inputs, training)
        return None

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        """Keras' own summary, with a column that holds the layers' names.

        Args:
            line_length, positions, options: as for `keras.Model.summary`; by
                default as wide as the terminal, and names are whole before
                all else.

        Examples:
            >>> model = keras_convnext.ConvNeXtAtto(weights=None)
            >>> model.summary(
            ...     layer_range=["stage_2_block_5", "stage_2_block_5"]
            ... )  # doctest: +SKIP
        """
        is_free = line_length is None and positions is None
        if is_free and not options.get("show_trainable"):
            longest = max(len(layer.name) for layer in self.layers)
            # Outside of the columns are lines and spaces.
            widest = longest + sum(SUMMARY) + longest + 6 + SUMMARY_LINES
            columns = shutil.get_terminal_size().columns - 4
            line_length = min(widest, columns)
            ends = np.cumsum([longest, *SUMMARY])
            # Half a column more, as Keras rounds down.
            positions = [(end + 0.5) / line_length for end in ends]
            positions.append(1 - (SUMMARY_LINES - 0.5) / line_length)
            if positions[-1] - positions[-2] < LEAST / line_length:
                positions = line_length = None  # a narrow terminal
        super().summary(line_length, positions, **options)

    @property
    def info(self) -> ModelInfo:
        """The `ModelInfo` of this model."""
        return self._card.info

    @property
    def variant(self) -> Variant:
        """The `Variant` that this model was built from."""
        # `None` for the steps of the roadmap alone.
        return self.info.variant  # type: ignore[return-value]

    @property
    def preprocessing(self) -> Preprocessing:
        """The `Preprocessing` that belongs to the weights."""
        # Every constructor knows it.
        return self.info.preprocessing  # type: ignore[return-value]

    @property
    def license(self) -> str | None:
        """License of the loaded weights, or `None`."""
        return self.info.license

    @property
    def pyramid_level_inputs(self) -> dict[str, str]:
        """Name of the layer that ends each stage, by level such as `"P2"`."""
        return dict(self.info.pyramid_level_inputs or {})

    @property
    def embedding_dims(self) -> tuple[int, ...]:
        """Channels of each stage, by the name that keras-cv's SegFormer asks
        for."""
        return self.variant.dims

    @property
    def class_names(self) -> list[str] | None:
        """Class names in the order of the outputs, or `None`; assignable."""
        if self.info.class_names is not None:
            return list(self.info.class_names)
        if self.info.label_set in labels.LABEL_SETS.values():
            return [name for _, name in labels.label_set(self.output_shape[-1])]
        return None

    @class_names.setter
    def class_names(self, values: Iterable[Any] | None) -> None:
        names = None
        if values is not None:
            names = tuple(str(value) for value in values)
            shape = self.output_shape
            if len(shape) != 2 or len(names) != shape[-1]:
                raise ValueError(
                    "`class_names` must have one name for each output of the "
                    f"classifier. Received: {len(names)} names for a model "
                    f"with output shape {shape}"
                )
        self.update_info(class_names=names)

    def update_info(self, **changes: Any) -> None:
        """Sets fields of `info`, which stay with the model."""
        self._card.info = replace(self.info, **changes)

    @property
    def _card(self):
        return next(x for x in self.layers if isinstance(x, ModelCard))
