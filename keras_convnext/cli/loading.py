"""What `--model` and `--weights` stand for, in every subcommand."""

from pathlib import Path

import keras_convnext
from keras_convnext._util.checks import one_of
from keras_convnext._util.telling import tell
from keras_convnext.artifacts import keras_file
from keras_convnext.artifacts import metadata as embedded
from keras_convnext.artifacts import running
from keras_convnext.facts.variants import LISTED_BY
from keras_convnext.tasks import detection
from keras_convnext.tasks import segmentation

DETECTORS = {
    "mask_rcnn": detection.MaskRCNN,
    "cascade_mask_rcnn": detection.CascadeMaskRCNN,
}


def check_model(name):
    """Raises `ValueError` unless there is a model to load."""

    if not _is_keras(name):
        variant, _, _ = name.partition(".")
        one_of("model", variant, keras_convnext.VARIANTS, LISTED_BY)
    elif not Path(name).is_file():
        raise ValueError(f"The file must exist. Received: {name!r}")


def load_model(name, weights, trust=False, **arguments):
    """A model by name, or that of a `.keras` file.

    Args:
        name: of a variant, or a path.
        weights: for a name: tag, file, or `"none"`.
        trust: whether a file may run code when it is opened.
        arguments: for a name: others of `create_model`.
    """

    if _is_keras(name):
        return keras_file.load(name, trust)
    weights = None if weights == "none" else weights
    return keras_convnext.create_model(name, weights=weights, **arguments)


def load_on_backbone(name, weights, build, trust=False):
    """A segmenter or detector: of a file, or on a backbone by name.

    Args:
        name: of the backbone, or a path: of what `export` wrote an `Artifact`.
        weights: of the whole, for a name: tag, file, or `"none"`.
        build: function of a backbone, and of `weights`.
        trust: whether a file may run code when it is opened.
    """

    opened = opened_file(name, trust)
    if opened is not None:
        return opened
    if weights == "none":
        tell(
            "keras-convnext: the weights are random, and the classes mean "
            "nothing"
        )
        weights = None
    backbone = keras_convnext.create_model(
        name, include_top=False, weights=None, data_format="channels_last"
    )
    return build(backbone, weights=weights)


def open_classifier(name, weights, is_rgb=False, trust=False, **arguments):
    """An `Artifact` that classifies images, or predicts numbers of them.

    Args:
        name, weights, trust, arguments: as for `load_model`; also any file or
            folder that `keras_convnext.export` writes.
        is_rgb: whether the images must be RGB.

    Raises:
        ValueError: if it is no ConvNeXt of this package with a classifier.
    """

    kind = "RGB images" if is_rgb else "images"
    if is_exported(name):
        artifact = running.open_artifact(name, trust)
        what = repr(artifact.metadata["model"])
    else:
        is_file = _is_keras(name)
        if weights == "none" and not is_file:
            tell(
                "keras-convnext: the weights are random, and the predictions "
                "mean nothing"
            )
        model = load_model(name, weights, trust, **arguments)
        what = f"a {type(model).__name__} from {model.input_shape}"
        if not isinstance(model, keras_convnext.ConvNeXtModel):
            _refuse(kind, name, what, _command_for(model))
        artifact = running.of_model(model, Path(name) if is_file else name)
    metadata = artifact.metadata
    if metadata["label_set"] == "clip":
        raise ValueError(
            "Expected a classifier; these weights project images for "
            "comparison with texts. Choose a tag whose classes are those of "
            f"ImageNet, see `keras-convnext weights`. Received: {name!r} with "
            f"weights {metadata['weights']!r}"
        )
    if is_rgb and metadata["preprocessing"] is None:
        raise ValueError(
            "Expected a model that knows how its images are prepared. "
            f"Received: {name!r}, which does not. Evaluate it from Python with "
            "`evaluate(..., preprocessing=...)`"
        )
    outputs = metadata["outputs"]
    if not is_classifier(artifact) or (is_rgb and metadata["channels"] != 3):
        command = "detect" if embedded.is_detector(outputs) else None
        _refuse(kind, name, f"{what} to {outputs}", command)
    return artifact


def opened_file(name, trust=False):
    """The model in a `.keras` file, or an exported one; `None` for a name."""
    if is_exported(name):
        return running.open_artifact(name, trust)
    return load_model(name, None, trust) if _is_keras(name) else None


def open_teacher(name):
    """A model to learn from: of any file, or by name with its weights."""
    opened = opened_file(name)
    if opened is not None:
        return opened
    check_model(name)
    return keras_convnext.create_model(
        name, **({} if "." in name else {"weights": "imagenet"})
    )


def is_classifier(model):
    """Whether a model, or an `Artifact`, has labels for whole images."""
    if isinstance(model, running.Artifact):
        outputs = {*model.metadata["outputs"]}
        is_detector = embedded.is_detector(outputs)
        return bool(outputs.intersection(embedded.HEADS)) and not is_detector
    return isinstance(model, keras_convnext.ConvNeXtModel)


def is_exported(name):
    """Whether this is what `export` wrote: neither a name nor `.keras`."""

    path = Path(name)
    is_artifact = path.is_dir() or path.suffix in set(running.RUNTIMES) - {""}
    is_name = name in keras_convnext.VARIANTS
    return is_artifact and not is_name and not _is_keras(name)


def _is_keras(name):
    return Path(name).suffix == ".keras"


def _command_for(model):
    """What runs a model that is no classifier; `None` if it is not known."""
    kinds = {
        "detect": detection.DetectionModel,
        "segment": segmentation.SegmentationModel,
    }
    return next((x for x in kinds if isinstance(model, kinds[x])), None)


def _refuse(kind, name, what, command=None):
    remedy = "Pass a model saved or exported with its classifier"
    if command:
        remedy = f"Run it with `keras-convnext {command}`"
    raise ValueError(
        f"Expected a ConvNeXt of this package that classifies {kind}. "
        f"Received: {name!r}, {what}. {remedy}"
    )
