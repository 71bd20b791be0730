"""Masks of detections, beside PyTorch's sampling of the same places."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch.nn import functional as F

from keras_convnext.tasks.detection import masks

pytestmark = pytest.mark.once

HEIGHT, WIDTH = 60, 80


def boxes():
    """Of all kinds: common, tiny, flat, outside, beyond every edge."""
    generator = np.random.default_rng(1)
    corners = generator.uniform(-20, 100, (40, 2, 2))
    common = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    # No pixel's center lies on the line of a flat box: that would be 0/0.
    special = [
        *((0, 0, 80, 60), (3.2, 4.1, 3.9, 4.3), (10.2, 5, 10.2, 30)),
        *((10, 5.7, 30, 5.7), (7.7, 8.8, 7.7, 8.8), (200, 10, 230, 20)),
        *((-50, -50, -10, -10), (-300, -200, 400, 300), (79.5, 0, 81, 60)),
        *((20, 20, 10, 10), (0, 0, 0, 0)),
    ]
    return np.concatenate([common, special]).astype("float32")


def sampled(maps, boxes, height, width):
    """By `grid_sample`, each in the window of pixels next to its box."""
    pasted = torch.zeros((len(maps), height, width))
    for result, values, box in zip(pasted, maps, torch.tensor(boxes)):
        left, top = (box[:2].floor() - 1).clamp(min=0).int().tolist()
        right, bottom = (box[2:].ceil() + 1).int().tolist()
        right, bottom = min(right, width), min(bottom, height)
        if right <= left or bottom <= top:
            continue
        x = (torch.arange(left, right) + 0.5 - box[0]) / (box[2] - box[0])
        y = (torch.arange(top, bottom) + 0.5 - box[1]) / (box[3] - box[1])
        x, y = (torch.where(v.isinf(), 0.0, v * 2 - 1) for v in (x, y))
        y, x = torch.meshgrid(y, x, indexing="ij")
        result[top:bottom, left:right] = F.grid_sample(
            torch.tensor(values)[None, None],
            torch.stack([x, y], -1)[None],
            align_corners=False,
        )[0, 0]
    return pasted.numpy()


@pytest.fixture(scope="module", params=[(28, 28), (5, 9)])
def maps(request):
    generator = np.random.default_rng(2)
    shape = (len(boxes()), *request.param)
    return generator.random(shape).astype("float32")


def test_pasted_maps_are_those_of_pytorch(maps):
    expected = sampled(maps, boxes(), HEIGHT, WIDTH)
    found = masks.paste(maps, boxes(), HEIGHT, WIDTH)
    assert found.dtype == "float32"
    # Positions in a box of one pixel are 28 times as large as their errors.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_runs_are_those_of_the_pasted_maps(maps):
    pasted = masks.paste(maps, boxes(), HEIGHT, WIDTH)
    found = masks.runs(maps, boxes(), HEIGHT, WIDTH)
    for mask, rle in zip(pasted >= 0.5, found):
        np.testing.assert_array_equal(masks.decode(rle), mask)
        np.testing.assert_array_equal(coco_mask.decode(rle), mask)


def test_no_detections_have_no_masks():
    none = np.zeros((0, 28, 28)), np.zeros((0, 4))
    assert masks.paste(*none, 3, 4).shape == (0, 3, 4)
    assert masks.runs(*none, 3, 4) == []


def test_a_pasted_cut_is_the_mask():
    """As detectron2 tests: what is cut out and pasted is nearly the same."""
    y, x = np.indices((HEIGHT, WIDTH)) + 0.5
    mask = (x - 40) ** 2 / 900 + (y - 30) ** 2 / 400 < 1
    cut = mask[10:50, 10:70].astype("float32")
    (pasted,) = masks.paste(cut[None], [(10, 10, 70, 50)], HEIGHT, WIDTH)
    np.testing.assert_array_equal(pasted >= 0.5, mask)
