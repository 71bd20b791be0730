"""Detectors of this package with the weights of mmdetection's answers."""

import tempfile
from pathlib import Path

import numpy as np
from mmdet_reference import answers
from mmdet_reference import formula
from safetensors.numpy import save_file

from keras_convnext import detection
from keras_convnext.models.applications import ConvNeXt

KINDS = {
    "mask_rcnn": detection.MaskRCNN,
    "cascade": detection.CascadeMaskRCNN,
}


def detector(kind, **options):
    """The small one that `mask_rcnn.npz` or `cascade.npz` is of."""
    tensors = formula.weights(answers.shapes(f"small_{kind}"))
    options = {"proposals": formula.PROPOSALS, **options}
    return _loaded(kind, formula.DEPTHS, tensors, options)


def official(kind, **options):
    """What `official.npz` is of."""
    shapes = answers.shapes(f"official_{kind}")
    tensors = formula.weights(shapes, formula.OFFICIAL_SALT)
    return _loaded(kind, formula.OFFICIAL_DEPTHS, tensors, options)


def _loaded(kind, depths, tensors, options):
    backbone = ConvNeXt(
        depths=depths,
        dims=formula.DIMS,
        input_shape=(None, None, 3),
        include_top=False,
        weights=None,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mmdet.safetensors"
        save_file(tensors, file)
        return KINDS[kind](backbone, weights=file, **options)


def batch(images=None, original_sizes=None):
    """What a detector is given for the images of the answers."""
    images = formula.images() if images is None else images
    canvas = np.max([image.shape for image in images], axis=0)
    padded = np.zeros((len(images), *canvas), "float32")
    for target, image in zip(padded, images):
        target[: image.shape[0], : image.shape[1]] = image
    sizes = [image.shape[:2] for image in images]
    return {
        "images": padded,
        "image_sizes": np.int32(sizes),
        "original_sizes": np.int32(original_sizes or formula.ORIGINAL_SIZES),
    }


def assert_found(ours, theirs, name, scale=1.0):
    """One image's rows beside an answer's: equal, in order, and no more.

    Args:
        ours: a dict of arrays `(rows, …)`.
        theirs, name: a file of answers, and whose of its arrays.
        scale: what the answer's boxes are multiplied with.
    """
    boxes, scores, classes = (
        theirs[f"{name}/{x}"] for x in ("boxes", "scores", "classes")
    )
    count = len(boxes)
    assert count > 50
    np.testing.assert_allclose(
        ours["scores"][:count], scores, rtol=0, atol=1e-4
    )
    assert (ours["scores"][count:] == 0).all()
    assert (ours["classes"][count:] == -1).all()
    # Where scores are next to equal, rows may come in either order.
    order = np.arange(count)
    for row in range(count):
        near = np.abs(scores - scores[row]) <= 1e-4
        same = near & (classes == ours["classes"][row])
        distance = np.abs(boxes * scale - ours["boxes"][row]).max(1)
        order[row] = np.argmin(np.where(same, distance, np.inf))
    assert sorted(order) == list(range(count))
    np.testing.assert_array_equal(ours["classes"][:count], classes[order])
    np.testing.assert_allclose(
        ours["boxes"][:count], (boxes * scale)[order], rtol=0, atol=1e-3
    )
