"""What is written is whole or not there, and says why it is not."""

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import filelock
import pytest
from safetensors import SafetensorError

from keras_convnext import cli
from keras_convnext._util import child
from keras_convnext._util import writing

pytestmark = pytest.mark.once


class OfTensorFlow(Exception):
    """Stands for TensorFlow's errors, which are of no built-in kind."""

    __module__ = "tensorflow.python.framework.errors_impl"


FULL = "could not be written: No space left on device. Make room on the disk"
LARGE = "could not be written: File too large. Raise the limit"


# What the libraries raised on a disk without room.
@pytest.mark.parametrize(
    "error, message",
    [
        (OSError(errno.ENOSPC, "any"), FULL),
        (OSError(errno.EDQUOT, "any"), "quota exceeded. Make room"),
        (PermissionError(errno.EACCES, "any"), "denied. Choose a folder"),
        (OSError(errno.EROFS, "any"), "Read-only file system. Choose a fol"),
        (SafetensorError("I/O error: File too large (os error 27)"), LARGE),
        (RuntimeError("error message = 'File too large', buf = 0x"), LARGE),
        (OfTensorFlow("/a/b; No space left on device"), FULL),
        (OSError("200000 requested and 2484 written"), "2484 written. Check"),
    ],
)
def test_why_it_is_not_written(error, message, tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("before")
    with pytest.raises(writing.NotWritten) as caught:  # noqa: SIM117
        with writing.written_aside(path) as unfinished:
            unfinished.write_text("half")
            raise error
    assert str(caught.value).startswith(f"'{path}' could not be written: ")
    assert message in str(caught.value)
    assert os.listdir(tmp_path) == ["result.txt"]
    assert path.read_text() == "before"


@pytest.mark.parametrize("kind", [ValueError, NotImplementedError, Exception])
def test_other_errors_stay_what_they_are(kind, tmp_path):
    with pytest.raises(kind) as caught:  # noqa: SIM117
        with writing.written_aside(tmp_path / "result.txt"):
            raise kind("of something else")
    assert type(caught.value) is kind
    assert os.listdir(tmp_path) == []


def test_a_folder_aside_is_named_by_its_target(tmp_path):
    target = tmp_path / "model.onnx"
    with pytest.raises(writing.NotWritten) as caught:  # noqa: SIM117
        with writing.folder_aside(target) as folder:
            file = folder / "model.onnx"
            with writing.writing(file):
                raise OSError(errno.ENOSPC, "any")
    assert f"'{target}' {FULL}" in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_what_dead_writers_left_is_removed_and_nothing_else(tmp_path):
    for name in ("unfinished_dead_1", "unfinished_alive_1", "unfinished_mine"):
        (tmp_path / name / "content").mkdir(parents=True)
    (tmp_path / "unfinished.txt").write_text("of the user")
    (tmp_path / "unfinished_dead_1" / writing.LOCK).touch()
    alive = tmp_path / "unfinished_alive_1" / writing.LOCK
    with filelock.FileLock(alive):
        with writing.written_aside(tmp_path / "result.txt") as unfinished:
            unfinished.write_text("all")
        assert sorted(os.listdir(tmp_path)) == [
            "result.txt",
            "unfinished.txt",
            "unfinished_alive_1",
            "unfinished_mine",
        ]


def test_of_two_writers_at_once_one_wins_whole(tmp_path):
    path = tmp_path / "result.txt"
    with writing.written_aside(path) as first:
        first.write_text("first")
        with writing.written_aside(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
        assert first.read_text() == "first"
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["result.txt"]


def test_modes_are_those_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with writing.written_aside(tmp_path / "file") as unfinished:
            unfinished.unlink()
            os.close(os.open(unfinished, os.O_CREAT, 0o600))  # safetensors
        with writing.folder_aside(tmp_path / "folder") as folder:
            os.replace(folder, tmp_path / "folder")
    finally:
        os.umask(before)
    modes = {x.name: stat.S_IMODE(x.stat().st_mode) for x in tmp_path.iterdir()}
    assert modes == {"file": 0o640, "folder": 0o750}


def test_names_may_be_long(tmp_path):
    path = tmp_path / ("ü" * 120 + ".json")
    with writing.written_aside(path) as unfinished:
        unfinished.write_text("all")
    assert path.read_text() == "all"


@pytest.mark.parametrize("path", ["file", "file/below", "file/far/below"])
def test_a_file_in_the_way_of_a_folder_is_wrong_usage(path, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="a file is in its way"):
        writing.make_folder(tmp_path / path)
    writing.make_folder(tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir()


def test_a_folder_that_cannot_be_made_or_locked(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "any")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(writing.NotWritten, match="Permission denied. Choose"):
        writing.make_folder(tmp_path / "new")
    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with (
        pytest.raises(writing.NotWritten, match="run.lock' could not be"),
        writing.only_writer(tmp_path / "run.lock"),
    ):
        pass


@pytest.mark.parametrize(
    "error, status, said",
    [
        (OSError(errno.ENOSPC, "any"), 1, f"standard output' {FULL}"),
        (OSError(errno.ENOSPC, "any", "/tmp/a"), 1, f"'/tmp/a' {FULL}"),
        (writing.NotWritten("the message"), 1, "convnext: the message"),
        (PermissionError(errno.EACCES, "any"), 2, "any"),
    ],
)
def test_failed_writing_ends_with_status_1(
    error, status, said, monkeypatch, run_command
):
    def failing():
        raise error

    monkeypatch.setattr(cli, "app", failing)
    found, _, printed = run_command("any")
    assert found == status
    assert said in printed


PARENT = """
import subprocess, sys
code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
child, how = sys.argv[1:]
program = [child, str(__import__("os").getpid()), "-c", code]
if how == "shell":  # a process between the two
    words = " ".join(f"'{x}'" for x in [sys.executable, *program])
    subprocess.run(["sh", "-c", f"{words}; true"])
else:
    subprocess.run([sys.executable, *program])
"""


@pytest.mark.skipif(os.name != "posix", reason="processes get no new parent")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("how", ["directly", "shell"])
def test_no_child_outlives_its_parent(number, how):
    words = [sys.executable, "-c", PARENT, child.__file__, how]
    parent = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    process = int(parent.stdout.readline())
    try:
        parent.send_signal(number)
        if how == "shell":  # else it stays there, as one that has ended
            parent.wait()
        # At an end when nobody can write to the pipe any more.
        assert parent.communicate(timeout=60) == ("", None)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def test_a_child_of_nobody_ends_at_once():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    code = "import time; time.sleep(60)"
    words = [sys.executable, child.__file__, str(gone.pid), "-c", code]
    assert subprocess.run(words, timeout=30).returncode == child.STATUS


def test_children_are_the_programs_that_they_would_be(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(
        "import sys\n"
        "if __name__ == '__main__':\n"
        "    print(sys.argv[1:], sys.path[0])\n"
    )
    for program in (
        ["program.py"],
        ["-m", "program"],
        ["-c", file.read_text()],
    ):
        words = [child.__file__, str(os.getpid()), *program, "a", "b"]
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, capture_output=True
        )
        expected = f"['a', 'b'] {tmp_path}"
        assert done.stdout.decode().strip() == expected, done.stderr
