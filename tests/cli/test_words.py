"""Tables, and what is said on stderr while work lasts."""

import time
from types import SimpleNamespace

import pytest
from rich.table import Table

from keras_convnext._util import progress as progress_module
from keras_convnext._util.progress import progress
from keras_convnext._util.tables import new_console
from keras_convnext.artifacts.verification import Report
from keras_convnext.training import callbacks
from keras_convnext.weights import registry

pytestmark = pytest.mark.once


def test_a_row_is_a_line_where_there_is_no_terminal(
    run_command, monkeypatch, capsys
):
    monkeypatch.setenv("COLUMNS", "40")
    status, printed, _ = run_command("weights")
    lines = printed.splitlines()
    for checkpoint in registry.checkpoints():
        assert any(
            f" {checkpoint.model} " in line and f" {checkpoint.tag} " in line
            for line in lines
        )
    assert len(lines) == len(registry.checkpoints()) + 4
    table = Table("a", "b")
    table.add_row("word " * 300, "[red]b[/red] :smile:")
    new_console().print(table)
    text = capsys.readouterr().out
    assert "word " * 300 in text and "[red]b[/red] :smile:" in text


def test_a_terminal_has_the_width_that_it_tells(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    new_console().print("word " * 30)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40


def test_reports_of_artifacts_are_not_wrapped(tmp_path, capsys):
    operations = {f"Operation{i}": i for i in range(60)}
    fields = dict.fromkeys(Report.__dataclass_fields__)
    path = tmp_path / f"{'long' * 30}.onnx"
    known = {"path": path, "images": 0, "size_bytes": 1}
    Report(**{**fields, **known, "operations": operations}).print()
    printed = capsys.readouterr().out.splitlines()
    assert any(path.name in line for line in printed)
    assert len([x for x in printed if "Operation" in x]) == 1


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(progress_module, "FIRST_LINE", 0.0)
    monkeypatch.setattr(progress_module, "LINES", 0.0)


@pytest.mark.parametrize("verbose", [True, False])
def test_what_takes_long_says_so_on_stderr(at_once, verbose, capsys):
    with progress("working", 3, "images", verbose) as advance:
        advance()
        advance(2)
    printed, said = capsys.readouterr()
    assert printed == ""
    expected = ["working: 1 of 3 images", "working: 3 of 3 images"]
    lines = [x for x in said.splitlines() if x != "working …"]
    assert lines == (expected if verbose else [])


def test_a_single_step_that_takes_long_says_so(at_once, monkeypatch, capsys):
    with progress("exporting", None):
        until = time.monotonic() + 10
        said = ""
        while not said and time.monotonic() < until:
            time.sleep(0.01)
            said += capsys.readouterr().err
    assert said == "exporting …\n"


def test_what_is_quick_says_nothing(capsys):
    with progress("working", 2) as advance:
        advance(2)
    assert capsys.readouterr() == ("", "")


def test_training_without_a_terminal_tells_how_far_it_is(monkeypatch, capsys):
    """A step a second, of four images; a line in two seconds."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress_module, "LINES", 2.0)
    for module in (progress_module, callbacks):
        monkeypatch.setattr(
            module.time, "monotonic", lambda: clock.now, raising=True
        )
    run = SimpleNamespace(step=0, history=[])
    shown = callbacks.Progress(run, 10, 5, 4)
    for step in range(6):
        run.step += 1
        shown.on_train_batch_end(step % 5, {"loss": 0.5})
        clock.now += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "epoch 1/2  step 1/5  loss 0.5000",
        "epoch 1/2  step 3/5  loss 0.5000  4.0 images/s  0:00:07 left",
        "epoch 1/2  step 5/5  loss 0.5000  4.0 images/s  0:00:05 left",
    ]
    quiet = callbacks.Progress(run, 10, 5, 4, verbose=False)
    quiet.on_train_batch_end(0, {"loss": 0.5})
    assert capsys.readouterr().err == ""
