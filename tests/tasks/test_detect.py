"""Detecting in photographs: the record, the pictures and the command."""

import functools
import json

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import short_on
from detector_files import file_of
from detector_files import small
from mmdet_reference import answers
from mmdet_reference import formula
from PIL import Image

import keras_convnext
from keras_convnext import ConvNeXt
from keras_convnext import detection
from keras_convnext.tasks.detection import masks

pytestmark = LONG_WHERE_COMPILED

NAMES = ("cat", "dog", "cow", "hen", "pig")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """With mmdetection's answers for images that are not resized."""
    path = file_of("mask_rcnn", tmp_path_factory.mktemp("weights"))
    return small("mask_rcnn", path, classes=NAMES, proposals=50, short_side=96)


@pytest.fixture(scope="module")
def image():
    return formula.images()[1]


@pytest.fixture(scope="module")
def found(model, image):
    return detection.detect(model, image)


def test_what_is_found_is_what_mmdetection_finds(found, image):
    """The image is 96x120: as large as it becomes."""
    expected = answers.load("mask_rcnn")
    count = len(expected["found_alone/scores"])
    assert len(found) == count
    # Saved in the pixels of a larger original, 144x160.
    scale = np.float32([120 / 160, 96 / 144] * 2)
    boxes = expected["found_alone/boxes"] * scale
    same = np.abs(found.boxes - boxes).max(axis=1) < 1e-3
    assert same.mean() > 0.9  # overlaps differ where pixels are oblong
    assert found.names == tuple(NAMES[x] for x in found.classes)
    assert found.size == image.shape[:2]


def test_masks_are_made_of_runs(found, model, image):
    every = found.masks
    assert every.shape == (len(found), *image.shape[:2])
    assert every.dtype == bool
    for mask, rle, box in zip(every, found.rles, found.boxes):
        np.testing.assert_array_equal(mask, masks.decode(rle))
        rows, columns = np.nonzero(mask)
        if len(rows):
            x1, y1, x2, y2 = box
            assert columns.min() >= x1 - 1 and columns.max() <= x2 + 1
            assert rows.min() >= y1 - 1 and rows.max() <= y2 + 1
    assert every.any(axis=(1, 2)).mean() > 0.5


def test_a_second_time_gives_the_same_bits(found, model, image):
    again = detection.detect(model, image)
    for name in ("boxes", "scores", "classes"):
        np.testing.assert_array_equal(
            getattr(again, name), getattr(found, name)
        )
    assert again.rles == found.rles


def test_scores_are_chosen_from_the_whole(found, model, image):
    middle = float(np.median(found.scores))
    some = detection.detect(model, image, score=middle)
    assert len(some) == (found.scores >= middle).sum()
    np.testing.assert_array_equal(some.boxes, found.boxes[: len(some)])
    none = detection.detect(model, image, score=1.0)
    assert len(none) == 0 and none.masks.shape == (0, *image.shape[:2])
    assert none.boxes.shape == (0, 4)


def test_photographs_are_resized_and_turned(model, tmp_path):
    """Boxes are in the pixels of the photograph as one sees it."""
    pixels = np.kron(formula.images()[1], np.ones((2, 3, 1), "uint8"))
    expected = detection.detect(model, pixels)
    assert expected.size == (192, 360)
    assert (expected.boxes <= [360, 192] * 2).all()
    assert expected.boxes[:, 2].max() > 300
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its left side
    lying = Image.fromarray(np.rot90(pixels, 1))
    lying.save(tmp_path / "lying.png", exif=exif)
    turned = detection.detect(model, tmp_path / "lying.png")
    np.testing.assert_array_equal(turned.boxes, expected.boxes)


def test_mirrored_images_have_mirrored_detections(found, model, image):
    """Alone the mirrored view gives what the image's mirror does; joined, the
    best of both."""
    both = detection.detect(model, image, flip=True)
    mirrored = detection.detect(model, image[:, ::-1].copy())
    assert both.scores[0] == max(found.scores[0], mirrored.scores[0])
    assert (np.diff(both.scores) <= 0).all()
    x1, y1, x2, y2 = mirrored.boxes.T
    width = np.float32(image.shape[1])
    other = rows(np.stack([width - x2, y1, width - x1, y2], axis=-1))
    own, boxes = rows(found.boxes), rows(both.boxes)
    assert set(boxes) <= {*own, *other}
    assert set(boxes) & set(own)
    some = next(x for x in other if x in boxes and x not in own)
    mask = both.masks[boxes.index(some)]
    expected = mirrored.masks[other.index(some)][:, ::-1]
    assert (mask & expected).sum() > 0.9 * (mask | expected).sum() > 0
    for number in set(both.classes.tolist()):
        same = both.boxes[both.classes == number]
        overlap = keras.ops.convert_to_numpy(detection.box_iou(same, same))
        np.fill_diagonal(overlap, 0)
        assert overlap.max(initial=0) <= 0.5


def rows(boxes):
    return [tuple(x) for x in boxes.tolist()]


def test_several_scales_and_larger_canvases(found, model, image):
    several = detection.detect(model, image, scales=(1, 1.5))
    assert several.scores[0] >= found.scores[0]
    assert len(several) <= 100
    canvas = detection.detect(model, image, multiple=128)
    # The margin is seen, but changes little.
    assert canvas.scores[0] == pytest.approx(found.scores[0], abs=0.05)
    assert not np.array_equal(canvas.scores, found.scores)


def test_images_of_a_batch_do_not_change_one_another(model, image):
    sizes = np.array([image.shape[:2]] * 2, "int32")
    inputs = {
        "images": np.float32([image, image[::-1, ::-1]]),
        "image_sizes": sizes,
        "original_sizes": sizes,
    }
    both = model.predict_on_batch(inputs)
    one = model.predict_on_batch({name: x[:1] for name, x in inputs.items()})
    np.testing.assert_array_equal(one["classes"][0], both["classes"][0])
    for name in ("boxes", "scores", "masks"):
        np.testing.assert_allclose(
            one[name][0], both[name][0], rtol=0, atol=1e-3
        )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_policies_keep_boxes_in_float32(policy, found, image, tmp_path):
    path = file_of("mask_rcnn", tmp_path)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = small("mask_rcnn", path, proposals=50, short_side=96)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.get_layer("fpn_output_0").compute_dtype != "float32"
    mixed = detection.detect(model, image)
    assert mixed.boxes.dtype == mixed.scores.dtype == np.float32
    assert np.isfinite(mixed.boxes).all()
    assert mixed.scores[0] == pytest.approx(found.scores[0], abs=0.1)
    overlap = detection.box_iou(mixed.boxes[:5], found.boxes)
    overlap = keras.ops.convert_to_numpy(overlap)
    assert overlap.max(axis=1).mean() > 0.7


def test_what_cannot_be_detected(model, image, tmp_path):
    classifier = ConvNeXt((1, 1, 1, 1), (8, 8, 8, 8), weights=None, classes=2)
    (tmp_path / "text.png").write_text("none")
    detect = functools.partial(detection.detect, model)
    for call, message in (
        (lambda: detection.detect(classifier, image), "Expected a detector"),
        (lambda: detect(image, score=0.01), "`score_threshold=` for less"),
        (lambda: detect(image, multiple=48), "a multiple of 32. Received"),
        (lambda: detect(image, scales=()), "`scales` must hold positive"),
        (lambda: detect(image, scales=(1e6,)), "too|memory|Received"),
        (lambda: detect(tmp_path / "text.png"), "text.png"),
        (lambda: detect(image.astype("float32")), "Expected a uint8 array"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_pictures_show_masks_boxes_and_names(found, image):
    picture = detection.drawn(image, found, opacity=1.0)
    assert picture.shape == image.shape
    assert not np.shares_memory(picture, image)
    untouched = ~found.masks.any(axis=0)
    x1, _, x2, y2 = found.boxes[0].astype(int)
    # The box of the best is on top, in the first color.
    assert (picture[y2 - 1 : y2 + 1, x1:x2] == [128, 0, 0]).all(2).any()
    assert (picture != image).any()
    nothing = detection.Detections(
        *(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), ()),
        *([], image.shape[:2]),
    )
    np.testing.assert_array_equal(detection.drawn(image, nothing), image)
    assert untouched.any()
    with pytest.raises(ValueError, match="in which the objects were found"):
        detection.drawn(image[1:], found)


@pytest.fixture
def run(run_command):
    return functools.partial(run_command, "detect")


@pytest.fixture
def photographs(tmp_path, image):
    folder = tmp_path / "photos" / "more"
    folder.mkdir(parents=True)
    Image.fromarray(image).save(folder / "000123.png")
    Image.fromarray(image[::-1]).save(folder.parent / "b.png")
    (folder.parent / "broken.jpg").write_text("no image")
    return folder.parent


def test_the_command_writes_pictures_and_results(
    run, photographs, model, found, tmp_path
):
    model.save(tmp_path / "mine.keras")
    output, results = tmp_path / "out", tmp_path / "found.json"
    arguments = (
        *(photographs, "--model", tmp_path / "mine.keras"),
        *("--output", output, "--results", results, "--score", 0.05),
    )
    status, printed, errors = run(*arguments, "--json")
    assert status == 1 and "broken.jpg" in errors
    rows = {x["image"].split("/")[-1]: x for x in json.loads(printed)}
    assert rows.keys() == {"b.png", "broken.jpg", "000123.png"}
    row = rows["000123.png"]
    assert (row["height"], row["width"]) == found.size
    assert [x["class"] for x in row["detections"]] == list(found.names)
    np.testing.assert_allclose(
        [x["box"] for x in row["detections"]], found.boxes, atol=1e-4
    )
    assert row["output"] == str(output / "more" / "000123.png")
    with Image.open(row["output"]) as picture:
        np.testing.assert_array_equal(
            np.asarray(picture),
            detection.drawn(photographs / "more" / "000123.png", found),
        )
    in_coco = [
        x for x in json.loads(results.read_text()) if x["image_id"] == 123
    ]
    assert len(in_coco) == len(found)
    assert in_coco[0]["category_id"] == found.classes[0]
    x, y, width, height = in_coco[0]["bbox"]
    np.testing.assert_allclose(
        [x, y, x + width, y + height], found.boxes[0], atol=1e-4
    )
    assert in_coco[0]["segmentation"] == found.rles[0]
    status, _, errors = run(*arguments)
    assert status == 2 and "--force" in errors


def test_the_command_prints_what_it_finds(run, photographs, tmp_path, found):
    arguments = ("--model", "test_convnext", "--detector", "cascade_mask_rcnn")
    for extra, message in (
        (("--weights", "coc"), "There are no published weights"),
        (("--detector", "yolo"), "must be one of"),
        (("--output", tmp_path / "none" / "out"), "must be a folder"),
        (("--results", tmp_path / "x.txt"), "ends in .json"),
    ):
        status, _, errors = run(photographs, *arguments, *extra)
        assert status == 2
        assert message in " ".join(errors.split())
    model = small("mask_rcnn", classes=2, proposals=4, short_side=64)
    model.save(tmp_path / "two.keras")
    status, printed, errors = run(
        photographs / "b.png", "--model", tmp_path / "two.keras"
    )
    assert status == 0, errors
    first, *lines = printed.splitlines()
    assert first.endswith("b.png")
    assert lines and all("nothing" in x or " at " in x for x in lines)


@short_on("torch")
def test_the_command_takes_exported_files(run, photographs, model, tmp_path):
    photo = photographs / "b.png"
    model.save(tmp_path / "m.keras")
    keras_convnext.export(model, tmp_path / "m.onnx", verify=False)
    rows, results = [], []
    for name in ("m.keras", "m.onnx"):
        file = tmp_path / f"{name}.json"
        status, printed, errors = run(
            *(photo, "--model", tmp_path / name, "--score", 0.1, "--json"),
            *("--results", file),
        )
        assert status == 0, errors
        rows += json.loads(printed)
        results.append(json.loads(file.read_text()))
    expected, found = (x["detections"] for x in rows)
    assert [x["class"] for x in found] == [x["class"] for x in expected]
    assert len(found) > 1
    for ours, theirs in zip(found, expected):
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-4)
        np.testing.assert_allclose(
            ours["box"], theirs["box"], rtol=0, atol=1e-2
        )
    expected, found = (
        [(x["image_id"], x["category_id"]) for x in one] for one in results
    )
    assert found == expected
    status, _, errors = run(
        *(photo, "--model", tmp_path / "m.onnx", "--scale", 2, "--flip")
    )
    assert status == 2
    assert "`--scale`, `--flip` for" in " ".join(errors.split())
