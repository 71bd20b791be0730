"""Lists of images: every format against its own reader, and bad ones."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import csv
from pyarrow import parquet

from keras_convnext.data import ImageFolder
from keras_convnext.data import ImageList
from keras_convnext.data import ListedImages
from keras_convnext.data import lists
from keras_convnext.data import open_images
from keras_convnext.data import open_splits
from keras_convnext.data.lists.tables import open_table
from keras_convnext.data.splits import open_data

pytestmark = pytest.mark.once

ROWS = [
    ("a/1.jpg", "cat", "train"),
    ("a/2.jpg", "dog", "train"),
    ("b/3.jpg", "cat", "val"),
    ("b/4.jpg", "dog", "val"),
    ("b/5.jpg", "ant", "train"),
]
COLUMNS = ("path", "label", "split")


def write(folder, name, content, files=()):
    """A list beside files whose content is their own name."""
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pyarrow.Table):
        parquet.write_table(content, path)
    else:
        is_text = isinstance(content, str)
        path.write_bytes(content.encode() if is_text else content)
    return path


def as_csv(rows, columns=COLUMNS, separator=","):
    return "".join(separator.join(row) + "\n" for row in (columns, *rows))


def as_json_lines(rows, columns=COLUMNS):
    return "".join(json.dumps(dict(zip(columns, x))) + "\n" for x in rows)


def as_parquet(rows, columns=COLUMNS):
    return pyarrow.table(dict(zip(columns, map(list, zip(*rows)))))


def filenames(source):
    return [source.filename(i) for i in range(len(source))]


# Formats


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.jpg,cat\nb.jpg,dog\n",
        "path,label\r\na.jpg,cat\r\nb.jpg,dog",
        "path;label;more\na,1.jpg;cat;x, y\n",
        "path\tlabel\na;1.jpg\tcat,s\n",
        "path|label\na.jpg|cat\n",
        'path,"the, label"\n"a, 1.jpg","cat ""Tom"" and\nmore"\n',
        '"path";"label"\n"a.jpg";"two\r\nlines; here"\nb.jpg;c\n',
        '"pa\nth",label\na.jpg,cat\n',
        "path,label\n\na.jpg,cat\n\n",
        "Pfad,Größe\nü ü.jpg,日本\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_is_read_as_by_arrow(text, encoding, tmp_path):
    path = write(tmp_path, "list.csv", text.encode(encoding))
    table = open_table(path)
    separator = next(x for x in ";\t|," if x in text.replace('""', "")[:12])
    expected = csv.read_csv(
        path,
        csv.ReadOptions(encoding=encoding.removesuffix("-sig")),
        csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        csv.ConvertOptions(strings_can_be_null=False),
    )
    assert list(table.columns) == expected.column_names
    found = [values for _, values in table.rows(table.columns)]
    assert found == [list(row.values()) for row in expected.to_pylist()]


@pytest.mark.parametrize(
    "name, content",
    [
        ("list.csv", as_csv(ROWS)),
        ("list.tsv", as_csv(ROWS, separator="\t")),
        ("list.jsonl", as_json_lines(ROWS)),
        ("LIST.NDJSON", as_json_lines(ROWS)),
        ("list.parquet", as_parquet(ROWS)),
    ],
)
def test_all_formats_say_the_same(name, content, tmp_path):
    names = [row[0] for row in ROWS]
    source = ImageList(write(tmp_path, name, content, names))
    assert source.classes == ("ant", "cat", "dog")
    assert source.labels.tolist() == [1, 2, 1, 2, 0]
    assert source.labels.dtype == "int32"
    assert filenames(source) == names
    assert [source.read(i).decode() for i in range(5)] == names
    assert source.name(3) == str(tmp_path / "b/4.jpg")
    same = write(tmp_path, "same.csv", as_csv(ROWS))
    assert source.fingerprint() == ImageList(same).fingerprint()
    train, held_out = open_splits(tmp_path / name)
    assert filenames(train) == ["a/1.jpg", "a/2.jpg", "b/5.jpg"]
    assert filenames(held_out) == ["b/3.jpg", "b/4.jpg"]
    assert train.classes == held_out.classes == source.classes
    assert held_out.labels.tolist() == [1, 2]
    assert filenames(open_data(tmp_path / name, "validation")) == names[2:4]


def test_a_list_of_a_folder_is_that_folder(tmp_path):
    """In the order of the rows, with the numbers of the folder's classes."""
    names = [f"{x}/{i}.jpg" for x in ("ant", "Bee", "10", "9") for i in "12"]
    rows = [(f"photos/{x}", Path(x).parent.name) for x in sorted(names)]
    files = [f"photos/{x}" for x in names]
    path = write(tmp_path, "l.csv", as_csv(rows, ("path", "label")), files)
    folder, source = ImageFolder(tmp_path / "photos"), ImageList(path)
    assert source.classes == folder.classes == ("10", "9", "Bee", "ant")
    np.testing.assert_array_equal(source.labels, folder.labels)
    assert [source.name(i) for i in range(8)] == [
        folder.name(i) for i in range(8)
    ]


def test_numbers_of_typed_columns_are_names(tmp_path):
    rows = [("1.jpg", 7, True), ("2.jpg", 10, False)]
    files = ["1.jpg", "2.jpg"]
    whole = as_parquet(rows, ("file", "class", "other"))
    # What pandas makes of whole numbers where a table lacks some.
    floats = as_parquet(
        [(x, float(y), z) for x, y, z in rows], whole.column_names
    )
    words = pyarrow.table(whole.columns, whole.column_names).set_column(
        1, "class", pyarrow.array(["7", "10"]).dictionary_encode()
    )
    for table in (whole, floats, words):
        path = write(tmp_path, "list.parquet", table, files)
        assert ImageList(path).classes == ("10", "7")
        named = ImageList(path, "file", "other")
        assert named.classes == ("False", "True")


@pytest.mark.parametrize(
    "written, meant",
    [
        (r"sub\1.jpg", "sub/1.jpg"),
        (r".\sub\1.jpg", "sub/1.jpg"),
        ("  sub/1.jpg ", "sub/1.jpg"),
        ("../beside/1.jpg", "../beside/1.jpg"),
        ("{folder}/sub/1.jpg", "sub/1.jpg"),
    ],
)
def test_paths_start_at_the_list(written, meant, tmp_path):
    folder = tmp_path / "lists"
    rows = [(written.format(folder=folder), "a"), ("2.jpg", "b")]
    text = as_csv(rows, ("path", "label"))
    source = ImageList(write(folder, "list.csv", text, [meant, "2.jpg"]))
    assert len(source) == 2
    assert Path(source.name(0)).resolve() == (folder / meant).resolve()
    assert source.read(0).decode() == meant


# Columns


def test_guesses_are_said(tmp_path, capsys):
    columns = ("Class Name", "File_Name", "subset", "patient")
    rows = [("a", "1.jpg", "train", "x"), ("b", "2.jpg", "train", "y")]
    text = as_csv(rows, columns)
    path = write(tmp_path, "list.csv", text, ["1.jpg", "2.jpg"])
    source = ImageList(path)
    said = "path from 'File_Name', label from 'Class Name', split from 'subset'"
    assert capsys.readouterr().err == f"{path}: {said}\n"
    assert source.groups is None  # never guessed
    named = ImageList(path, "File_Name", "patient", "none")
    assert named.classes == ("x", "y") and list(named.parts()) == [""]
    assert capsys.readouterr().err == ""
    assert ImageList(path, group_column="patient").groups.tolist() == [0, 1]


@pytest.mark.parametrize(
    "text, named, message",
    [
        ("path,kind\n", {}, "for the label .*'path', 'kind' in .*`label_colum"),
        ("1.jpg,cat\n", {}, "for the path .* the columns '1.jpg', 'cat' in"),
        (
            "path,label\n",
            {"label_column": "lable"},
            r"`label_column` must be .*\['path', 'label'\].*lable'. .*label\?",
        ),
        (
            "path,label\n",
            {"split_column": "fold"},
            "`split_column` must be a column of .*split_column='fold'",
        ),
        ("path,label,label\n1,2,3\n", {}, "more than one 'label' in .*csv'"),
    ],
)
def test_columns_that_are_not_there(text, named, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        ImageList(write(tmp_path, "list.csv", text), **named)


def test_columns_of_parquet_that_are_there_twice(tmp_path):
    columns = [["1.jpg"], ["cat"], ["dog"]]
    table = pyarrow.table(columns, ["path", "label", "label"])
    with pytest.raises(ValueError, match="more than one 'label'"):
        ImageList(write(tmp_path, "list.parquet", table))


# Bad lists

HEADER = "path,label\n"
NO_ROWS = pyarrow.table({"path": [], "label": []})
JSON_ROW = '{"path": "1.jpg", "label": "a"}\n'


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("l.csv", "", "must name its columns.*l.csv', which is empty"),
        ("l.csv", "\n \n", "which is empty"),
        ("l.jsonl", "\n", "which is empty"),
        ("l.csv", HEADER, "'path', 'label' and no rows"),
        ("l.parquet", NO_ROWS, "have a row for each image"),
        (
            "l.csv",
            HEADER + "1,a\n2,\n3,b\n4, \n",
            "a label. Received: 2 of 4 without one in .*csv', line 3, 5. Fill",
        ),
        ("l.csv", HEADER + "1,a\n" + 6 * "1,\n", "line 3, 4, 5, 6, 7, …. F"),
        ("l.csv", HEADER + '"1\n2",a\n,b\n', "a path. Received: 1 of 2 .*ne 4"),
        ("l.jsonl", JSON_ROW + '\n{"path": "2"}\n', "1 of 2 .*jsonl', line 3"),
        (
            "l.csv",
            "path,label,split\n1,a,\n",
            "must have a split. Received: 1 of 1",
        ),
        (
            "l.parquet",
            as_parquet([("1", "a"), ("2", None), ("3", "b")], COLUMNS[:2]),
            "a label. Received: 1 of 3 .*parquet', row 2. Fill",
        ),
        (
            "l.parquet",
            as_parquet([("1", 1.0), ("2", float("nan"))], COLUMNS[:2]),
            "a label. Received: 1 of 2 .*parquet', row 2. Fill",
        ),
        ("l.csv", HEADER + "1,a\n2,b,c\n", "line 3 is broken: 3 fields where"),
        ("l.csv", HEADER + "1\n", "line 2 is broken: 1 fields where .* 2 col"),
        ("l.csv", HEADER + '1,a\n2,"b\n3,c\n', "line 4 is broken: unexpected"),
        ("l.csv", '"path,label\n1,a\n', "line 2 is broken: unexpected end"),
        ("l.csv", HEADER + "1," + "a" * 2**18, "line 2 is broken: field large"),
        ("l.csv", HEADER + "a" * 2**24, "line 2 is .* 16777216 characters"),
        (
            "l.csv",
            HEADER.encode() + b"\xff,a\n",
            "file in UTF-8. .* after line",
        ),
        (
            "l.jsonl",
            2 * JSON_ROW + '{"path": "1.jpg", \n' + JSON_ROW,
            "jsonl', whose line 3 is broken: Expecting property",
        ),
        ("l.jsonl", JSON_ROW + "[1]\n", "line 2 is broken: it holds no object"),
        ("l.jsonl", JSON_ROW + "[" * 99999 + "\n", "line 2 is broken"),
        ("l.jsonl", '{"path": 1, "path": 2}\n', "names 'path' more than once"),
        (
            "l.jsonl",
            JSON_ROW + '{"path": "2.jpg", "label": {"x": 1}}\n',
            "text or numbers as label. .* type dict in line 2 of",
        ),
        (
            "l.jsonl",
            JSON_ROW + '{"path": "2.jpg", "label": ["a", "b"]}\n',
            r"must have one label. Received: \['a', 'b'\] in",
        ),
        ("l.parquet", b"PAR1 and no more", "file that pyarrow reads.*l.parqu"),
        (
            "l.csv",
            "path,label,split\n1.jpg,a,train\n2.jpg,b,holdout\n",
            "called .*, val, .* Received: 'holdout' in .*split_column='none'",
        ),
        (
            "l.csv",
            HEADER + "1.jpg,a\n2.jpg,a\n",
            "^In .*l.csv': .* at least two classes",
        ),
    ],
)
def test_bad_lists_are_told(name, content, message, tmp_path):
    path = write(tmp_path, name, content, ["1.jpg", "2.jpg"])
    with pytest.raises(ValueError, match=message):
        ImageList(path)


@pytest.mark.parametrize("name", ["missing.csv", "missing.parquet"])
def test_lists_that_are_not_there(name, tmp_path):
    with pytest.raises(ValueError, match=f"file that exists.*{name}'"):
        open_splits(tmp_path / name)


# Files


def test_missing_files_are_named_and_left_out(tmp_path):
    rows = [(f"{i}.jpg", "ab"[i % 2]) for i in range(12)]
    (tmp_path / "4.jpg").mkdir()
    path = write(
        tmp_path,
        "list.csv",
        as_csv(rows, ("path", "label")),
        [f"{i}.jpg" for i in (0, 3, 5, 11)],
    )
    with pytest.warns(UserWarning) as told:
        source = ImageList(path)
    assert str(told[0].message) == (
        f"'{path}' lists files that do not exist, left out 8 of 12: '1.jpg', "
        "'2.jpg', '4.jpg', '6.jpg', '7.jpg' and 3 more"
    )
    assert told[0].filename == __file__
    assert filenames(source) == ["0.jpg", "3.jpg", "5.jpg", "11.jpg"]
    assert source.labels.tolist() == [0, 1, 1, 1]
    with pytest.raises(ValueError, match=r"not exist, 8 of 12: .* and 3 more;"):
        ImageList(path, on_error="raise")


def test_a_class_without_any_file_is_named(tmp_path):
    rows = [("1.jpg", "a"), ("2.jpg", "b"), ("3.jpg", "c")]
    text = as_csv(rows, COLUMNS[:2])
    path = write(tmp_path, "list.csv", text, ["1.jpg", "3.jpg"])
    with (
        pytest.warns(UserWarning, match="left out 1 of 3: '2.jpg'"),
        pytest.raises(ValueError, match="^In '.*list.csv': .* none for 'b' of"),
    ):
        ImageList(path)


def test_a_list_without_any_file_says_where_they_would_be(tmp_path):
    text = as_csv([("C:\\x\\1.jpg", "a"), ("\0.jpg", "b")], COLUMNS[:2])
    path = write(tmp_path, "list.csv", text)
    with pytest.raises(ValueError, match="2 of 2: .*first would be '.*/C:/x/1"):
        ImageList(path)


def test_files_that_are_listed_twice(tmp_path):
    rows = [("1.jpg", "a"), ("2.jpg", "b"), ("./1.jpg", "a"), ("1.jpg", "a")]
    names = ["1.jpg", "2.jpg"]
    path = write(tmp_path, "list.csv", as_csv(rows, COLUMNS[:2]), names)
    with pytest.warns(UserWarning, match=r"once: 2 rows, './1.jpg', '1.jpg'$"):
        source = ImageList(path)
    assert filenames(source) == names
    rows = [(*x, "train", "g") for x in rows[:3]]
    for column, value in ((1, "b"), (2, "val"), (3, "h")):
        other = [*rows[0]]
        other[column] = value
        columns = (*COLUMNS, "group")
        write(tmp_path, "list.csv", as_csv([*rows, other], columns))
        with pytest.raises(
            ValueError,
            match=f"with the {columns[column]} '.*' in line 2 and '{value}' in "
            "line 5",
        ):
            ImageList(path, group_column="group")


@pytest.mark.parametrize(
    "change, is_same",
    [
        ("", True),
        ("moved", True),
        ("label", False),
        ("bytes", False),
        ("order", False),
    ],
)
def test_a_run_is_held_to_its_list(change, is_same, tmp_path):
    rows = [(f"{i}.jpg", "ab"[i % 2]) for i in range(4)]
    names = [x for x, _ in rows]
    path = write(tmp_path / "one", "list.csv", as_csv(rows, COLUMNS[:2]), names)
    before = ImageList(path).fingerprint()
    if change == "label":
        rows[0] = ("0.jpg", "b")
    if change == "order":
        rows = rows[2:] + rows[:2]
    folder = tmp_path / ("two" if change == "moved" else "one")
    path = write(folder, "list.csv", as_csv(rows, COLUMNS[:2]), names)
    if change == "bytes":
        (folder / "1.jpg").write_text("2.jpg")
    assert (ImageList(path).fingerprint() == before) is is_same


# Splits


def rows_of(*rows):
    """Rows with a file, a class, a split and a group."""
    return [(f"{i}.jpg", *row) for i, row in enumerate(rows)]


def listed(folder, rows, **named):
    text = as_csv(rows, (*COLUMNS, "group"))
    return ImageList(
        write(folder, "list.csv", text, [x for x, *_ in rows]), **named
    )


def test_of_three_splits_one_is_left_out_and_said(tmp_path, capsys):
    rows = rows_of(
        *(("a", "Train", "1"), ("b", "train", "2"), ("a", "VAL", "3")),
        *(("b", "test", "4"), ("a", "test", "5")),
    )
    source = listed(tmp_path, rows, group_column="group")
    train, held_out = open_splits(source)
    assert train.numbers.tolist() == [0, 1]
    assert held_out.numbers.tolist() == [2]
    assert held_out.groups.tolist() == [2]
    assert "2 images of 'test' left out" in capsys.readouterr().err


def test_a_test_split_is_held_out_where_there_is_no_other(tmp_path):
    rows = rows_of(*((x, y, "") for x in "ab" for y in ("training", "TEST")))
    train, held_out = open_splits(listed(tmp_path, rows))
    assert train.numbers.tolist() == [0, 2]
    assert held_out.numbers.tolist() == [1, 3]


@pytest.mark.parametrize("split", ["val", "test"])
def test_classes_that_training_lacks_are_named(split, tmp_path):
    rows = rows_of(
        *(("a", "train", ""), ("b", "train", ""), ("c", split, "")),
        *(("a", "val", ""), ("d", split, "")),
    )
    source = listed(tmp_path, rows)
    with pytest.raises(
        ValueError, match="to train on. Received: 'c', 'd' of 4 .*'train' of"
    ):
        open_splits(source)
    assert open_data(source, "validation").classes == ("a", "b", "c", "d")


def test_splits_without_a_file_are_told(tmp_path):
    rows = rows_of(("a", "train", ""), ("b", "train", ""), ("a", "val", ""))
    text = as_csv(rows, (*COLUMNS, "group"))
    path = write(tmp_path, "list.csv", text, ["0.jpg", "1.jpg"])
    with (
        pytest.warns(UserWarning, match="left out 1 of 3: '2.jpg'"),
        pytest.raises(ValueError, match="in every split. .* none in 'val'"),
    ):
        open_splits(path)


def test_no_group_is_in_two_splits_or_lists(tmp_path):
    rows = rows_of(
        *(("a", "train", "ann"), ("b", "train", "bob")),
        *(("a", "val", "ann"), ("b", "test", "eve")),
    )
    with pytest.raises(
        ValueError, match="1 in both of the splits 'train' and 'val'.*: 'ann'"
    ):
        listed(tmp_path, rows, group_column="group")
    train, other, apart = (
        listed(tmp_path / name, x, group_column="group", split_column="none")
        for name, x in (
            ("one", rows[:2]),
            ("two", rows[2:]),
            ("three", [("3.jpg", "a", "-", "x"), ("4.jpg", "b", "-", "y")]),
        )
    )
    with pytest.raises(ValueError, match="1 in both of this list and '.*two"):
        open_splits(train, other)
    assert open_splits(train, apart)[1] is apart


@pytest.mark.parametrize("splits", ["train train", "train test"])
def test_files_that_two_lists_share_are_told(splits, tmp_path, recwarn):
    """But for those of a split that is left out."""
    rows = [(f"{i}.jpg", "ab"[i % 2], "train") for i in range(4)]
    rows += [
        (f"{i}.jpg", "ab"[i % 2], x) for i, x in enumerate(splits.split(), 4)
    ]
    files = [x[0] for x in rows] + ["7.jpg"]
    one = write(tmp_path, "one.csv", as_csv(rows), files)
    rows = [("../5.jpg", "b"), (f"{tmp_path}/7.jpg", "a")]
    two = write(tmp_path / "x", "two.csv", as_csv(rows, COLUMNS[:2]))
    open_splits(one, two)
    told = [str(x.message) for x in recwarn]
    expected = (
        f"1 files are in both of '{one}', which is trained on, and '{two}', "
        "which is validated on: '5.jpg'"
    )
    assert told == [expected] * (splits == "train train")


# Without labels


@pytest.mark.parametrize("columns", [COLUMNS[:1], COLUMNS, ("path", "value")])
@pytest.mark.parametrize(
    "suffix, made",
    [("csv", as_csv), ("jsonl", as_json_lines), ("parquet", as_parquet)],
)
def test_lists_need_no_labels_to_learn_without(
    suffix, made, columns, tmp_path, capsys
):
    """And those that they have need not be any."""
    rows = [(x, "", split)[: len(columns)] for x, _, split in ROWS]
    rows.append(("a/1.jpg", "dog", "train")[: len(columns)])
    content = made(rows, columns)
    path = write(tmp_path, f"list.{suffix}", content, [x[0] for x in ROWS])
    with pytest.warns(UserWarning, match="more than once"):
        source = open_images(path)
    kept = [x for x in ROWS if "split" not in columns or x[2] == "train"]
    assert filenames(source) == [x[0] for x in kept]
    assert source.classes == () and source.labels.tolist() == [0] * len(kept)
    assert [source.read(i).decode() for i in range(len(kept))] == [
        x[0] for x in kept
    ]
    assert "label from" not in capsys.readouterr().err
    with pytest.warns(UserWarning, match="more than once"):
        again = ListedImages(path, "path", split_column="none")
    assert filenames(again) == [x[0] for x in ROWS]
    assert open_images(again) is again


def test_what_lists_without_labels_need(tmp_path):
    path = write(tmp_path, "a.csv", "image,part\n1.jpg,train\n", ["1.jpg"])
    with pytest.raises(ValueError, match="must be a column of .*path_column"):
        ListedImages(path, "file")
    with pytest.raises(ValueError, match="part for train.* validation alone"):
        open_images(write(tmp_path, "b.csv", "image,split\n1.jpg,val\n"))
    with pytest.raises(ValueError, match="files that do not exist, 1 of 1"):
        open_images(write(tmp_path, "c.csv", "image\n2.jpg\n"))


# Memory


def test_a_list_is_never_in_memory_as_a_whole(tmp_path, monkeypatch):
    """Beside what is kept of a row, some hundred bytes."""
    monkeypatch.setattr("os.path.isfile", lambda path: True)
    monkeypatch.setattr(lists.tables.Path, "is_file", lambda path: True)
    path = tmp_path / "list.csv"
    with open(path, "w") as file:
        file.write("path,label,remarks\n")
        for number in range(2000):
            file.write(f"{number}.jpg,{number % 3},{'x' * 5000}\n")
    assert path.stat().st_size > 10_000_000
    tracemalloc.start()
    source = ImageList(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source) == 2000
    assert peak < 1_500_000
