"""A model as evaluation sees it: images in, logits of known classes out."""

import math

import keras
import numpy as np

from keras_convnext._util.limits import check_memory
from keras_convnext._util.progress import progress
from keras_convnext.artifacts import metadata as embedded
from keras_convnext.artifacts import running
from keras_convnext.data.eval_loader import EvalLoader
from keras_convnext.data.threads import in_order
from keras_convnext.evaluation.views import ViewLoader
from keras_convnext.evaluation.views import mean_logits
from keras_convnext.images import geometry
from keras_convnext.images import views


def artifact_of(model):
    """The `Artifact` that a model of this package is, or that is given."""
    if isinstance(model, keras.Model):
        return running.of_model(model, model.name)
    if not isinstance(model, running.Artifact):
        raise ValueError(
            "Expected a Keras model, or what `artifacts.open_artifact` "
            f"opens. Received: {model!r}"
        )
    return model


class Classifier:
    """A model in any runtime, with its preprocessing and its classes.

    Args:
        artifact: an `Artifact`.
        preprocessing: the `Preprocessing` of its images.
        batch_size: int; all batches are filled up to it.
        tta: key of `images.views.COUNTS`, or `None` for one view.

    Attributes:
        metadata: of the `Artifact`.
        shape: of one image: height, width, channels.
        outputs: list of `(id, name)`; numbers where it knows no classes.
        is_named: whether it does.
        has_logits: whether cross-entropy can be told.
    """

    def __init__(self, artifact, preprocessing, batch_size, tta=None):
        self.artifact, self.metadata = artifact, artifact.metadata
        self.preprocessing, self.batch_size = preprocessing, batch_size
        self.tta = tta
        self._check()
        self.artifact = artifact.at_size(preprocessing.image_size)
        metadata = artifact.metadata
        self.shape = (*preprocessing.image_size, metadata["channels"])
        check_memory(
            4 * batch_size * math.prod(self.shape),
            f"A batch of {batch_size} images of shape {self.shape}",
        )
        self.has_logits = "logits" in metadata["outputs"] and (
            metadata["activation"] in (None, "softmax")
        )
        self.is_named = metadata["classes"] is not None
        self.outputs = metadata["classes"]
        if not self.is_named:
            logits = self._one_view(np.zeros((1, *self.shape), "uint8"))
            self.outputs = [(str(x), str(x)) for x in range(logits.shape[1])]

    def loader(self, source):
        """The batches of a source, as `logits` takes them."""
        arguments = source, self.preprocessing, self.batch_size
        if self.tta is None:
            return EvalLoader(*arguments)
        return ViewLoader(*arguments, self.tta)

    def logits(self, images, activation=None):
        """Logits in `float64`, or scores or numbers where there are none.

        Args:
            images: `uint8` array `(n, height, width, channels)`, up to
                `batch_size` of them, or `(n, views, …)`: their scores are the
                means of those of their views.
            activation: from logits to scores; the model's own, or else a
                softmax, if `None`.

        Returns:
            `float64` array `(n, outputs)`.
        """
        if self.tta is None:
            return self._one_view(images)
        of_views = [self._one_view(x) for x in images.swapaxes(0, 1)]
        if "logits" not in self.metadata["outputs"]:
            return np.mean(of_views, axis=0)
        own = self.metadata["activation"] or "softmax"
        return mean_logits(np.array(of_views), activation or own)

    def _one_view(self, images):
        if images.shape[1:] != self.shape:
            raise ValueError(
                f"Expected images of shape {self.shape}. Received: images of "
                f"shape {images.shape[1:]} for {self.metadata['model']!r}. "
                "Resize them"
            )
        # One width for all batches: another would be compiled anew.
        batch = np.resize(images, (self.batch_size, *self.shape))
        metadata = {**self.metadata, "preprocessing": self.preprocessing}
        outputs = self.artifact.run(embedded.inputs(metadata, batch))
        name = next(name for name in embedded.HEADS if name in outputs)
        return np.asarray(outputs[name], "float64")[: len(images)]

    def _check(self):
        name = self.metadata["model"]
        if not set(embedded.HEADS) & set(self.metadata["outputs"]):
            raise ValueError(
                "Expected a model with its classifier. Received: "
                f"{name!r} with outputs {self.metadata['outputs']}"
            )
        if self.preprocessing is None:
            raise ValueError(
                "Expected a model that knows the preprocessing of its images. "
                f"Received: {name!r}. Pass `preprocessing=`"
            )
        if len(self.preprocessing.mean) == 3:
            geometry.checked(**self.preprocessing.arguments())
        views.check(self.tta, self.preprocessing)
        activation = self.metadata["activation"]
        if self.tta and activation not in (None, "softmax", "sigmoid"):
            raise ValueError(
                "The mean over views is one of probabilities. Received: "
                f"tta={self.tta!r} for {name!r}, whose scores are made by a "
                f"{activation}. Leave `tta` out"
            )


def scored(classifier, source, columns, verbose, unreadable, activation=None):
    """Yields the outputs for the images that can be read, batch by batch.

    Args:
        classifier: a `Classifier`.
        source: the images.
        columns: int array, which outputs.
        verbose: whether to show progress.
        unreadable: dict that at the end has the names of images that cannot be
            read, and why.
        activation: as for `Classifier.logits`.

    Yields:
        `(places, outputs)`: int array `(n,)` of numbers in the source, and
        `float64` array `(n, columns)`.
    """
    loader = classifier.loader(source)
    counts = []
    with progress("evaluating", len(source), "images", verbose) as advance:
        for places, images in in_order(loader.load, range(len(loader))):
            if not len(places):
                continue
            outputs = classifier.logits(images, activation)[:, columns]
            check_finite(outputs, source, places)
            yield places, outputs
            counts.append(len(places))
            advance(len(places))
    check_some_read(source, counts, loader.skipped)
    unreadable.update(loader.skipped)


def check_finite(logits, source, places):
    """Raises `ValueError` for outputs that are no numbers."""
    bad = places[~np.isfinite(logits).all(axis=1)]
    if len(bad):
        raise ValueError(
            "The outputs of the model must be finite. Received: NaN or "
            f"infinity for {source.name(bad[0])!r}. Evaluate it in float32, or "
            "look for what training did to its weights"
        )


def check_some_read(source, images, skipped):
    """Raises `ValueError` if no image counts."""
    if not np.sum(images):
        name, reason = next(iter(skipped.items()), ("no image", "none given"))
        raise ValueError(
            f"None of {len(source)} images could be read. Received: "
            f"{name!r}: {reason}"
        )
