"""Lists whose images have many labels each, or none."""

import json

import numpy as np
import pytest
from PIL import Image
from pyarrow import csv
from pyarrow import parquet

from keras_convnext import data
from keras_convnext.data import TagList

pytestmark = pytest.mark.once

TAGS = [["cat", "dog"], [], ["dog"], ["bird", "cat"], ["dog", "bird"]] * 2
NAMES = ("bird", "cat", "dog")
ROWS = [[int(name in tags) for name in NAMES] for tags in TAGS]


@pytest.fixture
def folder(tmp_path):
    for number in range(len(TAGS)):
        image = Image.fromarray(np.full((8, 8, 3), number, "uint8"))
        image.save(tmp_path / f"{number}.png")
    return tmp_path


def write(folder, separator=";", name="list.csv", labels="labels"):
    path = folder / name
    rows = [
        {"path": f"{number}.png", labels: tags}
        for number, tags in enumerate(TAGS)
    ]
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
        return path
    lines = [f"{x['path']},{separator.join(x[labels])}" for x in rows]
    path.write_text("\n".join([f"path,{labels}", *lines]))
    return path


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
@pytest.mark.parametrize("separator", [";", "|", " ; "])
def test_labels_are_rows(name, separator, folder):
    path = write(folder, separator, name)
    source = TagList(path, separator=separator.strip())
    assert source.classes == NAMES and source.is_multi_label
    assert source.labels.tolist() == ROWS
    image, row = source[3]
    assert image.pixels()[0, 0].tolist() == [3, 3, 3]
    assert row.tolist() == ROWS[3]
    train, held_out = data.open_many_labels(source)
    assert held_out.counts().all() and train.counts().all()


def test_a_path_is_opened_and_a_missing_separator_is_told(folder, capsys):
    train, _ = data.open_many_labels(write(folder), validation_split=0)
    assert train.labels.tolist() == ROWS
    assert "no image has several" not in capsys.readouterr().err
    train, _ = data.open_many_labels(write(folder, "/"), validation_split=0)
    assert "cat/dog" in train.classes
    assert "no image has several labels" in capsys.readouterr().err


def test_bad_lists_are_named(folder):
    with pytest.raises(ValueError, match="separator=' '"):
        TagList(write(folder), separator=" ")
    with pytest.raises(ValueError, match="none of 2 classes.*|'dog'"):
        TagList(write(folder), classes=["bird", "cat"])
    with pytest.raises(ValueError, match="Name it: `label_column`"):
        TagList(write(folder, labels="marks"))
    assert (
        TagList(write(folder, labels="marks"), label_column="marks").classes
        == NAMES
    )


def write_columns(
    folder, header="path,cat,dog,bird", values="01", name="l.csv"
):
    """Every label in a column of its own, in another order than by name."""
    rows = [
        f"{number}.png,"
        + ",".join(values[x in tags] for x in ("cat", "dog", "bird"))
        for number, tags in enumerate(TAGS)
    ]
    path = folder / name
    path.write_text("\n".join([header, *rows]), encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("values", ["01", ("0.0", "1.0"), ("False", "True")])
def test_columns_of_single_labels_are_found_and_said(values, folder, capsys):
    source = TagList(write_columns(folder, values=values))
    assert (source.classes, source.labels.tolist()) == (NAMES, ROWS)
    assert source.labels.dtype == "uint8"
    said = capsys.readouterr().err
    assert "labels from the columns 'cat', 'dog', 'bird' of 0 and 1\n" in said
    train, _ = data.open_many_labels(source.path, validation_split=0)
    assert train.labels.tolist() == ROWS


def test_labels_in_columns_of_any_format_are_those_of_arrow(folder):
    table = csv.read_csv(write_columns(folder))
    table = table.append_column("split", [["train"] * 8 + ["val"] * 2])
    cat = table.schema.get_field_index("cat")
    table = table.set_column(cat, "cat", table["cat"].cast("bool"))
    parquet.write_table(table, folder / "l.parquet")
    csv.write_csv(table, folder / "l.tsv", csv.WriteOptions(delimiter="\t"))
    rows = "\n".join(map(json.dumps, table.to_pylist()))
    (folder / "l.jsonl").write_text(rows)
    expected = np.stack([table[x].to_numpy() for x in NAMES], 1).astype("uint8")
    assert expected.tolist() == ROWS
    for name in ("l.parquet", "l.jsonl", "l.tsv"):
        source = TagList(folder / name)
        np.testing.assert_array_equal(source.labels, expected)
        assert len(source.split("val")) == 2


def test_columns_are_named_where_others_are_there(folder):
    path = write_columns(folder, "path,cat,price,bird")
    source = TagList(path, label_columns="bird, cat")
    assert source.classes == ("bird", "cat")
    assert source.labels.tolist() == [[x[0], x[1]] for x in ROWS]
    again = TagList(path, label_columns=["cat"], classes=["cat"])
    assert again.labels.tolist() == [[x[1]] for x in ROWS]
    # A column of a usual name has them all.
    path = write_columns(folder, "path,label,dog,bird")
    assert TagList(path).classes == ("0", "1")
    # With an index as pandas writes it nothing is guessed.
    text = path.read_text(encoding="utf-8-sig").splitlines()
    rows = [f"{number},{row}" for number, row in enumerate(text[1:])]
    path.write_text("\n".join([",path,cat,dog,bird", *rows]))
    with pytest.raises(ValueError, match="Name it: `label_column`"):
        TagList(path)
    assert len(TagList(path, label_columns="cat,dog").classes) == 2


def test_names_may_hold_what_separates(folder):
    names = 'path,"a;b","c, d","e\nf"'
    source = TagList(write_columns(folder, names))
    assert source.classes == ("a;b", "c, d", "e\nf")
    named = TagList(source.path, label_columns="c, d", classes=["c, d"])
    assert named.labels[:, 0].tolist() == [x[2] for x in ROWS]
    path = folder / "l.jsonl"
    rows = [
        {"path": "0.png", "tags": ["a;b"]},
        {"path": "1.png", "tags": ["c"]},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    listed = TagList(path, label_column="tags")
    assert listed.classes == ("a;b", "c")
    path = folder / "l.csv"
    path.write_text('path,label\n0.png,"a;b|c\n d"\n1.png,c\n d')
    with pytest.raises(ValueError, match="line 5 is broken: 1 fields"):
        TagList(path, separator="|")
    path.write_text('path,label\n.\\0.png,"a;b|c\n d"\n1.png,a;b')
    assert TagList(path, separator="|").classes == ("a;b", "c\n d")


@pytest.mark.parametrize(
    "row, options, message",
    [
        ("0.png,1,2,0", {"label_columns": "cat,dog"}, "0 or 1 as label 'dog'"),
        ("0.png,1,yes,0", {"label_columns": "dog"}, "'yes' in line 12 of"),
        ("0.png,1,,0", {"label_columns": "dog"}, "have a label 'dog'.*line 12"),
        ("0.png,0,0,0", {}, "once. Received: '0.png'.*label 'cat' 1.0 in line"),
        ("x.png,1,0,0", {"label_columns": "cta"}, "Did you mean cat"),
        ("x.png,1,0,0", {"label_columns": "cat,cat"}, "several, each once"),
        ("x.png,1,0,0", {"label_columns": []}, "several, each once"),
        (
            "x.png,1,0,0",
            {"label_columns": "cat", "label_column": "dog"},
            "Leave one of them out",
        ),
        ("x.png,1,0,0", {"classes": ["cat", "dog"]}, "none of 2 classes"),
        ("x.png,1,0,0", {"classes": [*NAMES, "cow"]}, "none for 'cow' in"),
    ],
)
def test_bad_columns_are_named(row, options, message, folder, recwarn):
    path = write_columns(folder)
    path.write_text(path.read_text(encoding="utf-8-sig") + f"\n{row}\n")
    with pytest.raises(ValueError, match=message):
        TagList(path, **options)


def test_columns_without_a_single_image_are_told(folder):
    path = write_columns(folder, values="00")
    with pytest.raises(ValueError, match="needs images. Received: none for"):
        TagList(path)
