"""The vector of each image that a classifier on a model would be given."""

from dataclasses import dataclass

import keras
import numpy as np

from keras_convnext._util.limits import check_memory
from keras_convnext.artifacts import graph
from keras_convnext.artifacts import running
from keras_convnext.data.source import Source
from keras_convnext.data.source import Subset
from keras_convnext.evaluation.runner import artifact_of
from keras_convnext.evaluation.runner import outputs_of
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import parse
from keras_convnext.models import rebuilding
from keras_convnext.models.model import ConvNeXtModel

NAME = "features"


@dataclass(frozen=True)
class Features:
    """The vectors of those images of a source that could be read.

    Attributes:
        vectors: `float32` array `(n, features)`.
        source: the `Source` of these `n` images.
        unreadable: dict from names of images that could not be read to
            reasons.
    """

    vectors: np.ndarray
    source: Source
    unreadable: dict

    @property
    def labels(self):
        """`int32` array `(n,)` of class numbers."""
        return self.source.labels


def computed(runner, source, title, verbose):
    """The `Features` of a source, by a `Runner` of an artifact of features."""
    vectors, places, unreadable = None, [], {}
    found = outputs_of(
        runner,
        source,
        lambda images: runner.run(images, (NAME,)),
        title,
        verbose,
        unreadable,
    )
    count = 0
    for numbers, values in found:
        if vectors is None:
            shape = len(source), values.shape[1]
            size = 4 * shape[0] * shape[1]
            check_memory(size, f"Features of {shape[0]} images")
            vectors = np.empty(shape, "float32")
        vectors[count : count + len(numbers)] = values
        places.append(numbers)
        count += len(numbers)
    read = Subset(source, np.concatenate(places))
    return Features(vectors[:count], read, unreadable)


def artifact_of_features(model):
    """The `Artifact` whose output `features` is a vector for each image.

    Args:
        model: a Keras model, or an `Artifact`.

    Raises:
        ValueError: if it has no such vector.
    """
    artifact = artifact_of(model)
    if artifact.model is not None:
        return running.of_model(
            model_of_features(artifact.model), artifact.path
        )
    if NAME not in artifact.metadata["outputs"]:
        raise ValueError(
            "Expected an exported model that gives out its features. Received:"
            f" {str(artifact.path)!r} with outputs "
            f"{artifact.metadata['outputs']}. Export it again with "
            "`features=True`, or take the `.keras` file"
        )
    return artifact


def check_vectors(runner):
    """Raises `ValueError` unless each image has one vector."""
    image = np.zeros((1, *runner.shape), "uint8")
    shape = runner.run(image, (NAME,)).shape
    if len(shape) != 2:
        raise ValueError(
            "Expected one vector for each image. Received: features of shape "
            f"{shape[1:]} from {str(runner.artifact.path)!r}. Build the model "
            "with pooling='avg', or take the `.keras` file"
        )


def model_of_features(model):
    """A model from the same images to the input of the classifier.

    Args:
        model: a Functional `keras.Model`: with a classifier of this package,
            with a vector for each image as its output, or a `ConvNeXtModel`
            with a map, which is pooled as for a classifier.

    Raises:
        ValueError: for others.
    """
    graph.check(model)
    layers = {parse(layer.name).part: layer for layer in model.layers}
    rank = len(model.outputs[0].shape) if len(model.outputs) == 1 else None
    if rank == 2 and Part.HEAD_CLASSIFIER in layers:
        output = layers[Part.HEAD_CLASSIFIER].input
    elif rank == 2 and NAME in graph.named_outputs(model):
        output = model.outputs[0]
    elif rank == 4 and isinstance(model, ConvNeXtModel):
        output = _pooled(layers, model.variant.head)
    else:
        shapes = [tuple(x.shape) for x in model.outputs]
        raise ValueError(
            "Expected a ConvNeXt of this package, with or without its "
            "classifier, or a Functional model from images to one vector "
            f"each. Received: {model.name!r} with outputs of shape {shapes}. "
            "Pass its part up to the features, `keras.Model(model.input, "
            "model.get_layer(…).output)`"
        )
    return keras.Model(model.inputs[0], output, name=model.name)


def _pooled(layers, head):
    """The vector of a model with a map: the head's layers on its mean."""
    norm = layers[Part.HEAD_NORM]
    pool = keras.layers.GlobalAveragePooling2D(
        # In half precision a sum over many positions overflows.
        data_format="channels_last",
        dtype="float64" if norm.compute_dtype == "float64" else "float32",
    )
    first = [pool, rebuilding.step(norm)]
    steps = first if head == "pool_norm" else first[::-1]
    for part in (Part.HEAD_HIDDEN, Part.HEAD_HIDDEN_ACTIVATION):
        if part in layers:
            steps.append(rebuilding.step(layers[part]))
    x = norm.input
    for step in steps:
        x = step(x)
    return x
