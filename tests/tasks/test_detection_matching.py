"""Boxes to objects as mmdetection assigns them, and draws that repeat."""

import keras
import numpy as np
import pytest
from compilation import compiled
from keras import ops
from mmdet_reference import answers
from mmdet_reference import formula

from keras_convnext.tasks.detection import matching
from keras_convnext.tasks.detection.anchors import anchors
from keras_convnext.tasks.detection.draws import draws
from keras_convnext.tasks.detection.matching import BACKGROUND
from keras_convnext.tasks.detection.matching import NEITHER
from keras_convnext.tasks.detection.matching import Thresholds

THRESHOLDS = {
    "rpn": matching.ANCHORS,
    "mask_rcnn": matching.REGIONS,
    "cascade_2": matching.STAGES[2],
    "low_quality": Thresholds(0.95, 0.3, 0.3),
    "too_low": Thresholds(0.95, 0.95, 0.95),
}


def padded_objects(count=6):
    """Those of the reference's images, and which rows are some."""
    objects = np.zeros((2, count, 4), "float32")
    present = np.zeros((2, count), bool)
    for index, boxes in enumerate(formula.BOXES):
        objects[index, : len(boxes)] = boxes
        present[index, : len(boxes)] = True
    return objects, present


def assigned(*arguments):
    found = ops.convert_to_numpy(matching.assigned(*arguments))
    assert found.dtype == "int32"
    return found


def as_there(found):
    """From mmdetection's numbers: 0 for background, and −1 or −2."""
    found = found.astype("int32")
    return np.where(found < 0, NEITHER, np.where(found, found - 1, BACKGROUND))


@pytest.mark.parametrize("name", THRESHOLDS)
def test_boxes_are_assigned_as_by_mmdetection(name):
    saved = answers.load("trunk")
    boxes = saved["pieces/candidates"][None]
    objects, present = (x[:1] for x in padded_objects())
    valid = np.ones(boxes.shape[:2], bool)
    found = assigned(boxes, valid, objects, present, THRESHOLDS[name])
    expected = as_there(saved[f"pieces/assigned_{name}"])
    assert len(set(expected)) > 1 or name == "too_low"
    np.testing.assert_array_equal(found[0], expected)


@pytest.mark.parametrize("kind", ["mask_rcnn", "cascade"])
def test_anchors_are_assigned_as_by_mmdetection(kind):
    boxes = ops.convert_to_numpy(anchors(*formula.CANVAS))[None]
    valid = np.ones((2, boxes.shape[1]), bool)
    if kind == "cascade":
        edges = np.array(formula.SIZES)[:, None, ::-1]
        inside = (boxes[..., :2] >= 0) & (boxes[..., 2:] < edges)
        valid = inside.all(-1)
    found = assigned(boxes, valid, *padded_objects(), matching.ANCHORS)
    expected = answers.load("trunk")[f"{kind}_assigned"]
    np.testing.assert_array_equal(found, as_there(expected))


def test_all_ties_and_the_later_object():
    objects = np.array([[[0, 0, 8, 8], [0, 0, 8, 8.5], [50, 50, 60, 60]]])
    boxes = np.array(
        [[[0, 0, 4, 8], [4, 0, 8, 8], [0, 0, 8, 4], [40, 40, 50, 50]]]
    )
    there = np.ones((1, 3), bool)

    @compiled
    def both(boxes, objects, valid, there):
        thresholds = Thresholds(0.7, 0.3, 0.3)
        return matching.assigned(boxes, valid, objects, there, thresholds)

    def found(there, valid):
        arrays = boxes.astype("float32"), objects.astype("float32"), valid
        arrays = [ops.convert_to_tensor(x) for x in (*arrays, there)]
        return ops.convert_to_numpy(both(*arrays))[0].tolist()

    every = np.ones((1, 4), bool)
    assert found(there, every) == [1, 1, 1, BACKGROUND]
    only = np.array([[True, False, True]])
    assert found(only, every) == [0, 0, 0, BACKGROUND]
    nobody = np.zeros((1, 3), bool)
    assert found(nobody, every) == [BACKGROUND] * 4
    valid = np.array([[False, True, True, False]])
    assert found(there, valid) == [NEITHER, 1, 1, NEITHER]


def found_at_random(batch=3, total=400):
    generator = np.random.default_rng(0)
    numbers = [NEITHER, BACKGROUND, 0, 1]
    shares = [0.2, 0.6, 0.1, 0.1]
    found = generator.choice(numbers, (batch, total), p=shares)
    return found.astype("int32")


def sampled(found, count, positives, seed=(0, 1), first=0):
    images = np.arange(first, first + len(found))
    samples = matching.sampled(found, count, positives, np.array(seed), images)
    return [ops.convert_to_numpy(x) for x in samples]


def test_samples_are_boxes_of_their_kind_and_no_box_comes_twice():
    found = found_at_random()
    index, positive, valid = sampled(found, 100, 30)
    assert valid.all() and (positive.sum(1) == 30).all()
    of_samples = np.take_along_axis(found, index, 1)
    np.testing.assert_array_equal(of_samples >= 0, positive)
    assert (of_samples != NEITHER).all()
    assert all(len(set(x)) == 100 for x in index)


def test_background_takes_the_place_of_missing_objects():
    found = found_at_random()
    found[0, found[0] >= 0] = NEITHER
    found[1, 5:] = NEITHER
    found[2] = NEITHER
    index, positive, valid = sampled(found, 100, 30)
    assert not positive[0].any() and valid[0].all()
    assert valid[1].sum() == (found[1] != NEITHER).sum()
    chosen = found[1, index[1, valid[1]]]
    np.testing.assert_array_equal(chosen >= 0, positive[1, valid[1]])
    assert not valid[2].any()


def test_all_are_taken_where_there_are_fewer():
    found = found_at_random()
    index, positive, valid = sampled(found, 10**6, 10**6)
    assert index.shape == found.shape
    for row in range(3):
        chosen = np.sort(index[row, valid[row]])
        expected = np.flatnonzero(found[row] != NEITHER)
        np.testing.assert_array_equal(chosen, expected)
        assert positive[row].sum() == (found[row] >= 0).sum()


def test_samples_follow_from_seed_step_and_place_of_the_image():
    found = found_at_random()
    together = sampled(found, 50, 20)
    alone = sampled(found[1:2], 50, 20, first=1)
    for x, y in zip(together, alone):
        np.testing.assert_array_equal(x[1:2], y)
    same = np.repeat(found[:1], 2, 0)
    first, second = sampled(same, 50, 20)[0]
    assert set(first) != set(second)
    for seed in ((0, 2), (1, 1)):
        assert set(sampled(found, 50, 20, seed)[0][0]) != set(together[0][0])


def test_every_box_is_drawn_about_as_often():
    counts = np.zeros(400)
    found = np.zeros((50, 400), "int32")
    for step in range(40):
        index, _, _ = sampled(found, 100, 100, (3, step))
        counts += np.bincount(index.ravel(), minlength=400)
    # Of 2,000 draws of a quarter: 500 on average, with a deviation of 19.
    assert 0.8 < counts.std() / 19.4 < 1.2
    assert abs(counts - 500).max() < 100


def test_draws_are_the_hash_that_they_name():
    def hashed(x):
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
            x &= 2**32 - 1
            x = (x ^ x >> shift) * factor
        return x & 2**32 - 1

    golden = 0x9E3779B9
    key = hashed(hashed(7) + 3)
    key = hashed(key + 5 * golden)
    expected = [hashed(key + x * golden) & 2**31 - 1 for x in range(9)]
    numbers = draws(np.array([7, 3]), np.array([5]), 9)
    assert ops.convert_to_numpy(numbers)[0].tolist() == expected


def test_seeds_of_keras_are_taken():
    generator = keras.random.SeedGenerator(11)
    first, second = (draws(generator.next(), [0], 5) for _ in range(2))
    assert ops.convert_to_numpy(first).tolist() != (
        ops.convert_to_numpy(second).tolist()
    )
