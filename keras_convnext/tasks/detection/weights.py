"""From `weights=` of a detector to a model whose every variable is set."""

from keras_convnext.facts.variants import VARIANTS
from keras_convnext.weights import files
from keras_convnext.weights import hub
from keras_convnext.weights import loading
from keras_convnext.weights import registry
from keras_convnext.weights.detection_tables import HEADS

NAMES = {"mask_rcnn": "Mask R-CNN", "cascade_mask_rcnn": "Cascade Mask R-CNN"}
# What depends on the classes.
PREDICTIONS = ("_classifier", "_deltas")


def told_apart(name, weights):
    """Weights of a whole detector and of a backbone, of which one is `None`.

    Args:
        name: of the backbone's architecture.
        weights: path, URL, `hf://org/repo[@revision]`, tag, or `None`.
    """
    is_tag = isinstance(weights, str) and not (
        files.is_path(weights) or hub.is_remote(weights)
    )
    if weights is None or is_tag:
        is_whole = any(registry.is_name(weights, task) for task in NAMES)
    else:
        # `create_model` refuses other names.
        variant = VARIANTS.get(name)
        tensors = loading.find(variant, weights, next(iter(NAMES))).tensors
        is_whole = any(
            f"{_classifiers(task)[0]}/bias" in tensors for task in NAMES
        )
    return (weights, None) if is_whole else (None, weights)


def find(variant, weights, task):
    """Finds and reads what `weights` names, a `loading.Source` or `None`.

    Args:
        variant: the `Variant` of the backbone.
        weights: path, URL, `hf://org/repo[@revision]`, tag, or `None`.
        task: a key of `NAMES`.

    Raises:
        ValueError: for anything that cannot be found, read or recognized,
            and for files without this detector's heads.
    """
    source = loading.find(variant, weights, task)
    if source and f"{_classifiers(task)[0]}/bias" not in source.tensors:
        others = [
            f"those of a {NAMES[other]}"
            for other in NAMES
            if f"{_classifiers(other)[0]}/bias" in source.tensors
        ]
        raise ValueError(
            f"Expected the weights of a whole {NAMES[task]}, with "
            "`backbone.…`, `neck.…`, `rpn_head.…` and `roi_head.…`, in mmdet's "
            f"names or this package's. Received: weights={source.name!r}, "
            f"{' '.join(others) or 'without these heads'}. Pass weights of a "
            "backbone to the backbone: `ConvNeXtTiny(weights=…)`"
        )
    return source


def sizes(source, task):
    """Classes, channels and units of the heads in the weights."""
    classifier, deltas, *_ = _classifiers(task)
    return (
        len(source.tensors[f"{classifier}/bias"]) - 1,
        len(source.tensors["rpn_conv/bias"]),
        len(source.tensors[f"{deltas}/kernel"]),
    )


def load(model, source, prefix, task):
    """Assigns every variable of a detector.

    The predictions of heads for another number of classes are left out, with
    a warning.

    Raises:
        ValueError: for missing, unexpected and mis-shaped tensors; nothing is
            assigned then.
    """
    tensors, optional = {**source.tensors, **source.beside}, ()
    present, wanted = sizes(source, task)[0], model.classes
    if present != wanted:
        optional = loading.without_classifiers(tensors, _classifiers(task))
        loading.warn_of_classes(source, present, wanted)
    loading.assign(
        model, tensors, source.name, prefix, optional, source.release
    )


def _classifiers(task):
    """The layers whose sizes depend on the classes, that of boxes first."""
    parts = (part for _, part, _ in HEADS[task])
    return [part for part in parts if part.endswith(PREDICTIONS)]
