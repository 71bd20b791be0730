"""Data as tools leave it, and as nobody should: refused, or left out."""

import errno
import io
import json
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_convnext import preprocess_input
from keras_convnext import recipes
from keras_convnext._util import limits
from keras_convnext._util.writing import sha256_of
from keras_convnext.artifacts.real_images import to_calibrate
from keras_convnext.artifacts.running import Artifact
from keras_convnext.cli.files import find_images
from keras_convnext.data import Arrays
from keras_convnext.data import EvalLoader
from keras_convnext.data import ImageFolder
from keras_convnext.data import Records
from keras_convnext.data import TrainLoader
from keras_convnext.data import open_splits
from keras_convnext.data import write_records
from keras_convnext.data.records import CHECKSUM
from keras_convnext.data.splits import open_data
from keras_convnext.evaluation.classifier import Classifier
from keras_convnext.evaluation.real import read_labels
from keras_convnext.images import levels
from keras_convnext.images.folders import images_below
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.training import settings
from keras_convnext.training.loop import check_output

pytestmark = pytest.mark.once


def write(folder, *names):
    """Images of noise, and other files, by their names."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".jpg", ".bmp"):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3))
            Image.fromarray(pixels.astype("uint8")).save(path)
        else:
            path.touch()
    return folder


def filenames(source):
    return [source.filename(i) for i in range(len(source))]


# Folders


def test_what_systems_leave_is_no_class_and_no_image(tmp_path):
    images = ["cat/1.jpg", "dog/1.jpg", "dog/more/2.jpg"]
    left = ["cat/._1.jpg", "cat/.ipynb_checkpoints/1.jpg", "cat/Thumbs.db"]
    left += ["__MACOSX/cat/1.jpg", "dog/__MACOSX/1.jpg", ".DS_Store/1.jpg"]
    left += ["cat/@eaDir/1.jpg", "$RECYCLE.BIN/1.jpg", "dog/desktop.ini"]
    source = ImageFolder(write(tmp_path, *images, *left))
    assert source.classes == ("cat", "dog") and filenames(source) == images
    assert source.ignored == 0
    assert images_below(tmp_path) == [tmp_path / name for name in images]


def test_links_are_followed_and_never_in_circles(tmp_path):
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    write(data, "cat/1.jpg", "cat/more/2.jpg", "dog/1.jpg")
    write(elsewhere, "3.jpg", "deep/4.jpg")
    (data / "bird").symlink_to(elsewhere)
    for name, target in {
        "all": data,
        "above": tmp_path,
        "cat/up": data,
        "cat/self": data / "cat",
        "cat/more/top": "/",
        "cat/again": data / "cat/more",
        "bird/back": data,
        "bird/deep/up": elsewhere,
    }.items():
        (data / name).symlink_to(target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = ImageFolder(data)
    assert source.classes == ("bird", "cat", "dog")
    assert filenames(source) == [
        "bird/3.jpg",
        "bird/deep/4.jpg",
        "cat/1.jpg",
        "cat/again/2.jpg",
        "dog/1.jpg",
    ]
    assert len(images_below(data)) == 5


def test_images_that_links_put_into_two_classes_are_told(tmp_path):
    write(tmp_path, "cat/1.jpg", "dog/1.jpg")
    (tmp_path / "dog/link").symlink_to(tmp_path / "cat")
    (tmp_path / "cat/link").symlink_to(tmp_path / "dog")
    with pytest.warns(
        UserWarning, match="two classes.*'dog', 'dog/link'"
    ) as told:
        source = ImageFolder(tmp_path)
    assert len(source) == 4 and len(told) == 1


@pytest.mark.parametrize(
    "result", ["run.json", "run.lock", "records.lock", "writing.lock"]
)
def test_the_results_of_runs_are_no_class(result, tmp_path):
    write(tmp_path, "cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/2.jpg")
    before = ImageFolder(tmp_path).fingerprint()
    write(tmp_path, f"run/{result}", "run/curves.png", "run/checkpoints/1.npz")
    write(tmp_path, f"cat/run/{result}", "cat/run/curves.png")
    assert ImageFolder(tmp_path).fingerprint() == before
    assert open_splits(tmp_path)[0].classes == ("cat", "dog")


def test_a_run_may_not_write_among_the_classes(tmp_path):
    write(tmp_path, *(f"{x}/{i}.jpg" for x in "ab" for i in "123"))
    train, held_out = open_splits(tmp_path)
    for output in (tmp_path, tmp_path / "a" / ".."):
        with pytest.raises(ValueError, match="another folder than the images"):
            check_output(output, train, held_out)
    check_output(tmp_path / "run", train, None)


@pytest.mark.parametrize(
    "train, held_out",
    [
        ("train", "valid"),
        ("Train", "Val"),
        ("TRAIN", "TEST"),
        ("Training", "Testing"),
    ],
)
def test_splits_are_no_classes_whatever_their_case(train, held_out, tmp_path):
    for part in (train, held_out):
        write(tmp_path, f"{part}/a/{part}.jpg", f"{part}/b/{part}.jpg")
    write(tmp_path, "__MACOSX/train/._a", "README.roboflow.txt")
    parts = open_splits(tmp_path)
    assert [x.filename(0) for x in parts] == [
        f"a/{name}.jpg" for name in (train, held_out)
    ]


def test_parts_without_one_to_train_on_are_no_classes(tmp_path):
    for part in ("valid", "test"):
        write(tmp_path, f"{part}/a/{part}.jpg", f"{part}/b/{part}.jpg")
    assert open_data(tmp_path, "validation").filename(0) == "a/valid.jpg"
    with pytest.raises(ValueError, match="a part for train"):
        open_splits(tmp_path)


@pytest.mark.parametrize("loader", ["python", "tf"])
def test_a_class_without_a_readable_image_is_named(loader, tmp_path):
    write(tmp_path, *(f"{x}/{i}.png" for x in "abc" for i in range(4)))
    for path in (tmp_path / "b").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    (tmp_path / "c/0.png").write_bytes(b"")
    recipe = recipes.small_data.replace(image_size=8, batch_size=4)
    pipeline = recipe.train_pipeline(3)
    source = ImageFolder(tmp_path)
    with pytest.raises(ValueError, match="can be read. Received: none for 'b'"):
        TrainLoader(source, pipeline, 1, loader=loader)
    TrainLoader(source, pipeline, 1, on_error="raise")  # it will say so


def test_pipes_among_the_data_end_at_once(tmp_path):
    write(tmp_path, "a/1.jpg", "b/1.jpg")
    os.mkfifo(tmp_path / "b/2.jpg")
    (tmp_path / "a/2.jpg").symlink_to("/dev/zero")
    source = ImageFolder(tmp_path)
    loader = EvalLoader(source, Preprocessing((8, 8)), batch_size=4)
    with pytest.warns(UserWarning, match="not a regular file"):
        assert len(loader.load(0)[0]) == 2
    (tmp_path / "records").mkdir()
    os.mkfifo(tmp_path / "records/index.json")
    os.mkfifo(tmp_path / "data.npz")
    for name in ("records", "data.npz"):
        with pytest.raises(ValueError, match=name):
            open_data(tmp_path / name)


def unreadable(folder, monkeypatch):
    """Beside two good images of a class, what is none of a file."""
    write(folder, "a/1.png", "a/gone.png", "a/mine.png", "b/1.png", "b/2.png")
    (folder / "a/dangling.png").symlink_to(folder / "nowhere.png")
    (folder / "a/circle.png").symlink_to(folder / "a/circle.png")
    (folder / "a/folder.png").mkdir()
    source = ImageFolder(folder)
    (folder / "a/gone.png").unlink()
    read = Path.read_bytes

    def refuse(path):  # whoever runs the tests may be allowed to
        if path.name == "mine.png":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    return source


def test_what_cannot_be_read_is_skipped_and_named(tmp_path, monkeypatch):
    source = unreadable(tmp_path / "images", monkeypatch)
    assert source.fingerprint()["images"] == 7
    loader = EvalLoader(source, Preprocessing((8, 8)), batch_size=8)
    with pytest.warns(UserWarning, match="Skipped"):
        assert len(loader.load(0)[0]) == 3
    reasons = {os.path.basename(x): y for x, y in loader.skipped.items()}
    assert reasons.keys() == {
        *("gone.png", "mine.png", "dangling.png", "circle.png")
    }
    assert reasons["dangling.png"] == "which does not exist"
    assert "Permission denied" in reasons["mine.png"]
    with pytest.warns(UserWarning, match="Skipped"):
        left_out = write_records(source, tmp_path / "records")
    assert {os.path.basename(x) for x in left_out} == reasons.keys()
    assert len(Records(tmp_path / "records")) == 3


def test_a_link_that_leads_somewhere_again_is_told(tmp_path):
    folder = write(tmp_path / "images", "a/1.png", "b/1.png")
    (folder / "a/2.png").symlink_to(tmp_path / "later.png")
    before = ImageFolder(folder).fingerprint()
    write(tmp_path, "later.png")
    assert ImageFolder(folder).fingerprint() != before


# What a run is held to


@pytest.mark.parametrize("kind", ["folder", "records"])
def test_images_changed_behind_a_run_are_told(kind, tmp_path):
    folder = write(tmp_path / "images", "a/1.bmp", "b/2.bmp", "b/3.bmp")
    before = ImageFolder(folder).fingerprint()
    assert before == ImageFolder(folder).fingerprint()
    path = folder / "b/3.bmp"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    after = ImageFolder(folder).fingerprint()
    assert after["digest"] == before["digest"]
    assert after["sample"] != before["sample"]


def test_runs_of_earlier_versions_go_on():
    now = {"data": {"digest": "a", "sample": "b"}, "validation": None}
    then = {"data": {"digest": "a"}, "validation": None}
    other = {"data": {"digest": "a", "sample": "c"}, "validation": None}
    assert not settings.differences(then, "then", now, "now")
    assert "data.sample: c" in settings.differences(other, "then", now, "now")
    assert settings.differences(now, "then", then, "now")


def test_records_begun_by_earlier_versions_go_on(tmp_path):
    source = ImageFolder(write(tmp_path / "images", "a/1.png", "b/2.png"))
    write_records(source, tmp_path / "records", shards=2)
    path = tmp_path / "records/index.json"
    index = json.loads(path.read_text())
    del index["source"]["sample"]
    path.write_text(json.dumps(index))
    assert write_records(source, tmp_path / "records", shards=2) == {}


def test_a_fingerprint_ends_after_so_many_images(tmp_path, monkeypatch):
    source = ImageFolder(
        write(tmp_path, *(f"{x}/{i}.png" for x in "ab" for i in "123"))
    )
    read = []
    monkeypatch.setattr(
        type(source), "read", lambda self, number: read.append(number) or b"12"
    )
    monkeypatch.setattr("keras_convnext.data.source.SAMPLED", 4)
    source.fingerprint()
    assert len(read) == 4
    digest = source.fingerprint()["sample"]
    monkeypatch.setattr("keras_convnext.data.source.SAMPLED_BYTES", 3)
    assert source.fingerprint()["sample"] != digest


# Files of arrays


def arrays(count=4):
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3))
    return {"images": images.astype("uint8"), "labels": np.arange(count) % 2}


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": np.array([0, 1, 0, 10**9])},
        {"labels": np.array([0, 1, 0, 2**63], "uint64")},
        {"labels": np.array([0, 1, 0, -1])},
        {"labels": np.array([0.0, 1.0, 0.0, np.nan])},
        {"labels": np.array(list("abcd"))},
        {"labels": np.array([0, 1])},
        {"images": arrays()["images"] / 255},
        {"images": np.array([None] * 4)},
    ],
    ids=str,
)
def test_arrays_in_a_file_are_named_where_they_are_no_data(changes, tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays() | changes)
    with pytest.raises(ValueError, match="data.npz"):
        open_data(path)


def test_a_file_of_arrays_that_inflates_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(limits.VARIABLE, "20MiB")
    path = tmp_path / "bomb.npz"
    header = {
        "descr": "|u1",
        "fortran_order": False,
        "shape": (30, 1024, 1024, 1),
    }
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("images.npy", "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(30):
            file.write(bytes(2**20))
    with pytest.raises(ValueError, match=rf"bomb\.npz.*{limits.VARIABLE}"):
        open_data(path)


class Code:
    """A pickle that makes a folder when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_arrays_of_objects_are_refused_unread(tmp_path):
    path, mark = tmp_path / "objects.npz", tmp_path / "mark"
    objects = np.array([Code(str(mark))], object)
    np.savez(path, images=objects, labels=objects)
    with pytest.raises(ValueError, match=r"objects\.npz"):
        open_data(path)
    assert not mark.exists()


def with_header(header, data=bytes(4 * 8 * 8 * 3)):
    """An `.npy` file with a header of any text."""
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


GOOD = "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 8, 8, 3), }"


@pytest.mark.parametrize(
    "content",
    [
        with_header(GOOD[:-3]),
        with_header(GOOD.replace("'shape'", "'shap")),
        with_header(GOOD.replace("(4", "(((4")),
        with_header(GOOD.replace("(4,", "(-4,")),
        with_header(GOOD.replace("(4,", "(4000000000000,")),
        with_header(GOOD.replace("|u1", "|O")),
        with_header(GOOD.replace("|u1", "\0")),
        with_header(GOOD)[:-1],
        b"",
        b"\x93NUMPY",
    ],
)
def test_broken_headers_in_a_file_of_arrays_are_named(content, tmp_path):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", content)
        labels = io.BytesIO()
        np.save(labels, arrays()["labels"])
        archive.writestr("labels.npy", labels.getvalue())
    with pytest.raises(ValueError, match=r"data\.npz"):
        open_data(path)


def test_a_checksum_holds_where_a_header_says_less(tmp_path):
    """NumPy stops reading before the checksum is compared."""
    path = tmp_path / "data.npz"
    np.savez(path, **arrays())
    content = path.read_bytes()
    assert content.count(b"(4, 8, 8, 3)") == 1
    path.write_bytes(content.replace(b"(4, 8, 8, 3)", b"(4, 8, 4, 3)"))
    with pytest.raises(ValueError, match=r"data\.npz', whose checksums"):
        open_data(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint64", "int64"])
def test_labels_are_ints_of_any_size(dtype):
    labels = np.array([0, 1, 0, 2], dtype)
    source = Arrays(arrays()["images"], labels)
    assert source.classes == ("0", "1", "2")
    assert source.labels.tolist() == labels.tolist()
    assert Arrays(arrays()["images"][:0], labels[:0]).classes == ()


def test_too_many_classes_are_refused_without_a_file():
    with pytest.raises(ValueError, match="Classes up to number 1000000000"):
        Arrays(arrays(2)["images"], [0, 10**9])


# Records


@pytest.fixture
def records(tmp_path):
    source = ImageFolder(
        write(
            tmp_path / "images", *(f"{x}/{i}.png" for x in "ab" for i in "12")
        )
    )
    write_records(source, tmp_path / "records", shards=1)
    return tmp_path / "records"


def change_rows(folder, change):
    """Other rows, with the checksum that they then have."""
    (path,) = folder.glob("*.npy")
    rows = change(np.load(path).copy())
    np.save(path, rows)
    index = json.loads((folder / "index.json").read_text())
    index["shards"][0]["rows_sha256"] = sha256_of(path)
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    "field, value",
    [
        ("length", -1),
        ("length", 2**62),
        ("offset", -1),
        ("offset", 2**63 - 1),
        ("label", -1),
        ("label", 2),
    ],
)
def test_rows_lie_within_their_shard(field, value, records):
    def change(rows):
        rows[field][1] = value
        return rows

    change_rows(records, change)
    with pytest.raises(ValueError, match=r"00000-of-00001\.npy', images or"):
        Records(records)


def test_rows_of_other_types_are_named(records):
    change_rows(records, lambda rows: rows["length"])
    with pytest.raises(ValueError, match=r"\.npy'.*Write them again"):
        Records(records)


def test_a_byte_that_was_flipped_is_told_when_it_is_read(records):
    (path,) = records.glob("*.tfrecord")
    content = bytearray(path.read_bytes())
    row = np.load(path.with_suffix(".npy"))[2]
    content[row["offset"] + row["length"] - 1] ^= 1
    path.write_bytes(content)
    source = Records(records)
    loader = EvalLoader(source, Preprocessing((8, 8)), batch_size=4)
    with pytest.warns(UserWarning, match="bytes in 'images-.*' were changed"):
        assert len(loader.load(0)[0]) == 3


def test_rows_of_earlier_versions_have_no_checksums(records):
    expected = [Records(records).read(i) for i in range(4)]

    def change(rows):
        names = [name for name in rows.dtype.names if name != CHECKSUM]
        old = np.zeros(len(rows), [(x, rows.dtype[x]) for x in names])
        for name in names:
            old[name] = rows[name]
        return old

    change_rows(records, change)
    source = Records(records)
    assert [source.read(i) for i in range(4)] == expected


@pytest.mark.parametrize(
    "change",
    [
        {"classes": "ab"},
        {"classes": [0, 1]},
        {"classes": None},
        {"shards": {}},
        {"shards": [{}]},
        {"shards": [[]]},
        {"shard_count": "1"},
        {"source": 5},
        {"file": "../records/images-00000-of-00001.tfrecord"},
        {"file": "/dev/zero"},
        {"bytes": None},
        {"sha256": 0},
        {"rows_sha256": None},
        {"left_out": []},
    ],
    ids=str,
)
def test_a_damaged_index_is_named(change, records):
    index = json.loads((records / "index.json").read_text())
    ((key, value),) = change.items()
    (index if key in index else index["shards"][0])[key] = value
    (records / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=f"index.json.*{records.name}"):
        Records(records)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "index.json holds no JSON"),
        (b"null", "index.json holds null in place of an object"),
        (b"[1]", "index.json holds a value of list in place of an object"),
        (b"{}", "index.json lacks format, source, classes, shard_count, shar"),
        (b'{"format": "\xff"}', "index.json holds no JSON .'utf-8' codec"),
        (b'{"format": "ke', "index.json holds no JSON"),
    ],
)
def test_an_index_that_is_none_is_named(content, message, records):
    (records / "index.json").write_bytes(content)
    source = ImageFolder(records.parent / "images")
    for call in (Records, lambda path: write_records(source, path)):
        with pytest.raises(ValueError, match=f"{message}.*Remove index.json"):
            call(records)
    # The remedy is one.
    (records / "index.json").unlink()
    write_records(source, records, shards=1)
    assert len(Records(records)) == 4


def test_an_index_may_not_name_a_shard_twice_or_be_too_deep(records):
    index = json.loads((records / "index.json").read_text())
    index["shards"] *= 2
    index["shard_count"] = 2
    for content in (json.dumps(index), "[" * 100_000):
        (records / "index.json").write_text(content)
        with pytest.raises(ValueError, match="of the format"):
            Records(records)


# Sizes, and floats


def test_a_recipes_size_is_limited():
    recipe = recipes.small_data.replace(image_size=10**6)
    with pytest.raises(
        ValueError, match=rf"image_size=1000000.*{limits.VARIABLE}"
    ):
        recipe.train_pipeline(2)


class Floats(Arrays):
    """A user's source, of whatever it was given."""

    def __init__(self, images, labels):
        self.images, self.labels = images, np.asarray(labels, "int32")
        self.classes = ("a", "b")


@pytest.fixture
def untold(monkeypatch):
    monkeypatch.setattr(levels, "told", set())


@pytest.mark.parametrize(
    "change, is_told",
    [
        (lambda x: x / 255, True),
        (lambda x: (x / 127.5 - 1).astype("float16"), True),
        (lambda x: 50 * (x / 255 - 0.5), True),
        (lambda x: x.astype("float32"), False),
        (lambda x: x, False),
        (np.zeros_like, False),
        (lambda x: np.zeros(x.shape), False),
        (lambda x: x / 0 * 0, False),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_floats_of_other_ranges_are_told(change, is_told, untold, recwarn):
    images = change(arrays()["images"])
    levels.check_levels(images, "This")
    levels.check_levels(images, "This")
    found = [
        x for x in recwarn if "This takes images of 0–255" in str(x.message)
    ]
    assert len(found) == is_told


def test_training_and_evaluation_tell_floats_once(untold, recwarn):
    images = arrays(8)["images"] / 255
    source = Floats(images, np.arange(8) % 2)
    recipe = recipes.small_data.replace(image_size=8, batch_size=4)
    pipeline = recipe.train_pipeline(2)
    list(TrainLoader(source, pipeline, 1, loader="python").batches())
    EvalLoader(source, Preprocessing((8, 8)), 4).load(0)
    pipeline((images, source.labels))[0]
    messages = [str(x.message) for x in recwarn]
    for name in ("`Floats`", "A recipe's pipeline"):
        found = [x for x in messages if x.startswith(f"{name} takes images")]
        assert len(found) == 1 and "by 255" in found[0]


def test_floats_in_tf_data_are_told_once(untold, recwarn):
    tf = pytest.importorskip("tensorflow")
    images = arrays(8)["images"]
    recipe = recipes.small_data.replace(image_size=8, batch_size=4)
    for divisor, count in ((1, 0), (255, 1)):
        pairs = images.astype("float32") / divisor, np.arange(8) % 2
        dataset = tf.data.Dataset.from_tensor_slices(pairs)
        for pipeline in (recipe.train_pipeline(2), recipe.eval_pipeline()):
            list(pipeline(dataset))
        messages = [str(x.message) for x in recwarn]
        found = [x for x in messages if x.startswith("A recipe's pipeline")]
        assert len(found) == count


def test_exported_models_tell_floats_once(untold, recwarn):
    metadata = {
        "outputs": ["scores"],
        "normalizes": True,
        "data_format": "channels_last",
        "input_dtype": "float32",
    }
    artifact = Artifact(
        "m.onnx", metadata, lambda x: {"scores": x.mean((1, 2))}
    )
    images = arrays()["images"]
    for given in (images, images.astype("float32")):
        artifact.predict(given)
        assert not recwarn
    for _ in range(2):
        artifact.predict(images / 255)
    assert len(recwarn) == 1
    assert "`Artifact.predict` takes images of 0–255" in str(recwarn[0].message)


def test_preprocess_input_tells_floats_once(untold, recwarn):
    images = arrays()["images"]
    preprocess_input(images, weights="convnext_tiny.fb_in1k")
    preprocess_input(images / 255)  # which is the identity
    assert not recwarn
    for _ in range(2):
        preprocess_input(images / 255, weights="convnext_tiny.fb_in1k")
    assert len(recwarn) == 1


def test_images_to_calibrate_on_tell_floats(untold):
    metadata = {
        "quantization": "int8",
        "size": [8, 8],
        "channels": 3,
        "normalizes": True,
        "data_format": "channels_last",
        "input_dtype": "float32",
    }
    with pytest.warns(UserWarning, match="`representative_data` takes images"):
        to_calibrate(arrays()["images"] / 255, metadata)


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", with_header("{("), None]
)
def test_damaged_images_to_calibrate_on_are_named(content, tmp_path):
    path = tmp_path / "images.npy"
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"`representative_data`.*images\.npy"):
        to_calibrate(path, {"quantization": "int8", "preprocessing": None})


def test_patterns_leave_out_what_systems_leave(tmp_path):
    write(tmp_path, "a/1.jpg", "__MACOSX/1.jpg", "b.jpg", "Thumbs.db")
    found = find_images([f"{tmp_path}/*"])
    assert found == [tmp_path / "a/1.jpg", tmp_path / "b.jpg"]


@pytest.mark.parametrize("batch_size", [10**9])
def test_batches_that_no_memory_holds_are_refused(batch_size):
    artifact = Artifact(
        "m.onnx",
        {
            "model": "m",
            "outputs": ["logits"],
            "classes": [["0", "a"]],
            "activation": None,
            "units": None,
            "size": [8, 8],
            "channels": 3,
        },
        None,
    )
    with pytest.raises(ValueError, match=f"of {batch_size} images.*memory"):
        Classifier(artifact, Preprocessing((8, 8)), batch_size)


def test_a_pipe_in_place_of_real_labels_ends_at_once(tmp_path):
    os.mkfifo(tmp_path / "real.json")
    with pytest.raises(ValueError, match="real.json'.*not a regular file"):
        read_labels(tmp_path / "real.json")
