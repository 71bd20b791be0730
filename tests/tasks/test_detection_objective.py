"""Losses against mmdetection's answers and PyTorch's own losses."""

import numpy as np
import pytest
import torch
from compilation import gradients
from conftest import long_where_compiled
from keras import ops
from mmdet_reference import answers
from mmdet_reference import formula
from peers import import_timm
from torch.nn import functional as F

from keras_convnext.tasks.detection import boxes as box_functions
from keras_convnext.tasks.detection import matching
from keras_convnext.tasks.detection import objective

STDS = (0.1, 0.1, 0.2, 0.2)


def objects_of(case, count=6):
    """Boxes, and which there are, of a case of the reference."""
    boxes = np.zeros((2, count, 4), "float32")
    present = np.zeros((2, count), bool)
    for index, has_objects in enumerate(formula.CASES[case]):
        own = formula.BOXES[index] if has_objects else ()
        boxes[index, : len(own)] = np.reshape(own, (-1, 4))
        present[index, : len(own)] = True
    return boxes, present


def everything(found):
    """All boxes as samples."""
    images, seed = np.arange(len(found)), np.array([0, 0])
    return matching.sampled(found, 10**6, 10**6, seed, images)


def rows(x, index):
    return ops.take_along_axis(ops.convert_to_tensor(x), index[..., None], 1)


@pytest.mark.parametrize("case", formula.CASES)
@pytest.mark.parametrize("kind", ["mask_rcnn", "cascade"])
def test_losses_of_anchors_are_mmdetections(kind, case):
    saved, losses = answers.load("trunk"), answers.losses(kind, case)
    boxes, present = objects_of(case)
    anchors = np.stack([saved["anchors"]] * 2)
    valid = saved[f"{kind}_assigned"] != -2
    found = matching.assigned(anchors, valid, boxes, present, matching.ANCHORS)
    samples = everything(found)
    objects = ops.take_along_axis(found, samples.index, axis=1)
    of_class, of_box = objective.anchor_losses(
        rows(saved["rpn_scores"][..., None], samples.index)[..., 0],
        rows(saved["rpn_deltas"], samples.index),
        rows(anchors, samples.index),
        rows(boxes, ops.maximum(objects, 0)),
        samples,
        beta=1 / 9 if kind == "cascade" else 0.0,
    )
    expected = losses["loss_rpn_cls"], losses["loss_rpn_bbox"]
    np.testing.assert_allclose(
        [float(of_class), float(of_box)], expected, rtol=1e-4, atol=1e-7
    )


def regions(count=8, classes=3):
    """Arguments of `region_losses` without the last, and their samples."""
    generator = np.random.default_rng(0)
    corners = np.sort(generator.uniform(0, 90, (2, count, 2, 2)), axis=2)
    boxes = corners.reshape(2, count, 4).astype("float32")
    targets = boxes + generator.normal(size=boxes.shape).astype("float32")
    logits = generator.normal(size=(2, count, classes + 1)).astype("float32")
    deltas = generator.normal(size=(2, count, 4 * classes)).astype("float32")
    labels = generator.integers(0, classes, (2, count)).astype("int32")
    valid = np.arange(count) < np.array([[count], [count - 2]])
    positive = np.arange(count) < np.array([[3], [2]])
    samples = matching.Samples(None, positive, valid)
    return logits, deltas, boxes, targets, labels, samples


@pytest.mark.parametrize("giou", [False, True])
def test_losses_of_regions_equal_pytorchs(giou):
    logits, deltas, boxes, targets, labels, samples = regions()
    of_class, of_box = objective.region_losses(*regions(), stds=STDS, giou=giou)
    valid = torch.tensor(samples.valid)
    positive = torch.tensor(samples.positive)
    classes = torch.where(positive, torch.tensor(labels), 3).long()
    expected = F.cross_entropy(torch.tensor(logits)[valid], classes[valid])
    np.testing.assert_allclose(
        float(of_class), float(expected), rtol=1e-5, atol=1e-6
    )
    own = torch.tensor(deltas).reshape(2, -1, 3, 4)[positive]
    own = own[torch.arange(len(own)), classes[positive]]
    boxes, targets = (torch.tensor(x)[positive] for x in (boxes, targets))
    import_timm()
    from torchvision.models.detection._utils import BoxCoder
    from torchvision.ops import generalized_box_iou_loss

    coder = BoxCoder([1 / x for x in STDS])
    if giou:
        moved = coder.decode_single(own, boxes)
        each = 10 * generalized_box_iou_loss(moved, targets)
    else:
        wanted = coder.encode_single(targets, boxes)
        each = F.l1_loss(own, wanted, reduction="none")
    expected = each.sum() / valid.sum()
    np.testing.assert_allclose(
        float(of_box), float(expected), rtol=1e-4, atol=1e-6
    )


def test_smooth_l1_equals_pytorchs():
    x = np.linspace(-1, 1, 41).astype("float32")
    smooth = objective.smooth_l1(x, np.zeros_like(x), 1 / 9)
    there = torch.tensor(x)
    expected = F.smooth_l1_loss(there, there * 0, reduction="none", beta=1 / 9)
    np.testing.assert_allclose(
        ops.convert_to_numpy(smooth), expected, rtol=1e-5, atol=1e-7
    )


def test_giou_and_its_gradient_are_mmdetections():
    saved = answers.load("trunk")
    boxes, others = saved["pieces/boxes"], saved["pieces/others"]

    def loss(x):
        return 1.0 - box_functions.giou(x, ops.convert_to_tensor(others))

    np.testing.assert_allclose(
        ops.convert_to_numpy(loss(boxes)),
        saved["pieces/giou_loss"],
        rtol=1e-5,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        gradients(loss, boxes),
        saved["pieces/giou_loss_gradient"],
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_coder_is_mmdetections():
    saved = answers.load("trunk")
    names = ("boxes", "others", "deltas", "stds")
    boxes, others, deltas, stds = (saved[f"pieces/{x}"] for x in names)
    size = np.array([[80, 90]])
    made = {
        "encoded": box_functions.encode(boxes, others, stds),
        "decoded": box_functions.decode(boxes, deltas, stds),
        "decoded_in_80_90": box_functions.decode(
            boxes[None], deltas[None], stds, size
        )[0],
        "iou": box_functions.box_iou(boxes, others),
    }
    for name, values in made.items():
        np.testing.assert_allclose(
            ops.convert_to_numpy(values),
            saved[f"pieces/{name}"],
            rtol=1e-5,
            atol=1e-4,
            err_msg=name,
        )


def mask_regions():
    """Masks `(1, g, height, width)`, boxes and their objects."""
    masks = formula.masks(0)[None]
    boxes = np.float32(formula.ROIS[0])[None]
    objects = np.arange(boxes.shape[1])[None] % masks.shape[1]
    return masks, boxes, objects.astype("int32")


def test_targets_of_masks_are_mmdetections():
    targets = objective.mask_targets(*mask_regions(), 28)
    targets = ops.convert_to_numpy(targets)
    bits = answers.load("trunk")["pieces/mask_targets"]
    expected = answers.bits(bits, targets.shape)
    assert 0.02 < expected.mean() < 0.9
    np.testing.assert_array_equal(targets, expected)


def test_loss_of_masks_equals_pytorchs():
    masks, boxes, objects = mask_regions()
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(6, 28, 28, 3)).astype("float32")
    labels = np.array([[0, 1, 2, 0, 1, 2]])
    positive = np.array([[True, True, False, True, False, False]])
    loss = objective.mask_loss(logits, masks, boxes, objects, labels, positive)
    targets = objective.mask_targets(masks, boxes, objects, 28)
    own = torch.tensor(logits)[torch.arange(6), :, :, labels[0]][positive[0]]
    wanted = ops.convert_to_numpy(targets)[positive[0]].astype("float32")
    expected = F.binary_cross_entropy_with_logits(own, torch.tensor(wanted))
    np.testing.assert_allclose(
        float(loss), float(expected), rtol=1e-5, atol=1e-6
    )


@long_where_compiled
def test_without_any_object_losses_are_zero_and_so_are_their_gradients():
    logits, deltas, _, _, labels, samples = regions()
    samples = samples._replace(positive=np.zeros_like(samples.positive))
    nowhere = np.zeros((*labels.shape, 4), "float32")  # as rows are padded
    masks = np.zeros((2, 1, 16, 16), bool)
    maps = np.zeros((16, 28, 28, 3), "float32")

    def total(x):
        losses = [
            objective.region_losses(
                logits, x, nowhere, nowhere, labels, samples, STDS, giou
            )[1]
            for giou in (True, False)
        ]
        mask = objective.mask_loss(
            ops.convert_to_tensor(maps) + ops.mean(x),
            masks,
            nowhere,
            np.zeros_like(labels),
            labels,
            samples.positive,
        )
        return sum(losses) + mask

    assert float(total(ops.convert_to_tensor(deltas))) == 0
    np.testing.assert_array_equal(gradients(total, deltas), 0)
