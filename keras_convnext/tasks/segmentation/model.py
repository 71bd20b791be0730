"""The class of segmentation models: Functional, and trained on masks."""

from typing import Any

import keras

from keras_convnext._util.serialization import register
from keras_convnext.artifacts.metadata import DECODE
from keras_convnext.facts.info import ModelInfo
from keras_convnext.facts.variants import Variant

CARD = "segmentation_card"
# The output that helps to train `DECODE`, the prediction.
AUXILIARY = "auxiliary"


@register
class SegmentationModel(keras.Model):
    """A Functional model from images to logits for every pixel.

    `UperNet` returns one. With two outputs, a dict, `fit` and `evaluate` take
    one mask for both.

    Args:
        inputs, outputs, name: as for `keras.Model`; a `ModelCard` named
            `segmentation_card` is among the layers between them.

    Examples:
        >>> backbone = keras_convnext.ConvNeXtAtto(
        ...     weights=None, include_top=False
        ... )
        >>> model = keras_convnext.segmentation.UperNet(
        ...     backbone, ["sky", "sea"], channels=32
        ... )
        >>> model.info.class_names
        ('sky', 'sea')
    """

    # By exactly these names Keras recognizes a Functional model.
    def __init__(
        self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any
    ):
        super().__init__(inputs, outputs, name=name, **kwargs)

    @property
    def info(self) -> ModelInfo:
        """The `ModelInfo`: weights, classes, license, and the size of crops
        as `preprocessing.image_size`."""
        return next(x.info for x in self.layers if x.name.endswith(CARD))

    @property
    def variant(self) -> Variant:
        """The `Variant` of the backbone."""
        # An UperNet stands on nothing without one.
        return self.info.variant  # type: ignore[return-value]

    def without_auxiliary(self) -> keras.Model:
        """The same with the one output `"decode"`, as it is exported."""
        output = self.output
        if isinstance(output, dict):
            output = output[DECODE]
        return keras.Model(self.inputs, {DECODE: output}, name=self.name)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        y = _for_each(y, y_pred)
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        y = _for_each(y, y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)


def _for_each(y, y_pred):
    """One mask for every output, unless each has its own."""
    if isinstance(y_pred, dict) and not isinstance(y, dict):
        return dict.fromkeys(y_pred, y)
    return y


def check_segmenter(model):
    if not isinstance(model, SegmentationModel):
        raise ValueError(
            "Expected a segmenter, as `segmentation.UperNet` returns it. "
            f"Received: {model!r}"
        )
