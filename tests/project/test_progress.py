"""Bars: on terminals only, and beside the output."""

from types import SimpleNamespace

import pytest

from keras_convnext._util.progress import progress
from keras_convnext.training.callbacks import Progress

pytestmark = pytest.mark.once


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")  # which leaves plain text
    monkeypatch.setenv("COLUMNS", "200")


def work(title, total, unit=None, count=1):
    with progress(title, total, unit) as advance:
        for _ in range(3):
            advance(count)


@pytest.mark.parametrize(
    "total, unit, count, shown",
    [
        (3, None, 1, ["3/3"]),
        (3, "images", 1, ["3/3", "images/s"]),
        (6_000_000, "bytes", 2_000_000, ["6.0/6.0 MB", "B/s"]),
        (None, "bytes", 2_000_000, ["6.0/? MB"]),
        (None, None, 1, []),
    ],
)
def test_bars_tell_how_much_is_done(total, unit, count, shown, terminal, capfd):
    title = "exporting {mine} to [bold]there"
    work(title, total, unit, count)
    printed, errors = capfd.readouterr()
    assert printed == ""
    for part in (title, *shown):
        assert part in errors


def test_files_get_no_bars(capfd):
    work("working", 3, "images")
    assert capfd.readouterr() == ("", "")


def train(run):
    watcher = Progress(run, steps=6, steps_per_epoch=2, batch_size=8)
    with watcher.bar:
        for epoch in (1, 2):  # `fit` is called for each anew
            watcher.on_train_begin()
            watcher.on_epoch_begin(epoch)
            for step in range(2):
                run.step += 1
                watcher.on_train_batch_end(step, {"loss": 0.25})
            watcher.on_test_begin()
            watcher.on_epoch_end(epoch, {"loss": 0.5})
            watcher.on_train_end()
            watcher.bar.refresh()  # which it else does by the clock


@pytest.fixture
def begun():
    row = {"learning_rate": 0.01, "images_per_second": 12.34}
    return SimpleNamespace(step=2, history=[row])


LINES = [
    f"epoch {n}/3  loss 0.5000  lr 1.00e-02  12.3 images/s" for n in (2, 3)
]


def test_a_run_shows_a_bar_and_a_line_for_each_epoch(begun, terminal, capfd):
    train(begun)
    errors = capfd.readouterr().err
    parts = ("2/6", "4/6", "6/6", "compiling", "validating", *LINES)
    for part in parts:
        assert part in errors


def test_a_log_file_has_the_lines_alone(begun, capfd):
    train(begun)
    first, *lines = capfd.readouterr().err.splitlines()
    assert first == "epoch 2/3  step 1/2  loss 0.2500"
    assert lines == LINES
