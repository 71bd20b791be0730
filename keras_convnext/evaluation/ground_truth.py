"""Images of a data set, and which outputs of a model are right for them."""

import os
from dataclasses import dataclass
from dataclasses import replace

import numpy as np

from keras_convnext.data.source import Source
from keras_convnext.data.source import Subset
from keras_convnext.data.splits import open_data
from keras_convnext.evaluation import corruptions
from keras_convnext.evaluation import real
from keras_convnext.facts import classes
from keras_convnext.facts.labels import label_set


@dataclass(frozen=True)
class GroundTruth:
    """The images that are scored, and what is right for them.

    Attributes:
        parts: dict from names to the `Source`s that are scored apart.
        columns: int array with the output of each class of the data.
        matched_by: how they were found.
        competes: bool array, whether an output may be an answer.
        targets: list of the sets of outputs that are right for each class, or
            for each image.
        is_by_image: which of the two.
        unlabeled: how many images were left out, having no labels.
    """

    parts: dict
    columns: np.ndarray
    matched_by: str
    competes: np.ndarray
    targets: list
    is_by_image: bool = False
    unlabeled: int = 0

    def right(self, numbers, labels):
        """Sets of outputs for images of these numbers and classes."""
        keys = numbers if self.is_by_image else labels
        return [self.targets[key] for key in keys]


def ground_truth_of(
    rule, source, classifier, apply_exif, labels, all_classes, partial
):
    """The `GroundTruth` of a data set by a rule, for a `Classifier`.

    Args:
        source, apply_exif, labels, all_classes, partial: as for `evaluate`.
    """
    parts = _opened(rule, source, partial)
    first = next(iter(parts.values()))
    if first.is_multi_label:
        raise ValueError(
            f"{rule.title} has one class for each image. Received: {source!r}, "
            "whose images may have several. Evaluate it with rule='classes'"
        )
    names = first.classes
    _check_class_count(rule, len(names), source)
    find = classes.outputs_of
    if rule.is_numbered:
        find = classes.outputs_of_numbers
    columns, matched_by = find(names, classifier)
    competes = np.ones(len(classifier.outputs), bool)
    if rule.is_masked and not all_classes:
        competes = np.isin(np.arange(len(competes)), columns)
    parts = {name: view(part, apply_exif) for name, part in parts.items()}
    by_class = GroundTruth(
        parts, columns, matched_by, competes, [{x} for x in columns.tolist()]
    )
    if rule.is_multi_label:
        return _by_image(by_class, classifier, labels)
    return by_class


def _opened(rule, source, partial):
    if not rule.is_corrupted:
        return {"": opened(source, rule.title)}
    if isinstance(source, (str, os.PathLike)):
        return corruptions.open_parts(source, partial)
    raise ValueError(
        f"Expected the folder of {rule.title}. Received: {source!r}"
    )


def opened(source, title="own classes"):
    """The `Source` that is given, or that a path stands for."""
    if isinstance(source, (str, os.PathLike)):
        source = open_data(source, "validation")
    if not isinstance(source, Source):
        raise ValueError(
            f"Expected a folder or a `Source` of {title}. Received: {source!r}"
        )
    return source


def _check_class_count(rule, count, source):
    if rule.class_count not in (None, count):
        raise ValueError(
            f"{rule.title} has {rule.class_count} classes. Received: {count} "
            f"in {source!r}. Pass the folder that holds all of them, or "
            "evaluate these with rule='classes'"
        )


def _by_image(by_class, classifier, labels):
    """The `GroundTruth` of the same images by the file of their ReaL labels."""
    ((name, source),) = by_class.parts.items()
    numbers, label_sets = real.labels_of(source, real.read_labels(labels))
    wnids = [wnid for wnid, _ in label_set(real.CLASSES)]
    outputs, _ = classes.outputs_of(wnids, classifier)
    return replace(
        by_class,
        parts={name: Subset(source, numbers)},
        targets=[set(outputs[sorted(each)].tolist()) for each in label_sets],
        is_by_image=True,
        unlabeled=len(source) - len(numbers),
    )


def view(source, apply_exif):
    """The same images, turned upright as told."""
    view = Subset(source, np.arange(len(source)))
    if apply_exif is not None:
        view.is_upright = apply_exif
    return view
