"""A segmenter as `segment` sees it: a Keras model, or an exported one."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from keras_convnext._util.annotations import Array
from keras_convnext.artifacts.metadata import DECODE
from keras_convnext.artifacts.running import Artifact
from keras_convnext.tasks.segmentation.model import SegmentationModel
from keras_convnext.tasks.segmentation.model import check_segmenter


@dataclass(frozen=True)
class Segmenter:
    """What runs, and what it takes.

    Attributes:
        name: for messages.
        crop: side of the images of its training.
        classes: how many there are.
        size: height and width of the images it takes, `None` for any.
        remedy: how to get one of any size.
        logits: function of images `(n, height, width, 3)` of 0–255; returns
            an array `(n, height, width, classes)`.
    """

    name: str
    crop: int
    classes: int
    size: tuple[int | None, int | None]
    remedy: str
    logits: Callable[[Array], Array]


def segmenter_of(model: SegmentationModel | Artifact) -> Segmenter:
    """The `Segmenter` of a model; `ValueError` for what is none."""
    of_kind = _of_artifact if isinstance(model, Artifact) else _of_model
    return of_kind(model)


def _of_model(model):
    check_segmenter(model)
    return Segmenter(
        repr(model.name),
        min(model.info.preprocessing.image_size),
        model.outputs[0].shape[-1],
        model.input_shape[1:3],
        "Build its backbone with `input_shape=(None, None, 3)`, the default "
        "without top, for any",
        functools.partial(_logits_of_model, model),
    )


def _logits_of_model(model, images):
    outputs = model.predict_on_batch(images)
    return outputs[DECODE] if isinstance(outputs, dict) else outputs


def _of_artifact(artifact):
    metadata = artifact.metadata
    if DECODE not in metadata["outputs"] or artifact.preprocessing is None:
        raise ValueError(
            "Expected a segmenter that `keras_convnext.export` wrote. "
            f"Received: {str(artifact.path)!r} with outputs "
            f"{metadata['outputs']}"
        )
    return Segmenter(
        repr(str(artifact.path)),
        min(artifact.preprocessing.image_size),
        len(metadata["classes"]),
        tuple(metadata["size"]),
        "Pass that size as `crop`, or export it again with "
        "`image_size='dynamic'`",
        lambda images: artifact.outputs_of(images)[DECODE],
    )
