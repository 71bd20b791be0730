"""A detector over a data set: what it finds, against what is there."""

import functools
from typing import Any

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import some
from keras_convnext.artifacts.running import Artifact
from keras_convnext.data.objects.opening import open_part
from keras_convnext.data.objects.source import ObjectSource
from keras_convnext.data.objects.source import ObjectSubset
from keras_convnext.tasks.detection import published
from keras_convnext.tasks.detection.ap import AveragePrecision
from keras_convnext.tasks.detection.ap import measure
from keras_convnext.tasks.detection.exported import detect_exported
from keras_convnext.tasks.detection.inference import detect
from keras_convnext.tasks.detection.model import DetectionModel
from keras_convnext.tasks.detection.model import check_detector


def evaluate(
    model: DetectionModel | Artifact,
    source: ObjectSource | ObjectSubset | PathLike,
    verbose: bool = True,
    **options: Any,
) -> AveragePrecision:
    """Measures a detector by COCO's average precision.

    Images are resized as the published detectors were evaluated, one by one,
    and up to 100 objects count in each, from the model's threshold on.

    Args:
        model: a `DetectionModel`, or an exported one, an `Artifact`.
        source: an `ObjectSource`, or what `keras_convnext.data.open_objects`
            opens: the validation images where there are some, else all.
            Classes are found among the model's by name, or by number where the
            model knows no names; what it finds of others does not count.
        verbose: whether to show progress on stderr.
        options: further arguments of `detect`: `scales`, `flip`, `multiple`;
            exported ones take none.

    Returns:
        An `AveragePrecision`, with published figures where there are some.

    Raises:
        ValueError: for a model that is none or has other classes, and if no
            image can be read.
        ImportError: if pycocotools is not installed.

    Examples:
        >>> backbone = keras_convnext.ConvNeXtTiny(
        ...     weights=None, include_top=False
        ... )  # doctest: +SKIP
        >>> model = keras_convnext.detection.MaskRCNN(
        ...     backbone, weights="coco"
        ... )  # doctest: +SKIP
        >>> keras_convnext.detection.evaluate(model, "coco")  # doctest: +SKIP
    """
    if not isinstance(source, (ObjectSource, ObjectSubset)):
        source = open_part(source, "validation")
    of_kind = _of_artifact if isinstance(model, Artifact) else _of_model
    find, name, classes, count = of_kind(model, options)
    return measure(
        find,
        source,
        _class_ids(classes, count, source),
        published.find(name, source.classes),
        verbose,
    )


def _of_model(model, options):
    """How it finds objects, its name, and the names and number of classes."""
    check_detector(model)
    threshold = model.get_layer(f"{model.prefix}detections").score_threshold
    find = functools.partial(
        detect, model, score=threshold, verbose=False, **options
    )
    info = model.info
    name = f"{model.variant.name}.{info.weights}"
    return find, name, info.class_names, model.classes


def _of_artifact(artifact, options):
    """The same of an exported one, which knows its classes if it has any."""
    find = functools.partial(detect_exported, artifact, score=0.0, **options)
    metadata = artifact.metadata
    classes = metadata["classes"]
    names = tuple(name for _, name in classes) if classes else None
    name = f"{metadata['model']}.{metadata['weights']}"
    return find, name, names, classes and len(classes)


def _class_ids(names, count, source):
    """For each of the model's classes its id in the data, or `None`."""
    # Files without names do not tell how many there are.
    if names is None and count in (None, len(source.classes)):
        return source.class_ids
    names = names or tuple(map(str, range(count)))
    if missing := [x for x in source.classes if x not in names]:
        raise ValueError(
            "The data's classes must be among the model's. Received: "
            f"{some(missing)} of {len(source.classes)}, which the model, with "
            f"{count} classes such as {some(names, 3)}, does not have. Rename "
            "them in the data, or train on it"
        )
    by_name = dict(zip(source.classes, source.class_ids))
    return [by_name.get(x) for x in names]
