"""Boxes and anchors against torchvision's and Keras' own."""

import keras
import numpy as np
import pytest
import torch
from compilation import gradients
from keras import ops
from peers import import_timm

from keras_convnext import detection
from keras_convnext.tasks.detection import anchors
from keras_convnext.tasks.detection import boxes

STDS = (0.1, 0.1, 0.2, 0.2)
FLAT = np.array([[3.0, 3.0, 3.0, 9.0], [5.0, 5.0, 5.0, 5.0]], "float32")


def random_boxes(count, seed=0, extent=100.0):
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, extent, (count, 2, 2))
    corners = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    return corners.astype("float32")


@pytest.fixture(scope="module")
def torchvision():
    import_timm()
    import torchvision

    return torchvision


def test_iou_of_all_pairs():
    a, b = random_boxes(30), random_boxes(40, 1)
    iou = ops.convert_to_numpy(detection.box_iou(a, b))
    expected = keras.utils.bounding_boxes.compute_iou(a, b, "xyxy")
    expected = ops.convert_to_numpy(expected)
    np.testing.assert_allclose(iou, expected, rtol=1e-5, atol=1e-6)
    batched = ops.convert_to_numpy(detection.box_iou(a[None], b[None]))
    np.testing.assert_allclose(batched[0], iou, rtol=1e-6, atol=1e-7)


def test_boxes_without_area_overlap_nothing():
    many = np.concatenate([FLAT, random_boxes(5)])
    iou = ops.convert_to_numpy(detection.box_iou(FLAT, many))
    np.testing.assert_array_equal(iou, 0)


def test_areas_that_overflow_float16():
    box = np.array([[0.0, 0.0, 640.0, 640.0]], "float16")
    iou = detection.box_iou(box, box)
    assert keras.backend.standardize_dtype(iou.dtype) == "float32"
    assert float(iou[0, 0]) == 1


def test_giou(torchvision):
    a, b = random_boxes(50), random_boxes(50, 1)
    expected = 1 - torchvision.ops.generalized_box_iou_loss(
        torch.tensor(a), torch.tensor(b), eps=0
    )
    giou = ops.convert_to_numpy(boxes.giou(a, b))
    assert giou.min() < -0.1 and giou.max() > 0.1
    np.testing.assert_allclose(giou, expected, rtol=1e-5, atol=1e-5)


def test_giou_of_flat_boxes_and_its_gradient_are_finite():
    assert np.isfinite(ops.convert_to_numpy(boxes.giou(FLAT, FLAT))).all()
    slope = gradients(
        lambda x: boxes.giou(x, ops.convert_to_tensor(FLAT)), FLAT
    )
    assert np.isfinite(slope).all()


def test_deltas_equal_torchvision(torchvision):
    from torchvision.models.detection._utils import BoxCoder

    coder = BoxCoder([1 / x for x in STDS])
    a, b = random_boxes(60), random_boxes(60, 1)
    a[:, 2:] += 1
    b[:, 2:] += 1
    expected = coder.encode_single(torch.tensor(b), torch.tensor(a))
    deltas = boxes.encode(a, b, STDS)
    np.testing.assert_allclose(
        ops.convert_to_numpy(deltas), expected, rtol=1e-5, atol=1e-4
    )
    moved = boxes.decode(a, deltas, STDS)
    np.testing.assert_allclose(
        ops.convert_to_numpy(moved), b, rtol=1e-5, atol=1e-4
    )
    expected = coder.decode_single(expected, torch.tensor(a))
    np.testing.assert_allclose(
        ops.convert_to_numpy(moved), expected, rtol=1e-5, atol=1e-4
    )


def test_growth_is_limited_on_both_sides():
    box = np.array([[0.0, 0.0, 2.0, 2.0]], "float32")
    deltas = np.array([[0.0, 0.0, 9.0, -9.0]], "float32")
    moved = ops.convert_to_numpy(boxes.decode(box, deltas, (1, 1, 1, 1)))[0]
    sides = moved[2:] - moved[:2]
    np.testing.assert_allclose(sides, [125, 0.032], rtol=1e-5, atol=1e-6)


def test_decoded_boxes_are_clipped_to_their_own_image():
    box = np.zeros((2, 1, 4), "float32") + [-5, -5, 90, 80]
    deltas = np.zeros((2, 1, 3, 4), "float32")
    sizes = np.array([[40, 50], [100, 60]])
    moved = boxes.decode(box[:, :, None], deltas, STDS, sizes)
    moved = ops.convert_to_numpy(moved)
    assert moved.shape == (2, 1, 3, 4)
    np.testing.assert_array_equal(moved[0, 0, 1], [0, 0, 50, 40])
    np.testing.assert_array_equal(moved[1, 0, 2], [0, 0, 60, 80])


def test_deltas_of_flat_boxes_are_finite():
    for pair in ((FLAT, FLAT + 1), (random_boxes(2), FLAT)):
        deltas = ops.convert_to_numpy(boxes.encode(*pair, STDS))
        assert np.isfinite(deltas).all()


@pytest.mark.parametrize("height, width", [(96, 160), (32, 32)])
def test_anchors_equal_torchvision_without_its_rounding(
    torchvision, height, width
):
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    sides = [8 * stride for stride in anchors.STRIDES]
    generator = AnchorGenerator(
        tuple((side,) for side in sides), (anchors.RATIOS,) * 5
    )
    generator.cell_anchors = []
    for side in sides:
        root = torch.tensor(anchors.RATIOS).sqrt()
        corners = torch.stack([side / root, side * root], dim=1) / 2
        generator.cell_anchors.append(torch.cat([-corners, corners], dim=1))
    grids = [(-(-height // s), -(-width // s)) for s in anchors.STRIDES]
    maps = [torch.zeros(1, 1, *grid) for grid in grids]
    images = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
    # Where a stride does not divide the image, torchvision's is another.
    generator.grid_anchors = _with_strides(generator.grid_anchors)
    (expected,) = generator(images, maps)
    made = ops.convert_to_numpy(anchors.anchors(height, width))
    assert made.dtype == "float32"
    assert len(made) == sum(anchors.counts(height, width))
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-4)


def _with_strides(grid_anchors):
    strides = [[torch.tensor(s), torch.tensor(s)] for s in anchors.STRIDES]
    return lambda grids, _: grid_anchors(grids, strides)


def test_float64_stays_float64(torchvision, float64):
    a, b = (random_boxes(30, seed) / np.float64(3) for seed in (0, 1))
    ours_a, ours_b = map(ops.convert_to_tensor, (a, b))
    a, b = map(torch.tensor, (a, b))
    deltas = 0.3 * (a - b) / a.max()
    coder = torchvision.models.detection._utils.BoxCoder([1 / x for x in STDS])
    ramp = np.tile(np.arange(40.0)[:, None, None], (1, 1, 40, 1))
    box = np.array([[[10 / 3, 16 / 3, 80 / 3, 85 / 3]]])
    middles = 16 / 3 - 0.5 + 69 / 3 * (np.arange(7) + 0.5) / 7
    for found, expected in (
        (detection.box_iou(ours_a, ours_b), torchvision.ops.box_iou(a, b)),
        (
            boxes.clip(ours_a[None], np.array([[20, 30]]))[0],
            torchvision.ops.clip_boxes_to_image(a, (20, 30)),
        ),
        (boxes.encode(ours_a, ours_b, STDS), coder.encode_single(b, a)),
        (
            boxes.decode(ours_a, ops.convert_to_tensor(deltas.numpy()), STDS),
            coder.decode_single(deltas, a),
        ),
        (detection.roi_align(ramp, box, 7)[0, 0, :, 3, 0], middles),
    ):
        np.testing.assert_allclose(
            ops.convert_to_numpy(found), expected, rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize(
    "size, count",
    [((800, 1216), 242_991), ((800, 1344), 268_569), ((320, 320), 25_575)],
)
def test_published_counts_of_anchors(size, count):
    assert sum(anchors.counts(*size)) == count
