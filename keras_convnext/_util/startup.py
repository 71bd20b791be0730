"""What `keras-convnext` does while its packages are imported, which is slow.

The package imports this before Keras, and everything here is light.
"""

import contextlib
import os
import platform
import re
import signal
import sys
import threading
import types
import warnings
from importlib.util import find_spec

from keras_convnext._util import backend_choice
from keras_convnext._util.ctrl_c import end_at_once_by_ctrl_c
from keras_convnext._util.ctrl_c import is_command
from keras_convnext._util.memory import keep_freed_memory

# What ends a command with its message alone.
ERRORS = (ValueError, ImportError, OSError, ArithmeticError)
# Keras imports what is installed of these, for parts of it that no command
# uses: half of the time until a command begins.
UNUSED = ("jax", "matplotlib", "sklearn", "tensorflow", "torch")
HIDDEN_WARNINGS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
SAID_AFTER = 3.0  # seconds
# TensorFlow's lines while it is imported, which TF_CPP_MIN_LOG_LEVEL does not
# reach: they are about processors, and from before it reads the variable.
NOISE = re.compile(
    rb"I\d{4} .*|WARNING: All log messages before absl::InitializeLog\(\).*"
)

SHOW_IN_FULL = warnings.showwarning


class WentWrong(Exception):
    """The input of a command was good, its run was not."""


def begin() -> None:
    """Prepares for a command, if this process is one."""
    if not is_command():
        return
    keep_freed_memory()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.excepthook = _tell
    warnings.showwarning = show_warning
    hide_warnings()


@contextlib.contextmanager
def starting():
    """Imports that take seconds: says so, and Ctrl-C ends them at once."""
    if not is_command():
        yield
        return
    timer = threading.Timer(SAID_AFTER, _say)
    timer.daemon = True
    is_quiet = "--quiet" in sys.argv
    if not is_quiet and sys.stderr is not None and sys.stderr.isatty():
        timer.start()
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        end_at_once_by_ctrl_c()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)


def prefer_onednn(backend: str | None) -> None:
    """Lets TensorFlow take oneDNN's operations on every x86 processor.

    Left to itself it takes them from AVX-512 VNNI on. TensorFlow reads the
    variable as it starts; what the user set stays.
    """
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    if backend == "tensorflow" and "tensorflow" not in sys.modules and is_x86:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def import_keras(backend: str | None) -> None:
    """Imports Keras, for a command without what no command uses of it.

    Keras asks once whether TensorFlow is installed, the first time that it
    writes a configuration, and imports it to know.
    """
    # Of others, as Keras' own for NumPy, it is not known what they import.
    if not is_command() or backend not in backend_choice.BACKENDS:
        return
    hidden = [
        name
        for name in UNUSED
        if name != backend and name not in sys.modules and find_spec(name)
    ]
    # Python's way of saying that a module cannot be imported.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        with _without_noise():
            import keras

            keras.dtype_policies.serialize(keras.DTypePolicy("float32"))
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def _without_noise():
    """Passes on the lines of stderr as they come, but for `NOISE`.

    They are written below Python, so that `sys.stderr` does not see them.
    """
    is_wanted = os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    if is_wanted or sys.stderr is None:  # it is closed
        yield
        return
    stderr = os.dup(2)
    reading, writing = os.pipe()

    def pass_on():
        with open(reading, "rb") as lines:
            for line in lines:
                if not NOISE.match(line):
                    os.write(stderr, line)
        os.close(stderr)

    passing = threading.Thread(target=pass_on, daemon=True)
    os.dup2(writing, 2)
    os.close(writing)
    passing.start()
    try:
        yield
    finally:
        # The thread ends with the last copy of the pipe's end, which a
        # process that was started meanwhile may have.
        os.dup2(stderr, 2)
        passing.join(1)


@contextlib.contextmanager
def running():
    """A command: signals end it as they should, warnings are one line each.

    `finally` is heeded, and what was not written whole is removed.
    """
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                handlers[number] = signal.signal(number, _end)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            hide_warnings()
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _flush()


def _flush():
    """Writes what is left; whoever read it may have enough, as `head` has."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would try again as it ends, and tell of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _end(number: int, _: types.FrameType | None) -> None:
    sys.exit(128 + number)


def hide_warnings():
    """Leaves out what is for those who write programs."""
    if not sys.warnoptions:
        for category in HIDDEN_WARNINGS:
            warnings.simplefilter("ignore", category)


@contextlib.contextmanager
def showing_all(is_wanted=True):
    """All warnings, each with the line of code that it came from."""
    with warnings.catch_warnings():
        if is_wanted:
            warnings.simplefilter("default")
            warnings.showwarning = SHOW_IN_FULL
        yield


def show_warning(message, category, filename, lineno, file=None, line=None):
    """A warning in one line, without the line of code that it came from."""
    text = " ".join(str(message).split())
    print(f"warning: {text}", file=file or sys.stderr)


def _tell(kind, error, trace):
    """An error before there is a command to report it."""
    if not issubclass(kind, ERRORS):
        return sys.__excepthook__(kind, error, trace)
    print(f"keras-convnext: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)


def _say():
    print("keras-convnext: Keras is starting …", file=sys.stderr, flush=True)


begin()
