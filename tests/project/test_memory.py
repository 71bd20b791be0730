"""Freed memory is kept where glibc would give it back to the system."""

import os
import platform
import subprocess
import sys

import pytest

import keras_convnext
from keras_convnext._util import memory
from keras_convnext._util import startup

pytestmark = pytest.mark.once
on_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="glibc's way of giving back"
)
# Filling new memory has a page fault for each 4 KiB, 16,384 of 64 MiB.
SCRIPT = f"""
import resource, runpy, sys, threading
keep = runpy.run_path({memory.__file__!r})["keep_freed_memory"]
print(keep() if sys.argv[1] == "keep" else None)

def fill(count=1):
    for _ in range(count):
        b"1" * (64 << 20)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def count():
    fill()
    before = faults()
    fill(5)
    print(faults() - before)

count()
thread = threading.Thread(target=count)
thread.start()
thread.join()
"""


def run(way, **variables):
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in memory.VARIABLES
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, way],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    answer, *faults = done.stdout.split()
    return answer, [int(x) for x in faults]


@on_glibc
def test_what_was_freed_is_used_again_in_every_thread():
    answer, faults = run("keep")
    assert answer == "True"
    assert max(faults) < 1000
    _, faults = run("leave")
    assert min(faults) > 50_000


@on_glibc
def test_what_users_decided_stays():
    answer, faults = run("keep", MALLOC_ARENA_MAX="2")
    assert answer == "False"
    assert max(faults) > 50_000


def test_other_systems_are_left_alone(monkeypatch):
    for name in memory.VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def no_library(_):
        raise TypeError("as on Windows")

    monkeypatch.setattr(memory.ctypes, "CDLL", no_library)
    assert keras_convnext.keep_freed_memory() is False
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())  # macOS
    assert keras_convnext.keep_freed_memory() is False


@pytest.mark.parametrize("is_command", [True, False])
def test_commands_keep_it_and_programs_are_asked(monkeypatch, is_command):
    calls = []
    monkeypatch.setattr(startup, "is_command", lambda: is_command)
    monkeypatch.setattr(startup, "keep_freed_memory", lambda: calls.append(1))
    for owner, name in [(sys, "excepthook"), (startup.warnings, "showwarning")]:
        monkeypatch.setattr(owner, name, getattr(owner, name))
    with startup.warnings.catch_warnings():
        startup.begin()
    assert len(calls) == is_command
