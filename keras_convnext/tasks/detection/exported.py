"""Detections by a detector that was exported, in its own runtime."""

import numpy as np

from keras_convnext._util.annotations import Images
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import in_range
from keras_convnext.artifacts import metadata as embedded
from keras_convnext.artifacts.running import Artifact
from keras_convnext.images import resizing
from keras_convnext.images.reading import Photograph
from keras_convnext.tasks.detection.inference import Detections
from keras_convnext.tasks.detection.inference import as_record


@in_range
def detect_exported(
    artifact: Artifact, image: PathLike | Images, score: Part = 0.05
) -> Detections:
    """Finds the objects in one image as `detect` does, by an `Artifact`.

    Args:
        artifact: a detector that `keras_convnext.export` wrote, opened by
            `open_artifact`.
        image: see `detect`.
        score: from 0 to 1: what scores less is left out, beside what the model
            leaves out itself.

    Returns:
        `Detections`.

    Raises:
        ValueError: for other artifacts, and one that takes images of another
            size only.

    Examples:
        >>> artifact = keras_convnext.open_artifact(
        ...     "detector.onnx"
        ... )  # doctest: +SKIP
        >>> detect_exported(artifact, "street.jpg").names  # doctest: +SKIP
        ('car', 'person')
    """
    short, long = _sides(artifact)
    pixels = Photograph(image).pixels()
    height, width = pixels.shape[:2]
    size = resizing.fitted_size(height, width, long, short)
    resized = resizing.linear(pixels, *size)[None]
    outputs = artifact.at_size(size).run(
        embedded.inputs(artifact.metadata, resized)
    )
    found = {name: x[0] for name, x in outputs.items()}
    found = {name: x[found["classes"] >= 0] for name, x in found.items()}
    # Boxes are in pixels of what went in.
    scales = np.array([size[1] / width, size[0] / height] * 2, "float32")
    found["boxes"] = found["boxes"] / scales
    classes = artifact.metadata["classes"]
    names = classes and [name for _, name in classes]
    return as_record(names, found, score, (height, width))


def _sides(artifact):
    """The short and the long side of its images; raises for no detector."""
    preprocessing = artifact.preprocessing
    outputs = artifact.metadata["outputs"]
    if not embedded.is_detector(outputs) or not preprocessing:
        raise ValueError(
            "Expected an exported detector. Received: "
            f"{str(artifact.path)!r} with outputs {outputs}"
        )
    return preprocessing.image_size
