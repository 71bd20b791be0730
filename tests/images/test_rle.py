"""Masks as lengths of runs, beside pycocotools."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from keras_convnext.images import rle

pytestmark = pytest.mark.once


def masks():
    generator = np.random.default_rng(0)
    for height, width in ((1, 1), (1, 9), (9, 1), (7, 5), (64, 48), (40, 333)):
        for density in (0, 0.001, 0.1, 0.5, 0.9, 1):
            yield generator.random((height, width)) < density
    yield np.indices((600, 800)).sum(0) % 2 == 0  # every pixel a run
    large = np.zeros((2000, 3000), bool)  # counts of 22 bits
    large[:, 1200:1300] = large[700:, 2000:] = True
    yield large


@pytest.mark.parametrize("mask", [*masks()])
def test_text_is_that_of_pycocotools(mask):
    expected = coco_mask.encode(np.asfortranarray(mask, "uint8"))
    found = rle.encode(mask)
    assert found["counts"] == expected["counts"].decode()
    assert found["size"] == expected["size"]
    np.testing.assert_array_equal(rle.decode(found), mask)
    np.testing.assert_array_equal(rle.decode(expected), mask)
    assert rle.area(found) == coco_mask.area(expected)
    counts = rle.counts_of(found).tolist()
    listed = {"size": found["size"], "counts": counts}
    np.testing.assert_array_equal(rle.decode(listed), mask)
    assert coco_mask.frPyObjects(listed, *mask.shape) == expected


@pytest.mark.parametrize(
    "counts",
    [None, "", "5", "07", "7", "é", "o", "ooooooooooooo0", "0P", b"\xff", []]
    + [[7], [3, 2], [-1, 7], [2.5, 3.5], [[6]], ["6"]]
    + [[2**62, 2**62, 2**62, 2**62, 6], "5" * 10_000],
)
def test_damaged_counts_are_refused(counts):
    with pytest.raises(ValueError, match="6 pixels in all. Received: "):
        rle.decode({"size": [2, 3], "counts": counts})


@pytest.mark.parametrize(
    "size",
    [None, 4, [2], [2, 3, 1], [2, -3], [2.0, 3], [0, 3], "23", [True, 6]],
)
def test_sizes_are_checked(size):
    with pytest.raises(ValueError, match="height and width. Received: "):
        rle.decode({"size": size, "counts": [6]})


def test_a_mask_larger_than_the_memory_is_refused():
    with pytest.raises(ValueError, match="KERAS_CONVNEXT_MAX_MEMORY"):
        rle.decode({"size": [10**6, 10**6], "counts": [10**12]})
