"""Lists and arrays whose images have numbers in place of classes."""

import json

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import csv
from pyarrow import parquet
from sklearn import model_selection

from keras_convnext import data
from keras_convnext.data import TargetArrays
from keras_convnext.data import TargetList

pytestmark = pytest.mark.once

COUNT = 12
TABLE = {
    "path": [f"{number}.png" for number in range(COUNT)],
    "age": np.random.default_rng(0).normal(40, 13, COUNT).tolist(),
    "height, cm": [10 * number - 3 for number in range(COUNT)],
    "patient": [f"p{number // 3}" for number in range(COUNT)],
}


def write_csv(path, separator=",", table=TABLE):
    options = csv.WriteOptions(delimiter=separator)
    csv.write_csv(pyarrow.table(table), path, options)


def write_json_lines(path):
    rows = [dict(zip(TABLE, row)) for row in zip(*TABLE.values())]
    path.write_text("\n".join(map(json.dumps, rows)))


WRITERS = {
    "list.csv": write_csv,
    "list.tsv": lambda path: write_csv(path, "\t"),
    "list.jsonl": write_json_lines,
    "list.parquet": lambda path: parquet.write_table(
        pyarrow.table(TABLE), path
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("targets")
    for number in range(COUNT):
        image = Image.fromarray(np.full((8, 8, 3), number, "uint8"))
        image.save(folder / f"{number}.png")
    for name, write in WRITERS.items():
        write(folder / name)
    return folder


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(
    "columns", [["age"], ["height, cm"], ["height, cm", "age"]]
)
def test_targets_are_the_columns_that_pyarrow_wrote(name, columns, folder):
    target = columns if len(columns) > 1 else columns[0]
    source = TargetList(folder / name, target)
    assert source.classes == tuple(columns) and source.task == "regression"
    expected = np.transpose([TABLE[name] for name in columns])
    np.testing.assert_array_equal(source.labels, expected)
    image, row = source[3]
    assert image.pixels()[0, 0].tolist() == [3, 3, 3]
    assert row.tolist() == source.labels[3].tolist()


@pytest.mark.filterwarnings("ignore:12 files are in both")
def test_several_are_named_in_one_text(folder):
    path = folder / "plain.csv"
    names = [name.partition(",")[0] for name in TABLE]
    write_csv(path, table=dict(zip(names, TABLE.values())))
    source = TargetList(path, "height, age")
    assert source.classes == ("height", "age")
    train, held_out = data.open_targets(path, path, target="age,height")
    assert train.classes == held_out.classes == ("age", "height")


def test_groups_stay_whole_and_folds_are_scikit_learns(folder):
    path = folder / "list.csv"
    source = TargetList(path, "age", group_column="patient")
    train, held_out = data.open_targets(source, folds=2, fold=1)
    assert not set(train.groups) & set(held_out.groups)
    source = TargetList(path, "age")
    _, held_out = data.open_targets(source, folds=3, fold=2, seed=5)
    splitter = model_selection.KFold(3, shuffle=True, random_state=5)
    _, expected = [*splitter.split(source.labels)][1]
    assert held_out.numbers.tolist() == sorted(expected)
    train, held_out = data.open_targets(path, target="age")
    assert (len(train), len(held_out)) == (COUNT - 1, 1)
    again, _ = data.open_targets(path, target="age")
    assert again.fingerprint() == train.fingerprint()
    changed = data.Subset(source, train.numbers)
    changed.labels = changed.labels + 1e-9
    assert changed.fingerprint() != train.fingerprint()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "Every row must have a target 'target'.*1 of 3 without.*line 3"),
        ("nan", "finite numbers as target 'target'.*'nan' in line 3"),
        ("inf", "'inf' in line 3"),
        ("-1e999", "'-1e999' in line 3"),
        ("old", "'old' in line 3"),
        ("1_000", "'1_000' in line 3"),
        ('"3,5"', "'3,5' in line 3"),
    ],
)
def test_what_is_no_number_is_named_by_its_line(value, message, folder):
    path = folder / "bad.csv"
    path.write_text(f"path,target\n0.png,1\n1.png,{value}\n2.png,3\n")
    with pytest.raises(ValueError, match=message):
        TargetList(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "without one"),
        (float("nan"), "without one"),
        (float("inf"), "inf in line 2"),
        (True, "True in line 2"),
        ([1], r"\[1\] in line 2"),
        ({"a": 1}, "in line 2"),
    ],
)
def test_json_of_other_types_is_refused(value, message, folder):
    path = folder / "bad.jsonl"
    rows = [{"path": f"{i}.png", "y": x} for i, x in enumerate([1, value])]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=message):
        TargetList(path)


def test_columns_are_guessed_or_named(folder, capsys):
    path = folder / "named.csv"
    path.write_text("path,value,split\n0.png, 1e2 ,train\n1.png,-.5,test\n")
    source = TargetList(path)
    assert source.labels.tolist() == [[100.0], [-0.5]]
    assert "target from 'value'" in capsys.readouterr().err
    assert source.split("test").labels.tolist() == [[-0.5]]
    with pytest.raises(ValueError, match="Name it: `target`"):
        TargetList(folder / "list.csv")
    with pytest.raises(
        ValueError, match="`target` must be a.*target='aeg'.*ag"
    ):
        TargetList(folder / "list.csv", "aeg")
    with pytest.raises(ValueError, match="each once"):
        TargetList(folder / "list.csv", ["age", "age"])


def test_a_file_has_its_numbers_once(folder):
    path = folder / "twice.csv"
    path.write_text("path,y\n0.png,1\n0.png,2\n")
    with pytest.raises(ValueError, match="target 'y' 1.0 in line 2 and 2.0"):
        TargetList(path)


def test_arrays_have_rows_of_numbers():
    images = np.zeros((3, 8, 8), "uint8")
    source = TargetArrays(images, [[1, 2], [3, 4], [5, 6]], ["a", "b"])
    assert source.classes == ("a", "b") and source.labels.dtype == "float64"
    assert data.Subset(source, [2]).labels.tolist() == [[5, 6]]
    assert source.counts().tolist() == [3, 3]
    for targets, message in (
        ([1, 2], r"shape \(2,\) for 3 images"),
        (["a", "b", "c"], "<U1 targets"),
        ([[], [], []], r"shape \(3, 0\)"),
        ([1, np.nan, 3], r"\[nan\] for image 1"),
        ([1, 2, -np.inf], r"\[-inf\] for image 2"),
    ):
        with pytest.raises(ValueError, match=message):
            TargetArrays(images, targets)
    with pytest.raises(ValueError, match="1 names for 2 columns"):
        TargetArrays(images, [[1, 2]] * 3, ["a"])


@pytest.mark.filterwarnings("ignore:12 files are in both")
def test_data_with_classes_are_told_apart(folder):
    with pytest.raises(ValueError, match="10 classes.*task='single-label'"):
        data.open_targets("digits")
    with pytest.raises(ValueError, match="same classes"):
        data.open_targets(
            TargetList(folder / "list.csv", "age"),
            TargetList(folder / "list.csv", "height, cm"),
        )
    source = TargetList(folder / "list.csv", "age")
    with pytest.raises(ValueError, match="TargetList.*or numbers"):
        data.write_records(source, folder / "records")
