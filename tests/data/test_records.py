"""TFRecord shards: as others read them, and whatever happens to them."""

import json
import os
import signal
import subprocess
import sys

import image_files
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from runs import invoke

from keras_convnext import recipes
from keras_convnext.data import Arrays
from keras_convnext.data import ImageFolder
from keras_convnext.data import ImageList
from keras_convnext.data import Records
from keras_convnext.data import Subset
from keras_convnext.data import TrainLoader
from keras_convnext.data import open_splits
from keras_convnext.data import write_records

pytestmark = pytest.mark.once

FEATURES = {
    "image/encoded": tf.io.FixedLenFeature((), tf.string),
    "image/class/label": tf.io.FixedLenFeature((), tf.int64),
    "image/class/text": tf.io.FixedLenFeature((), tf.string),
    "image/filename": tf.io.FixedLenFeature((), tf.string),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("image_files")
    image_files.write_image_files(path)
    return path


@pytest.fixture(scope="module")
def good(folder):
    """Those images that can be read."""
    source = ImageFolder(folder)
    names = [source.filename(i) for i in range(len(source))]
    return Subset(
        source,
        [i for i, name in enumerate(names) if name not in image_files.BROKEN],
    )


@pytest.fixture(scope="module")
def written(good, tmp_path_factory):
    path = tmp_path_factory.mktemp("records")
    assert write_records(good, path, shards=4) == {}
    return path


@pytest.fixture
def copied(written, tmp_path):
    """Records that may be damaged."""
    for path in written.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def files(folder):
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.suffix != ".lock"
    }


def test_tensorflow_reads_them_as_they_were_in_their_files(good, written):
    shards = sorted(map(str, written.glob("*.tfrecord")))
    assert [os.path.basename(x) for x in shards] == [
        f"images-0000{i}-of-00004.tfrecord" for i in range(4)
    ]
    examples = tf.data.TFRecordDataset(shards).map(
        lambda x: tf.io.parse_single_example(x, FEATURES)
    )
    examples = list(examples.as_numpy_iterator())
    assert len(examples) == len(good)
    for number, example in enumerate(examples):
        name, label = good.filename(number), good.labels[number]
        assert example["image/encoded"] == image_files.good_files()[name]
        assert example["image/filename"].decode() == name
        assert example["image/class/label"] == label
        assert example["image/class/text"].decode() == good.classes[label]


def test_they_are_read_by_number_without_tensorflow(good, written, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    source = Records(written)
    assert source.classes == good.classes
    np.testing.assert_array_equal(source.labels, good.labels)
    for number in reversed(range(len(good))):
        assert source.read(number) == good.read(number)
        assert source.filename(number) == good.filename(number)
    assert source.name(0) == str(written / good.filename(0))
    source.verify()
    with pytest.raises(ImportError, match="reading them does without"):
        write_records(good, written)


def test_training_on_them_is_training_on_the_files(good, written):
    recipe = recipes.imagenet1k.replace(image_size=16, batch_size=4)
    batches = [
        list(TrainLoader(x, recipe.train_pipeline(2), 1).batches())
        for x in (good, Records(written))
    ]
    assert len(batches[0]) == 5
    for (images, labels), (other_images, other_labels) in zip(*batches):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


def test_broken_images_are_left_out_and_named(folder, tmp_path):
    source = ImageFolder(folder)
    with pytest.warns(UserWarning, match="images skipped so far: 3"):
        left_out = write_records(source, tmp_path / "all", shards=2)
    assert left_out == write_records(source, tmp_path / "all", shards=2)
    assert left_out.keys() == {str(folder / x) for x in image_files.BROKEN}
    assert left_out[str(folder / "cat/empty.jpg")] == "which is not an image"
    records = Records(tmp_path / "all")
    assert len(records) == len(image_files.good_files())
    assert [len(shard["left_out"]) for shard in records.shards] == [1, 2]
    with pytest.raises(ValueError, match="empty.jpg', which is not an image"):
        write_records(source, tmp_path / "none", on_error="raise")
    assert files(tmp_path / "none") == {}


@pytest.mark.parametrize("images_done", [1, 6, 13, 21])
def test_a_stopped_conversion_goes_on(good, written, tmp_path, images_done):
    done = 0

    def stop(count):
        nonlocal done
        done += count
        if done == images_done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_records(good, tmp_path, shards=4, progress=stop)
    assert not [name for name in files(tmp_path) if "unfinished" in name]
    with pytest.raises(ValueError, match="index.json|lacks . of 4 shards"):
        Records(tmp_path)
    before = {x: x.stat().st_mtime_ns for x in tmp_path.glob("*.tfrecord")}
    seen = []
    write_records(good, tmp_path, shards=4, progress=seen.append)
    assert sum(seen) == len(good)
    assert files(tmp_path) == files(written)
    after = {x: x.stat().st_mtime_ns for x in before}
    assert after == before and len(before) == images_done * 4 // len(good)


def modified(folder):
    # Some releases of filelock leave a lock, and some touch it.
    files = [x for x in folder.iterdir() if x.suffix != ".lock"]
    return {x: x.stat().st_mtime_ns for x in files}


@pytest.mark.parametrize("done", [1, 2])
def test_finished_records_stay_so_whatever_stops_the_next_call(
    done, good, written, copied
):
    before = modified(copied)
    calls = []

    def stop(count):
        calls.append(count)
        if len(calls) == done + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_records(good, copied, shards=4, progress=stop)
    Records(copied).verify()
    assert write_records(good, copied, shards=4) == {}
    assert modified(copied).items() >= before.items()
    assert files(copied) == files(written)


def test_a_stopped_repair_keeps_what_is_whole(good, written, copied):
    damaged = "images-00001-of-00004"
    cut(copied / f"{damaged}.tfrecord")
    before = modified(copied)

    def stop(count):
        if count == 1:  # an image, and not a whole shard
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_records(good, copied, shards=4, progress=stop)
    write_records(good, copied, shards=4)
    after = modified(copied)
    changed = {x.name for x in before if after[x] != before[x]}
    assert changed == {
        f"{damaged}.tfrecord",
        f"{damaged}.npy",
        "index.json",
    }
    assert files(copied) == files(written)


KILLED = """
import os, signal, sys
from keras_convnext.data import ImageFolder, write_records
done = 0
def kill(count):
    global done
    done += count
    if done == 9:
        os.kill(os.getpid(), signal.SIGKILL)
write_records(ImageFolder(sys.argv[1]), sys.argv[2], shards=4, progress=kill)
"""


def test_a_killed_conversion_goes_on(folder, tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(folder)]
    killed = subprocess.run([*command, str(tmp_path / "killed")])
    assert killed.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "killed").glob("unfinished_*")
    assert left.name.startswith("unfinished_images-00001-of-00004.tfrecord")
    for name in ("killed", "whole"):
        with pytest.warns(UserWarning, match="Skipped"):
            write_records(ImageFolder(folder), tmp_path / name, shards=4)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def remove(path):
    path.unlink()


@pytest.mark.parametrize("damage", [flip, cut, remove])
@pytest.mark.parametrize("suffix", [".tfrecord", ".npy"])
def test_damage_is_found_named_and_mended(
    good, written, copied, damage, suffix
):
    damage(copied / f"images-00002-of-00004{suffix}")
    if damage is flip and suffix == ".tfrecord":
        source = Records(copied)  # it has its size
        with pytest.raises(ValueError, match="Received.*00002-of-00004.tfrec"):
            source.verify()
    else:
        with pytest.raises(ValueError, match="Received.*00002-of-00004.tfrec"):
            Records(copied)
    write_records(good, copied, shards=4, verify=True)
    assert files(copied) == files(written)


def test_other_folders_are_no_records(good, copied, tmp_path):
    index = json.loads((copied / "index.json").read_text())
    for content in ("{", "[]", json.dumps({**index, "format": "others 2"})):
        (copied / "index.json").write_text(content)
        before = files(copied)
        for call in (Records, lambda path: write_records(good, path)):
            with pytest.raises(ValueError, match="of the format 'keras-convn"):
                call(copied)
        assert files(copied) == before


def test_records_of_others_are_not_overwritten(good, copied):
    before = files(copied)
    with pytest.raises(ValueError, match="shard_count 4 and not 3. Choose"):
        write_records(good, copied, shards=3)
    with pytest.raises(ValueError, match="with source .*'images': 22, "):
        write_records(Subset(good, range(5, 22)), copied, shards=4)
    assert files(copied) == before


def test_there_are_as_many_shards_as_images_at_most(good, tmp_path):
    with pytest.raises(ValueError, match="1 to 22, .*shards=23"):
        write_records(good, tmp_path, shards=23)


def test_arrays_have_no_files(tmp_path):
    source = Arrays(np.zeros((2, 4, 4, 3), "uint8"), [0, 1])
    with pytest.raises(ValueError, match="Received: a Arrays"):
        write_records(source, tmp_path)


def test_two_cannot_write_at_once(good, tmp_path):
    def write_again(count):
        write_records(good, tmp_path, shards=4)

    with pytest.raises(ValueError, match="to which another is writing"):
        write_records(good, tmp_path, shards=4, progress=write_again)


def test_a_full_disk_is_an_oserror(good, copied, monkeypatch):
    (copied / "images-00003-of-00004.tfrecord").unlink()
    before = files(copied)

    class Writer:
        def __init__(self, path):
            self.path = path

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, record):
            with open(self.path, "wb") as file:
                file.write(record[:9])
            raise tf.errors.ResourceExhaustedError(None, None, "disk full")

    monkeypatch.setattr(tf.io, "TFRecordWriter", Writer)
    with pytest.raises(OSError, match="could not be written: disk full"):
        write_records(good, copied, shards=4)
    assert files(copied).keys() == before.keys()


def test_the_command_converts_all_parts(tmp_path):
    for name, content in image_files.good_files().items():
        if name.startswith("cat/exif") or name.endswith("JPG"):
            for part in ("train", "val"):
                path = tmp_path / "photos" / part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    (tmp_path / "photos/val/notes.txt").touch()
    result = invoke(
        "records",
        str(tmp_path / "photos"),
        "--output",
        str(tmp_path / "records"),
        "--shards",
        "2",
        "--json",
    )
    assert result.exit_code == 0, result.output
    train, validation = json.loads(result.stdout)
    assert train == {
        "folder": str(tmp_path / "records/train"),
        "images": 9,
        "classes": 2,
        "shards": 2,
        "bytes": train["bytes"],
        "left_out": {},
        "ignored": 0,
    }
    assert validation["folder"].endswith("validation")
    assert validation["ignored"] == 1
    again = invoke(
        "records",
        str(tmp_path / "photos/train"),
        "--output",
        str(tmp_path / "records/train"),
        "--shards",
        "2",
        "--verify",
    )
    assert "9 images of 2 classes in 2 shards" in again.output
    assert len(Records(tmp_path / "records/validation")) == 9


def test_the_command_shows_how_and_refuses_what_is_no_data(tmp_path):
    help = invoke("records", "--help").output
    assert "keras-convnext records photos --output" in help
    result = invoke("records", str(tmp_path / "no"), "--output", str(tmp_path))
    assert isinstance(result.exception, ValueError)


def test_what_is_held_out_may_lack_a_class(tmp_path, run_command):
    """As that of a list may, too; what is trained on may not."""
    lines = ["path,label,split"]
    for number in range(9):
        image = Image.fromarray(np.full((8, 8, 3), 20 * number, "uint8"))
        image.save(tmp_path / f"{number}.png")
        label = "abc"[number % 3 if number < 7 else number % 2]
        lines.append(f"{number}.png,{label},{'train' if number < 7 else 'val'}")
    listed = tmp_path / "list.csv"
    listed.write_text("\n".join(lines))
    folder = tmp_path / "records"
    status, printed, error = run_command(
        "records", listed, "--output", folder, "--json"
    )
    assert status == 0, error
    assert [x["classes"] for x in json.loads(printed)] == [3, 3]
    train, held_out = open_splits(folder)
    expected = open_splits(ImageList(listed))
    for found, part in zip((train, held_out), expected):
        assert found.classes == part.classes == ("a", "b", "c")
        np.testing.assert_array_equal(found.labels, part.labels)
    assert held_out.counts().tolist() == [1, 1, 0]
    assert train.check() is train
    with pytest.raises(ValueError, match="needs images. Received: none for"):
        held_out.check()
