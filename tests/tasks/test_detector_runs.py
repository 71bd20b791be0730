"""Runs that train detectors: whole, stopped, and gone on with."""

import copy
import json

import keras
import numpy as np
import pytest
from composed_emoji import compose_emoji
from composed_emoji import write_coco
from conftest import long_where_compiled
from families import SMALL

from keras_convnext import ConvNeXt
from keras_convnext import detection
from keras_convnext.data import RandomScales
from keras_convnext.data import read_coco
from keras_convnext.training import callbacks

RECIPE = detection.coco_mask_rcnn.replace(
    **{"steps": 5, "warmup_steps": 1, "batch_size": 4, "layer_decay": 0.9},
    **{"learning_rate": 1e-3, "drop_path_rate": 0.0, "candidates": 50},
    **{"anchors": 32, "anchor_positives": 16, "proposals": 20},
    **{"regions": 16, "region_positives": 4},
)
SCALES = RandomScales((64,), 64, (64,), (48, 64))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("emoji")
    train, test = compose_emoji(12, 3, image_size=64, signs=2)
    return [
        read_coco(write_coco(x, folder / name))
        for x, name in ((train, "train"), (test, "test"))
    ]


def new_model(sources):
    keras.utils.set_random_seed(3)
    return detection.MaskRCNN(
        ConvNeXt(**SMALL, include_top=False),
        sources[0].classes,
        **{"channels": 8, "units": 8, "proposals": 10, "detections": 5},
        **{"short_side": 64, "score_threshold": 0.0},
    )


def run(sources, output, validation=False, recipe=RECIPE, **options):
    model = new_model(sources)
    options = {"scales": SCALES, "max_objects": 2, "keep": 9, **options}
    held_out = sources[1] if validation else None
    result = detection.train(
        model, recipe, sources[0], output, held_out, **options
    )
    return model, result


@long_where_compiled
def test_a_run_ends_with_its_steps(sources, tmp_path):
    model, result = run(sources, tmp_path, recipe=RECIPE.replace(steps=2))
    assert result["status"] == "complete" and result["step"] == 2
    assert not result["best"] and not result["skipped"]
    names = {x.name for x in tmp_path.iterdir()}
    assert names >= {"last.keras", "history.csv", "run.json", "checkpoints"}
    assert "best.keras" not in names
    saved = keras.saving.load_model(tmp_path / "last.keras")
    assert isinstance(saved, detection.DetectionModel)
    for one, other in zip(model.weights, saved.weights):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other)
        )


@long_where_compiled
def test_without_masks_their_head_rests(sources, tmp_path):
    boxes = copy.copy(sources[0])
    boxes.has_masks = False
    model, before = new_model(sources), new_model(sources)
    options = {"scales": SCALES, "max_objects": 2}
    recipe = RECIPE.replace(steps=2)
    detection.train(model, recipe, boxes, tmp_path, **options)
    moved = [
        one.path
        for one, other in zip(before.weights, model.weights)
        if not np.array_equal(
            keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other)
        )
    ]
    assert "box_classifier/kernel" in moved
    assert not [x for x in moved if "mask_" in x]
    saved = keras.saving.load_model(tmp_path / "last.keras")
    assert len(saved.trainable_variables) == len(model.trainable_variables)
    assert len(saved.trainable_variables) == len(before.trainable_variables)


@pytest.mark.long
def test_a_stopped_run_ends_as_a_whole_one(sources, tmp_path, monkeypatch):
    whole, result = run(sources, tmp_path / "whole", validation=True)
    assert result["status"] == "complete" and result["step"] == 5
    assert 0 <= result["metrics"]["val_boxes_ap"] <= 1
    assert list(result["best"]) == ["val_boxes_ap"]
    assert (tmp_path / "whole" / "best.keras").exists()
    # An epoch of three steps, and two of another.
    history = (tmp_path / "whole/history.csv").read_text().splitlines()
    assert len(history) == 3 and "val_masks_ap" in history[0]

    after = callbacks.Checkpointing.on_train_batch_end

    def stopped(self, batch, logs=None):
        after(self, batch, logs)
        if self.run.step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(callbacks.Checkpointing, "on_train_batch_end", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(sources, tmp_path / "parts", True, checkpoint_steps=1)
    record = json.loads((tmp_path / "parts/run.json").read_text())
    assert record["status"] == "stopped" and record["step"] == 4
    parts, again = run(sources, tmp_path / "parts", True, checkpoint_steps=1)
    assert again["step"] == 5 and again["best"] == result["best"]
    for one, other in zip(whole.weights, parts.weights):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other)
        )
    with pytest.raises(ValueError, match="settings it began with"):
        run(sources, tmp_path / "parts", True, seed=1)
