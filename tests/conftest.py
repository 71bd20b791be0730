"""Shared fixtures. One process tests one backend: set `KERAS_BACKEND`."""

import contextlib
import functools
import gc
import json
import sys
import time
from pathlib import Path

import environment
import numpy as np
import pytest

# The process that deals out tests to others needs no Keras: its import, some
# seconds, is left to the functions below.
BACKEND = environment.backend()
# TensorFlow and JAX compile each variant of a case anew, which takes most of a
# test's time: some are for `make test-long` there, by mark or as decorator.
COMPILES = BACKEND != "torch"
LONG_WHERE_COMPILED = [pytest.mark.long] if COMPILES else []


def long_where_compiled(test):
    mark = pytest.mark.long if COMPILES else pytest.mark.every_backend
    return mark(test)


def short_on(backend):
    """Marks what is for `make test` on this backend, and else long."""
    is_here = backend == BACKEND
    return pytest.mark.every_backend if is_here else pytest.mark.long


def when(item):
    """Which of these marks counts for a test: the nearest to its case."""
    names = [mark.name for mark in reversed(item.own_markers)]
    names += [mark.name for mark in item.parent.iter_markers()]
    marks = [x for x in names if x in ("long", "once", "every_backend")]
    return marks[0] if marks else "every_backend"


def pytest_collection_modifyitems(config, items):
    wanted = {"long"} if config.getoption("--long") else {"every_backend"}
    if not config.getoption("--long") and not config.getoption("--skip-once"):
        wanted.add("once")
    kinds = {item: when(item) for item in items}
    config.hook.pytest_deselected(
        items=[item for item in items if kinds[item] not in wanted]
    )
    items[:] = [item for item in items if kinds[item] in wanted]


def pytest_collection_finish():
    """What has been imported stays, and need not be looked through again.

    Keras collects garbage for every layer that it quantizes, and Python now
    and then: 0.2 s each with the objects of a backend and its peers.
    """
    gc.collect()
    gc.freeze()
    now = environment.backend()
    assert now == BACKEND, f"a module set KERAS_BACKEND={now} on import"


def pytest_report_header():
    return f"backend: {BACKEND}"


def pytest_addoption(parser):
    parser.addoption(
        "--long", action="store_true", help="run the long proofs instead"
    )
    parser.addoption(
        "--skip-once", action="store_true", help="leave out tests marked `once`"
    )
    parser.addoption(
        "--seconds", type=float, help="skip what has not begun by then"
    )
    parser.addoption(
        "--report-lines", help="a file for one line of JSON per test"
    )


def pytest_configure(config):
    path = config.getoption("--report-lines")
    is_worker = hasattr(config, "workerinput")
    if path and not is_worker:
        config.pluginmanager.register(ReportLines(path))


STARTED = time.monotonic()


def pytest_runtest_setup(item):
    limit = item.config.getoption("--seconds")
    if limit is not None and time.monotonic() - STARTED > limit:
        pytest.skip(f"{limit:.0f} s are over")


class ReportLines:
    """Writes a test's result as soon as it ends."""

    def __init__(self, path):
        self.path = path
        self.seconds = {}

    def pytest_runtest_logreport(self, report):
        spent = self.seconds.pop(report.nodeid, 0.0) + report.duration
        self.seconds[report.nodeid] = spent
        decides = report.when == "call" or report.outcome != "passed"
        if not decides:
            return
        # Without its folder: rows of `LONG.md` stay when a file moves.
        path, _, test = report.nodeid.partition("::")
        name = f"{Path(path).stem}::{test}"
        results = {"failed": "FAILED"}
        line = {
            "name": name,
            "result": results.get(report.outcome, report.outcome),
            "measured": report.user_properties,
            "seconds": spent,
        }
        with open(self.path, "a") as file:
            file.write(json.dumps(line, default=str) + "\n")


@pytest.fixture(autouse=True)
def clean_keras_settings():
    """Global settings of Keras are put back, and random draws repeat."""
    import keras

    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")


class UsesBackend(AssertionError):
    """A test marked `once` computes with the backend."""


@pytest.fixture(autouse=True)
def no_backend_in_once(request, monkeypatch):
    """What is marked `once` must not depend on the backend."""
    if when(request.node) == "once":
        refuse_backend(monkeypatch)


def refuse_backend(monkeypatch):
    """From here on Keras makes no variable, and computes nothing."""
    import keras

    def refusing(name):
        def refuse(*args, **kwargs):
            raise UsesBackend(
                "Tests marked `once` run on one backend only, so they must "
                f"compute nothing with Keras. Received: a call of {name}. "
                "Remove the mark."
            )

        return refuse

    monkeypatch.setattr(keras.Layer, "__call__", refusing("a layer"))
    monkeypatch.setattr(keras.Variable, "__init__", refusing("keras.Variable"))
    for name, value in vars(keras.ops).items():
        if name == "is_tensor" or isinstance(value, type):
            continue
        if callable(value):
            monkeypatch.setattr(keras.ops, name, refusing(f"keras.ops.{name}"))


@pytest.fixture
def float64():
    with x64():
        yield


@contextlib.contextmanager
def x64():
    """JAX computes in float64 only when told so."""
    if BACKEND != "jax":
        yield
        return
    import jax

    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def images():
    """Two random images of 64×64 pixels with values of 0–255."""
    return random_images((2, 64, 64, 3))


@pytest.fixture
def run_main(monkeypatch, capsys):
    """Runs a command as a shell would: `(status, stdout, stderr)`."""

    def run(main, *arguments):
        monkeypatch.setattr(sys, "argv", [*map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            main()
        return exit.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def run_command(run_main):
    """Runs `keras-convnext` as `run_main` does."""
    from keras_convnext import cli

    return functools.partial(run_main, cli.main, "keras-convnext")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server, empty caches, and no other way out."""
    from hub_server import serve
    from huggingface_hub import constants

    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield server


@pytest.fixture
def predict_command(monkeypatch, run_command):
    """Runs `keras-convnext predict` alone, without its name."""
    import typer

    from keras_convnext import cli
    from keras_convnext.cli import advice
    from keras_convnext.cli.predict import predict

    app = typer.Typer(pretty_exceptions_enable=False)
    # Errors keep the names of Python's arguments.
    app.command()(advice.for_command(predict, dict))
    monkeypatch.setattr(cli, "app", app)
    return run_command


def random_images(shape):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, shape).astype("float32")


def predict(model, images):
    """Logits or features as NumPy, without the cost of `model.predict`."""
    import keras

    return keras.ops.convert_to_numpy(model(images, training=False))
