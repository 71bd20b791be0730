"""A model in any runtime, on all images of a source, batch by batch."""

import math
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from keras_convnext._util.limits import check_memory
from keras_convnext._util.progress import progress
from keras_convnext.artifacts import metadata as embedded
from keras_convnext.artifacts import running
from keras_convnext.data.eval_loader import EvalLoader
from keras_convnext.data.threads import in_order
from keras_convnext.images import geometry


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


def identity_of(artifact, names):
    """The fields of an evaluation that say what is evaluated.

    Args:
        artifact: an `Artifact`.
        names: those of its metadata; its file is one more.
    """
    path = artifact.path
    return {
        **{name: artifact.metadata[name] for name in names},
        "file": str(path) if isinstance(path, Path) else None,
    }


def sized(artifact, preprocessing, image_size):
    """The preprocessing of an artifact's own and a given one, at a size.

    Args:
        artifact: an `Artifact`.
        preprocessing: a `Preprocessing`, or `None`.
        image_size: int or `(height, width)`; that of each if `None`.
    """
    own = artifact.preprocessing
    if image_size is None:
        return own, preprocessing
    size = geometry.pair_of(image_size)
    return (
        own and own.at_size(size),
        preprocessing and replace(preprocessing, image_size=size),
    )


class Runner:
    """A model in any runtime, with its preprocessing.

    Args:
        artifact: an `Artifact`.
        preprocessing: the `Preprocessing` of its images.
        batch_size: int; all batches are filled up to it.

    Attributes:
        metadata: of the `Artifact`.
        shape: of one image: height, width, channels.
    """

    def __init__(self, artifact, preprocessing, batch_size):
        self.metadata = artifact.metadata
        self.preprocessing, self.batch_size = preprocessing, batch_size
        if preprocessing is None:
            raise ValueError(
                "Expected a model that knows the preprocessing of its images. "
                f"Received: {self.metadata['model']!r}. Pass `preprocessing=`"
            )
        if len(preprocessing.mean) == 3:
            geometry.checked(**preprocessing.arguments())
        self.artifact = artifact.at_size(preprocessing.image_size)
        self.shape = (*preprocessing.image_size, self.metadata["channels"])
        check_memory(
            4 * batch_size * math.prod(self.shape),
            f"A batch of {batch_size} images of shape {self.shape}",
        )

    def loader(self, source):
        """The batches of a source, as `run` takes them."""
        return EvalLoader(source, self.preprocessing, self.batch_size)

    def run(self, images, names):
        """The first output there is of some names, in `float64`.

        Args:
            images: `uint8` array `(n, height, width, channels)`, up to
                `batch_size` of them.
            names: of outputs.
        """
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
        name = next(name for name in names if name in outputs)
        return np.asarray(outputs[name], "float64")[: len(images)]


def outputs_of(runner, source, function, title, verbose, unreadable):
    """Yields outputs for the images that can be read, batch by batch.

    Args:
        runner: a `Runner`.
        source: the images.
        function: from a batch of images to an array `(n, outputs)`.
        title: of the progress bar.
        verbose: whether to show it.
        unreadable: dict that at the end has the names of images that cannot be
            read, and why.

    Yields:
        `(places, outputs)`: int array `(n,)` of numbers in the source, and
        what the function returns.
    """
    loader = runner.loader(source)
    count = 0
    with progress(title, len(source), "images", verbose) as advance:
        for places, images in in_order(loader.load, range(len(loader))):
            if not len(places):
                continue
            outputs = function(images)
            check_finite(outputs, source, places)
            yield places, outputs
            count += len(places)
            advance(len(places))
    check_some_read(source, count, loader.skipped)
    unreadable.update(loader.skipped)


def check_finite(outputs, source, places):
    """Raises `ValueError` for outputs that are no numbers."""
    bad = places[~np.isfinite(outputs).all(axis=1)]
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
