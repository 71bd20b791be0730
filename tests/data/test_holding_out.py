"""What is held out: parts, folds and groups, beside scikit-learn's."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.model_selection import StratifiedKFold

from keras_convnext.data import Arrays
from keras_convnext.data import Subset
from keras_convnext.data import holding_out
from keras_convnext.data import open_splits

pytestmark = pytest.mark.once


def source_of(labels, groups=None):
    source = Arrays(np.zeros((len(labels), 1, 1), "uint8"), labels)
    if groups is not None:
        source.groups = np.asarray(groups, "int32")
    return source


def random_source(seed, images=300, groups=40):
    """Three classes, of which one is rare, in groups of different sizes."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(3, images, p=[0.6, 0.3, 0.1])
    return source_of(labels, (groups * generator.random(images) ** 2) // 1)


def check_apart(source, train, held_out):
    """Every image is on one side, every group too; training has all classes."""
    numbers = np.concatenate([train.numbers, held_out.numbers])
    assert sorted(numbers) == list(range(len(source)))
    assert len(held_out)
    assert set(train.labels) == set(source.labels)
    if source.groups is not None:
        assert not set(train.groups) & set(held_out.groups)


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("folds", [2, 5])
@pytest.mark.parametrize("grouped", [False, True])
def test_folds_are_those_of_scikit_learn(grouped, folds, seed):
    source = random_source(seed)
    kind = StratifiedGroupKFold
    if not grouped:
        source.groups, kind = None, StratifiedKFold
    splitter = kind(folds, shuffle=True, random_state=seed)
    expected = splitter.split(source.labels, source.labels, source.groups)
    for fold, (train, held_out) in enumerate(expected, 1):
        found = open_splits(source, seed=seed, folds=folds, fold=fold)
        np.testing.assert_array_equal(found[0].numbers, train)
        np.testing.assert_array_equal(found[1].numbers, held_out)
        check_apart(source, *found)


@pytest.mark.parametrize("part", [0.05, 0.1, 0.15, 0.4, 0.9])
@pytest.mark.parametrize("seed", range(2))
def test_groups_are_held_out_as_a_whole(part, seed):
    source = random_source(seed, 600, 200)
    train, held_out = open_splits(source, None, part, seed)
    check_apart(source, train, held_out)
    # As nearly as groups allow, also of each class.
    for of_all, of_part in zip(
        np.bincount(source.labels), np.bincount(held_out.labels, minlength=3)
    ):
        assert of_part / of_all == pytest.approx(part, abs=0.08)
    again = open_splits(source, None, part, seed)[1]
    np.testing.assert_array_equal(again.numbers, held_out.numbers)
    other = open_splits(source, None, part, seed + 1)[1]
    assert not np.array_equal(other.numbers, held_out.numbers)


@pytest.mark.parametrize(
    "labels, groups, folds",
    [
        ([0, 0, 0, 0, 1], None, None),
        ([0, 0, 0, 0, 1], None, 2),
        # The second class is in one group alone.
        ([0, 0, 0, 0, 1, 1], [0, 1, 2, 3, 4, 4], None),
        ([0, 0, 0, 0, 1, 1], [0, 1, 2, 3, 4, 4], 2),
        # The third is in one that has the others, too.
        ([0, 1, 1, 0, 0, 1, 2, 2], [0, 0, 0, 1, 2, 2, 0, 0], None),
    ],
)
def test_training_keeps_some_of_every_class(labels, groups, folds, capsys):
    source, absent = source_of(labels, groups), 0
    for seed in range(10):
        for fold in range(1, 1 + (folds or 1)):
            parts = open_splits(
                *(source, None, 0.4, seed),
                folds=folds,
                fold=fold if folds else None,
            )
            check_apart(source, *parts)
            lacks = set(labels) - set(parts[1].labels)
            said = capsys.readouterr().err
            assert ("Of few images none are held out" in said) is bool(lacks)
            assert all(f"'{x}'" in said for x in lacks)
            absent += bool(lacks)
    assert absent


def test_the_smallest_group_is_given_back():
    """Of two that have a class, and are held out together."""
    source = source_of([1, 1, 1, 0, 0, 1], [0, 0, 0, 1, 2, 3])
    is_held_out = np.isin(source.groups, [0, 3, 1])
    left = holding_out._without_kept(source, is_held_out)
    assert source.groups[left].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    "labels, groups, options, message",
    [
        ([0, 1], None, {}, "two images, or two groups.* none among 2 images"),
        ([0, 0, 1], [0, 0, 0], {}, "no more folds than .* 2 folds of 1. Take"),
        ([0, 0, 1, 1], [0, 0, 1, 1], {}, "two images, or two groups, one to"),
        ([0, 0, 1], None, {"folds": 3, "fold": 1}, "3 folds of 2. Take fewer"),
        (
            [0, 0, 0, 1],
            [0, 0, 1, 1],
            {"folds": 3, "fold": 1},
            "3 folds of 2. Take fewer",
        ),
        ([0, 0, 1], None, {"folds": 2}, "folds=2, fold=None. Pass both"),
        ([0, 0, 1], None, {"fold": 2}, "folds=None, fold=2. Pass both"),
        ([0, 0, 1], None, {"folds": 2, "fold": 3}, "at most 2, .*fold=3"),
        ([0, 0, 1], None, {"folds": 1, "fold": 1}, "at least 2.*folds=1"),
        ([0, 0, 1], None, {"folds": 2, "fold": 0}, "positive.*fold=0"),
    ],
)
def test_what_cannot_be_held_out(labels, groups, options, message):
    with pytest.raises(ValueError, match=message):
        open_splits(source_of(labels, groups), **options)


def test_folds_are_for_data_without_validation_images():
    for data, validation in (("digits", None), (source_of([0, 1]), "digits")):
        with pytest.raises(ValueError, match="without validation .* folds=2"):
            open_splits(data, validation, folds=2, fold=1)


def test_a_subset_keeps_its_groups():
    source = random_source(0)
    part = Subset(source, [5, 2])
    assert part.groups.tolist() == source.groups[[5, 2]].tolist()
