"""A model as evaluation sees it: images in, logits of known classes out."""

import numpy as np

from keras_convnext.artifacts import metadata as embedded
from keras_convnext.evaluation.runner import Runner
from keras_convnext.evaluation.runner import outputs_of
from keras_convnext.evaluation.views import ViewLoader
from keras_convnext.evaluation.views import mean_logits
from keras_convnext.images import views


class Classifier(Runner):
    """A model in any runtime, with its preprocessing and its classes.

    Args:
        artifact, preprocessing, batch_size: as for `Runner`.
        tta: key of `images.views.COUNTS`, or `None` for one view.

    Attributes:
        metadata, shape: as of a `Runner`.
        outputs: list of `(id, name)`; numbers where it knows no classes.
        is_named: whether it does.
        has_logits: whether cross-entropy can be told.
    """

    def __init__(self, artifact, preprocessing, batch_size, tta=None):
        _check_head(artifact.metadata)
        super().__init__(artifact, preprocessing, batch_size)
        self.tta = tta
        self._check_views()
        metadata = artifact.metadata
        self.has_logits = "logits" in metadata["outputs"] and (
            metadata["activation"] in (None, "softmax")
        )
        self.is_named = metadata["classes"] is not None
        self.outputs = metadata["classes"]
        if not self.is_named:
            logits = self._one_view(np.zeros((1, *self.shape), "uint8"))
            self.outputs = [(str(x), str(x)) for x in range(logits.shape[1])]

    def outputs_of(self, columns, names):
        """Id and name of each output: the data's where a model knows none.

        Args:
            columns: ints, the outputs that are the classes of the data.
            names: of these classes.
        """
        outputs = list(self.outputs)
        if not self.is_named:
            for column, name in zip(columns, names):
                outputs[column] = (str(column), name)
        return outputs

    def loader(self, source):
        """The batches of a source, as `logits` takes them."""
        if self.tta is None:
            return super().loader(source)
        return ViewLoader(source, self.preprocessing, self.batch_size, self.tta)

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
        return self.run(images, embedded.HEADS)

    def _check_views(self):
        views.check(self.tta, self.preprocessing)
        activation = self.metadata["activation"]
        if self.tta and activation not in (None, "softmax", "sigmoid"):
            raise ValueError(
                "The mean over views is one of probabilities. Received: "
                f"tta={self.tta!r} for {self.metadata['model']!r}, whose "
                f"scores are made by a {activation}. Leave `tta` out"
            )


def _check_head(metadata):
    if not set(embedded.HEADS) & set(metadata["outputs"]):
        raise ValueError(
            "Expected a model with its classifier. Received: "
            f"{metadata['model']!r} with outputs {metadata['outputs']}"
        )


def scored(classifier, source, columns, verbose, unreadable, activation=None):
    """Yields the outputs for the images that can be read, batch by batch.

    Args:
        classifier: a `Classifier`.
        columns: int array, which outputs.
        source, verbose, unreadable: as for `outputs_of`.
        activation: as for `Classifier.logits`.

    Yields:
        `(places, outputs)`: int array `(n,)` of numbers in the source, and
        `float64` array `(n, columns)`.
    """
    return outputs_of(
        classifier,
        source,
        lambda images: classifier.logits(images, activation)[:, columns],
        "evaluating",
        verbose,
        unreadable,
    )
