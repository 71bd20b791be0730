"""Training steps of detectors against mmdetection's, and what ends badly."""

import keras
import numpy as np
import pytest
from conftest import COMPILES
from conftest import LONG_WHERE_COMPILED
from conftest import long_where_compiled
from detector_files import file_of
from detector_files import small
from mmdet_reference import answers
from mmdet_reference import formula
from safetensors.numpy import load_file

from keras_convnext import convert_weights
from keras_convnext import optimizers
from keras_convnext.tasks.detection.training import Sampling

# A rate that is a power of two loses no digit, and leaves few of the weight.
RATE = 2.0**10
BOUNDS = {"float32": 1e-4, "float64": 1e-6}
MANY = 10**6
EVERYTHING = Sampling(MANY, MANY, 2000, formula.TRAINING_PROPOSALS, MANY, MANY)
FEW = Sampling(64, 32, 100, 30, 32, 8)


def inputs():
    images = np.full((2, *formula.CANVAS, 3), 77, "float32")
    for target, image in zip(images, formula.images()):
        target[: image.shape[0], : image.shape[1]] = image
    return {
        "images": images,
        "image_sizes": np.array(formula.SIZES, "int32"),
        "original_sizes": np.array(formula.ORIGINAL_SIZES, "int32"),
    }


def targets(case, rows=5, dtype="float32"):
    """What is to be found in a case of the reference, in padded rows."""
    result = {
        "boxes": np.zeros((2, rows, 4), dtype),
        "classes": np.zeros((2, rows), "int32"),
        "valid": np.zeros((2, rows), bool),
        "masks": np.zeros((2, rows, *formula.CANVAS), "uint8"),
    }
    for i, has_objects in enumerate(formula.CASES[case]):
        count = len(formula.BOXES[i]) * has_objects
        height, width = formula.SIZES[i]
        result["boxes"][i, :count] = np.array(formula.BOXES[i])[:count]
        result["classes"][i, :count] = formula.LABELS[i][:count]
        result["valid"][i, :count] = True
        masks = formula.masks(i)[:count]
        result["masks"][i, :count, :height, :width] = masks
    return result


def trained(model, y):
    """The losses of one step, by name."""
    logs = model.train_on_batch(inputs(), y, return_dict=True)
    return {name: float(x) for name, x in logs.items()}


def official(model, folder):
    """All tensors of a model by their official names."""
    model.save(folder / "model.keras")
    target = folder / "model.safetensors"
    convert_weights(
        folder / "model.keras", target, "official_mmdet", overwrite=True
    )
    return load_file(target)


# Gradients of a Cascade in float64: behind batch norms some of the 800,000
# inputs of ReLUs in its box heads are so near to 0 (3e-8) that rounding to
# float32 decides on their sign, and one sign is 1 % of a gradient.
CASES = [
    pytest.param(kind, case, dtype, marks=marks)
    for kind, case, dtype, marks in (
        ("mask_rcnn", "objects", "float32", []),
        ("mask_rcnn", "half", "float32", pytest.mark.long),
        ("mask_rcnn", "none", "float32", LONG_WHERE_COMPILED),
        ("mask_rcnn", "objects", "float64", pytest.mark.long),
        ("cascade", "objects", "float32", LONG_WHERE_COMPILED),
        ("cascade", "objects", "float64", pytest.mark.long),
        ("cascade", "half", "float64", LONG_WHERE_COMPILED),
        ("cascade", "none", "float64", pytest.mark.long),
    )
]


@pytest.mark.parametrize("kind, case, dtype", CASES)
def test_a_step_is_mmdetections(kind, case, dtype, tmp_path, request):
    """Losses, the gradient of their sum, and statistics of batch norms."""
    keras.config.set_dtype_policy(dtype)
    if dtype == "float64":
        request.getfixturevalue("float64")
    bound = BOUNDS[dtype]
    model = small(kind, file_of(kind, tmp_path))
    model.sampling = EVERYTHING
    model.compile(keras.optimizers.SGD(RATE))
    before = official(model, tmp_path)
    losses = trained(model, targets(case, dtype=dtype))
    after = official(model, tmp_path)
    expected = answers.losses(kind, case)
    total = losses.pop("loss")
    np.testing.assert_allclose(total, sum(expected.values()), bound, 1e-7)
    by_name = {ours(name): x for name, x in expected.items()}
    assert set(losses) == set(by_name)
    for name, loss in losses.items():
        np.testing.assert_allclose(
            loss, by_name[name], rtol=bound, atol=1e-7, err_msg=name
        )
    gradients = answers.gradients(kind, case)
    if (kind, dtype) == ("cascade", "float32"):
        gradients = {}
    for key, wanted in gradients.items():
        gradient = (before[key].astype("float64") - after[key]) / RATE
        np.testing.assert_allclose(
            formula.thin(gradient),
            wanted,
            rtol=bound,
            atol=bound * max(np.abs(wanted).max(), 1e-4),
            err_msg=key,
        )
    for name, values in answers.load(kind).items():
        key = name.removeprefix(f"{case}/")
        if name.startswith(case) and "running" in key:
            # PyTorch divides by one less of some 6,000.
            rtol = 2e-4 if key.endswith("var") else bound
            np.testing.assert_allclose(
                after[key], values, rtol=rtol, atol=1e-6, err_msg=key
            )


@pytest.mark.long
def test_thirty_steps_in_float64(tmp_path, float64):
    """With all samples, which are the same on both sides."""
    keras.config.set_dtype_policy("float64")
    model = small("mask_rcnn", file_of("mask_rcnn", tmp_path))
    model.sampling = EVERYTHING
    model.compile(keras.optimizers.SGD(formula.STEP_RATE))
    expected = answers.load("steps")
    names = [ours(str(name)) for name in expected["names"]]
    y = targets("objects", dtype="float64")
    assert len(expected["losses"]) == formula.STEPS
    for row in expected["losses"]:
        losses = trained(model, y)
        model.reset_metrics()
        found = [losses[name] for name in names]
        np.testing.assert_allclose(found, row, rtol=1e-6, atol=1e-9)


def ours(name):
    """The name of a loss that mmdetection calls so."""
    stage, _, name = name.rpartition(".")
    kinds = {
        "loss_rpn_cls": "anchor_class_loss",
        "loss_rpn_bbox": "anchor_box_loss",
        "loss_cls": "class_loss",
        "loss_bbox": "box_loss",
        "loss_mask": "mask_loss",
    }
    return kinds[name] + stage.replace("s", "_")


@pytest.fixture
def model():
    keras.utils.set_random_seed(3)
    model = small("mask_rcnn", proposals=20, detections=10)
    model.sampling = FEW
    model.compile(keras.optimizers.SGD(1e-3))
    return model


class Batches(keras.utils.PyDataset):
    """Images with objects, in half of them, and without any."""

    def __len__(self):
        return len(formula.CASES)

    def __getitem__(self, index):
        return inputs(), targets([*formula.CASES][index])


@long_where_compiled
def test_fit_evaluate_and_predict(model):
    """Images without objects among others; losses fall, and nothing is NaN."""
    history = model.fit(Batches(), epochs=3, verbose=0).history
    losses = np.array(history["loss"])
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    assert {"anchor_class_loss", "box_loss", "mask_loss"} < set(history)
    logs = model.evaluate(Batches(), verbose=0, return_dict=True)
    assert np.isfinite([*logs.values()]).all()
    found = model.predict(inputs(), verbose=0)
    assert found["boxes"].shape == (2, 10, 4)


@long_where_compiled
def test_draws_follow_from_the_seed_and_evaluation_changes_none(model):
    def steps(between=lambda: None):
        keras.utils.set_random_seed(5)
        other = keras.models.clone_model(model)
        other.set_weights(model.get_weights())
        other.sampling = FEW
        other.compile(keras.optimizers.SGD(0.0))
        first = trained(other, targets("objects"))
        between(other)
        other.reset_metrics()
        return first, trained(other, targets("objects"))

    def evaluated(other):
        other.evaluate(Batches(), verbose=0)

    first, second = steps(lambda other: None)
    assert first != second
    assert (first, second) == steps(evaluated)


@long_where_compiled
@pytest.mark.parametrize("optimizer", [optimizers.AdamW, keras.optimizers.Lion])
def test_targets_without_masks_train_boxes(optimizer, model):
    """And the heads of masks rest, though others decay."""
    model.compile(optimizer(1e-3, weight_decay=0.5))
    before = {
        x.path: keras.ops.convert_to_numpy(x).copy()
        for x in model.trainable_variables
    }
    y = targets("objects")
    del y["masks"]
    losses = trained(model, y)
    assert losses["mask_loss"] == 0 < losses["box_loss"]
    still = [
        x.path
        for x in model.trainable_variables
        if np.array_equal(keras.ops.convert_to_numpy(x), before[x.path])
    ]
    assert still == [x for x in before if x.startswith("mask_")] != []


@long_where_compiled
def test_masks_of_some_objects_train(model):
    """What the others' rows hold has no effect."""

    def losses(masked=None, change=None):
        y = targets("objects")
        if masked is not None:
            y["masked"] = np.tile(np.array(masked), (2, 1))
        if change is not None:
            y["masks"][:, change] = 1 - y["masks"][:, change]
        found = model.losses_of(inputs(), y, training=False)
        return {name: float(x) for name, x in found.items()}

    every = losses()
    assert losses([True] * 5) == every
    some = [False, True, True, True, True]
    assert losses(some) == losses(some, change=0)
    assert losses(some)["mask_loss"] != every["mask_loss"]
    assert losses(change=0)["mask_loss"] != every["mask_loss"]
    assert losses([False] * 5) == {**every, "mask_loss": 0.0}


@long_where_compiled
def test_objects_of_a_pixel_outside_and_too_many(model):
    y = targets("objects")
    y["boxes"][0, 0] = [3, 3, 4, 4]
    y["boxes"][0, 1] = [500, 500, 600, 600]
    y["boxes"][1, 0] = [7, 7, 7, 7]
    assert np.isfinite([*trained(model, y).values()]).all()
    many = targets("objects", rows=1000)
    many["valid"][:] = True
    model.reset_metrics()
    assert np.isfinite([*trained(model, many).values()]).all()


@pytest.mark.parametrize("y", [{"boxes": 0, "classes": 0}, np.zeros(3)])
def test_targets_that_lack_something_are_refused(model, y):
    with pytest.raises(ValueError, match="Detectors learn from a dict of"):
        model.losses_of(inputs(), y, {})


@long_where_compiled
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_policies_train(policy):
    keras.config.set_dtype_policy(policy)
    model = small("cascade", proposals=20, detections=10)
    model.sampling = FEW
    model.compile(keras.optimizers.SGD(1e-3), auto_scale_loss=False)
    losses = trained(model, targets("objects"))
    assert np.isfinite([*losses.values()]).all()


@pytest.mark.skipif(not COMPILES, reason="PyTorch compiles nothing")
@pytest.mark.long
def test_a_canvas_of_another_size(model):
    trained(model, targets("objects"))
    x = {**inputs(), "images": np.zeros((2, 160, 192, 3), "float32")}
    y = targets("objects")
    y["masks"] = np.zeros((2, 5, 160, 192), "uint8")
    logs = model.train_on_batch(x, y, return_dict=True)
    assert np.isfinite([*map(float, logs.values())]).all()
