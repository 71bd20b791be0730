"""The command line, apart from the work that it starts."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from keras_convnext import VARIANTS
from keras_convnext.cli import app


def invoke(*arguments):
    return CliRunner().invoke(app, arguments)


def test_help_shows_commands_and_examples():
    assert "demo" in invoke("--help").output
    assert "keras-convnext demo --output" in invoke("demo", "--help").output
    assert "'convnextv2_*'" in invoke("models", "--help").output


def test_models_lists_by_pattern_and_as_json():
    assert "convnextv2_huge" in invoke("models", "convnextv2_*").output
    rows = json.loads(invoke("models", "--json").output)
    assert [row["name"] for row in rows] == list(VARIANTS)


def test_models_without_a_match_fails():
    result = invoke("models", "resnet*")
    assert result.exit_code == 1
    assert "no model matches 'resnet*'" in result.output


@pytest.mark.parametrize("epochs", ["0", "many"])
def test_bad_options_end_with_status_2(epochs):
    assert invoke("demo", "--epochs", epochs).exit_code == 2


def test_errors_are_one_line_without_a_traceback(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "keras_convnext",
            "demo",
            "--output",
            blocked,
        ],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    assert str(blocked) in run.stderr
