"""Images of a data set, and which outputs of a model are right for them."""

import os
from dataclasses import dataclass
from dataclasses import replace

import numpy as np

from keras_convnext.data.source import Source
from keras_convnext.data.source import Subset
from keras_convnext.data.splits import open_data
from keras_convnext.evaluation import classes
from keras_convnext.evaluation import corruptions
from keras_convnext.evaluation import real
from keras_convnext.facts.labels import label_set


@dataclass(frozen=True)
class Questions:
    """What a model is asked, and what is right.

    Attributes:
        parts: dict from names to the `Source`s that are scored apart.
        columns: int array with the output of each class of the data.
        matched_by: how they were found.
        competing: int array of the outputs that may be answers.
        targets: list of the sets of outputs that are right for each class, or
            for each image.
        is_by_image: which of the two.
        unlabeled: how many images were left out, having no labels.
    """

    parts: dict
    columns: np.ndarray
    matched_by: str
    competing: np.ndarray
    targets: list
    is_by_image: bool = False
    unlabeled: int = 0

    def right(self, numbers, labels):
        """Sets of outputs for images of these numbers and classes."""
        keys = numbers if self.is_by_image else labels
        return [self.targets[key] for key in keys]


def ask(classifier, rule, source, apply_exif, labels, all_classes, partial):
    """The `Questions` of a rule for a `Classifier`.

    Args:
        source, apply_exif, labels, all_classes, partial: as for `evaluate`.
    """
    parts = _opened(rule, source, partial)
    names = next(iter(parts.values())).classes
    _check_class_count(rule, len(names), source)
    find = classes.outputs_of
    if rule.is_numbered:
        find = classes.outputs_of_numbers
    columns, matched_by = find(names, classifier)
    competing = np.arange(len(classifier.outputs))
    if rule.is_masked and not all_classes:
        competing = np.unique(columns)
    questions = Questions(
        {name: _view(each, apply_exif) for name, each in parts.items()},
        columns,
        matched_by,
        competing,
        [{column} for column in columns.tolist()],
    )
    if rule.is_multi_label:
        return _by_real_labels(questions, classifier, labels)
    return questions


def _opened(rule, source, partial):
    is_path = isinstance(source, (str, os.PathLike))
    if rule.is_corrupted and is_path:
        return corruptions.open_parts(source, partial)
    if is_path:
        return {"": open_data(source, "validation")}
    if isinstance(source, Source) and not rule.is_corrupted:
        return {"": source}
    expected = "the folder" if rule.is_corrupted else "a folder or a `Source`"
    raise ValueError(
        f"Expected {expected} of {rule.title}. Received: {source!r}"
    )


def _check_class_count(rule, count, source):
    if rule.class_count not in (None, count):
        raise ValueError(
            f"{rule.title} has {rule.class_count} classes. Received: {count} "
            f"in {source!r}. Pass the folder that holds all of them, or "
            "evaluate these with rule='classes'"
        )


def _view(source, apply_exif=None, numbers=None):
    """Some images of a source, or all, turned upright as told."""
    numbers = np.arange(len(source)) if numbers is None else numbers
    view = Subset(source, numbers)
    if apply_exif is not None:
        view.is_upright = apply_exif
    return view


def _by_real_labels(questions, classifier, labels):
    ((name, source),) = questions.parts.items()
    numbers, targets = real.labels_of(source, real.read_labels(labels))
    wnids = [wnid for wnid, _ in label_set(real.CLASSES)]
    columns, _ = classes.outputs_of(wnids, classifier)
    return replace(
        questions,
        parts={name: _view(source, numbers=numbers)},
        targets=[set(columns[sorted(each)].tolist()) for each in targets],
        is_by_image=True,
        unlabeled=len(source) - len(numbers),
    )
