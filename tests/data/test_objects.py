"""Images with objects, in the formats of COCO, YOLO and Pascal VOC."""

import json
import os

import numpy as np
import object_files
import pytest
from object_files import IMAGES
from object_files import NAMES
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from keras_convnext.data import ObjectSubset
from keras_convnext.data import open_objects
from keras_convnext.data import read_coco
from keras_convnext.data import read_voc
from keras_convnext.data import read_yolo
from keras_convnext.data import summarize_objects
from keras_convnext.data.objects import choosing
from keras_convnext.data.objects.opening import is_objects
from keras_convnext.data.objects.opening import open_part
from keras_convnext.images import rle
from keras_convnext.images.reading import Unreadable

pytestmark = pytest.mark.once

WRITERS = {
    "coco": (object_files.write_coco, read_coco),
    "yolo": (object_files.write_yolo, read_yolo),
    "yolo_boxes": (lambda x: object_files.write_yolo(x, False), read_yolo),
    "voc": (object_files.write_voc, read_voc),
    "voc_masks": (object_files.write_voc_masks, read_voc),
}


@pytest.fixture(params=WRITERS)
def source(request, tmp_path):
    write, read = WRITERS[request.param]
    source = read(write(tmp_path))
    source.kind = request.param
    return source


def test_every_format_tells_the_same_objects(source):
    assert source.classes == NAMES and len(source) == len(IMAGES)
    names = [source.filename(i) for i in range(3)]
    assert sorted(names) == sorted(IMAGES)
    is_mask = source.kind in ("coco", "yolo", "voc_masks")
    assert source.has_masks == source.has_all_masks == is_mask
    for number, name in enumerate(names):
        height, width, expected = IMAGES[name]
        found = source.objects(number)
        assert (found.height, found.width) == (height, width)
        assert source.image(number).shape == (height, width, 3)
        assert len(found) == source.labels[number] == len(expected)
        order = np.lexsort(found.boxes.T)
        found = found.only(order)
        boxes = [box for _, box, _ in expected]
        expected = sorted(expected, key=lambda x: x[1][::-1])
        for i, (label, box, _) in enumerate(expected):
            assert found.classes[i] == label and not found.is_crowd[i]
            np.testing.assert_allclose(found.boxes[i], box, rtol=0, atol=1e-4)
            area = (box[2] - box[0]) * (box[3] - box[1])
            if source.kind == "voc_masks":
                mask = object_files.mask_numbers(name) == 1 + boxes.index(box)
                np.testing.assert_array_equal(found.masks()[i], mask)
                assert found.areas[i] == mask.sum() > 0
                continue
            part = 0.875 if is_mask else 1
            np.testing.assert_allclose(found.areas[i], part * area, rtol=1e-6)
            if not is_mask:
                assert found.outlines[i] is None
                continue
            polygons = [object_files.polygon(box)]
            filled = coco_mask.frPyObjects(polygons, height, width)
            np.testing.assert_array_equal(
                found.masks()[i], coco_mask.decode(filled)[..., 0]
            )


def test_parts_and_fingerprints(source, tmp_path):
    part = ObjectSubset(source, [2, 0])
    columns = part.all_objects()
    assert len(part) == 2 and part.labels.tolist() == [
        source.labels[2],
        source.labels[0],
    ]
    for number, whole in enumerate((2, 0)):
        np.testing.assert_array_equal(
            part.objects(number).boxes, source.objects(whole).boxes
        )
        np.testing.assert_array_equal(
            columns["box"][columns["image"] == number],
            source.objects(whole).boxes,
        )
        assert part.ids[number] == source.ids[whole]
    before = source.fingerprint()
    assert before["images"] == 3 and before["classes"] == 2
    name = next(i for i in range(3) if source.labels[i] == 2)
    boxes = source.objects(name).boxes
    boxes[0, 0] += 1  # a view of the source's own
    assert source.fingerprint()["digest"] != before["digest"]


def test_coco_is_what_pycocotools_reads(tmp_path):
    """Crowds, runs of both kinds, several polygons, ids with holes."""
    content = object_files.coco()
    generator = np.random.default_rng(0)
    mask = np.zeros((40, 60), bool)
    mask[5:20, 10:50] = generator.random((15, 40)) < 0.7
    runs = rle.encode(mask)
    left = {"image_id": 900, "category_id": 90, "bbox": [10, 5, 40, 15]}
    extra = [
        {**left, "iscrowd": 1, "segmentation": runs},
        {
            **left,
            "segmentation": {**runs, "counts": rle.counts_of(runs).tolist()},
        },
        {
            **left,
            "segmentation": [
                [10.5, 5.25, 30.125, 6, 20, 19.75],
                [40, 8, 50, 8, 50, 20, 40, 20],
                [1, 1, 2, 2],  # two corners are no polygon
            ],
        },
        {**left, "segmentation": [], "bbox": [1, 2, 30.07, 4.5]},
        {**left, "ignore": 1},
    ]
    for number, row in enumerate(extra, 50):
        content["annotations"].append({"id": number, "area": 7.5, **row})
    path = object_files.write_coco(tmp_path, content)
    source = read_coco(path)
    assert source.class_ids == [18, 90] and source.ids == [900, 893, 886]
    truth = COCO(path)
    for number, id in enumerate(source.ids):
        annotations = truth.loadAnns(truth.getAnnIds([id]))
        objects = source.objects(number)
        assert len(objects) == len(annotations)
        for i, row in enumerate(annotations):
            x, y, width, height = row["bbox"]
            box = [x, y, x + width, y + height]
            np.testing.assert_array_equal(objects.boxes[i], box)
            assert source.class_ids[objects.classes[i]] == row["category_id"]
            assert objects.areas[i] == row["area"]
            ignored = row.get("iscrowd") or row.get("ignore")
            assert objects.is_crowd[i] == bool(ignored)
            if not row.get("segmentation"):
                assert objects.outlines[i] is None
                continue
            if row["id"] == 52:
                del row["segmentation"][2]
            (found,) = objects.only([i]).masks()
            np.testing.assert_array_equal(found, truth.annToMask(row))


def test_what_training_takes(tmp_path):
    content = object_files.coco()
    row = {**content["annotations"][0], "image_id": 893, "area": 9}
    more = [
        *({"bbox": [-9, 5, 8, 9]}, {"bbox": [50, 5, 8, 9]}),
        *({"bbox": [5, 5, 0.5, 9]}, {"bbox": [5, 5, 9, 0.9]}),
        *({"bbox": [5, 5, 9, 9], "area": 0}, {"iscrowd": 1}),
        *({"bbox": [-5, -5, 9, 9]}, {"bbox": [5, 5, 1, 1]}),
    ]
    content["annotations"] += [{**row, **x} for x in more]
    source = read_coco(object_files.write_coco(tmp_path, content))
    # An image without objects, and one that is too small, are left out.
    assert choosing.trainable(source).numbers.tolist() == [0, 1]
    assert choosing.trainable(source, 45).numbers.tolist() == [1]
    kept = choosing.counted(source.objects(1)).boxes.tolist()
    assert kept == [[1, 2, 49, 40], [-5, -5, 4, 4], [5, 5, 6, 6]]
    crowd = ObjectSubset(source, [2])
    with pytest.raises(ValueError, match="takes images with objects"):
        choosing.trainable(crowd)
    summary = summarize_objects(source)
    assert summary.dropped == {
        "outside of the image": 2,
        "without area": 1,
        "narrower than a pixel": 2,
    }
    assert summary.crowds == 1 and summary.without_objects == 1


def test_a_summary_counts(source, capsys):
    summary = summarize_objects(source)
    assert summary.images == 3 and summary.without_objects == 1
    assert summary.objects == 3 and summary.crowds == 0
    assert summary.classes == [
        {"class": "cat", "images": 1, "objects": 1},
        {"class": "dog", "images": 2, "objects": 2},
    ]
    assert summary.objects_per_image == {
        **{"least": 0, "median": 1, "most": 2},
        "mean": 1.0,
    }
    assert summary.sizes == {"small": 1, "medium": 2, "large": 0}
    assert summary.image_sizes["most"] == [64, 60]
    assert json.loads(json.dumps(summary.as_dict()))["images"] == 3
    summary.print()
    shown = capsys.readouterr().out
    assert "3 images, 1 without objects; 3 objects, " in shown
    assert "small 1, medium 2, large 0" in shown and "dog" in shown


def test_photographs_that_are_turned(tmp_path):
    path = object_files.write_coco(tmp_path)
    image = tmp_path / "images" / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    with Image.open(image) as stored:
        stored.transpose(Image.Transpose.ROTATE_90).save(image, exif=exif)
    source = read_coco(path)
    assert source.image(0).shape == (40, 60, 3)
    content = object_files.coco()
    for record in content["images"]:
        del record["height"]
    path.write_text(json.dumps(content))
    assert read_coco(path).sizes.tolist() == [[40, 60], [50, 50], [64, 33]]
    with Image.open(image) as stored:
        stored.resize((30, 20)).save(image)
    with pytest.raises(
        Unreadable, match="a.png', which cannot be read .it has"
    ):
        source.image(0)


# Where data lies


def part(folder, content, *places):
    for place in places:
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


def test_places_of_coco(tmp_path):
    content = object_files.coco()
    object_files.write_images(tmp_path / "coco" / "train2017")
    object_files.write_images(tmp_path / "coco" / "val2017")
    names = ("train2017", "val2017")
    places = [f"annotations/instances_{x}.json" for x in names]
    part(tmp_path / "coco", content, *places)
    train, held_out = open_objects(tmp_path / "coco")
    assert train.folder.name == "train2017"
    assert held_out.folder.name == "val2017"
    # As Roboflow writes it.
    for x in ("train", "valid"):
        object_files.write_images(tmp_path / "robo" / x)
        part(tmp_path / "robo", content, f"{x}/_annotations.coco.json")
    train, held_out = open_objects(tmp_path / "robo")
    assert train.folder.name == "train" and held_out.folder.name == "valid"
    # One file, which is divided, and always in the same way.
    file = tmp_path / "coco" / places[0]
    for seed in (0, 1):
        train, held_out = open_objects(file, validation_split=0.3, seed=seed)
        assert (len(train), len(held_out)) == (2, 1)
        numbers = [*train.numbers, *held_out.numbers]
        assert sorted(numbers) == [0, 1, 2]
    assert open_objects(file, validation_split=0)[1] is None
    assert len(open_objects(file, validation=file)[1]) == 3
    with pytest.raises(ValueError, match="none of .*Pass the folder"):
        (tmp_path / "empty").mkdir()
        part(tmp_path / "empty", content, "x.json")
        read_coco(tmp_path / "empty" / "x.json")
    assert len(read_coco(tmp_path / "empty/x.json", train.source.folder)) == 3


def test_places_of_yolo_and_voc(tmp_path):
    object_files.write_yolo(tmp_path / "yolo")
    object_files.write_voc(tmp_path / "voc")
    assert len(open_part(tmp_path / "yolo")) == 3
    train = open_part(tmp_path / "voc")
    # In the order of the list, and with the classes of all.
    assert [train.filename(i) for i in (0, 1)] == ["deep/b.png", "a.png"]
    assert len(train) == 2 and train.classes == NAMES
    beside = tmp_path / "beside"
    os.rename(tmp_path / "voc" / "JPEGImages", beside)
    os.rename(tmp_path / "voc/Annotations/a.xml", beside / "a.xml")
    source = open_part(beside)
    assert len(source) == 3 and source.labels.sum() == 2
    # A text beside its image, and the path that Roboflow writes.
    robo = tmp_path / "robo"
    os.renames(tmp_path / "yolo/images/train", robo / "train/pictures")
    os.rename(
        tmp_path / "yolo/labels/train/a.txt", robo / "train/pictures/a.txt"
    )
    (robo / "data.yaml").write_text("train: ../train/pictures\nnames: [a, b]")
    source = open_part(robo)
    assert source.labels.sum() == 2 and source.classes == ("a", "b")
    with pytest.raises(ValueError, match="with one for train alone"):
        open_part(robo, "validation")


def test_what_is_no_data_of_objects(tmp_path):
    object_files.write_images(tmp_path)
    for data in (tmp_path, tmp_path / "missing", "digits", tmp_path / "a.png"):
        assert not is_objects(data)
        with pytest.raises(ValueError, match="none of them"):
            open_part(data)
    assert is_objects(object_files.write_coco(tmp_path / "x"))


# Damaged and hostile files


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda x: x.pop("images"), "lacks images"),
        (lambda x: x.update(images={}), "as images"),
        (lambda x: x["images"].append(3), r"images\[3\] holds"),
        (lambda x: x["images"][1].update(id=900), "images have the id 900"),
        (lambda x: x["images"][0].update(file_name="../b.png"), "not below"),
        (lambda x: x["images"][0].update(file_name="/etc/passwd"), "not below"),
        (lambda x: x["images"][0].update(file_name="..\\b.png"), "not below"),
        (lambda x: x["images"][0].update(file_name=""), "not below"),
        (lambda x: x["images"][0].update(file_name=5), "file_name"),
        (lambda x: x["categories"][0].update(id=18), "categories have the id"),
        (lambda x: x["categories"][0].pop("name"), r"categories\[0\] lacks"),
        (lambda x: x["annotations"][1].update(image_id=1), "image 1, which"),
        (lambda x: x["annotations"][1].update(category_id=1), "category 1"),
        (lambda x: x["annotations"][1].update(bbox=[1, 2, 3]), "4 finite"),
        (lambda x: x["annotations"][1].update(bbox=[1, 2, 3, "4"]), "4 finite"),
        (
            lambda x: x["annotations"][1].update(bbox=[1, 2, 3, 1e30]),
            "4 finite",
        ),
        (lambda x: x["annotations"][1].update(area=None), "1 finite"),
        (
            lambda x: x["annotations"][1].update(segmentation="x"),
            "segmentation",
        ),
        (lambda x: x["annotations"][1].update(segmentation=[1, 2]), "segment"),
        (lambda x: x["annotations"][1].update(segmentation={"a": 1}), "segm"),
    ],
)
def test_damaged_coco_is_refused(change, words, tmp_path):
    content = object_files.coco()
    change(content)
    path = object_files.write_coco(tmp_path, content)
    with pytest.raises(ValueError, match=words) as error:
        read_coco(path, tmp_path / "images")
    assert f"Received: {str(path)!r}" in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "[" * 10**5, '{"images": NaN}', "\0"]
)
def test_other_files_are_no_coco(text, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="COCO's format. Received: .*x.json"):
        read_coco(path)


@pytest.mark.parametrize(
    "outline, words",
    [
        ([[1, 2, 3, 4, 5]], "lists of x, y"),
        ([["a"] * 6], "lists of x, y"),
        ([[[1, 2]] * 3], "lists of x, y"),
        ([[0, 0, 1e9, 0, 1, 1]], "in an image of 40×60"),
        ([[0, 0, float("nan"), 0, 1, 1]], "in an image of 40×60"),
        ({"size": [4, 4], "counts": [16]}, "Received: one of 4×4"),
        ({"size": [40, 60], "counts": "garbage"}, "2400 pixels in all"),
        ({"size": [10**9, 10**9], "counts": [10**18]}, "memory"),
    ],
)
def test_damaged_masks_are_told_with_their_image(outline, words, tmp_path):
    content = object_files.coco()
    content["annotations"][-1]["segmentation"] = outline
    source = read_coco(object_files.write_coco(tmp_path, content))
    with pytest.raises(Unreadable, match=words) as error:
        source.objects(0).masks()
    assert "a.png" in str(error.value)


@pytest.mark.parametrize(
    "text, words",
    [
        ("0 0.1 0.1 0.2", "line 1"),
        ("\n0 a b c d", "line 2"),
        ("0 0.1 0.1 0.2 nan", "line 1"),
        ("0 30 40 20 10", "line 1"),
        ("2 0.5 0.5 0.1 0.1", "class 2 of 2"),
        ("-1 0.5 0.5 0.1 0.1", "class -1 of 2"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5 of 2"),
        ("0 0.1 0.1 0.2 0.2 0.3", "line 1"),
        (b"\xff\xfe", "a.txt"),
    ],
)
def test_damaged_yolo_is_refused(text, words, tmp_path):
    path = object_files.write_yolo(tmp_path)
    label = tmp_path / "labels" / "train" / "a.txt"
    label.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=words) as error:
        read_yolo(path)
    assert str(label) in str(error.value)


@pytest.mark.parametrize(
    "text, words",
    [
        ("a: [", "YOLO"),
        ("[1, 2]", "no fields"),
        ("train: images/train", "no list of `names`"),
        ("names: {0: a, 2: b}", "the numbers"),
        ("names: [a]", "nothing to call train"),
        ("names: [a]\ntrain: [x]", "names no folder"),
        ("names: [a]\ntrain: nowhere", "'nowhere' is none of"),
        ("!!python/object/apply:os.system ['echo']", "YOLO"),
        ("[" * 5000, "YOLO"),
        # Nine levels of nine: a billion names, which nobody writes out.
        (
            "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
            + "".join(
                f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n"
                for i in range(1, 10)
            )
            + "names: *a9",
            "names",
        ),
    ],
)
def test_damaged_yaml_is_refused(text, words, tmp_path):
    path = object_files.write_yolo(tmp_path)
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        read_yolo(path)
    assert str(path) in str(error.value) and len(str(error.value)) < 1000


BOMB = """<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>
<annotation>&b;</annotation>"""


@pytest.mark.parametrize(
    "text, words",
    [
        (BOMB, "document type"),
        (BOMB.encode("utf-16"), "document type"),
        ("<annotation>", "VOC"),
        ("", "VOC"),
        ("<a><object/></a>", "no name"),
        ("<a><object><name>x</name></object></a>", "xmin of 'x'"),
        (
            "<a><object><name>x</name><bndbox><xmin>nan</xmin></bndbox>"
            "</object></a>",
            "'nan' as xmin",
        ),
        ("<a>" * 10**5, "VOC"),
        ("<annotation>" + " " * 2**24 + "</annotation>", "bytes"),
    ],
)
def test_damaged_voc_is_refused(text, words, tmp_path):
    folder = object_files.write_voc(tmp_path)
    path = folder / "Annotations" / "a.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=words) as error:
        read_voc(folder)
    assert str(path) in str(error.value)


def renumbered(path, change):
    """A picture of masks, with its array changed."""
    with Image.open(path) as image:
        numbers = np.array(image)
    Image.fromarray(change(numbers)).save(path)


def masks_of(folder, name="a.png"):
    source = read_voc(folder)
    numbers = [source.filename(i) for i in range(len(source))]
    return source.objects(numbers.index(name)).masks()


def voc_colors(numbers):
    """VOC's color map by its own formula, bit by bit."""
    colors = np.zeros((256, 3), "uint8")
    for number in range(256):
        rest = number
        for shift in range(7, -1, -1):
            for channel in range(3):
                colors[number, channel] |= (rest >> channel & 1) << shift
            rest >>= 3
    return colors[numbers]


def test_masks_of_voc_in_color_and_in_another_order(tmp_path):
    folder = object_files.write_voc_masks(tmp_path)
    path = folder / "SegmentationObject/a.png"
    expected = masks_of(folder)
    assert expected.any((1, 2)).all() and len(expected) == 2
    # Without the border there is nothing else.
    assert (expected.sum(0) <= 1).all()
    swapped = np.arange(256, dtype="uint8")
    swapped[[1, 2]] = 2, 1
    for change in (lambda x: swapped[x], voc_colors):
        renumbered(path, change)
        np.testing.assert_array_equal(masks_of(folder), expected)


def test_voc_with_masks_of_some(tmp_path):
    """The rest keep their boxes."""
    folder = object_files.write_voc_masks(tmp_path)
    (folder / "SegmentationObject/deep/b.png").unlink()
    source = read_voc(folder)
    assert source.has_masks and not source.has_all_masks
    counts = summarize_objects(source)
    assert (counts.objects, counts.with_masks) == (3, 2)


def test_masks_and_objects_that_lack_each_other(tmp_path):
    folder = object_files.write_voc_masks(tmp_path)

    def change(numbers):
        numbers[numbers == 1] = 0
        numbers[:3, :3] = 9
        return numbers

    renumbered(folder / "SegmentationObject/a.png", change)
    with pytest.warns(UserWarning, match="a.png' 1 such .* 1 such masks"):
        masks = masks_of(folder)
    assert masks.any((1, 2)).tolist() == [False, True]


@pytest.mark.parametrize(
    "write, words",
    [
        (lambda x: x.write_bytes(b"no PNG"), "not an image"),
        (lambda x: Image.new("P", (60, 41)).save(x), "has 41×60 pixels.*40×60"),
        (
            lambda x: Image.new("RGB", (60, 40), (1, 0, 0)).save(x),
            r"color \[1, 0, 0\].*Save the numbers",
        ),
    ],
)
def test_pictures_of_masks_that_are_none(write, words, tmp_path):
    folder = object_files.write_voc_masks(tmp_path)
    path = folder / "SegmentationObject/a.png"
    write(path)
    with pytest.raises(Unreadable, match=words) as error:
        read_voc(folder)
    assert str(path) in str(error.value)


def test_a_list_of_images_that_are_not_there(tmp_path):
    folder = object_files.write_voc(tmp_path)
    (folder / "ImageSets/Main/train.txt").write_text("a\nmissing\n")
    with pytest.raises(ValueError, match="train.txt' lists.*'missing'"):
        read_voc(folder, "train")
    (folder / "ImageSets/Main/train.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="a list of images. Received: .*train"):
        read_voc(folder, "train")


@pytest.mark.parametrize("name", WRITERS)
def test_pipes_in_the_place_of_files(name, tmp_path):
    """Opening one would never end."""
    write, read = WRITERS[name]
    path = write(tmp_path)
    xml = tmp_path / "Annotations/a.xml"
    png = tmp_path / "SegmentationObject/a.png"
    victims = {"coco": path, "voc": xml, "voc_masks": png}
    victim = victims.get(name, tmp_path / "labels/train/a.txt")
    victim.unlink()
    os.mkfifo(victim)
    with pytest.raises(ValueError, match="not a regular file"):
        read(path)
