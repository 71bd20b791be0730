"""The recipes of detectors: figures, rates, and targets that are refused."""

import numpy as np
import pytest
import torch
from conftest import LONG_WHERE_COMPILED
from families import SMALL

from keras_convnext import ConvNeXt
from keras_convnext import detection
from keras_convnext.models.profiling import without_numbers
from keras_convnext.training.optimizers import WarmupStep

pytestmark = LONG_WHERE_COMPILED

RATES = {"learning_rate": 1e-3, "drop_path_rate": 0.0, "layer_decay": 0.9}
FEW = {
    **{"anchors": 64, "anchor_positives": 32, "candidates": 100},
    **{"proposals": 30, "regions": 32, "region_positives": 8},
}


def small(recipe, **options):
    backbone = ConvNeXt(**SMALL, include_top=False)
    sizes = {"channels": 8, "units": 8, "proposals": 10, "detections": 5}
    build = detection.MaskRCNN
    if recipe.detector == "cascade_mask_rcnn":
        build = detection.CascadeMaskRCNN
    return build(backbone, 3, **{**sizes, **options})


def test_the_schedule_is_that_of_torch():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-4)
    scheduler = torch.optim.lr_scheduler.ChainedScheduler(
        [
            torch.optim.lr_scheduler.MultiStepLR(optimizer, [75, 92]),
            torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, 1.0, 15),
        ]
    )
    recipe = detection.coco_mask_rcnn.replace(
        learning_rate=1e-4, steps=100, warmup_steps=15
    )
    schedule = recipe.schedule()
    for step in range(100):
        expected = optimizer.param_groups[0]["lr"]
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)
        optimizer.step()
        scheduler.step()
    again = WarmupStep.from_config(schedule.get_config())
    assert float(again(80)) == float(schedule(80))
    assert float(WarmupStep(1e-4, 0, 10)(0)) == pytest.approx(1e-4)


@pytest.mark.once
def test_the_recipes_are_the_published_ones():
    figures = {
        size: (recipe.drop_path_rate, recipe.learning_rate, recipe.layer_decay)
        for size in ("tiny", "small", "base", "large", "xlarge")
        for recipe in [detection.coco_cascade.for_model(f"convnext_{size}")]
    }
    assert figures == {
        "tiny": (0.4, 2e-4, 0.7),
        "small": (0.6, 2e-4, 0.7),
        "base": (0.7, 2e-4, 0.8),
        "large": (0.7, 1e-4, 0.7),
        "xlarge": (0.8, 1e-4, 0.7),
    }
    tiny = detection.coco_mask_rcnn.for_model("convnext_tiny")
    assert (tiny.drop_path_rate, tiny.learning_rate) == (0.4, 1e-4)
    assert (tiny.layer_decay, tiny.proposals) == (0.95, 1000)
    assert (tiny.steps, tiny.batch_size) == (36 * 7330, 16)
    assert tiny.schedule().drops == [27 * 7330, 33 * 7330]
    with pytest.raises(ValueError, match="Pick a value yourself"):
        detection.coco_mask_rcnn.for_model("convnext_small")
    with pytest.raises(ValueError, match="`detector` must be one of"):
        detection.coco_cascade.replace(detector="yolo")


@pytest.mark.parametrize(
    "blocks, decay, factors",
    [
        (9, 0.95, (0.69834, 0.73509, 0.77378, 0.81451, 0.95)),
        (27, 0.8, (0.05498, 0.06872, 0.0859, 0.10737, 0.8)),
    ],
)
def test_learning_rates_decay_as_published(blocks, decay, factors):
    with without_numbers():
        backbone = ConvNeXt((1, 1, blocks, 1), SMALL["dims"], include_top=False)
        model = detection.MaskRCNN(backbone, 2, channels=4, units=4)
    recipe = detection.coco_mask_rcnn.replace(**{**RATES, "layer_decay": decay})
    optimizer = recipe.optimizer(model)
    names = ["stem_conv", *(f"stage_{s}_block_0_project" for s in range(4))]
    kernels = [model.get_layer(name).kernel for name in names]
    assert [optimizer.scale_of(x) for x in kernels] == pytest.approx(
        factors, abs=1e-5
    )
    for name in ("norm3", "fpn_output_0", "rpn_conv", "box_deltas"):
        assert optimizer.scale_of(model.get_layer(name).weights[0]) == 1
    decayed = {
        v.path for v in model.trainable_variables if optimizer.decay_of(v)
    }
    assert decayed == {
        v.path for v in model.trainable_variables if len(v.shape) > 1
    }


def batch(**changes):
    """One image with one object, as `data.ObjectLoader` gives them."""
    sizes = np.array([[64, 64]], "int32")
    images = {
        "images": np.zeros((1, 64, 64, 3), "uint8"),
        "image_sizes": sizes,
        "original_sizes": sizes,
    }
    objects = {
        "boxes": np.array([[[8, 8, 40, 40], [0, 0, 0, 0]]], "float32"),
        "classes": np.array([[1, 0]], "int32"),
        "valid": np.array([[True, False]]),
        "masks": np.ones((1, 2, 64, 64), "uint8"),
    }
    return images, {**objects, **changes}


def test_a_recipe_trains():
    """The other one trains in `test_compositions`, until it finds something."""
    recipe = detection.coco_cascade.replace(**RATES, **FEW)
    model = recipe.compile(small(recipe))
    history = model.fit(*batch(), epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert model.sampling.regions == 32


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"classes": np.array([[3, 0]])}, r"0 to 2\. Received: \[3\]"),
        ({"boxes": np.float32([[[8, 8, 4, 9], [0] * 4]])}, "Add the corner"),
        ({"boxes": np.full((1, 2, 4), np.nan)}, "Add the corner"),
    ],
)
def test_targets_that_no_detector_can_learn(changes, message):
    recipe = detection.coco_mask_rcnn.replace(**RATES, **FEW)
    model = recipe.compile(small(recipe))
    with pytest.raises(ValueError, match=message):
        model.fit(*batch(**changes), verbose=0)


def test_only_detectors_of_the_recipes_drop_path():
    with pytest.raises(ValueError, match="Expected a detector"):
        detection.coco_cascade.compile(None)
    recipe = detection.coco_cascade.replace(**{**RATES, "drop_path_rate": 0.1})
    with pytest.raises(ValueError, match="drop_path_rate=0.1"):
        recipe.compile(small(recipe))
