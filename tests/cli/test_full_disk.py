"""Commands that cannot write what they should: one message, status 1."""

import os
import resource
from contextlib import contextmanager

import keras
import pytest
from conftest import LONG_WHERE_COMPILED
from runs import command
from runs import new_model
from runs import write_photographs

import keras_convnext

pytestmark = LONG_WHERE_COMPILED

BACKEND = keras.backend.backend()
# Too few for any result but run.json and history.csv.
BYTES = 5000


@contextmanager
def full_disk(size):
    """No file may be larger: the system refuses it as it does on a full disk,
    whichever library writes."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs, and models in it."""
    folder = tmp_path_factory.mktemp("full")
    write_photographs(folder / "photos", ((4, 4), (2, 2)))
    new_model().save(folder / "small.keras")
    model = keras_convnext.create_model(
        "test_convnext", weights=None, input_shape=(32, 32, 3), classes=3
    )
    model.save(folder / "test.keras")
    return folder


def convert(target, *more):
    return [*("convert", "test.keras", target), *more], target


def export(target):
    words = ("export", "test.keras", "--output", target)
    return [*words, "--verification-data", "photos/val/china"], target


PHOTO = "photos/val/china/0.jpg"
EVALUATE = ("evaluate", "--data", "photos", "--model", "small.keras")
EXPLAIN = ("explain", PHOTO, "--model", "small.keras")
COMMANDS = {
    "keras": convert("a.keras"),
    "h5": convert("a.weights.h5"),
    "safetensors": convert("a.safetensors"),
    "pth": convert("a.pth", "--to", "timm"),
    "onnx": export("a.onnx"),
    "evaluate": ([*EVALUATE, "--output", "a.json"], "a.json"),
    "explain": ([*EXPLAIN, "--output", "a.png"], "a.png"),
    "records": (["records", "photos", "--output", "records"], ".tfrecord"),
    "train": (command("photos", "small.keras", "train"), "train/last.keras"),
}
if BACKEND == "torch":  # elsewhere a process of its own writes them
    COMMANDS["pt2"] = export("a.pt2")
SLOW_TO_IMPORT = pytest.param("pt2", marks=pytest.mark.long)
SIZES = {"evaluate": 100}


@pytest.mark.parametrize(
    "name", [x if x != "pt2" else SLOW_TO_IMPORT for x in COMMANDS]
)
def test_a_full_disk_ends_commands_with_status_1(
    name, folder, monkeypatch, run_command
):
    words, target = COMMANDS[name]
    monkeypatch.chdir(folder)
    before = {*folder.iterdir()}
    with full_disk(SIZES.get(name, BYTES)):
        status, _, said = run_command(*words)
    assert status == 1, said
    assert said.count("keras-convnext: ") == 1
    assert f"{target}' could not be written: File too large. Raise" in said
    assert not [*folder.rglob("unfinished_*")]
    left = {x.name for x in {*folder.iterdir()} - before}
    assert left == ({name} if name in ("records", "train") else set())
    if name == "train":
        text = (folder / "train" / "run.json").read_text()
        assert '"status": "failed"' in text


def test_a_run_that_can_write_nothing_ends_with_status_1(
    folder, monkeypatch, run_command
):
    monkeypatch.chdir(folder)
    with full_disk(0):
        status, _, said = run_command(
            *command("photos", "small.keras", "nothing")
        )
    assert status == 1
    assert "nothing/run.json' could not be written: File too large" in said


@pytest.mark.once
@pytest.mark.parametrize("name", ["keras", "onnx", "evaluate", "explain"])
def test_a_folder_that_is_read_only_is_told_before_any_work(
    name, tmp_path, monkeypatch, run_command
):
    # Whoever runs the tests may be allowed to write anyway.
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.chdir(tmp_path)
    words, target = COMMANDS[name]
    status, _, said = run_command(*words)
    assert status == 1
    assert f"The folder must be writable. Received: '{target}'. Choose" in said


@pytest.mark.parametrize("output", ["small.keras", "small.keras/run"])
@pytest.mark.parametrize("name", ["train", "records"])
def test_a_file_in_place_of_a_folder_ends_with_status_2(
    name, output, folder, monkeypatch, run_command
):
    monkeypatch.chdir(folder)
    words = ["records", "photos", "--output", output]
    if name == "train":
        words = command("photos", "small.keras", output)
    status, _, said = run_command(*words)
    assert status == 2
    assert "where a file is in its way. Choose another path" in said
