"""Non-maximum suppression against ONNX Runtime's operator."""

import numpy as np
import onnx_operators
import pytest
from compilation import compiled
from conftest import long_where_compiled
from keras import ops

from keras_convnext import detection
from keras_convnext.tasks.detection import suppression


def candidates(count, seed=0, extent=200.0):
    """Boxes that overlap a lot, and scores, some of which are equal."""
    generator = np.random.default_rng(seed)
    centers = generator.uniform(0, extent, (count, 2))
    sides = np.exp(generator.uniform(1, 4, (count, 2)))
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1)
    scores = generator.integers(0, 300, count) / 300
    return boxes.astype("float32"), scores.astype("float32")


def kept(*arguments):
    indices = ops.convert_to_numpy(detection.non_max_suppression(*arguments))
    assert indices.dtype == "int32"
    count = int((indices >= 0).sum())
    assert (indices[count:] == -1).all()
    return indices[:count]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("most", [50, 2000])
def test_equal_to_onnx(threshold, most):
    boxes, scores = candidates(1300)
    expected = onnx_operators.non_max_suppression(
        boxes, scores, threshold, most
    )
    np.testing.assert_array_equal(
        kept(boxes, scores, threshold, most), expected
    )


def test_degenerate_boxes():
    boxes = np.array(
        [
            [0, 0, 10, 10],
            [0, 0, 10, 10],  # the same, and the same score
            [5, 5, 5, 9],  # flat, twice
            [5, 5, 5, 9],
            [0, 0, 10, 5],  # IoU is just ½
            [-1e6, -1e6, 1e6, 1e6],
            [-1e6, -1e6, 1e6, 1e6],
            [-9, -9, -8, -8],
        ],
        "float32",
    )
    scores = np.array([9, 9, 8, 7, 6, 5, 4, 3], "float32")
    expected = [0, 2, 3, 4, 5, 7]
    np.testing.assert_array_equal(kept(boxes, scores, 0.5, 8), expected)
    np.testing.assert_array_equal(
        onnx_operators.non_max_suppression(boxes, scores, 0.5, 8), expected
    )


def test_classes_do_not_suppress_each_other():
    boxes, scores = candidates(700)
    classes = np.arange(700) % 3
    alone = [
        np.flatnonzero(classes == number)[
            onnx_operators.non_max_suppression(
                boxes[classes == number], scores[classes == number], 0.4, 700
            )
        ]
        for number in range(3)
    ]
    expected = np.sort(np.concatenate(alone))
    expected = expected[np.argsort(-scores[expected], kind="stable")]
    together = kept(boxes, scores, 0.4, 700, classes)
    np.testing.assert_array_equal(together, expected)
    assert set(together) != set(kept(boxes, scores, 0.4, 700))


def test_scores_that_are_no_numbers_are_never_kept():
    boxes, scores = candidates(20, extent=2000)
    scores[[3, 7]] = np.nan
    scores[4] = -np.inf
    indices = kept(boxes, scores, 0.5, 20)
    assert not {3, 7} & set(indices) and indices[-1] == 4
    assert kept(boxes, np.full_like(scores, np.nan), 0.5, 5).size == 0


def test_no_boxes():
    assert kept(np.zeros((0, 4)), np.zeros((0,)), 0.5, 3).size == 0


@long_where_compiled
def test_images_of_a_batch_do_not_depend_on_each_other():
    boxes, scores = zip(*(candidates(600, seed) for seed in range(3)))
    boxes, scores = np.stack(boxes), np.stack(scores)
    groups = np.arange(600)[None] % np.array([[1], [2], [5]])
    valid = np.ones((3, 600), bool)
    valid[1, ::2] = False
    valid[2] = False

    @compiled
    def all_at_once(boxes, scores, groups, valid):
        return suppression.suppressed(boxes, scores, groups, valid, 0.5, 100)

    arrays = [boxes, scores, groups.astype("int32"), valid]
    indices = all_at_once(*(ops.convert_to_tensor(x) for x in arrays))
    indices = ops.convert_to_numpy(indices)
    for image in (0, 1):
        rows = np.flatnonzero(valid[image])
        expected = rows[
            kept(
                *(x[image, rows] for x in (boxes, scores)),
                0.5,
                100,
                groups[image, rows],
            )
        ]
        np.testing.assert_array_equal(indices[image], expected)
    assert (indices[2] == -1).all()


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"Received: \(5, 4\), \(4,\)"):
        detection.non_max_suppression(np.zeros((5, 4)), np.zeros(4), 0.5, 3)
