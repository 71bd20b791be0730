"""Which images are held out: a part of each class, or one of several folds."""

import warnings

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.checks import some
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import PartBetween
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import Several
from keras_convnext._util.ranges import in_range
from keras_convnext._util.requirements import require
from keras_convnext._util.telling import tell
from keras_convnext.data.source import Source
from keras_convnext.data.source import Subset

# A part such as 0.15 is 2 of 13 folds; more take scikit-learn long.
MOST_FOLDS = 100


@in_range
def split(
    source: Source, validation_split: PartBetween, seed: Seed
) -> tuple[Source, Source]:
    """Two parts of a source; the second has its part of each class.

    Where images may have many labels, or numbers, it has its part of all
    images, and at least one of each label. Groups stay whole, so that the part
    is met as nearly as they allow.
    """
    if source.groups is None and not _has_strata(source):
        is_held_out = _part_of_all(source, validation_split, seed)
        return _parts(source, _without_kept(source, is_held_out))
    if source.groups is None:
        return _parts(source, _part_of_classes(source, validation_split, seed))
    count, folds = _nearest(
        validation_split, min(most_folds(source), MOST_FOLDS)
    )
    fold = fold_numbers(source, folds, seed)
    # Where a fold holds nothing but what training must keep, the next.
    held_out = (np.isin((fold - i) % folds, range(count)) for i in range(folds))
    left = filter(np.any, (_without_kept(source, x) for x in held_out))
    return _parts(source, next(left, np.zeros(len(source), bool)))


@in_range
def fold_of(
    source: Source, folds: Several, fold: Count, seed: Seed
) -> tuple[Source, Source]:
    """All folds but one, and that one, as scikit-learn divides them.

    Raises:
        ValueError: if there are not as many folds.
    """
    if fold > folds:
        raise ValueError(
            f"`fold` counts from 1 and must be at most {folds}, the number of "
            f"`folds`. Received: fold={fold}"
        )
    is_held_out = fold_numbers(source, folds, seed) == fold - 1
    return _parts(source, _without_kept(source, is_held_out))


def _part_of_all(source, validation_split, seed):
    generator = np.random.default_rng(seed)
    is_held_out = np.zeros(len(source), bool)
    count = max(round(validation_split * len(source)), 1)
    order = generator.permutation(len(source))
    is_held_out[order[:count]] = True
    # Of labels that are rare some are to be measured, too.
    for label in _lacking(source, is_held_out):
        own = order[source.has(label)[order]]
        if len(own) > 1 and not is_held_out[own].any():
            is_held_out[own[0]] = True
    return is_held_out


def _part_of_classes(source, validation_split, seed):
    generator = np.random.default_rng(seed)
    is_held_out = np.zeros(len(source), bool)
    by_class = np.argsort(source.labels, kind="stable")
    ends = np.cumsum(np.bincount(source.labels, minlength=len(source.classes)))
    for numbers in np.split(by_class, ends[:-1]):
        count = round(validation_split * len(numbers))
        # Both parts have some of a class, of a single image training.
        count = min(max(count, 1), len(numbers) - 1)
        is_held_out[generator.permutation(numbers)[: max(count, 0)]] = True
    return is_held_out


def fold_numbers(source: Source, folds: int, seed: int) -> Array:
    """The fold of every image, from 0, by scikit-learn's splitters."""
    splitters = require("sklearn.model_selection", "folds and groups")
    most, groups = most_folds(source), source.groups
    strata = "Stratified" if _has_strata(source) else ""
    kind = getattr(
        splitters, f"{strata}{'' if groups is None else 'Group'}KFold"
    )
    if folds > most:
        of = "images of the largest class" if _has_strata(source) else "images"
        raise ValueError(
            f"There can be no more folds than {of}, and than groups where "
            f"there are some. Received: {folds} folds of {most}. Take fewer, "
            "or add images"
        )
    fold = np.empty(len(source), "int64")
    splitter = kind(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Of classes with fewer images than folds, which we keep in training.
        warnings.filterwarnings("ignore", "The least populated class")
        parts = splitter.split(
            np.empty((len(source), 0)), source.labels, groups
        )
        for number, (_, held_out) in enumerate(parts):
            fold[held_out] = number
    return fold


def _has_strata(source):
    """Many labels, and numbers, are not one to keep the shares of."""
    return source.task == "single-label"


def most_folds(source):
    """How many folds there can be."""
    most = len(source)
    if _has_strata(source):
        most = int(source.counts().max())
    if source.groups is None:
        return most
    return min(most, len(np.unique(source.groups)))


def _nearest(part, most):
    """So many of so few folds as make the part, by about 0.005."""
    pairs = [
        (min(max(round(part * folds), 1), folds - 1), folds)
        for folds in range(2, max(most, 2) + 1)
    ]
    return min(pairs, key=lambda x: (round(abs(x[0] / x[1] - part), 2), x[1]))


def _parts(source, is_held_out):
    """The two parts; says of which classes nothing is held out."""
    absent = _lacking(source, is_held_out)
    if not is_held_out.any():
        raise ValueError(
            "Some class needs two images, or two groups, one to train on and "
            f"one to hold out. Received: none among {len(source)} images of "
            f"{len(source.classes)} classes. Add some, pass a `validation` of "
            "its own, or hold out none with validation_split=0"
        )
    if len(absent):
        names = [source.classes[label] for label in absent]
        tell(f"Of few images none are held out, those of {some(names)}")
    return (
        Subset(source, np.flatnonzero(~is_held_out)),
        Subset(source, np.flatnonzero(is_held_out)),
    )


def _without_kept(source, is_held_out):
    """What is held out, but for what training needs to have every class.

    For every class that it would lack the first image, or the smallest group.
    """
    units = np.arange(len(source)) if source.groups is None else source.groups
    _, unit_of, sizes = np.unique(
        units, return_inverse=True, return_counts=True
    )
    kept = set()
    for label in _lacking(source, ~is_held_out):
        candidates = unit_of[source.has(label)]
        if kept.isdisjoint(candidates):
            kept.add(candidates[np.argmin(sizes[candidates])])
    return is_held_out & ~np.isin(unit_of, [*kept])


def _lacking(source, is_chosen):
    """The classes that have images, and none among those chosen."""
    chosen = Subset(source, np.flatnonzero(is_chosen))
    return np.flatnonzero((source.counts() > 0) & (chosen.counts() == 0))
