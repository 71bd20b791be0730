"""Data sets by number, wherever they are, and what is said of bad ones."""

import io
import os
import shutil
import sys

import image_files
import numpy as np
import peers
import pytest
import tensorflow as tf
from PIL import Image
from PIL import ImageOps

from keras_convnext.data import Arrays
from keras_convnext.data import ImageFolder
from keras_convnext.data import Subset
from keras_convnext.data import Tfds
from keras_convnext.data import load_digits
from keras_convnext.data import open_splits
from keras_convnext.data import write_records
from keras_convnext.data.splits import open_data
from keras_convnext.data.splits import split
from keras_convnext.images.folders import SUFFIXES
from keras_convnext.images.reading import Photograph

pytestmark = pytest.mark.once


def write(folder, *names):
    """Files whose content is their own name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))
    return folder


def filenames(source):
    return [source.filename(i) for i in range(len(source))]


# Folders


def test_images_are_in_the_order_of_torchvision(tmp_path):
    peers.import_timm()
    from torchvision.datasets import DatasetFolder

    image_files.write_image_files(tmp_path)
    write(tmp_path, "Zebra/b/2.png", "Zebra/b-c/3.png", "Zebra/1.png")
    write(tmp_path, "Zebra/b/a/4.png", "Zebra/ä.png", "Zebra/z.png")
    (tmp_path / "linked").symlink_to(tmp_path / "Zebra")
    (tmp_path / "dog" / "linked").symlink_to(tmp_path / "cat")
    with pytest.warns(UserWarning, match="into two classes.*'dog/linked'"):
        source = ImageFolder(tmp_path)
    expected = DatasetFolder(str(tmp_path), loader=None, extensions=SUFFIXES)
    samples = [x for x in expected.samples if "/." not in x[0]]
    assert len(samples) == len(expected.samples) - 1  # one is hidden
    assert list(source.classes) == expected.classes
    found = [source.name(i) for i in range(len(source))]
    assert found == [path for path, _ in samples]
    assert source.labels.tolist() == [label for _, label in samples]
    assert source.labels.dtype == "int32"
    assert source.ignored == 4  # and one of them in two places


def test_an_image_is_its_file(tmp_path):
    source = ImageFolder(write(tmp_path, "a/1.jpg", "a/ü ü.jpg", "b/c/2.JPG"))
    names = ["a/1.jpg", "a/ü ü.jpg", "b/c/2.JPG"]
    assert filenames(source) == names
    assert [source.read(i).decode() for i in range(3)] == names
    assert source.name(2) == str(tmp_path / "b/c/2.JPG")


def test_hidden_folders_are_no_classes(tmp_path):
    write(tmp_path, "a/1.jpg", "b/1.jpg", ".cache/1.jpg", "b/.git/1.jpg")
    assert filenames(ImageFolder(tmp_path)) == ["a/1.jpg", "b/1.jpg"]


def change_nothing(folder):
    pass


def rename(folder):
    (folder / "a/1.jpg").rename(folder / "a/0.jpg")


def move_to_another_class(folder):
    (folder / "a/1.jpg").rename(folder / "b/1.jpg")


def rename_a_class(folder):
    (folder / "a").rename(folder / "0")


def grow(folder):
    (folder / "a/1.jpg").write_bytes(b"another image")


def remove(folder):
    (folder / "a/1.jpg").unlink()


@pytest.mark.parametrize(
    "change, is_same",
    [
        (change_nothing, True),
        (rename, False),
        (move_to_another_class, False),
        (rename_a_class, False),
        (grow, False),
        (remove, False),
    ],
)
def test_a_fingerprint_tells_what_changed(tmp_path, change, is_same):
    write(tmp_path / "one", "a/1.jpg", "a/2.jpg", "b/3.jpg")
    before = ImageFolder(tmp_path / "one").fingerprint()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    change(tmp_path / "two")
    after = ImageFolder(tmp_path / "two").fingerprint()
    assert (before == after) is is_same
    assert before["images"] == 3 and before["classes"] == 2


def test_a_fingerprint_tells_labels_apart():
    images = np.zeros((4, 2, 2, 1), "uint8")
    first, second = (
        Arrays(images, labels).fingerprint()
        for labels in ([0, 1, 0, 1], [0, 1, 1, 0])
    )
    assert first["digest"] != second["digest"]
    assert {**first, "digest": ""} == {**second, "digest": ""}


@pytest.mark.parametrize(
    "names, message",
    [
        (["1.jpg", "2.jpg"], "no folders and 2 images in it. Arrange .* CLASS"),
        (["a/1.jpg", "b/notes.txt"], "Every class needs images.*'b' of 2"),
        (["a/1.jpg", "a/2.jpg"], r"at least two classes. Received: \['a'\]"),
    ],
)
def test_folders_that_cannot_be_trained_on(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder(write(tmp_path, *names))


def test_folders_that_cannot_be_read(tmp_path, monkeypatch):
    write(tmp_path, "a/1.jpg", "b/1.jpg", "b/locked/2.jpg", "file")
    for name in ("missing", "file"):
        with pytest.raises(ValueError, match=f"Received: '.*{name}', N"):
            ImageFolder(tmp_path / name)
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(ValueError, match="locked', Permission denied"):
        ImageFolder(tmp_path)


def photograph(orientation):
    """A JPEG of 6×4 pixels whose EXIF says what it is given, as in TIFF."""
    entry = b"\x12\x01" + orientation  # tag 274
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + 4 * b"\0"
    file = io.BytesIO()
    pixels, _ = some_arrays(1)
    Image.fromarray(pixels[0].repeat(2, 0)).save(file, "JPEG", exif=exif)
    return file.getvalue()


SHORT, TEXT = b"\x03\0\x01\0\0\0", b"\x02\0\x02\0\0\0"


@pytest.mark.parametrize(
    "orientation",
    [
        SHORT + b"\x06\0\0\0",
        SHORT + b"\x01\0\0\0",
        SHORT + b"\x09\0\0\0",  # there are eight
        TEXT + b"6\0\0\0",
    ],
    ids=["turned", "upright", "nine", "text"],
)
def test_an_orientation_is_what_the_evaluation_takes_it_for(orientation):
    content = photograph(orientation)
    expected = np.asarray(
        ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    )
    found = Photograph(content, is_upright=True)
    np.testing.assert_array_equal(found.pixels(), expected)
    assert (found.height, found.width) == expected.shape[:2]
    is_turned = orientation == SHORT + b"\x06\0\0\0"
    assert found.is_jpeg is not is_turned
    assert (found.height < found.width) is is_turned


@pytest.mark.parametrize("number", range(1, 9))
def test_photographs_of_every_orientation_become_upright(number):
    content = photograph(SHORT + bytes([number, 0, 0, 0]))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    found = Photograph(content, is_upright=True).pixels()
    np.testing.assert_array_equal(found, np.asarray(expected))


# Arrays and parts


def some_arrays(count=6, classes=2):
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 5, 3))
    return images.astype("uint8"), np.arange(count) % classes


def test_arrays_are_read_by_number():
    images, labels = some_arrays()
    source = Arrays(images, labels, ["cat", "dog"])
    assert source.classes == ("cat", "dog") and not source.is_encoded
    np.testing.assert_array_equal(source.read(3), images[3])
    assert Arrays(images[..., 0], labels).read(0).shape == (4, 5, 1)
    other = images.copy()
    other[0, 0, 0, 0] ^= 1
    prints = [Arrays(x, labels).fingerprint() for x in (images, images, other)]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    "images, labels, classes, message",
    [
        (np.zeros((2, 4, 4, 3)), [0, 1], None, "uint8 array .*float64"),
        (np.zeros(2, "uint8"), [0, 1], None, r"uint8 array of shape \(2,\)"),
        (some_arrays(2)[0], [0], None, r"labels of shape \(1,\) for 2"),
        (some_arrays(2)[0], [0.0, 1.0], None, "float64 labels"),
        (some_arrays(2)[0], [0, 2], "ab", "0 to 1. Received: 0 to 2"),
        (some_arrays(2)[0], [0, -1], None, "Received: -1 to 0"),
    ],
)
def test_arrays_that_are_no_data(images, labels, classes, message):
    with pytest.raises(ValueError, match=message):
        Arrays(images, labels, classes)


def test_a_subset_keeps_classes_and_what_it_is(tmp_path):
    whole = ImageFolder(write(tmp_path, "a/1.jpg", "a/2.jpg", "b/3.jpg"), False)
    part = Subset(whole, [2, 0])
    assert filenames(part) == ["b/3.jpg", "a/1.jpg"]
    assert part.read(0) == b"b/3.jpg" and part.name(0) == whole.name(2)
    assert part.labels.tolist() == [1, 0] and part.classes == whole.classes
    assert not part.is_upright and part.is_encoded
    one, other = (Subset(whole, [i, 2]).fingerprint() for i in (0, 1))
    assert one != other
    assert not Subset(Arrays(*some_arrays()), [1]).is_encoded


# What is written on a command line


def test_held_out_images_are_a_part_of_each_class():
    source = Arrays(
        np.zeros((130, 1, 1), "uint8"), [0] * 100 + [1] * 28 + [2] * 2
    )
    train, held_out = split(source, 0.1, seed=3)
    assert np.bincount(held_out.labels).tolist() == [10, 3, 1]
    numbers = np.concatenate([train.numbers, held_out.numbers])
    assert sorted(numbers) == list(range(130))
    again, other = (split(source, 0.1, seed)[1].numbers for seed in (3, 4))
    np.testing.assert_array_equal(held_out.numbers, again)
    assert not np.array_equal(again, other)
    train, _ = split(source, 0.9, seed=3)
    assert np.bincount(train.labels).tolist() == [10, 3, 1]
    for part in (train, held_out):  # in the order of the source
        assert (np.diff(part.numbers) > 0).all()


def test_nothing_may_be_held_out(tmp_path):
    file = tmp_path / "few.npz"
    np.savez(file, images=np.zeros((3, 8, 8), "uint8"), labels=[0, 1, 2])
    train, held_out = open_splits(file, validation_split=0)
    assert len(train) == 3 and held_out is None
    with pytest.raises(ValueError, match="validation_split=0$"):
        open_splits(file)


def test_one_image_is_trained_on(capsys):
    source = Arrays(np.zeros((3, 1, 1), "uint8"), [0, 0, 1])
    train, held_out = split(source, 0.5, seed=0)
    assert train.labels.tolist() == [0, 1] and held_out.labels.tolist() == [0]
    assert capsys.readouterr().err.endswith("none are held out, those of '1'\n")
    for fraction in (0, 1):
        with pytest.raises(ValueError, match=f"validation_split={fraction}"):
            split(source, fraction, seed=0)


@pytest.mark.parametrize("name", ["val", "validation", "valid", "test"])
def test_folders_with_parts(tmp_path, name):
    write(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "notes.txt")
    write(tmp_path, f"{name}/a/3.jpg", f"{name}/b/4.jpg")
    train, held_out = open_splits(str(tmp_path))
    assert filenames(train) == ["a/1.jpg", "b/2.jpg"]
    assert filenames(held_out) == ["a/3.jpg", "b/4.jpg"]


def test_folders_without_parts_are_split(tmp_path):
    write(tmp_path, *(f"{x}/{i}.jpg" for x in ("train", "car") for i in "1234"))
    train, held_out = open_splits(tmp_path, validation_split=0.25)
    assert train.classes == ("car", "train")  # of which one is called so
    assert (len(train), len(held_out)) == (6, 2)
    assert len(open_data(tmp_path, "validation")) == 8


def test_a_train_folder_alone_is_split(tmp_path):
    write(tmp_path, *(f"train/{x}/{i}.jpg" for x in "ab" for i in "12"))
    train, held_out = open_splits(tmp_path)
    assert train.classes == ("a", "b") and len(train) == len(held_out) == 2
    with pytest.raises(ValueError, match="for validation, called one of val,"):
        open_data(tmp_path, "validation")


def test_validation_may_be_elsewhere(tmp_path):
    write(tmp_path, *(f"{p}/{x}/1.jpg" for p in ("train", "val") for x in "ab"))
    write(
        tmp_path, "other/a/2.jpg", "other/b/2.jpg", "bad/a/2.jpg", "bad/c/2.jpg"
    )
    train, held_out = open_splits(tmp_path, tmp_path / "other")
    assert filenames(train) == ["a/1.jpg", "b/1.jpg"]
    assert filenames(held_out) == ["a/2.jpg", "b/2.jpg"]
    with pytest.raises(
        ValueError,
        match=r"2 and 2 classes, in the first alone \['b'\], .* \['c'\]",
    ):
        open_splits(tmp_path, tmp_path / "bad")


def test_records_are_found_in_folders(tmp_path):
    photo = image_files.good_files()["dog/SHOUTED.JPG"]
    for part in ("train", "val"):
        for name in (f"{part}/a/1.jpg", f"{part}/b/2.jpg"):
            write(tmp_path / "images", name)
            (tmp_path / "images" / name).write_bytes(photo)
        source = ImageFolder(tmp_path / "images" / part)
        write_records(source, tmp_path / "records" / part)
    sources = open_splits(tmp_path / "records")
    assert [x.name(0) for x in sources] == [
        str(tmp_path / "records" / part / "a/1.jpg")
        for part in ("train", "val")
    ]
    assert open_data(tmp_path / "records" / "train").read(1) == photo


def test_arrays_in_a_file(tmp_path):
    images, labels = some_arrays(40, 4)
    np.savez(tmp_path / "whole.npz", images=images, labels=labels)
    np.savez(
        tmp_path / "parts.npz",
        x_train=images[:30],
        y_train=labels[:30, None],
        x_test=images[30:32],
        y_test=labels[30:32, None],
    )
    whole = open_splits(tmp_path / "whole.npz")
    assert [len(x) for x in whole] == [36, 4]
    train, test = open_splits(tmp_path / "parts.npz")
    assert train.classes == test.classes == ("0", "1", "2", "3")
    np.testing.assert_array_equal(test.read(1), images[31])
    np.savez(tmp_path / "other.npz", x=images, y=labels)
    with pytest.raises(ValueError, match=r"Received: \['x', 'y'\] in"):
        open_splits(tmp_path / "other.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match="npz file that NumPy reads"):
        open_splits(tmp_path / "broken.npz")


@pytest.mark.parametrize(
    "names", [("images", "labels"), ("x_train", "y_train")]
)
def test_a_file_of_arrays_is_read_once(names, tmp_path, monkeypatch):
    path = tmp_path / "data.npz"
    arrays = dict(zip(names, some_arrays(40)))
    if names[0] == "x_train":
        arrays |= dict(zip(("x_test", "y_test"), some_arrays(4)))
    np.savez(path, **arrays)
    load, loaded = np.load, []

    def counted(path, *rest, **options):
        loaded.append(path)
        return load(path, *rest, **options)

    monkeypatch.setattr(np, "load", counted)
    open_splits(path)
    assert loaded == [path]


def test_the_digits():
    for source, (images, labels) in zip(open_splits("digits"), load_digits()):
        assert source.classes == tuple("0123456789")
        np.testing.assert_array_equal(source.images, images)
        np.testing.assert_array_equal(source.labels, labels)


@pytest.mark.parametrize("name", ["missing", "missing.npz", "photo.jpg"])
def test_what_is_no_data(tmp_path, name):
    write(tmp_path, "photo.jpg")
    with pytest.raises(ValueError, match=f"Expected a folder.*{name}'"):
        open_splits(tmp_path / name)


# TensorFlow Datasets


@pytest.fixture(scope="module")
def tfds():
    import tensorflow_datasets

    return tensorflow_datasets


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def prepared(tfds, request, tmp_path_factory):
    """A prepared data set: its name, and its folder."""
    folder = tmp_path_factory.mktemp("tfds")
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "id": tfds.features.Text(),
        }
    )
    images, _ = some_arrays(9)
    examples = [
        (i, {"image": images[i], "label": i % 2, "id": str(i)})
        for i in range(9)
    ]
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny",
        version="1.0.0",
        features=features,
        split_datasets={"train": examples[:6], "test": examples[6:]},
        data_dir=folder,
        file_format=request.param,
    )
    return "tiny", str(folder)


def test_images_of_tfds_are_its_own(tfds, prepared):
    name, folder = prepared
    source, test = open_splits(f"tfds:{name}@{folder}")
    assert source.classes == ("cat", "dog")
    assert (len(source), len(test)) == (6, 3)
    read = tfds.builder(name, data_dir=folder)
    if read.info.file_format is tfds.core.FileFormat.TFRECORD:
        expected = list(read.as_dataset("train"))
    else:
        expected = list(read.as_data_source("train"))
    assert len(expected) == 6
    for number, example in enumerate(expected):
        content = source.read(number)
        assert isinstance(content, bytes)
        pixels = tf.io.decode_png(content)
        np.testing.assert_array_equal(pixels, example["image"])
        assert source.labels[number] == example["label"]
    assert source.name(2) == "tfds:tiny/1.0.0 train 2"
    assert source.fingerprint() == Tfds(name, "train", folder).fingerprint()
    assert source.fingerprint() != test.fingerprint()


def test_images_of_tfds_become_records(prepared, tmp_path):
    name, folder = prepared
    source = Tfds(name, "train", folder)
    assert write_records(source, tmp_path, shards=2) == {}
    records = open_data(tmp_path)
    assert records.labels.tolist() == source.labels.tolist()
    assert records.read(5) == source.read(5)


@pytest.mark.parametrize("start", [0, 12])
def test_damaged_files_of_tfds_are_named(tfds, prepared, tmp_path, start):
    """A length beyond the file, and an example that is none."""
    name, folder = prepared
    shutil.copytree(folder, tmp_path / "copy")
    paths = list((tmp_path / "copy").rglob("*train*.tfrecord*"))
    if not paths:
        pytest.skip("array_record reads its own files")
    (path,) = paths
    content = bytearray(path.read_bytes())
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"TFDS wrote.*{name}"):
        Tfds(name, "train", tmp_path / "copy")


def test_what_tfds_does_not_have(prepared, monkeypatch):
    name, folder = prepared
    for call, message in (
        (lambda: Tfds("tinny", "train", folder), "Received: 'tinny' in "),
        (lambda: Tfds(name, "dev", folder), r"\['train', 'test'\].*'dev'"),
        (lambda: Tfds("mnist", "train", folder), "tfds build mnist --data_dir"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"keras-convnext\[tfds\]"):
        Tfds(name, "train", folder)
