"""`keras-convnext train --task detect`: what it prints, refuses and ends with.

Killed, stopped or on two devices it ends as the run that nothing disturbed.
"""

import json
import os
import signal

import keras
import numpy as np
import object_files
import pytest
import runs
from composed_emoji import compose_emoji
from composed_emoji import write_coco
from conftest import BACKEND
from conftest import long_where_compiled
from conftest import short_on
from conftest import x64
from detector_files import file_of
from devices import finish
from devices import start
from devices import two_devices
from families import SMALL
from safetensors.numpy import load_file

from keras_convnext import ConvNeXt
from keras_convnext import create_model
from keras_convnext import data
from keras_convnext import detection
from keras_convnext.tasks.detection.training import Sampling
from keras_convnext.tasks.detection.weights import told_apart
from keras_convnext.training import Checkpoints
from keras_convnext.training.recipes import small_data
from keras_convnext.training.recipes.base import drop_path_rate_of

# An epoch of three steps, and two of another.
STEPS = 5
FIELDS = {
    **{"steps": STEPS, "warmup_steps": 1, "batch_size": 4},
    **{"learning_rate": 1e-3, "layer_decay": 0.9, "drops": "0.5,0.9"},
    **{"candidates": 50, "proposals": 20, "anchors": 32},
    **{"anchor_positives": 16, "regions": 16, "region_positives": 4},
}
WIDTHS = {"channels": 8, "units": 8, "proposals": 10, "detections": 5}
DETECTORS = {
    "coco_mask_rcnn": detection.MaskRCNN,
    "coco_cascade": detection.CascadeMaskRCNN,
}
NAME = "coco_mask_rcnn"


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Emoji as COCO has them, in `train/` and `val/`."""
    folder = tmp_path_factory.mktemp("objects")
    parts = compose_emoji(12, 3, image_size=64, signs=2)
    for name, part in zip(("train", "val"), parts):
        write_coco(part, folder / name)
    return folder


def saved_model(folder, classes, name=NAME, dtype=None):
    """The path of a small detector, which drops paths."""
    keras.utils.set_random_seed(3)
    keras.config.set_dtype_policy(dtype or "float32")
    backbone = ConvNeXt(**SMALL, include_top=False, drop_path_rate=0.3)
    options = {**WIDTHS, "short_side": 64, "score_threshold": 0.0}
    path = folder / f"{name}.keras"
    DETECTORS[name](backbone, classes, **options).save(path)
    # As in the processes of commands.
    keras.config.set_dtype_policy("float32")
    return path


def words(folder, model, output, *more, **fields):
    """The command's arguments."""
    options = []
    for name, value in {**FIELDS, **fields}.items():
        options += [f"--{name.replace('_', '-')}", str(value)]
    return [
        *("train", "--task", "detect", "--data", str(folder)),
        *("--model", str(model), "--output", str(output)),
        *("--max-objects", "2", "--canvas", "fixed", *options, *more),
    ]


def test_a_dry_run_counts_objects_and_writes_nothing(objects, tmp_path):
    train, _ = data.open_objects(objects)
    model = saved_model(tmp_path, train.classes)
    printed = runs.printed(
        *words(objects, model, tmp_path / "run", "--dry-run")
    )
    counts = {x["class"]: x for x in data.summarize_objects(train).classes}
    assert sum(x["objects"] for x in counts.values()) == 16
    for part in (
        "12 images, 0 without objects; 16 objects, with masks",
        "objects per image: least 1, median 1, most 2, mean 1.33",
        "objects by size: small 16",
        "images: least 64×64",
        f"│ apple       │{counts['apple']['images']:7} │",
        "coco_mask_rcnn: Mask R-CNN on COCO",
        f"5 steps, 1.7 epochs of 3 on {BACKEND}",
        "lr scale   decay",
        "learning rate, up to 0.001 over 5 steps",
    ):
        assert part in printed
    assert not (tmp_path / "run").exists()


@long_where_compiled
@pytest.mark.parametrize("format, masks", [("yolo", True), ("voc", False)])
def test_other_formats_train_alike(format, masks, tmp_path):
    write = {"yolo": object_files.write_yolo, "voc": object_files.write_voc}
    place = write[format](tmp_path / "data")
    model = saved_model(tmp_path, object_files.NAMES)
    fields = {"steps": 1, "warmup_steps": 0, "batch_size": 2}
    folder, more = tmp_path / "run", ("--validation-split", "0")
    runs.printed(*words(place, model, folder, *more, **fields))
    result = json.loads((folder / "run.json").read_text())
    assert (result["status"], result["step"]) == ("complete", 1)
    assert (result["metrics"]["mask_loss"] > 0) == masks
    assert result["metrics"]["box_loss"] >= 0
    assert (folder / "last.keras").exists()


@long_where_compiled
def test_a_model_by_name_has_the_classes_and_the_size(objects, tmp_path):
    # Of which nothing is trained: `--dry-run`.
    more = ("--short-side", "64", "--drop-path-rate", "0", "--dry-run")
    printed = runs.printed(
        *words(objects, "convnext_atto", tmp_path / "run", *more)
    )
    assert "drop path rate    0\n" in printed


@pytest.mark.once
@pytest.mark.parametrize(
    "more, said",
    [
        (["--task", "segment"], "`--task` must be one of"),
        (["--epochs", "3"], "has other figures. Received: `--epochs`"),
        (["--rematerialize"], "`--rematerialize` is for `--task` single-label"),
        (["--mixup-group", "2"], "--mixup-group 2 for --task detect"),
        (["--recipe", "small_data"], "`--recipe` must be one of"),
        (["--drops", "a"], "`--drops` expects numbers, such as 0.75,0.9"),
        (["--batch-size", "99"], "at most the number of images, 12"),
    ],
)
def test_options_that_do_not_fit_are_named(more, said, objects, tmp_path):
    arguments = words(objects, "convnext_tiny", tmp_path / "run", *more)
    assert said in runs.refused(*arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.once
def test_options_of_detectors_are_refused_for_classifiers(tmp_path):
    arguments = ["train", "--data", "digits", "--output", tmp_path / "run"]
    said = runs.refused(*arguments, "--canvas", "fixed")
    assert "`--canvas` is for `--task` detect alone" in said
    assert "has other figures. Received: `--steps`" in runs.refused(
        *arguments, "--steps", "3"
    )


@pytest.mark.once
def test_data_without_objects_are_refused(objects, tmp_path):
    folder = runs.write_photographs(tmp_path / "data", ((1, 1), (1, 1)))
    model = tmp_path / "small.keras"
    model.touch()
    said = runs.refused(
        *words(objects, model, tmp_path / "run", "--short-side=64")
    )
    assert "`--short-side` is for a model by name" in said
    said = runs.refused(*words(folder, model, tmp_path / "run"))
    assert said.startswith("Expected images with objects: a JSON file in COCO")
    said = runs.refused(*words(tmp_path / "none", model, tmp_path / "run"))
    assert "which is none of them" in said
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    assert "broken.json" in runs.refused(
        *words(broken, model, tmp_path / "run")
    )


@long_where_compiled
def test_detectors_of_other_classes_are_refused(objects, tmp_path):
    for classes in (3, [f"class {i}" for i in range(10)]):
        model = saved_model(tmp_path, classes)
        said = runs.refused(*words(objects, model, tmp_path / "run"))
        assert "must have the classes of the data, in their order" in said
    model = saved_model(tmp_path, data.open_objects(objects)[0].classes)
    # Which would be data the next time.
    said = runs.refused(*words(objects, model, objects / "train"))
    assert "output must be in another folder than the images" in said


def test_weights_are_of_a_detector_or_of_its_backbone(tmp_path):
    """A file or tag is told by its heads; heads of other classes are new."""
    sizes = {"depths": (2, 2, 6, 2), "dims": (40, 80, 160, 320)}
    widths = {"classes": 3, "channels": 8, "units": 8}
    path = file_of("mask_rcnn", tmp_path, **sizes, **widths)
    assert told_apart("convnext_atto", path) == (path, None)
    recipe = detection.coco_mask_rcnn.replace(
        drop_path_rate=0.1, learning_rate=1e-4, layer_decay=0.9
    )
    with pytest.warns(UserWarning, match="3 classes"):
        model = recipe.build("convnext_atto", ["a", "b"], path, short_side=64)
    expected = load_file(path)["neck.fpn_convs.0.conv.bias"]
    found = keras.ops.convert_to_numpy(model.get_layer("fpn_output_0").bias)
    np.testing.assert_array_equal(found, expected)
    assert model.classes == 2 and drop_path_rate_of(model) == 0.1
    backbone = create_model("convnext_atto", include_top=False, weights=None)
    of_backbone = tmp_path / "backbone.keras"
    backbone.save(of_backbone)
    assert told_apart("convnext_atto", of_backbone) == (None, of_backbone)
    tags = {"coco": ("coco", None), "imagenet": (None, "imagenet")}
    assert {x: told_apart("convnext_tiny", x) for x in tags} == tags
    assert told_apart("convnext_tiny", None) == (None, None)


@pytest.mark.once
def test_the_scales_of_the_published_side_are_the_published_ones():
    published, half = (
        data.RandomScales.for_short_side(side) for side in (800, 400)
    )
    assert vars(published) == vars(data.RandomScales())
    assert half.shortest[0] == 240 and half.largest == (400, 666)
    assert half.crop_sides == (192, 300)
    assert vars(data.RandomScales.for_short_side(1))


@pytest.mark.once
def test_a_detectors_rate_scales_with_its_batch():
    recipe = detection.coco_cascade.with_batch_size(4)
    assert recipe.learning_rate["tiny"] == pytest.approx(5e-5)
    assert recipe.for_images(2).batch_size == 1
    assert small_data.with_batch_size(1).minimum_learning_rate < 1e-5


@pytest.fixture(scope="module")
def ends(objects, tmp_path_factory):
    """The end of runs that nothing disturbed, by recipe; and their models."""
    found = {}

    def end(name=NAME):
        if name not in found:
            folder = tmp_path_factory.mktemp(name)
            classes = data.open_objects(objects)[0].classes
            model = saved_model(folder, classes, name, "float64")
            more = ("--recipe", name, "--deterministic")
            runs.printed(*words(objects, model, folder / "run", *more))
            found[name] = model, folder / "run"
        return found[name]

    with x64():
        yield end


def end_of(output):
    step, tensors, record = Checkpoints(output / "checkpoints").latest()
    assert step == STEPS
    return tensors, record["history"]


def check_same(output, expected, atol=0.0, rtol=0.0):
    """Weights, slots and random state; then every epoch's figures."""
    (tensors, rows), (whole, whole_rows) = end_of(output), end_of(expected)
    assert tensors.keys() == whole.keys()
    for name, values in whole.items():
        # Slots of squared gradients are up to 1e14.
        largest = np.abs(values).max(initial=1.0)
        np.testing.assert_allclose(
            tensors[name], values, rtol=0, atol=atol * largest, err_msg=name
        )
    assert len(rows) == len(whole_rows) == 2
    for row, of_whole in zip(rows, whole_rows):
        assert row.keys() == of_whole.keys()
        for name in row.keys() - {"images_per_second"}:
            assert row[name] == pytest.approx(of_whole[name], rel=rtol)


@long_where_compiled
def test_a_trained_detector_is_measured_and_finds(objects, ends, tmp_path):
    _, output = ends()
    names = {x.name for x in output.iterdir()}
    assert names >= {"last.keras", "best.keras", "history.csv", "run.json"}
    record = json.loads((output / "run.json").read_text())
    assert record["status"] == "complete" and record["step"] == STEPS
    best = record["best"]["val_boxes_ap"]
    model = ("--model", output / "best.keras")
    measured = runs.printed_json(
        "evaluate", "--data", objects, *model, "--json"
    )
    assert measured["boxes"]["ap"] == pytest.approx(best)
    image = next((objects / "val").glob("**/*.png"))
    found = runs.printed_json("detect", image, *model, "--score", 0, "--json")
    assert len(found[0]["detections"]) == WIDTHS["detections"]


def with_checkpoints(objects, model, output):
    more = ("--recipe", NAME, "--deterministic", "--checkpoint-steps", "1")
    return words(objects, model, output, *more)


@short_on("torch")
def test_a_stopped_run_ends_as_the_whole_one(
    objects, ends, tmp_path, monkeypatch
):
    model, whole = ends()
    arguments = with_checkpoints(objects, model, tmp_path / "run")
    with monkeypatch.context() as patch:
        runs.stop_at(STEPS - 1, patch)
        assert isinstance(runs.invoke(*arguments).exception, runs.Stop)
    runs.printed(*arguments)
    check_same(tmp_path / "run", whole)


@pytest.mark.long
def test_a_killed_run_ends_as_the_whole_one(
    objects, ends, tmp_path, monkeypatch
):
    model, whole = ends()
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    arguments = with_checkpoints(objects, model, tmp_path / "run")
    # In the midst of the checkpoint of step 5, which is the sixth: that of
    # step 3, whose epoch ends, is written once.
    process = runs.start(arguments, kill_in_save=STEPS)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, printed
    steps = Checkpoints(tmp_path / "run" / "checkpoints").steps()
    assert steps and STEPS not in steps
    runs.printed(*arguments)
    # Bit for bit; but TensorFlow's threads add gradients up in any order, even
    # with deterministic kernels: by 1e-17 where numbers are 1e-2. Two processes
    # of one thread (`TF_NUM_INTRAOP_THREADS=1`) agree in every bit.
    is_exact = BACKEND != "tensorflow"
    bounds = (0.0, 0.0) if is_exact else (1e-12, 2e-6)
    check_same(tmp_path / "run", whole, *bounds)


def check_two_devices(name, objects, ends, tmp_path, atol):
    model, whole = ends(name)
    arguments = words(objects, model, tmp_path / "run", "--recipe", name)
    if BACKEND == "jax":  # several processes are refused
        arguments += ["--devices", "all"]
        flag = "--xla_force_host_platform_device_count=2"
        flags = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
        processes = [start(arguments, XLA_FLAGS=flags)]
    else:
        processes = two_devices(arguments)
    finish(*processes, seconds=1800)
    # Metrics are sums in float32.
    check_same(tmp_path / "run", whole, atol, rtol=2e-6)


@pytest.mark.long
def test_two_devices_train_as_one(objects, ends, tmp_path):
    check_two_devices(NAME, objects, ends, tmp_path, atol=1e-12)


@pytest.mark.long
def test_two_devices_share_the_statistics_of_a_cascade(objects, ends, tmp_path):
    # Keras' batch normalization computes in float32.
    check_two_devices("coco_cascade", objects, ends, tmp_path, atol=2e-6)


@pytest.mark.skipif(BACKEND != "torch", reason="others have gradients of zeros")
@pytest.mark.parametrize("name", DETECTORS)
def test_without_masks_all_but_the_heads_of_masks_learn(name):
    """PyTorch tells which weights have no gradient."""
    backbone = ConvNeXt(**SMALL, include_top=False)
    model = DETECTORS[name](backbone, 3, **WIDTHS)
    model.sampling = Sampling(8, 4, 20, 10, 8, 4)
    images = np.zeros((1, 64, 64, 3), "float32")
    x = {"images": images, "image_sizes": np.full((1, 2), 64, "int32")}
    y = {
        "boxes": np.array([[[8, 8, 40, 40]]], "float32"),
        "classes": np.ones((1, 1), "int32"),
        "valid": np.ones((1, 1), bool),
    }
    for masks in ({}, {"masks": np.ones((1, 1, 64, 64), "uint8")}):
        model.zero_grad()
        sum(model.losses_of(x, {**y, **masks}).values()).backward()
        found = [
            v.path
            for v in model.trainable_variables
            if v.value.grad is not None
        ]
        assert found == [v.path for v in model.learning(bool(masks))]
