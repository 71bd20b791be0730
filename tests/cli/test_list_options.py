"""Lists on the command line, up to where a model is asked for."""

import pytest

from keras_convnext.cli import lists
from keras_convnext.data import ImageList
from keras_convnext.data import open_splits

pytestmark = pytest.mark.once

LISTED = {
    "patients.csv": "path,label,patient\n"
    + "".join(f"{i}.jpg,{'ab'[i % 2]},{i // 4}\n" for i in range(16)),
    "splits.csv": "path,label,split\n"
    + "".join(
        f"{i}.jpg,{'ab'[i % 2]},{x}\n"
        for i, x in enumerate(4 * ("train",) + 2 * ("val",) + 2 * ("test",))
    ),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in LISTED.items():
        (tmp_path / name).write_text(text)
    for number in range(16):
        (tmp_path / f"{number}.jpg").touch()
    (tmp_path / "photos" / "a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(data, validation=None, split=0.25, seed=0, **options):
    names = (*lists.COLUMNS, *lists.FOLDS)
    options = {**dict.fromkeys(names), "on_error": "skip", **options}
    return lists.open_splits(data, validation, split, seed, **options)


def test_options_reach_the_list(folder):
    for options in ({}, {"folds": 4, "fold": 2}):
        parts = opened("patients.csv", group_column="patient", **options)
        source = ImageList("patients.csv", group_column="patient")
        expected = open_splits(source, None, 0.25, **options)
        for part, same in zip(parts, expected):
            assert part.numbers.tolist() == same.numbers.tolist()
        assert not set(parts[0].groups) & set(parts[1].groups)
    by_patient = opened("patients.csv", label_column="patient")[0]
    assert by_patient.classes == ("0", "1", "2", "3")
    # Those of a validation list are the same.
    (folder / "other.csv").write_text("file,kind\n1.jpg,a\n2.jpg,b\n")
    (folder / "more.csv").write_text("file,kind\n3.jpg,a\n4.jpg,b\n")
    columns = {"path_column": "file", "label_column": "kind"}
    train, held_out = opened("other.csv", "more.csv", **columns)
    assert (len(train), len(held_out)) == (2, 2)


def test_a_validation_list_has_some_of_the_classes(folder):
    texts = {
        "abc.csv": "path,label\n1.jpg,c\n2.jpg,a\n3.jpg,b\n",
        "bc.csv": "path,label\n4.jpg,c\n5.jpg,b\n",
        "bcd.csv": "path,label\n4.jpg,d\n5.jpg,b\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    train, held_out = opened("abc.csv", "bc.csv")
    assert held_out.classes == train.classes == ("a", "b", "c")
    assert held_out.labels.tolist() == [2, 1]
    with pytest.raises(ValueError, match="trained on. Received: 'd' in 'bcd."):
        opened("abc.csv", "bcd.csv")


def test_missing_files_end_where_errors_are_raised(folder):
    (folder / "3.jpg").unlink()
    with pytest.raises(ValueError, match="do not exist, 1 of 8: '3.jpg'"):
        opened("splits.csv", on_error="raise")
    with pytest.warns(UserWarning, match="left out 1 of 8"):
        assert len(opened("splits.csv")[0]) == 3


TRAIN = ("train", "--output", "run", "--data")
EVALUATE = ("evaluate", "--model", "none.keras", "--data")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            (*TRAIN, "photos", "--group-column", "x", "--label-column", "y"),
            "`--label-column` and `--group-column` is for lists: .csv, .tsv, "
            ".jsonl or .parquet files. Received: --label-column y, "
            "--group-column x for 'photos'",
        ),
        (
            (*EVALUATE, "photos", "--path-column", "x", "--split", "test"),
            "`--path-column` and `--split` is for lists",
        ),
        (
            (*TRAIN, "objects", "--task", "detect", "--folds", "5"),
            "`--folds` is for `--task` single-label",
        ),
        (
            (*TRAIN, "patients.csv", "--label-column", "lable"),
            "`--label-column` must be a column of 'patients.csv'",
        ),
        (
            (*TRAIN, "patients.csv", "--folds", "5"),
            "`--folds` says how many, and `--fold` which of them",
        ),
        (
            (*TRAIN, "splits.csv", "--folds", "5", "--fold", "1"),
            "`--folds` are for data without validation images",
        ),
        (
            (*TRAIN, "patients.csv", "--split-column", "patient"),
            "Received: '0', '1', '2', '3' in 'patients.csv'. Rename them, or "
            "pass --split-column none",
        ),
        (
            (*EVALUATE, "splits.csv", "--split", "dev"),
            "`--split` must be one of ['train', 'val', 'test']",
        ),
        (
            (*EVALUATE, "patients.csv", "--split", "val"),
            "a column of splits, see `--split-column`. Received: --split val",
        ),
        ((*EVALUATE, "splits.csv"), "none.keras"),
        ((*EVALUATE, "none.csv"), "file that exists. Received: 'none.csv'"),
    ],
)
def test_what_does_not_fit_is_told(arguments, message, run_command, folder):
    status, printed, said = run_command(*arguments)
    assert (status, printed) == (2, "")
    assert message in " ".join(said.split())
    assert not (folder / "run").exists()
