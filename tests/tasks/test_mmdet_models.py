"""Whole detectors beside mmdetection's, with the same weights."""

import functools

import numpy as np
import pytest
from conftest import long_where_compiled
from keras import ops
from mmdet_models import KINDS
from mmdet_models import assert_found
from mmdet_models import batch
from mmdet_models import detector
from mmdet_models import official
from mmdet_reference import answers
from mmdet_reference import formula

ONE_KIND = [
    "mask_rcnn",
    pytest.param("cascade", marks=pytest.mark.long),
]


@functools.cache
def small(kind):
    return detector(kind)


def found(model, given):
    outputs = model.predict_on_batch(given)
    outputs = {name: ops.convert_to_numpy(x) for name, x in outputs.items()}
    count = len(outputs["boxes"])
    return [{k: x[i] for k, x in outputs.items()} for i in range(count)]


@long_where_compiled
@pytest.mark.parametrize("kind", KINDS)
def test_detections_of_two_images_of_different_sizes(kind):
    theirs = answers.load(kind)
    for index, ours in enumerate(found(small(kind), batch())):
        name = f"found_{index}"
        assert_found(ours, theirs, name)
        count = len(theirs[f"{name}/boxes"])
        maps = answers.probabilities(theirs[f"{name}/maps"])
        np.testing.assert_allclose(
            ours["masks"][:count][:: answers.STEP], maps, rtol=0, atol=1e-4
        )


@long_where_compiled
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_alone_has_the_canvas_that_it_needs(kind):
    given = batch(formula.images()[1:], formula.ORIGINAL_SIZES[1:])
    (ours,) = found(small(kind), given)
    assert_found(ours, answers.load(kind), "found_alone")


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_the_official_configuration(kind):
    """Of mmdetection 2.11.0, with a thousand proposals and eighty classes."""
    image = formula.image(2, *formula.OFFICIAL_SIZE)
    given = batch([image], [formula.OFFICIAL_ORIGINAL_SIZE])
    (ours,) = found(official(kind), given)
    assert_found(ours, answers.load("official"), kind)
