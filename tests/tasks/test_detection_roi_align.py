"""RoIAlign against ONNX Runtime's operator, its gradient against torch's."""

import keras
import numpy as np
import onnx_operators
import pytest
import torch
from compilation import compiled
from compilation import gradients
from conftest import LONG_WHERE_COMPILED
from conftest import long_where_compiled
from keras import ops

from keras_convnext import detection
from keras_convnext.tasks.detection import layers
from keras_convnext.tasks.detection.roi_align import levels
from keras_convnext.tasks.detection.roi_align import pooled

BOUND = {"rtol": 1e-4, "atol": 1e-4}


def features(batch=2, height=20, width=26, channels=3):
    generator = np.random.default_rng(0)
    shape = (batch, height, width, channels)
    return generator.normal(size=shape).astype("float32")


# Of maps of 20 × 26 pixels at a quarter of the size.
DEGENERATE = [
    [0, 0, 104, 80],
    [0, 0, 84, 56],  # 21 and 14 pixels, the multiples of bins
    [0, 0, 98, 28],  # 24.5 and 7
    [4, 4, 88, 74],
    [10, 10, 10.5, 10.5],
    [10, 10, 10, 50],
    [10, 10, 10, 10],
    [30, 30, 20, 20],  # turned around
    [-50, -50, -20, -20],
    [-30, -30, 20, 20],
    [90, 70, 300, 200],
    [500, 500, 600, 600],
    [-300, -300, 900, 900],
    [-4, -4, 108, 84],
]


def boxes(batch=2, random=40):
    generator = np.random.default_rng(1)
    centers = generator.uniform(-10, 110, (batch, random, 2))
    sides = np.exp(generator.uniform(-1, 5, (batch, random, 2)))
    made = np.concatenate([centers - sides / 2, centers + sides / 2], axis=2)
    same = np.tile(DEGENERATE, (batch, 1, 1))
    return np.concatenate([same, made], axis=1).astype("float32")


@pytest.mark.parametrize(
    "size", [7, pytest.param(14, marks=LONG_WHERE_COMPILED)]
)
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_equal_to_onnx(size, sampling_ratio):
    arguments = features(), boxes(), size, 0.25, sampling_ratio
    expected = onnx_operators.roi_align(*arguments)
    aligned = ops.convert_to_numpy(detection.roi_align(*arguments))
    np.testing.assert_allclose(aligned, expected, **BOUND)


def test_samples_are_counted_without_rounding_when_compiled():
    """XLA's ⌈size / 7⌉ is one too many where 7 divides the size."""
    ends = np.arange(7, 71, 7) + np.array([[0], [1e-5], [-1e-5]])
    box = np.stack([ends * 0, ends * 0, ends, ends], axis=-1)
    box = box.reshape(1, -1, 4).astype("float32")
    x = features(1, 72, 72)
    align = compiled(lambda x, box: detection.roi_align(x, box, 7))
    aligned = align(ops.convert_to_tensor(x), ops.convert_to_tensor(box))
    np.testing.assert_allclose(
        ops.convert_to_numpy(aligned),
        onnx_operators.roi_align(x, box, 7),
        **BOUND,
    )


def test_what_is_no_number_gives_nothing_and_harms_nobody():
    box = boxes(1, 4)
    expected = ops.convert_to_numpy(
        detection.roi_align(features(1), box, 7, 0.25)
    )
    box[0, 3, 0] = np.nan
    box[0, 4] = [0, 0, np.inf, np.inf]
    aligned = detection.roi_align(features(1), box, 7, 0.25)
    aligned = ops.convert_to_numpy(aligned)
    assert (aligned[0, 3:5] == 0).all()
    others = [x for x in range(box.shape[1]) if x not in (3, 4)]
    np.testing.assert_allclose(
        aligned[0, others], expected[0, others], rtol=1e-6, atol=1e-6
    )


def test_no_boxes():
    aligned = detection.roi_align(features(), np.zeros((2, 0, 4)), 7)
    assert tuple(aligned.shape) == (2, 0, 7, 7, 3)


@long_where_compiled
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_sums_in_float32(dtype):
    x = ops.cast(features(), dtype)
    box = boxes()
    aligned = detection.roi_align(x, box, 7, 0.25)
    assert keras.backend.standardize_dtype(aligned.dtype) == dtype
    rounded = ops.convert_to_numpy(ops.cast(x, "float32"))
    expected = onnx_operators.roi_align(rounded, box, 7, 0.25)
    expected = ops.cast(ops.cast(expected, dtype), "float32")
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.cast(aligned, "float32")),
        ops.convert_to_numpy(expected),
        rtol=1e-2,
        atol=1e-3,
    )


def matrix(start, end, limit, size):
    """What each bin of one box takes of each pixel along an axis."""
    shares = torch.zeros(size, limit)
    bin = (end - start) / size
    samples = int(np.ceil(bin))
    for number in range(size * samples):
        cell, sample = divmod(number, samples)
        place = start + cell * bin + (sample + 0.5) * bin / samples
        if place < -1 or place > limit:
            continue
        place = min(max(place, 0), limit - 1)
        low = min(int(place), limit - 2)
        shares[cell, low] += (1 - place + low) / samples
        shares[cell, low + 1] += (place - low) / samples
    return shares


def test_gradient_equals_the_matrix_form_of_torch():
    x, box, scale = features(), boxes(2, 6), 0.25
    weights = np.random.default_rng(2).normal(size=(*box.shape[:2], 7, 7, 3))
    weights = weights.astype("float32")

    def weighted(x):
        aligned = detection.roi_align(x, box, 7, scale)
        return aligned * ops.convert_to_tensor(weights)

    there = torch.tensor(x, requires_grad=True)
    total = 0.0
    for image, number in np.ndindex(*box.shape[:2]):
        x1, y1, x2, y2 = box[image, number].astype("float64") * scale - 0.5
        if x1 >= x2 or y1 >= y2:
            continue
        down, across = matrix(y1, y2, 20, 7), matrix(x1, x2, 26, 7)
        aligned = torch.einsum("pi,ijc,qj->pqc", down, there[image], across)
        total = total + (aligned * torch.tensor(weights[image, number])).sum()
    (expected,) = torch.autograd.grad(total, there)
    assert float(expected.abs().max()) > 1
    for function in (weighted, compiled(weighted)):
        np.testing.assert_allclose(
            gradients(function, x), expected, rtol=1e-4, atol=1e-4
        )


@long_where_compiled
def test_gradient_goes_to_the_features_alone():
    box = ops.convert_to_tensor(boxes(1, 0)[:, :4])

    def moved(x):
        return detection.roi_align(x, box + ops.mean(x), 7, 0.25)

    mean = features(1).mean()

    def still(x):
        return detection.roi_align(x, box + mean, 7, 0.25)

    np.testing.assert_allclose(
        gradients(moved, features(1)),
        gradients(still, features(1)),
        rtol=1e-4,
        atol=1e-4,
    )


def test_levels_by_mean_side():
    sides = [1, 111.9, 112, 223.9, 224, 447.9, 448, 2000]
    box = np.array([[0, 0, x, x] for x in sides] + [[0, 0, 7, 1792]])
    expected = [0, 0, 1, 1, 2, 2, 3, 3, 1]
    for function in (levels, compiled(levels)):
        of_boxes = function(ops.convert_to_tensor(box.astype("float32")))
        assert ops.convert_to_numpy(of_boxes).tolist() == expected


def test_each_box_is_pooled_from_its_own_level():
    maps = [features(2, 128 // s, 192 // s) + s for s in (4, 8, 16, 32)]
    box = np.abs(boxes())
    box[:, :4, 2:] += [[50, 50], [150, 150], [500, 300], [600, 800]]
    aligned = ops.convert_to_numpy(pooled(maps, box, 7))
    level = ops.convert_to_numpy(levels(box))
    assert set(level.flatten()) == {0, 1, 2, 3}
    for number, x in enumerate(maps):
        expected = onnx_operators.roi_align(x, box, 7, 0.25 / 2**number)
        here = level == number
        np.testing.assert_allclose(aligned[here], expected[here], **BOUND)


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="other shapes are fixed"
)
def test_masks_are_computed_of_what_is_there_alone():
    maps = [features(2, 64 // s, 64 // s) for s in (4, 8, 16, 32)]
    maps = [ops.convert_to_tensor(x) for x in maps]
    generator = np.random.default_rng(1)
    corners = generator.uniform(0, 30, (2, 2, 3, 2)).astype("float32")
    boxes = ops.convert_to_tensor(
        np.concatenate([corners[0], corners[0] + corners[1]], axis=-1)
    )
    classes = ops.convert_to_tensor([[1, 0, -1], [2, -1, -1]])
    rows, there = layers.RoIAlign(4)(maps, boxes, classes), [0, 1, 3]
    every = layers.RoIAlign(4)(maps, boxes)
    assert tuple(rows.shape) == (3, 4, 4, 3)
    np.testing.assert_allclose(rows, every[there], rtol=1e-6, atol=1e-6)
    masks = ops.convert_to_numpy(layers.ClassMasks()([rows, rows], classes))
    chances = ops.convert_to_numpy(ops.sigmoid(every)).reshape(2, 3, 4, 4, 3)
    expected = np.zeros((2, 3, 4, 4), "float32")
    for image, row, own in ((0, 0, 1), (0, 1, 0), (1, 0, 2)):
        expected[image, row] = chances[image, row, ..., own]
    np.testing.assert_allclose(masks, expected, rtol=1e-6, atol=1e-6)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"Received: .*\(5, 4\)"):
        detection.roi_align(features(), np.zeros((5, 4)), 7)
