"""Sources whose images have several classes each, or none."""

import numpy as np
import pytest
from sklearn.model_selection import KFold

from keras_convnext.data import Arrays
from keras_convnext.data import Subset
from keras_convnext.data import open_splits
from keras_convnext.data import write_records
from keras_convnext.data.reading import check_readable

pytestmark = pytest.mark.once

NAMES = ("cat", "dog", "bird")
ROWS = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 0]], "uint8")


def arrays(labels=ROWS, classes=NAMES):
    return Arrays(np.zeros((len(labels), 8, 8, 3), "uint8"), labels, classes)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "bool"])
def test_rows_of_any_type_become_bytes(dtype):
    source = arrays(ROWS.astype(dtype)).check()
    assert source.is_multi_label and source.labels.dtype == "uint8"
    np.testing.assert_array_equal(source.labels, ROWS)
    assert source.counts().tolist() == [2, 2, 1]
    np.testing.assert_array_equal(source[2][1], [0, 1, 1])
    assert Subset(source, [2, 3]).counts().tolist() == [1, 1, 1]
    assert not Arrays(source.images, [0, 1, 0, 1]).is_multi_label


def test_a_file_of_arrays_has_rows_and_names(tmp_path):
    path = tmp_path / "tags.npz"
    labels = np.tile(ROWS, (5, 1))
    np.savez(path, images=arrays(labels).images, labels=labels, classes=NAMES)
    train, held_out = open_splits(path, validation_split=0.2)
    assert train.classes == held_out.classes == NAMES
    assert (len(train), len(held_out)) == (16, 4)
    rest = np.concatenate([train.labels, held_out.labels])
    assert sorted(rest.tolist()) == sorted(labels.tolist())


def test_other_labels_make_another_fingerprint():
    other = ROWS.copy()
    other[1, 0] = 1
    one = arrays().fingerprint()
    assert one == arrays().fingerprint() != arrays(other).fingerprint()


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("how", [{"validation_split": 0.4}, "folds"])
def test_a_hold_out_leaves_training_every_class(how, grouped):
    generator = np.random.default_rng(2)
    labels = (generator.random((60, 4)) < [0.5, 0.3, 0.1, 0]).astype("uint8")
    labels[7, 3] = 1  # the only one
    source = arrays(labels, None)
    if grouped:
        source.groups = generator.integers(0, 20, 60).astype("int32")
    for seed in range(5):
        if how == "folds":
            how = {"folds": 5, "fold": seed + 1}
        train, held_out = open_splits(source, seed=seed, **how)
        both = np.concatenate([train.numbers, held_out.numbers])
        assert sorted(both) == list(range(60))
        assert train.counts().all() and 2 < len(held_out) < 35
        if grouped:
            assert not set(train.groups) & set(held_out.groups)
        how = "folds" if "folds" in how else how


def test_of_a_rare_label_one_image_is_held_out():
    labels = np.tile([[1, 1, 0]], (30, 1))
    labels[[3, 20]] = [0, 0, 1]
    for seed in range(5):
        train, held_out = open_splits(arrays(labels), seed=seed)
        assert train.counts()[2] == held_out.counts()[2] == 1
        assert 3 <= len(held_out) <= 4


def test_folds_of_many_labels_are_those_of_scikit_learn():
    source = arrays(np.tile(ROWS, (5, 1)))
    expected = KFold(4, shuffle=True, random_state=3).split(source.labels)
    for fold, (_, numbers) in enumerate(expected, 1):
        _, held_out = open_splits(source, folds=4, fold=fold, seed=3)
        np.testing.assert_array_equal(held_out.numbers, numbers)
    with pytest.raises(ValueError, match="more folds than images, .* of 20"):
        open_splits(source, folds=21, fold=1)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (ROWS * 2, NAMES, r"row of 0 and 1.*such as '?2"),
        (ROWS + 0.5, NAMES, "such as '?0.5"),
        (ROWS * np.nan, NAMES, "such as '?nan"),
        (ROWS.astype(str), NAMES, "row of 0 and 1"),
        (ROWS, NAMES[:2], "2 names for 3 columns"),
        (ROWS[:, :1], None, "two classes or more"),
        (ROWS[:, :, None], None, "two classes or more"),
    ],
)
def test_rows_that_mean_nothing_are_refused(labels, classes, message):
    with pytest.raises(ValueError, match=message):
        arrays(labels, classes)


def test_fewer_rows_than_images_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 3\) for 4 images"):
        Arrays(np.zeros((4, 8, 8, 3), "uint8"), ROWS[:3])


def test_a_class_without_images_is_refused():
    labels = ROWS.copy()
    labels[:, 2] = 0
    with pytest.raises(ValueError, match="none for 'bird'"):
        arrays(labels).check()


class Encoded(Arrays):
    """Of which only some can be read."""

    is_encoded = True

    def read(self, number):
        raise OSError("gone")


def test_what_holds_one_class_for_each_image_says_so(tmp_path):
    source = Encoded(arrays().images, ROWS, NAMES)
    with pytest.raises(ValueError, match="one class for each image"):
        write_records(source, tmp_path / "records")
    assert not (tmp_path / "records").exists()
    with pytest.raises(ValueError, match="none for .*cat.*gone"):
        check_readable(source)
