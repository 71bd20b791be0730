"""What is published: a model, and what is known of it."""

import collections
import functools
from dataclasses import dataclass
from typing import Any

import keras

from keras_convnext.artifacts import graph
from keras_convnext.artifacts import metadata as embedded
from keras_convnext.artifacts import verification
from keras_convnext.facts.info import ModelInfo
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.models import inspection
from keras_convnext.models.model import ConvNeXtModel


@dataclass(frozen=True)
class Subject:
    """A model of images, with one row of scores or numbers for each.

    Attributes:
        model: a `ConvNeXtModel`.
        metadata: the dict of `artifacts.metadata.of_model`.
    """

    model: keras.Model
    metadata: dict[str, Any]

    @classmethod
    def of(cls, model):
        """Checks that a model can be published.

        Raises:
            ValueError: if it is no classifier, or no regressor, of this
                package; or if it is quantized.
        """
        expected = "Expected a ConvNeXt of this package with its classifier"
        if not isinstance(model, ConvNeXtModel):
            raise ValueError(
                f"{expected}. Received: {type(model).__name__}. Segmenters and "
                "detectors are not published yet; `keras_convnext.export` "
                "writes them for other runtimes"
            )
        metadata = embedded.of_model(model)
        if not set(embedded.HEADS) & set(metadata["outputs"]):
            raise ValueError(
                f"{expected}. Received: {model.name!r} to "
                f"{metadata['outputs']}. Pass a model saved with its classifier"
            )
        inspection.check_not_quantized(model)
        inspection.check_not_rematerialized(model)
        return cls(model, metadata)

    @property
    def info(self) -> ModelInfo:
        return self.model.info

    @property
    def preprocessing(self) -> Preprocessing:
        """That of the images which the model takes."""
        return self.metadata["preprocessing"]

    @property
    def outputs(self) -> int:
        return self.model.output_shape[-1]

    @property
    def is_regression(self) -> bool:
        return "values" in self.metadata["outputs"]

    @property
    def activation(self) -> str:
        """`"softmax"`, which logits alone are meant for too, or another."""
        if self.is_regression:
            return "linear"
        if "logits" not in self.metadata["outputs"]:
            return "another activation"
        return self.metadata["activation"] or "softmax"

    @property
    def main(self) -> str:
        """The output that is compared."""
        outputs = self.metadata["outputs"]
        return next(x for x in embedded.HEADS if x in outputs)

    @functools.cached_property
    def names(self) -> list[str]:
        """A name for each output, none twice."""
        classes = self.metadata["classes"]
        if classes is None:
            return [str(index) for index in range(self.outputs)]
        counts = collections.Counter(name for _, name in classes)
        return [
            name if counts[name] == 1 else f"{name} ({id})"
            for id, name in classes
        ]

    def outputs_of(self, images):
        """What the model computes in float32, by name.

        Args:
            images: `uint8` array `(n, height, width, channels)`.
        """
        model = graph.named(graph.as_float32(self.model))
        inputs = embedded.inputs(self.metadata, images)
        with verification.full_precision():
            # Called, and not compiled for a few images.
            outputs = model(inputs, training=False)
        return {
            name: keras.ops.convert_to_numpy(x) for name, x in outputs.items()
        }
