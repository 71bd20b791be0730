"""What the command does before and around its work, as a shell sees it.

Each process takes seconds to start, so there are few of them.
"""

import os
import re
import signal
import subprocess
import sys
import time
import warnings

import pytest
from conftest import BACKEND
from conftest import long_where_compiled
from runs import invoke
from runs import new_model
from runs import write_photographs
from typer.testing import CliRunner

import keras_convnext
from keras_convnext import VARIANTS
from keras_convnext import cli
from keras_convnext._util import ctrl_c
from keras_convnext._util import startup
from keras_convnext._util import subprocesses
from keras_convnext._util import telling
from keras_convnext.cli import app
from keras_convnext.cli import models

pytestmark = pytest.mark.once

# What no command but some exports needs, beside the backend.
HEAVY = {"jax", "keras_cv", "onnx", "onnxruntime", "openvino", "pandas"}
HEAVY |= {"mlflow", "sklearn", "tensorflow", "torch", "transformers", "wandb"}


@pytest.fixture(autouse=True)
def ctrl_c_counts():
    """Jobs in the background of a shell have it ignored, and so their own."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(*arguments, options=(), **variables):
    return subprocess.Popen(
        [
            sys.executable,
            *options,
            "-m",
            "keras_convnext",
            *map(str, arguments),
        ],
        env=subprocesses.environment(BACKEND, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "variables, settings",
    [
        ({"KERAS_BACKEND": "foo"}, "{}"),
        ({"KERAS_BACKEND": ""}, '{"backend": "theano"}'),
        ({}, "[]"),
        ({}, '{"floatx": "float8"}'),
    ],
)
def test_a_wrong_start_is_one_line(variables, settings, tmp_path):
    (tmp_path / "keras.json").write_text(settings)
    if settings == "[]":  # which counts only where no variable does
        variables = {"KERAS_BACKEND": ""}
    process = start("plan", KERAS_HOME=str(tmp_path), **variables)
    printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed) == (2, "")
    (line,) = said.splitlines()
    assert line.startswith("keras-convnext: ")


def test_ctrl_c_while_keras_is_imported_is_quiet(tmp_path):
    mark = tmp_path / "began"
    # What takes the place of the backend's package waits for the signal.
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").write_text(
        f"import pathlib, time\n"
        f"pathlib.Path({str(mark)!r}).touch()\n"
        f"try:\n    time.sleep(60)\n"
        f"except BaseException as error:\n    raise ValueError(str(error))\n"
    )
    process = start("plan", PYTHONPATH=f"{tmp_path}:{subprocesses.ROOT}")
    until = time.monotonic() + 30
    while not mark.exists() and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130


def test_the_backend_is_not_heard_while_it_is_imported(tmp_path):
    noise = (
        "WARNING: All log messages before absl::InitializeLog() is called are "
        "written to STDERR\nI0000 00:00:17.5 54 port.cc:153] oneDNN is on\n"
    )
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").write_text(
        f"import os\nos.write(2, {noise.encode()!r} + b'E0000 bad\\n')\n"
        f"raise ValueError('no Keras')\n"
    )
    path = f"{tmp_path}:{subprocesses.ROOT}"
    for level, before in (("2", ""), ("0", noise)):
        process = start("plan", PYTHONPATH=path, TF_CPP_MIN_LOG_LEVEL=level)
        printed, said = process.communicate(timeout=30)
        assert (printed, process.returncode) == ("", 2)
        assert said == f"{before}E0000 bad\nkeras-convnext: no Keras\n"


@long_where_compiled
def test_a_training_imports_nothing_it_does_not_use(tmp_path):
    """Where `-X importtime` tells what came in, in a training with it all."""
    new_model().save(tmp_path / "model.keras")
    photographs = write_photographs(tmp_path / "photos", ((2, 2), (1, 1)))
    arguments = ("train", "--data", photographs, "--epochs", 1)
    arguments += ("--model", tmp_path / "model.keras", "--image-size", 16)
    arguments += ("--batch-size", 2, "--warmup-epochs", 0)
    process = start(
        *arguments,
        *("--output", tmp_path / "run"),
        options=("-X", "importtime"),
    )
    printed, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    # A name that was not found stands there too; what is in it does not.
    imported = {x for x in HEAVY if re.search(rf"\| +{x}\.", said)}
    assert imported == {BACKEND}
    assert "tensorboard" in said and (tmp_path / "run/curves.png").exists()
    others = [x for x in said.splitlines() if not x.startswith("import time:")]
    epochs = [x.split()[1] for x in others if x.startswith("epoch ")]
    assert epochs == ["1/1", "1/1"]


def test_a_command_has_the_public_names(monkeypatch):
    """Which programs get as they import the package, and commands later."""
    for name in keras_convnext.__all__:
        monkeypatch.delattr(keras_convnext, name)
    cli.start_keras()
    assert keras_convnext.VARIANTS is VARIANTS
    assert all(hasattr(keras_convnext, x) for x in keras_convnext.__all__)


@pytest.mark.parametrize(
    "arguments, printed",
    [
        (["--help"], "segment"),
        (["--version"], keras_convnext.__version__),
        (["models", "*_huge"], "convnextv2_huge"),
        (["weights", "*atto.fcmae", "--json"], "convnextv2_atto"),
        (["serve", "--help"], "--queue-size"),
    ],
)
def test_listings_do_not_wait_for_keras(arguments, printed):
    process = start(*arguments, options=("-X", "importtime"), KERAS_BACKEND="?")
    output, said = process.communicate(timeout=60)
    assert process.returncode == 0 and printed in output
    imported = re.findall(r"\| +(\w+)\.", said)
    assert "typer" in imported
    assert not {"keras", *HEAVY} & set(imported)


def test_the_shell_completes_commands_and_their_options():
    for words, expected in (
        ("keras-convnext pr", ["pretrain", "probe", "predict"]),
        ("keras-convnext models --js", ["--json"]),
    ):
        completing = {
            "_KERAS_CONVNEXT_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        result = CliRunner().invoke(
            app, prog_name="keras-convnext", env=completing
        )
        assert result.output.split() == expected


@pytest.mark.parametrize(
    "argv, orig_argv, expected",
    [
        (["/bin/keras-convnext", "models"], ["python", "…"], True),
        ([r"C:/Scripts/keras-convnext.exe"], ["python", "…"], True),
        (["-m", "models"], ["python", "-m", "keras_convnext", "models"], True),
        (["-m"], ["python", "-X", "dev", "-mkeras_convnext"], True),
        (["/lib/keras_convnext/__main__.py"], ["python", "…"], True),
        (["/lib/pytest/__main__.py"], ["python", "…"], False),
        (["-m"], ["python", "-m", "pytest"], False),
        (["script.py"], ["python", "script.py"], False),
        (["-c"], ["python", "-c", "import keras_convnext"], False),
        ([""], ["python"], False),
        (
            ["/bin/keras-convnext"],
            ["python", "-c", "…", "--multiprocessing-fork"],
            False,
        ),
    ],
)
def test_only_the_command_is_the_command(
    argv, orig_argv, expected, monkeypatch
):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", orig_argv)
    assert ctrl_c.is_command() is expected


def test_a_library_is_left_alone():
    before = signal.getsignal(signal.SIGINT), sys.excepthook, dict(os.environ)
    startup.begin()
    startup.import_keras("torch")
    after = signal.getsignal(signal.SIGINT), sys.excepthook, dict(os.environ)
    assert before == after


@pytest.mark.parametrize(
    "backend, machine, told, started, expected",
    [
        ("tensorflow", "x86_64", None, False, "1"),
        ("tensorflow", "x86_64", "0", False, "0"),
        ("tensorflow", "x86_64", None, True, None),
        ("tensorflow", "aarch64", None, False, None),
        ("jax", "x86_64", None, False, None),
    ],
)
@pytest.mark.once
def test_onednn_is_for_tensorflow_that_has_not_started(
    backend, machine, told, started, expected, monkeypatch
):
    name = "TF_ENABLE_ONEDNN_OPTS"
    monkeypatch.setattr(startup.platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "modules", {"tensorflow": 0} if started else {})
    environment = {} if told is None else {name: told}
    monkeypatch.setattr(os, "environ", environment)
    startup.prefer_onednn(backend)
    assert environment.get(name) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_work_and_put_away_what_was_begun(number, tmp_path):
    begun = tmp_path / "begun"
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as exit, startup.running():
        try:
            begun.touch()
            os.kill(os.getpid(), number)
            time.sleep(10)
        finally:
            begun.unlink()
    assert exit.value.code == 128 + number
    assert not begun.exists()
    assert signal.getsignal(number) is before


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with startup.running():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_who_wants_quiet_is_told_nothing_beside_the_result(monkeypatch):
    def told_of(pattern):
        telling.tell("a note")
        return VARIANTS

    monkeypatch.setattr(models, "list_models", told_of)
    for flags, told in (((), "a note\n"), (("--quiet",), "")):
        assert invoke("models", *flags).stderr == told
    assert telling.is_quiet()
    invoke("models")
    assert not telling.is_quiet()
    result = invoke("models", "--quiet", "--verbose")
    assert "Choose one of" in str(result.exception)


def test_who_wants_all_sees_where_warnings_and_errors_arise(
    monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["…", "models", "--verbose"])
    shown = []
    monkeypatch.setattr(
        startup, "SHOW_IN_FULL", lambda *x, **_: shown.append(x)
    )

    def listed(pattern):
        warnings.warn("soon gone", DeprecationWarning, stacklevel=1)
        raise ValueError("bad")

    monkeypatch.setattr(models, "list_models", listed)
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().err
    assert [str(x[0]) for x in shown] == ["soon gone"]
    assert "Traceback" in said and said.endswith("keras-convnext: bad\n")


def test_warnings_are_one_line_and_those_for_programmers_none(capsys):
    with startup.running():
        warnings.warn("of\nimages", stacklevel=1)
        for category in startup.HIDDEN_WARNINGS:
            warnings.warn("soon gone", category, stacklevel=1)
    assert capsys.readouterr().err == "warning: of images\n"
