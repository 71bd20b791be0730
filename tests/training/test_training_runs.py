"""Runs that are stopped, killed and damaged end where whole ones do."""

import csv
import errno
import importlib.util
import json
import os
import random
import re
import shlex
import shutil
import signal
import time
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import predict
from conftest import random_images
from runs import RECIPE
from runs import SIZE
from runs import STEPS
from runs import Stop
from runs import check_equal
from runs import command
from runs import new_model
from runs import shortened
from runs import splits
from runs import start
from runs import stop_at
from runs import write_photographs
from safetensors.numpy import load_file
from sklearn import metrics
from typer.testing import CliRunner

import keras_convnext
from keras_convnext import training
from keras_convnext._util import writing
from keras_convnext.cli import app
from keras_convnext.data import Arrays
from keras_convnext.data import Subset
from keras_convnext.training import callbacks
from keras_convnext.training import checkpoints as checkpoints_module
from keras_convnext.training import state

pytestmark = LONG_WHERE_COMPILED

LAST = RECIPE.epochs * STEPS


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def whole(photographs, tmp_path_factory):
    """The output of a run that nothing disturbed, and its end state."""
    output = tmp_path_factory.mktemp("whole")
    model = new_model()
    run(model, photographs, output)
    return output, state.capture(model)


def run(model, photographs, output, recipe=RECIPE, **options):
    data, validation = splits(photographs)
    options = {"loader": "python", **options}
    return training.train(model, recipe, data, output, validation, **options)


def rows(output):
    """`history.csv` without what depends on the clock."""
    with open(output / "history.csv", newline="") as file:
        return [
            {k: v for k, v in row.items() if k != "images_per_second"}
            for row in csv.DictReader(file)
        ]


@pytest.mark.every_backend
def test_a_run_leaves_what_it_promises(photographs, whole):
    output, _ = whole
    assert sorted(path.name for path in output.iterdir()) == [
        "best.keras",
        "best_raw.keras",
        "checkpoints",
        "curves.png",
        "history.csv",
        "last.keras",
        "run.json",
        "run.lock",
        "tensorboard",
        "trackers.json",
    ]
    summary = json.loads((output / "run.json").read_text())
    assert summary["status"] == "complete"
    assert summary["step"] == LAST
    assert summary["versions"]["backend"] == keras.backend.backend()
    assert summary["settings"]["data"]["images"] == 36
    assert summary["metrics"]["epoch"] == RECIPE.epochs
    accuracies = [float(row["val_accuracy"]) for row in rows(output)]
    assert len(accuracies) == RECIPE.epochs
    assert summary["best"]["val_accuracy"] == max(accuracies)
    events = list((output / "tensorboard").iterdir())
    assert len(events) == 1 and events[0].stat().st_size > 500


def test_pictures_and_logs_may_be_missing(
    photographs, tmp_path, monkeypatch, capsys
):
    found = importlib.util.find_spec
    missing = ("matplotlib", "tensorboard")
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in missing else found(name, *rest),
    )
    recipe = shortened(RECIPE, batch_size=RECIPE.batch_size)
    model = new_model()
    run(model, photographs, tmp_path, recipe.replace(image_size=SIZE))
    made = {path.name for path in tmp_path.iterdir()}
    assert "last.keras" in made
    assert not {"curves.png", "tensorboard"} & made
    said = capsys.readouterr().err
    assert 'No curves.png without matplotlib: pip install "keras-' in said
    assert "No TensorBoard logs without tensorboard" in said


@pytest.mark.every_backend
def test_models_of_a_run_are_those_of_its_metrics(photographs, whole):
    output, _ = whole
    _, validation = splits(photographs)
    history = rows(output)
    for name, key in (
        ("last", "val_raw_accuracy"),
        ("best", "val_accuracy"),
        ("best_raw", "val_raw_accuracy"),
    ):
        model = keras.saving.load_model(output / f"{name}.keras")
        assert model.class_names == ["china", "flower"]
        images = [
            keras_convnext.load_image_for(
                model.preprocessing, validation.read(i)
            )
            for i in range(len(validation))
        ]
        logits = model.predict(np.stack(images), verbose=0)
        found = np.mean(logits.argmax(-1) == validation.labels)
        expected = [float(row[key]) for row in history]
        best = expected.index(max(expected))
        epoch = len(expected) - 1 if name == "last" else best
        assert found == pytest.approx(expected[epoch])
        for measured, score in (
            ("balanced_accuracy", metrics.balanced_accuracy_score),
            ("f1_macro", partial(metrics.f1_score, average="macro")),
        ):
            found = float(history[epoch][key.replace("accuracy", measured)])
            wanted = score(validation.labels, logits.argmax(-1))
            assert found == pytest.approx(wanted, rel=0, abs=1e-12)
        # Of so few images accuracies are often equal, and losses never.
        logits = logits.astype("float64")
        right = logits[np.arange(len(logits)), validation.labels]
        loss = (np.log(np.exp(logits).sum(-1)) - right).mean()
        wanted = float(history[epoch][key.replace("accuracy", "loss")])
        np.testing.assert_allclose(loss, wanted, rtol=1e-5, atol=1e-6)
        # Without slots: weights, and little else.
        size = (output / f"{name}.keras").stat().st_size
        assert size < 300_000


# At once, within an epoch and an accumulation, at the end of an epoch, later.
@pytest.mark.every_backend
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(1, marks=pytest.mark.long),
        pytest.param(4, marks=LONG_WHERE_COMPILED),
        pytest.param(9, marks=pytest.mark.long),
        14,
        pytest.param(35, marks=pytest.mark.long),
    ],
)
def test_a_stopped_run_ends_as_the_whole_one(
    step, photographs, whole, tmp_path, monkeypatch
):
    output, expected = whole
    with monkeypatch.context() as patch:
        stop_at(step, patch)
        with pytest.raises(Stop):
            run(new_model(), photographs, tmp_path, checkpoint_steps=3)
    model = new_model()
    # The weights to go on with are those of the checkpoint.
    if step >= 3:
        model.set_weights([0 * weight for weight in model.get_weights()])
    run(model, photographs, tmp_path, checkpoint_steps=3)
    check_equal(state.capture(model), expected)
    assert rows(tmp_path) == rows(output)


def test_a_stopped_run_of_a_list_ends_as_that_of_its_folder(
    photographs, whole, tmp_path, monkeypatch
):
    names = sorted(x.relative_to(photographs) for x in photographs.rglob("*.*"))
    lines = [
        f'{{"image": "{photographs / x}", "class": "{x.parts[1]}", '
        f'"split": "{x.parts[0]}"}}\n'
        for x in names
    ]
    listed = tmp_path / "list.jsonl"
    listed.write_text("".join(lines))
    more = ("--loader", "python", "--checkpoint-steps", "3")
    output = tmp_path / "run"
    arguments = command(listed, save_model(tmp_path), output, *more)
    arguments.remove("--deterministic")  # other kernels than those of `whole`
    with monkeypatch.context() as patch:
        stop_at(14, patch)
        stopped = CliRunner().invoke(app, arguments)
        assert isinstance(stopped.exception, Stop)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    check_equal(checkpoint_of(output), checkpoint_of(whole[0]))
    assert rows(output) == rows(whole[0])
    measured = CliRunner().invoke(
        app,
        [
            *("evaluate", "--data", str(listed), "--split", "VAL", "--json"),
            *("--model", str(output / "best.keras")),
        ],
    )
    found, best = json.loads(measured.stdout), result_of(output)["best"]
    assert found["images"] == 8 and found["matched_by"] == "names"
    assert found["accuracy"]["top1"] == pytest.approx(best["val_accuracy"])
    # The same list in another order is other data.
    listed.write_text("".join(lines[::-1]))
    refused = CliRunner().invoke(app, arguments)
    assert "data.digest" in str(refused.exception)


@pytest.mark.long
def test_tf_data_goes_on_too(photographs, tmp_path, monkeypatch):
    whole, stopped = new_model(), new_model()
    options = {"loader": "tf", "checkpoint_steps": 5}
    run(whole, photographs, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        stop_at(13, patch)
        with pytest.raises(Stop):
            run(stopped, photographs, tmp_path / "stopped", **options)
    stopped = new_model()
    run(stopped, photographs, tmp_path / "stopped", **options)
    check_equal(state.capture(stopped), state.capture(whole))


def test_rematerialized_runs_save_plain_models(photographs, whole, tmp_path):
    run(new_model(), photographs, tmp_path, rematerialize=True)
    plain, lean = (
        keras.saving.load_model(output / "best_raw.keras")
        for output in (whole[0], tmp_path)
    )
    assert [x.name for x in lean.layers] == [x.name for x in plain.layers]
    for found, expected in zip(lean.get_weights(), plain.get_weights()):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_few_images_train_with_the_default_recipe(tmp_path, run_command):
    """Of one class there is one, which is not held out."""
    write_photographs(tmp_path / "few", ((4, 1), (0, 0)))
    status, _, error = run_command(
        *("train", "--data", tmp_path / "few" / "train", "--epochs", "1"),
        *("--model", "test_convnext", "--weights", "none"),
        *("--image-size", "32", "--output", tmp_path / "run"),
    )
    assert status == 0, error
    assert "warmup_epochs=0.1" in error and "batch_size=2" in error
    assert "4 images of 2 classes; held out: 1" in error
    assert "none are held out, those of 'flower'" in error
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    recipe = settings["settings"]["recipe"]
    assert (recipe["batch_size"], recipe["warmup_epochs"]) == (2, 0.1)


def test_runs_without_validation_keep_the_last_models(tmp_path, run_command):
    write_photographs(tmp_path / "few", ((3, 3), (0, 0)))
    status, output, _ = run_command(
        *("train", "--data", tmp_path / "few" / "train", "--epochs", "1"),
        *("--model", "test_convnext", "--weights", "none", "--json"),
        *("--image-size", "32", "--ema-decay", "0.9"),
        *("--validation-split", "0", "--output", tmp_path / "run"),
    )
    assert status == 0 and json.loads(output)["best"] == {}
    files = {x.name for x in (tmp_path / "run").iterdir()}
    assert {"last.keras", "last_averaged.keras", "curves.png"} <= files
    assert not {"best.keras", "best_raw.keras"} & files
    last, averaged = (
        keras.saving.load_model(tmp_path / "run" / name).get_weights()
        for name in ("last.keras", "last_averaged.keras")
    )
    assert any((x != y).any() for x, y in zip(last, averaged))


def test_a_finished_run_is_not_repeated(photographs, whole):
    output, expected = whole
    before = (output / "last.keras").stat().st_mtime_ns
    model = new_model()
    result = run(model, photographs, output)
    assert result["status"] == "complete"
    assert (output / "last.keras").stat().st_mtime_ns == before
    check_equal(
        {k: v for k, v in state.capture(model).items() if "metrics" not in k},
        {k: v for k, v in expected.items() if "metrics" not in k},
    )


def test_a_run_says_what_it_reads_and_where_it_goes_on(
    photographs, tmp_path, monkeypatch, capsys
):
    recipe = RECIPE.replace(epochs=2)
    with monkeypatch.context() as patch:
        stop_at(10, patch)
        with pytest.raises(Stop):
            run(new_model(), photographs, tmp_path, recipe)
    assert status_of(tmp_path) == "failed"
    said = capsys.readouterr().err
    begins = "36 images of 2 classes; held out: 8\nval_… is measured with "
    assert said.startswith(begins) and "\nepoch 1/2 " in said
    assert "│ flower │     12 │        3 │              " in said
    run(new_model(), photographs, tmp_path, recipe)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "36 images of 2 classes; held out: 8"
    assert said[1].startswith("goes on from step 9 of 18, in epoch 2 of 2, by ")
    assert said[2].startswith("epoch 2/2 ")
    data, validation = splits(photographs)
    for held_out in (None, validation):
        progress = callbacks.Progress(training.run.Run(tmp_path, {}), 9, 9, 4)
        progress.tell_beginning(data, held_out)
        said = capsys.readouterr().err
        assert said.endswith("none\n" if held_out is None else "8\n")


def test_a_finished_run_says_so_and_how_to_train_on(
    photographs, whole, tmp_path, capsys
):
    output, _ = whole
    run(new_model(), photographs, output)
    said = capsys.readouterr().err
    assert f"'{output}' holds a complete run, of 4 epochs and 36 steps" in said
    with pytest.raises(ValueError) as caught:
        run(new_model(), photographs, output, RECIPE.replace(epochs=5))
    for text in (said, str(caught.value)):
        advice = re.search("`keras-convnext train (--model .*)` and", text)[1]
        assert shlex.split(advice)[3] == f"{output}_2"
    assert "recipe.epochs: 4 in the checkpoint, 5 now" in str(caught.value)
    assert status_of(output) == "complete"
    words = shlex.split(advice.replace(f"{output}_2", str(tmp_path / "on")))
    shorter = ("--epochs", "1", "--warmup-epochs", "0")
    arguments = command(photographs, "*", "*", *shorter)
    for option in ("--model", "--output"):
        at = arguments.index(option)
        del arguments[at : at + 2]
    result = CliRunner().invoke(app, [*arguments, *words])
    assert result.exit_code == 0, result.output
    assert status_of(tmp_path / "on") == "complete"


# As others leave records that have no seal, and a checksum that fits.
RECORDS = {
    "empty": b"",
    "null": b"null",
    "a list": b"[1, 2]",
    "cut": b'{"step": 36, "rec',
    "not UTF-8": b'{"step": "\xff"}',
    "deep": b"[" * 100_000,
    "no fields": b"{}",
    "no record": {"record": None},
    "no settings": {"record": {"history": [], "best": {}}},
    "no rows": {"record": {"settings": {}, "history": [1], "best": {}}},
    "no numbers": {"record": {"settings": {}, "history": [], "best": {"": ""}}},
    "no checksum": {"sha256": 7},
    "no step": {"step": None},
}


@pytest.mark.once
@pytest.mark.parametrize("damage", RECORDS)
def test_a_damaged_record_is_named_and_the_one_before_used(damage, tmp_path):
    checkpoints = training.Checkpoints(tmp_path / "checkpoints")
    record = {"settings": {}, "history": [], "best": {"accuracy": 0.5}}
    for step in (1, 2):
        checkpoints.save(step, {"x": np.full(3, step)}, record)
    path = checkpoints.folder / "step_0000000002.json"
    content = RECORDS[damage]
    if isinstance(content, dict):
        text = json.loads(path.read_text()) | content
        del text["seal"]
        content = json.dumps(text).encode()
    path.write_bytes(content)
    check = training.run.check_record
    with pytest.warns(UserWarning, match=r"step 1 is used instead. step 2: "):
        step, tensors, _ = checkpoints.latest(check)
    assert step == 1
    assert tensors["x"].tolist() == [1, 1, 1]
    (checkpoints.folder / "step_0000000001.json").write_bytes(content)
    with pytest.raises(training.CheckpointError, match="step 2: .*; step 1: "):
        checkpoints.latest(check)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 16
    path.write_bytes(content)


def remove(path):
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, flip, remove])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    damage, photographs, whole, tmp_path
):
    output, expected = whole
    shutil.copytree(output, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "checkpoints"
    damage(folder / f"step_{LAST:010d}.safetensors")
    model = new_model()
    with pytest.warns(UserWarning, match=f"step {LAST - STEPS} is used"):
        run(model, photographs, tmp_path)
    check_equal(state.capture(model), expected)
    assert rows(tmp_path) == rows(output)


def test_a_record_cut_short_counts_as_damage(whole, tmp_path):
    shutil.copytree(whole[0] / "checkpoints", tmp_path, dirs_exist_ok=True)
    truncate(tmp_path / f"step_{LAST:010d}.json")
    with pytest.warns(UserWarning, match=f"step {LAST}: "):
        step, *_ = training.Checkpoints(tmp_path).latest()
    assert step == LAST - STEPS


@pytest.mark.once
@pytest.mark.parametrize("how", ["edited", "renamed", "unsealed"])
def test_a_changed_record_counts_as_damage(how, tmp_path):
    checkpoints = training.Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, {"x": np.full(3, step)}, {"best": {1: 0.5}})
    record = tmp_path / f"step_{2:010d}.json"
    if how == "renamed":
        for file in tmp_path.glob("*2.*"):
            file.rename(tmp_path / file.name.replace("2.", "9."))
    elif how == "edited":
        record.write_text(record.read_text().replace("0.5", "7.0"))
    else:  # as versions without a seal wrote them
        text = json.loads(record.read_text())
        del text["seal"]
        record.write_text(json.dumps(text))
        assert checkpoints.latest()[0] == 2
        return
    with pytest.warns(UserWarning, match="the one of step 1 is used"):
        step, *_ = checkpoints.latest()
    assert step == 1


def test_nothing_starts_over_where_all_checkpoints_are_damaged(whole, tmp_path):
    shutil.copytree(whole[0] / "checkpoints", tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("*.safetensors"):
        flip(path)
    with pytest.raises(training.CheckpointError, match="Remove the folder"):
        training.Checkpoints(tmp_path).latest()


def test_the_last_checkpoints_stay(tmp_path):
    checkpoints = training.Checkpoints(tmp_path, keep=2)
    for step in range(1, 5):
        checkpoints.save(step, {"x": np.full(3, step)}, {"n": step})
    assert checkpoints.steps() == [3, 4]
    assert len(list(tmp_path.iterdir())) == 4
    step, tensors, record = checkpoints.latest()
    assert (step, record) == (4, {"n": 4})
    np.testing.assert_array_equal(tensors["x"], [4, 4, 4])
    with pytest.raises(ValueError, match="`keep` must be a positive int"):
        training.Checkpoints(tmp_path, keep=0)


def test_checkpoints_are_on_the_disk_before_they_count(tmp_path, monkeypatch):
    """What is renamed before it is written is empty after a power cut."""
    flushed, replace, fsync = set(), os.replace, os.fsync

    def noted(number):
        flushed.add(os.fstat(number).st_ino)
        fsync(number)

    def checked(source, target):
        assert os.stat(source).st_ino in flushed, target
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", checked)
    training.Checkpoints(tmp_path).save(1, {"x": np.zeros(3)}, {})
    assert len(flushed) == 2


def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(
    photographs, tmp_path, monkeypatch, whole
):
    save_file = checkpoints_module.save_file

    def full(tensors, path):
        if "0000000006" in str(path):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save_file(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints_module, "save_file", full)
        with pytest.raises(
            training.CheckpointError, match="No space left.*step 3: make room"
        ):
            run(new_model(), photographs, tmp_path, checkpoint_steps=3)
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert sorted(names) == [
        "step_0000000003.json",
        "step_0000000003.safetensors",
    ]
    model = new_model()
    run(model, photographs, tmp_path, checkpoint_steps=3)
    check_equal(state.capture(model), whole[1])


def test_a_run_goes_on_with_its_own_settings_only(photographs, whole):
    output, _ = whole
    other = RECIPE.replace(learning_rate=1e-3)
    with pytest.raises(
        ValueError,
        match="recipe.learning_rate: 0.002 in the checkpoint, 0.001 now",
    ):
        run(new_model(), photographs, output, other)
    with pytest.raises(ValueError, match="seed: 0 in the checkpoint, 1 now"):
        run(new_model(), photographs, output, seed=1)


def test_other_images_are_refused(whole, tmp_path):
    folder = write_photographs(tmp_path / "photographs")
    extra = folder / "train" / "china"
    shutil.copy(extra / "0.jpg", extra / "more.jpg")
    with pytest.raises(
        ValueError, match="data.images: 36 in the checkpoint, 37 now"
    ):
        run(new_model(), folder, whole[0])


def test_a_folder_with_a_run_can_be_refused(photographs, whole):
    with pytest.raises(ValueError, match="must hold no run"):
        run(new_model(), photographs, whole[0], resume="never")
    with pytest.raises(ValueError, match="must be one of"):
        run(new_model(), photographs, whole[0], resume="sometimes")


def test_a_refused_folder_is_free_again(tmp_path):
    training.Checkpoints(tmp_path / "checkpoints").save(1, {}, {})
    before = [signal.getsignal(x) for x in (signal.SIGINT, signal.SIGTERM)]
    for _ in range(2):
        with (
            pytest.raises(ValueError, match="must hold no run"),
            training.run.Run(tmp_path, {}).opened(resume="never"),
        ):
            pass
    after = [signal.getsignal(x) for x in (signal.SIGINT, signal.SIGTERM)]
    assert after == before


def test_what_a_killed_save_left_is_cleared_away(tmp_path):
    folder = tmp_path / "checkpoints"
    checkpoints = training.Checkpoints(folder)
    for step in (1, 2):
        checkpoints.save(step, {"x": np.full(3, step)}, {"settings": {}})
    whole = sorted(path.name for path in folder.iterdir())
    for name in (
        "unfinished_step_0000000003.safetensors",  # killed in the first file
        "step_0000000004.safetensors",  # between the two
        "unfinished_step_0000000005.json",  # in the second
        "notes.txt",  # not ours
    ):
        (folder / name).write_bytes(b"half")
    # Killed before there was a lock in it.
    (folder / "unfinished_step_0000000006.json_x1").mkdir()
    with training.run.Run(tmp_path, {}).opened():
        pass
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["notes.txt", *whole]
    assert checkpoints.latest()[0] == 2


def test_two_runs_on_one_folder_are_refused(photographs, tmp_path):
    with (
        training.run.Run(tmp_path, {}).opened(),
        pytest.raises(ValueError, match="Only one process"),
    ):
        run(new_model(), photographs, tmp_path)


def test_a_loss_that_is_no_number_stops_the_run(photographs, tmp_path):
    recipe = RECIPE.replace(
        learning_rate=1e30, gradient_accumulation_steps=1, batch_size=4
    )
    with pytest.raises(training.NotFinite) as caught:
        run(new_model(), photographs, tmp_path, recipe, checkpoint_steps=1)
    steps = training.Checkpoints(tmp_path / "checkpoints").steps()
    message = str(caught.value)
    assert f"after step {steps[-1] + 1}, at the learning rate" in message
    assert f"good checkpoint is that of step {steps[-1]}" in message
    tensors = load_file(
        tmp_path / "checkpoints" / f"step_{steps[-1]:010d}.safetensors"
    )
    assert np.isfinite(tensors["metrics/0"]).all()


def status_of(output):
    return json.loads((output / "run.json").read_text())["status"]


def said_of(output):
    return json.loads((output / "run.json").read_text())["error"]


@pytest.mark.once
@pytest.mark.parametrize(
    "error, status, said",
    [
        (training.NotFinite("The loss is nan"), "failed", "NotFinite: The los"),
        (training.CheckpointError("full"), "failed", "CheckpointError: full"),
        (KeyError("of a user"), "failed", "KeyError: 'of a user'"),
        (MemoryError(), "failed", "MemoryError"),
        (training.run.Interrupted(143), "stopped", "Interrupted: 143"),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
        # A command's, at the second signal.
        (SystemExit(130), "stopped", "SystemExit: 130"),
    ],
)
def test_every_end_of_a_run_is_noted(error, status, said, tmp_path):
    def end(begin):
        with (
            pytest.raises(type(error)),
            training.run.Run(tmp_path, {}).opened() as run,
        ):
            if begin:
                run.restore(None)
                assert status_of(tmp_path) == "running"
            raise error

    end(begin=True)
    assert status_of(tmp_path) == status
    assert said_of(tmp_path).startswith(said)
    # A command that is refused changes nothing.
    (tmp_path / "run.json").write_text("of before")
    end(begin=False)
    assert (tmp_path / "run.json").read_text() == "of before"


@pytest.mark.once
def test_an_end_that_cannot_be_noted_stays_what_it_is(tmp_path, monkeypatch):
    def full(self, status, **more):
        raise writing.NotWritten(status)

    with (
        pytest.raises(KeyError, match="of a user"),
        training.run.Run(tmp_path, {}).opened() as run,
    ):
        run.restore(None)
        monkeypatch.setattr(training.run.Run, "write_summary", full)
        raise KeyError("of a user")


@pytest.mark.once
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_that_end_at_once_are_noted_too(number, request, tmp_path):
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    before = handlers[number]
    # A process in the background ignores them.
    ours = signal.signal(number, before)
    request.addfinalizer(lambda: signal.signal(number, ours))
    with (
        pytest.raises((KeyboardInterrupt, training.run.Interrupted)),
        training.run.Run(tmp_path, {}).opened() as run,
    ):
        run.restore(None)
        signal.raise_signal(number)
        signal.raise_signal(number)
        pytest.fail("it goes on")
    assert signal.getsignal(number) == before
    assert status_of(tmp_path) == "stopped"


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_infinity_is_no_loss(loss, tmp_path):
    run = training.run.Run(tmp_path, {})
    model = SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.1))
    checkpointing = callbacks.Checkpointing(run, 2, 10, None)
    checkpointing.set_model(model)
    with pytest.raises(training.NotFinite, match=f"{loss} after step 1"):
        checkpointing.on_train_batch_end(0, {"loss": loss})


def test_the_first_of_equal_epochs_is_the_best(tmp_path):
    run = training.run.Run(tmp_path, {})
    values = [0.5, 0.5, np.nan, 0.4, 0.6]
    found = [run.is_best("accuracy", value) for value in values]
    assert found == [True, False, False, False, True]
    assert run.best == {"accuracy": 0.6}


def test_a_second_signal_ends_at_once(tmp_path):
    ended = []
    before = signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    try:
        with training.run.Run(tmp_path, {}).opened() as run:
            signal.raise_signal(signal.SIGTERM)
            assert (run.signal, ended) == (signal.SIGTERM, [])
            signal.raise_signal(signal.SIGTERM)
            assert ended == [True]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_models_that_do_not_fit_the_data_are_refused(photographs, tmp_path):
    three = keras_convnext.ConvNeXt(
        (1,), (8,), input_shape=(16, 16, 3), classes=3
    )
    with pytest.raises(ValueError, match="2 classes for 'convnext' with 3"):
        run(three, photographs, tmp_path)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="holds a ConvNeXt"):
        run(other, photographs, tmp_path)


def two_classes(*names):
    """Eight small images of two classes, in memory."""
    images = random_images((8, SIZE, SIZE, 3)).astype("uint8")
    return Arrays(images, np.arange(8) % 2, names)


@pytest.mark.parametrize("names", [("dog", "wolf"), ("dog", "cat")])
def test_other_classes_to_validate_on_are_refused(names, tmp_path):
    data, validation = two_classes("cat", "dog"), two_classes(*names)
    with pytest.raises(ValueError, match="must have the same classes"):
        training.train(new_model(), RECIPE, data, tmp_path / "run", validation)
    assert not (tmp_path / "run").exists()


def test_no_images_to_validate_on_are_refused(tmp_path):
    data = two_classes("cat", "dog")
    with pytest.raises(ValueError, match="images to validate on, or .*none$"):
        training.train(
            new_model(), RECIPE, data, tmp_path / "run", Subset(data, [])
        )
    assert not (tmp_path / "run").exists()


def features_of(model):
    return keras.Model(model.input, model.layers[-2].output)


def sequential():
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            features_of(new_model()),
            keras.layers.Dense(2),
        ]
    )


class Outer(keras.Model):
    """A Functional model whose constructor takes something else."""

    def __init__(self, backbone):
        head = keras.layers.Dense(2)
        super().__init__(backbone.input, head(backbone.output))


@pytest.mark.parametrize(
    "model", [sequential, lambda: Outer(features_of(new_model()))]
)
def test_models_around_a_backbone_are_saved(model, tmp_path):
    model = model()
    training.run.Run(tmp_path, {}).write_model("last.keras", model)
    saved = keras.saving.load_model(tmp_path / "last.keras")
    images = random_images((2, SIZE, SIZE, 3))
    np.testing.assert_array_equal(
        predict(saved, images), predict(model, images)
    )


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="the others compile it"
)
def test_sequential_models_train_to_the_end(tmp_path):
    recipe = RECIPE.replace(epochs=1, warmup_epochs=0)
    data = two_classes("cat", "dog")
    result = training.train(sequential(), recipe, data, tmp_path, data)
    assert result["status"] == "complete"
    assert (tmp_path / "best_raw.keras").exists()


@pytest.mark.parametrize("group", [0, -4, 3, True])
def test_mixup_groups_that_cannot_be_are_refused(group, tmp_path):
    data = two_classes("cat", "dog")
    with pytest.raises(ValueError, match=f"mixup_group={group}"):
        training.train(
            new_model(), RECIPE, data, tmp_path / "run", mixup_group=group
        )
    assert not (tmp_path / "run").exists()


def block(input_shape, **options):
    return keras_convnext.ConvNeXt(
        (1,), (8,), input_shape=input_shape, classes=2, **options
    )


def test_models_of_normalized_images_are_refused(tmp_path):
    model = block((SIZE, SIZE, 3), include_preprocessing=False)
    data = two_classes("cat", "dog")
    with pytest.raises(ValueError, match="`include_preprocessing=False`"):
        training.train(model, RECIPE, data, tmp_path / "run")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.backbone = block((SIZE, SIZE, 3))

    def call(self, inputs):
        return self.backbone(inputs)


@pytest.mark.parametrize(
    "model, message",
    [
        (
            lambda: block((3, SIZE, SIZE), data_format="channels_first"),
            r"\(3, 16, 16\).*data_format='channels_last'`: the weights are",
        ),
        (
            lambda: block((32, 32, 3)),
            r"\(32, 32, 3\).*`recipe.replace\(image_size=32\)`",
        ),
        (Subclassed, "Functional.*Received: Subclassed"),
    ],
)
def test_models_that_cannot_take_the_images_are_refused(
    model, message, tmp_path
):
    data = two_classes("cat", "dog")
    with pytest.raises(ValueError, match=message):
        training.train(model(), RECIPE, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def save_model(folder):
    path = folder / "small.keras"
    new_model().save(path)
    return path


def test_dry_runs_print_and_write_nothing(photographs, tmp_path):
    model = save_model(tmp_path)
    arguments = command(photographs, model, tmp_path / "run", "--dry-run")
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "4 epochs of 9 steps" in result.output
    header = "┃ class  ┃ images ┃ held out ┃ drawn per epoch ┃"
    assert header in result.output
    assert "│ china  │     24 │        5 │" in result.output
    assert "ema decay                    0.9" in result.output
    assert "stage_1_downsample_conv" in result.output
    assert "learning rate, up to 0.002 over 18 steps:" in result.output
    assert not (tmp_path / "run").exists()


def test_parameter_groups_are_all_parameters_once():
    model = new_model()
    groups = training.parameter_groups(model, RECIPE)
    assert sum(group["parameters"] for group in groups) == sum(
        int(np.prod(x.shape)) for x in model.trainable_variables
    )
    assert {group["weight_decay"] for group in groups} == {0.0, 0.05}
    assert groups[-1]["scale"] == 1.0
    assert groups[0]["scale"] < groups[2]["scale"] < 1.0


@pytest.mark.parametrize(
    "option, message",
    [
        (("--epochs", "many"), "`--epochs` expects a whole number"),
        (("--recipe", "imagenet"), "`--recipe` must be one of"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_bad_options_are_told(
    option, message, photographs, tmp_path, monkeypatch, capsys
):
    arguments = command(photographs, save_model(tmp_path), tmp_path / "run")
    monkeypatch.setattr("sys.argv", ["keras-convnext", *arguments, *option])
    with pytest.raises(SystemExit) as caught:
        keras_convnext.cli.main()
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def result_of(output):
    return json.loads((output / "run.json").read_text())


def checkpoint_of(output):
    folder = output / "checkpoints"
    return load_file(folder / f"step_{LAST:010d}.safetensors")


def finished(process):
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def wait_for(path, process, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "number, code",
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.long),
    ],
)
def test_signals_save_and_say_so(number, code, photographs, tmp_path):
    output = tmp_path / "run"
    arguments = command(photographs, save_model(tmp_path), output)
    arguments += ["--loader", "python", "--checkpoint-steps", "100"]
    process = start(arguments, seconds=0.2)
    wait_for(output / "run.json", process)
    time.sleep(0.5)
    process.send_signal(number)
    returned, printed = finished(process)
    assert returned == code, printed
    (step,) = training.Checkpoints(output / "checkpoints").steps()[-1:]
    assert f"stopped by a signal after step {step}" in printed
    # The folder is free again.
    with training.run.Run(output, {}).opened():
        pass


def storm(kills, photographs, whole, tmp_path, record=lambda *_: None, seed=0):
    """Kills a run at random moments and in saves; then compares its end."""
    dice = random.Random(seed)
    model, killed = save_model(tmp_path), tmp_path / "killed"
    more = ("--loader", "python", "--checkpoint-steps", "1")
    arguments = command(photographs, model, killed, *more)
    checkpoints = training.Checkpoints(killed / "checkpoints")
    moments = []
    for kill in range(kills):
        in_save = kill % 2
        begun = max(checkpoints.steps(), default=0)
        process = start(
            arguments,
            seconds=0.05,
            kill_in_save=dice.randint(1, 3) if in_save else 0,
        )
        if not in_save:
            # Past a checkpoint of its own, so that every kill costs a part.
            step = checkpoints.folder / f"step_{begun + 1:010d}.json"
            wait_for(step, process)
            time.sleep(dice.uniform(0.0, 0.15))
            process.kill()
        code, printed = finished(process)
        assert code == -signal.SIGKILL, printed
        moments.append(max(checkpoints.steps()))
    assert max(moments) < LAST, f"the run was over at {moments}"
    record("killed after the checkpoints of steps", moments)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    check_equal(checkpoint_of(killed), checkpoint_of(whole))
    assert rows(killed) == rows(whole)
    names = {path.name for path in killed.iterdir()}
    assert names >= {x.name for x in whole.iterdir()}


@pytest.mark.skipif(
    keras.backend.backend() != "torch",
    reason="one backend in CI, all in `make test-long`",
)
def test_a_killed_run_ends_as_the_whole_one(photographs, whole, tmp_path):
    storm(1, photographs, whole[0], tmp_path)


@pytest.mark.long
def test_a_storm_of_kills(photographs, whole, tmp_path, record_property):
    storm(12, photographs, whole[0], tmp_path, record_property)


def test_dry_runs_need_no_weights(photographs, tmp_path, run_command, server):
    status, output, error = run_command(
        *("train", "--data", photographs, "--output", tmp_path / "run"),
        *("--model", "test_convnext", "--dry-run"),
    )
    assert status == 0 and "lr scale" in output, error
    assert not server.requests


@pytest.mark.parametrize(
    "options, messages",
    [
        (
            ("--model", "convnext_atto"),
            ("`--image-size` must be at least 32", "--crop-scale 1,1"),
        ),
        (
            ("--model", "test_convnext", "--image-size", "32"),
            ("of shape (8, 8, 3)", "--crop-scale 1,1"),
        ),
        (
            *[("--model", "test_convnext", "--image-size", "8")],
            ("`--image-size` must be at least 32",),
        ),
    ],
)
def test_sizes_that_do_not_fit_name_the_option(
    options, messages, tmp_path, run_command
):
    status, _, error = run_command(
        *("train", "--data", "digits", "--recipe", "digits", *options),
        *("--weights", "none", "--output", tmp_path / "run"),
    )
    assert status == 2
    for message in messages:
        assert message in error
    assert not (tmp_path / "run").exists()


def test_digits_train_in_another_size(tmp_path):
    images, labels = np.zeros((8, 8, 8), "uint8"), np.arange(8) % 2
    recipe = training.recipes.digits.replace(
        image_size=32, crop_scale=(1, 1), epochs=1, batch_size=4
    )
    model = recipe.build("test_convnext", 2, input_shape=(32, 32, 3))
    keras_convnext.train(model, recipe, Arrays(images, labels), tmp_path / "x")


def test_fine_tuning_does_not_warn_of_the_new_classifier(tmp_path, recwarn):
    model = keras_convnext.create_model("test_convnext", weights=None)
    model.save(tmp_path / "model.keras")
    recipe = shortened(RECIPE)
    tuned = recipe.build("test_convnext", 3, tmp_path / "model.keras")
    assert tuned.output_shape[-1] == 3
    assert not [x for x in recwarn if "classifier" in str(x.message)]
