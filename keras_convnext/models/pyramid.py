"""The feature maps of every stage, for detectors and segmenters."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_convnext._util.serialization import register
from keras_convnext.facts.layer_names import LayerName
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import level_norm
from keras_convnext.facts.layer_names import parse
from keras_convnext.layers.norms import LayerNormalization
from keras_convnext.models import inspection
from keras_convnext.models.model import ConvNeXtModel

LEVELS = ("P2", "P3", "P4", "P5")
# `LayerNorm` in object_detection/…/backbones/convnext.py of the official code.
EPSILON = 1e-6


@register
class PyramidModel(keras.Model):
    """A Functional model from images to feature maps, a dict by level.

    `feature_pyramid` returns one. KerasHub takes it as an `image_encoder`.
    """

    # By exactly these names Keras recognizes a Functional model.
    def __init__(
        self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any
    ):
        super().__init__(inputs, outputs, name=name, **kwargs)

    @property
    def pyramid_outputs(self) -> dict[str, Any]:
        """The symbolic maps by level, under the name that KerasHub has."""
        return self.output


def feature_pyramid(
    model: ConvNeXtModel,
    levels: Sequence[str] = LEVELS,
    norm: bool = False,
) -> PyramidModel:
    """A model that returns the feature maps of several stages at once.

    Layers and weights are shared with `model`: what trains one trains both.
    The maps are those of timm's `features_only=True`, without a normalization
    behind them. The input is `model`'s: build it with
    `input_shape=(None, None, 3)`, the default without top, for images of any
    size. Each stage floors odd sizes, 63 pixels to 15, 7, 3 and 1.

    Args:
        model: a `ConvNeXtModel`, with or without top.
        levels: names of the stages in `model.pyramid_level_inputs`. `"P2"`
            has stride 4, and each level twice that of the one before, up to
            the model's `output_stride`: with 16, `"P5"` has 16 as well.
        norm: whether a new layer normalization over the channels follows each
            map, as in the official detectors and UperNets. The layers are
            `norm0`, for the first stage, to `norm3`, with the model's
            `layer_prefix` before the name. Always a layer norm of epsilon
            1e-6, whatever normalizes inside `model`.

    Returns:
        A Functional `PyramidModel` from the images of `model` to a dict from
        level to a tensor `(batch, height / stride, width / stride, channels)`,
        in the model's `data_format` and dtype. KerasHub's detectors and
        segmenters take it as their `image_encoder`.

    Raises:
        ValueError: if `model` is none of this package's, or has not all of
            the levels. Isotropic models have `"P4"` alone. Rematerialized
            ones are refused: call `rematerialized` on the pyramid.

    Source: arXiv:2201.03545 §3.2 and the official repository's
    `object_detection` and `semantic_segmentation`.

    Examples:
        >>> model = keras_convnext.ConvNeXtAtto(weights=None, include_top=False)
        >>> pyramid = keras_convnext.feature_pyramid(model, ("P3", "P5"))
        >>> maps = pyramid(keras.ops.zeros((1, 64, 96, 3)))
        >>> keras.ops.shape(maps["P3"]), keras.ops.shape(maps["P5"])
        ((1, 8, 12, 80), (1, 2, 3, 320))
    """
    if not isinstance(model, ConvNeXtModel):
        paths = (
            path
            for path, inner in inspection.models_by_path(model)
            if isinstance(inner, ConvNeXtModel)
        )
        steps = (f".get_layer({x!r})" for x in next(paths, ["convnext_tiny"]))
        raise ValueError(
            "`model` must be a ConvNeXt of this package, as every constructor "
            "returns it; of one inside another model pass the inner one, "
            f"`model{''.join(steps)}`. Received: {model!r}"
        )
    inspection.check_not_rematerialized(model)
    ends = model.pyramid_level_inputs
    _check_levels(levels, tuple(ends))
    is_first = inspection.data_format(model) == "channels_first"
    outputs = {}
    for level in levels:
        layer = model.get_layer(ends[level])
        tower = LayerName(parse(layer.name).prefix)
        x = layer.output
        if norm:
            x = LayerNormalization(
                epsilon=EPSILON,
                name=str(tower.of(level_norm(list(ends).index(level)))),
                dtype=layer.dtype_policy,
            )(x)
        if is_first:
            x = keras.layers.Permute(
                (3, 1, 2),
                name=str(tower.of(f"{level}_{Part.TO_CHANNELS_FIRST}")),
                dtype=layer.dtype_policy,
            )(x)
        outputs[level] = x
    return PyramidModel(model.input, outputs, name=f"{model.name}_pyramid")


def _check_levels(levels, available):
    if not available:
        raise ValueError(
            "Levels are named by strides that are powers of two, and this "
            "model has others. Build it with a `patch_size` of 2, 4, 8 or 16, "
            "or take the outputs of its layers `stage_0_block_…_add`. "
            f"Received: levels={levels!r} of a model without levels"
        )
    if (
        not isinstance(levels, tuple | list)
        or not levels
        or any(x not in available or levels.count(x) > 1 for x in levels)
    ):
        raise ValueError(
            f"`levels` must be a tuple of some of {available}, the levels "
            "that this model has, each once. Received: "
            f"levels={levels!r}"
        )
