"""The one record of an export: everything that writers and checks ask for."""

import functools
from dataclasses import dataclass

import keras

from keras_convnext._util.image_layout import to_layout
from keras_convnext.artifacts import graph
from keras_convnext.artifacts import metadata as embedded
from keras_convnext.models import inspection
from keras_convnext.models import rebuilding
from keras_convnext.models.inference import optimize_for_inference


@dataclass(frozen=True)
class Exportable:
    """A model on its way into a file.

    Attributes:
        format: a key of `FORMATS`.
        metadata: the dict of `metadata.of_model`.
        lean: the model in float32 without the layers that only training
            needs, with a dict of named outputs: writers write this one.
        model: the model in float32, whose named outputs the artifact must
            repeat; `None` in a process that only writes.
    """

    format: str
    metadata: dict
    lean: keras.Model
    model: keras.Model | None = None

    @classmethod
    def of(cls, model, format, metadata):
        """The record of a model, which is left as it is."""
        model = graph.as_float32(model)
        # The metadata promise an input that is not normalized yet.
        lean = optimize_for_inference(model, fold_normalization=False)
        features = "features" in metadata["outputs"]
        lean, model = (graph.named(x, features) for x in (lean, model))
        return cls(format, metadata, lean, model)

    @property
    def text(self):
        """The metadata as JSON, as files hold them."""
        return embedded.to_json(self.metadata)

    @property
    def outputs(self):
        """Names of the outputs, in order."""
        return self.metadata["outputs"]

    @property
    def size(self):
        """Height and width of the images, `None` for any."""
        return self.metadata["size"]

    @property
    def input_shape(self):
        """Shape of one image as the artifact takes it."""
        channels = self.metadata["channels"]
        return to_layout(*self.size, channels, self.metadata["data_format"])

    @functools.cached_property
    def permutation(self):
        """Axes that turn the artifact's input into the model's, or `None`."""
        data_format = self.metadata["data_format"]
        if data_format == inspection.data_format(self.lean):
            return None
        is_first = data_format == "channels_first"
        return (0, 2, 3, 1) if is_first else (0, 3, 1, 2)

    def rebuilt(self, model):
        """One of the two models, on an input of the size that is exported."""
        image = graph.image(model, self.size)
        return rebuilding.rebuild(model, image, rebuilding.step)
