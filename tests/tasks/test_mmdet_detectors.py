"""Whole detectors beside mmdetection's: weights by formula, saved answers."""

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import long_where_compiled
from detector_files import backbone
from detector_files import file_of
from detector_files import small
from families import SMALL
from mmdet_reference import answers
from mmdet_reference import formula

from keras_convnext import detection
from keras_convnext.tasks.detection import masks

BACKEND = keras.backend.backend()
EVERYWHERE = pytest.mark.every_backend


def batch(images, canvas, sizes, originals):
    """Images in the upper left of a canvas, something else around them."""
    pixels = np.full((len(images), *canvas, 3), 77, "float32")
    for target, image in zip(pixels, images):
        target[: image.shape[0], : image.shape[1]] = image
    return {
        "images": pixels,
        "image_sizes": np.array(sizes, "int32"),
        "original_sizes": np.array(originals, "int32"),
    }


BOTH = batch(
    formula.images(), formula.CANVAS, formula.SIZES, formula.ORIGINAL_SIZES
)


def predicted(model, inputs):
    return {
        name: keras.ops.convert_to_numpy(x)
        for name, x in model.predict_on_batch(inputs).items()
    }


def assert_found(outputs, row, expected, name):
    """The same detections in the same order, and nothing behind them."""
    count = len(expected[f"{name}/scores"])
    found = {key: x[row] for key, x in outputs.items()}
    assert found["masks"].shape[1:] == (28, 28)
    np.testing.assert_array_equal(
        found["classes"][:count], expected[f"{name}/classes"]
    )
    assert (found["classes"][count:] == -1).all()
    for key, tolerance in (("boxes", 1e-3), ("scores", 1e-4)):
        np.testing.assert_allclose(
            found[key][:count],
            expected[f"{name}/{key}"],
            rtol=0,
            atol=tolerance,
        )
        assert not found[key][count:].any()
    assert not found["masks"][count:].any()
    return {key: x[:count] for key, x in found.items()}


@pytest.mark.parametrize(
    "detector",
    [
        pytest.param("mask_rcnn", marks=EVERYWHERE),
        pytest.param("cascade", marks=LONG_WHERE_COMPILED),
    ],
)
def test_whole_models_find_what_mmdetection_does(detector, tmp_path):
    """Two images of different sizes in a batch, up to the detections."""
    path = file_of(detector, tmp_path)
    model = small(detector, path, proposals=formula.PROPOSALS)
    expected = answers.load(detector)
    outputs = predicted(model, BOTH)
    for i in range(2):
        found = assert_found(outputs, i, expected, f"found_{i}")
        maps = answers.probabilities(expected[f"found_{i}/maps"])
        np.testing.assert_allclose(
            found["masks"][:: answers.STEP], maps, rtol=0, atol=1e-4
        )
    if BACKEND != "torch":  # which compiles nothing for another size
        return
    # As it is, without what fills it up.
    alone = batch(
        formula.images()[1:],
        formula.SIZES[1],
        formula.SIZES[1:],
        formula.ORIGINAL_SIZES[1:],
    )
    assert_found(predicted(model, alone), 0, expected, "found_alone")
    model.save(tmp_path / "saved.keras")
    again = predicted(keras.saving.load_model(tmp_path / "saved.keras"), BOTH)
    for name, x in outputs.items():
        np.testing.assert_array_equal(again[name], x)


@long_where_compiled
@pytest.mark.parametrize("detector", ["mask_rcnn", "cascade"])
def test_stages_up_to_the_proposals(detector, tmp_path):
    """Maps, logits and deltas of all anchors, and the best of them."""
    path = file_of(detector, tmp_path)
    model = small(detector, path, proposals=formula.PROPOSALS)
    expected = answers.load("trunk")
    numbers = range(5)
    outputs = {
        "maps": [f"fpn_output_{i}" for i in numbers],
        "scores": [f"rpn_scores_{i}" for i in numbers],
        "deltas": [f"rpn_deltas_{i}" for i in numbers],
        "proposals": "proposals",
    }
    inputs = {x.name: x for x in model.inputs}
    tensors = keras.tree.map_structure(
        lambda name: model.get_layer(name).output, outputs
    )
    found = keras.Model(inputs, tensors).predict_on_batch(BOTH)
    for i, one in enumerate(found["maps"]):
        assert_close(one, expected[f"map_{i}"], 1e-4 * np.abs(one).max())
    for name in ("scores", "deltas"):
        every = np.concatenate(found[name], axis=1)
        assert_close(every, expected[f"rpn_{name}"], 1e-4)
    boxes, valid = found["proposals"]
    assert valid.all()
    assert_close(boxes, expected["proposals"], 1e-3)


def assert_close(found, expected, atol):
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@long_where_compiled
@pytest.mark.parametrize("detector", ["mask_rcnn", "cascade"])
def test_heads_on_boxes_of_all_sizes(detector, tmp_path):
    """Logits, deltas and masks, from the same regions and the same maps."""
    model = small(detector, file_of(detector, tmp_path))
    expected, trunk = answers.load(detector), answers.load("trunk")
    maps = [trunk[f"map_{i}"] for i in range(4)]
    boxes = np.float32(formula.ROIS)
    regions = model.get_layer("mask_roi_align")(maps, boxes)
    for k, stage in enumerate(model.stages):
        features = model.get_layer(f"box{stage}_roi_align")(maps, boxes)
        given = [model.get_layer(f"box{stage}_roi_align").output]
        if detector == "cascade":
            given.append(model.get_layer("box_rows").output)
        names = (f"box{stage}_classifier", f"box{stage}_deltas")
        head = keras.Model(
            given, [model.get_layer(name).output for name in names]
        )
        rows = keras.ops.ones((len(features), 1, 1), "bool")
        every = [features, rows]
        logits, deltas = head(every[: len(given)], training=False)
        head = keras.Model(
            model.get_layer("mask_roi_align").output,
            model.get_layer(f"mask{stage}_classifier").output,
        )
        for found, name in (
            (logits, f"logits_{k}"),
            (deltas, f"deltas_{k}"),
            (head(regions[:2]), f"mask_logits_{k}"),
        ):
            found = keras.ops.convert_to_numpy(found)
            assert_close(found, expected[name], 1e-4)


@long_where_compiled
@pytest.mark.parametrize("detector", ["mask_rcnn", "cascade"])
def test_the_official_configuration(detector, tmp_path):
    """mmdet 2.11, of which the published files are: Tiny's depths, 80 classes,
    1000 proposals; up to the pasted masks."""
    sizes = {
        "depths": formula.OFFICIAL_DEPTHS,
        "dims": SMALL["dims"],
        "classes": formula.OFFICIAL_CLASSES,
        "channels": formula.CHANNELS,
        "units": formula.UNITS,
    }
    path = file_of(detector, tmp_path, **sizes)
    build = {
        "mask_rcnn": detection.MaskRCNN,
        "cascade": detection.CascadeMaskRCNN,
    }
    model = build[detector](backbone(formula.OFFICIAL_DEPTHS), weights=path)
    image = formula.image(2, *formula.OFFICIAL_SIZE)
    original = formula.OFFICIAL_ORIGINAL_SIZE
    outputs = predicted(
        model,
        batch([image], image.shape[:2], [image.shape[:2]], [original]),
    )
    expected = answers.load("official")
    found = assert_found(outputs, 0, expected, detector)
    some = slice(None, None, answers.STEP)
    pasted = masks.paste(found["masks"][some], found["boxes"][some], *original)
    theirs = answers.bits(expected[f"{detector}/masks"], pasted.shape)
    clear = np.abs(pasted - 0.5) > 1e-3
    np.testing.assert_array_equal((pasted >= 0.5)[clear], theirs[clear])
