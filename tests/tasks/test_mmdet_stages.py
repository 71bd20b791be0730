"""Each part of a detector beside mmdetection's, from its own inputs to it."""

import numpy as np
import pytest
from conftest import long_where_compiled
from keras import ops
from mmdet_reference import answers
from mmdet_reference import formula

from keras_convnext.tasks.detection import boxes
from keras_convnext.tasks.detection import masks
from keras_convnext.tasks.detection.anchors import anchors
from keras_convnext.tasks.detection.roi_align import pooled

TRUNK = answers.load("trunk")
PIECES = {
    name.removeprefix("pieces/"): x
    for name, x in TRUNK.items()
    if name.startswith("pieces/")
}
MAPS = [TRUNK[f"map_{level}"] for level in range(5)]


def assert_close(ours, theirs, rtol=1e-5, atol=1e-5):
    ours = ops.convert_to_numpy(ours)
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def test_anchors():
    assert_close(anchors(*formula.CANVAS), TRUNK["anchors"])


def test_deltas_between_boxes():
    encoded = boxes.encode(PIECES["boxes"], PIECES["others"], PIECES["stds"])
    assert_close(encoded, PIECES["encoded"])


def test_boxes_after_deltas():
    given = PIECES["boxes"], PIECES["deltas"], PIECES["stds"]
    assert_close(boxes.decode(*given), PIECES["decoded"], atol=1e-4)
    # Height and width of the image.
    clipped = boxes.decode(
        *(x[None] for x in given[:2]), given[2], np.array([[80, 90]])
    )
    assert_close(clipped[0], PIECES["decoded_in_80_90"], atol=1e-4)


def test_overlaps():
    pair = PIECES["boxes"], PIECES["others"]
    assert_close(boxes.box_iou(*pair), PIECES["iou"], atol=1e-6)
    assert_close(1 - boxes.giou(*pair), PIECES["giou_loss"], atol=1e-6)


@long_where_compiled
def test_features_of_boxes_from_all_levels():
    features = pooled(MAPS[:4], np.float32(formula.ROIS), 7)
    features = ops.reshape(features, (-1, 7, 7, formula.CHANNELS))
    theirs = answers.load("mask_rcnn")["pooled"]
    assert_close(features, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.once
def test_pasted_maps():
    given = PIECES["paste_maps"], PIECES["paste_boxes"]
    pasted = masks.paste(*given, 40, 50)
    np.testing.assert_allclose(pasted, PIECES["pasted"], rtol=1e-5, atol=1e-5)


@pytest.mark.once
@pytest.mark.parametrize("kind", ["mask_rcnn", "cascade"])
@pytest.mark.parametrize("index", [0, 1])
def test_masks_of_detections(kind, index):
    found = answers.load(kind)
    size = formula.ORIGINAL_SIZES[index]
    some = slice(None, None, answers.STEP)
    maps = answers.probabilities(found[f"found_{index}/maps"])
    place = found[f"found_{index}/boxes"][some]
    pasted = masks.paste(maps, place, *size)
    theirs = answers.bits(found[f"found_{index}/masks"], pasted.shape)
    clear = np.abs(pasted - 0.5) > 1e-3
    assert clear.mean() > 0.98
    np.testing.assert_array_equal((pasted >= 0.5)[clear], theirs[clear])
