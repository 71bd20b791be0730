"""Lists whose images have many labels each, or none."""

import json

import numpy as np
import pytest
from PIL import Image

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
