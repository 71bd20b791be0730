"""Contestants of the benchmark that only pretend, run by its worker.

What they did and when is appended to the file `BENCHMARK_LOG`.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np


def log(*words):
    with open(os.environ["BENCHMARK_LOG"], "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


class Fake:
    takes_normalized = False
    device = "CPU"
    name = "fake"
    call_seconds = 0.3

    def __init__(self, job):
        self.job = job
        log("build", self.name, job["mode"])

    def prepare(self, images, labels):
        self.images, self.labels = images, labels
        return self.call

    def call(self):
        log("begin", self.name)
        time.sleep(self.call_seconds)
        log("end", self.name)
        if self.job["mode"] == "training":
            return 7.0
        return np.zeros((len(self.images), 1000))

    def finish(self):
        pass

    def peak_bytes(self):
        return None


class Peer(Fake):
    name = "peer"
    call_seconds = 0.4


class Quick(Fake):
    """The fastest of ours."""

    name = "quick"
    call_seconds = 0.2


class Raises(Fake):
    name = "raises"

    def prepare(self, images, labels):
        raise RuntimeError("no such operation\nand much detail")


class Dies(Fake):
    """In its fourth call: the first one of the first run."""

    name = "dies"
    calls = 0

    def call(self):
        self.calls += 1
        if self.calls == 4:
            print("last words", file=sys.stderr, flush=True)
            os._exit(3)
        return super().call()


class DiesWaiting(Fake):
    """Warm, while ours runs before it."""

    name = "dies_waiting"
    calls = 0

    def call(self):
        self.calls += 1
        if self.calls == 3:
            threading.Timer(0.5, os._exit, [4]).start()
        return super().call()


class Hangs(Fake):
    name = "hangs"

    def prepare(self, images, labels):
        time.sleep(600)


class GivesNan(Fake):
    name = "nan"

    def call(self):
        return super().call() * np.nan


class GivesFeatures(Fake):
    name = "features"

    def call(self):
        return super().call()[:, :5]


class Describes(Fake):
    """What it finds itself in, as the name of its device."""

    name = "describes"

    def __init__(self, job):
        super().__init__(job)
        self.held = np.ones(100 * 2**20 // 8)
        print("noise on stdout")
        known = {
            "cores": sorted(os.sched_getaffinity(0)),
            "threads": os.environ["OMP_NUM_THREADS"],
            "backend": os.environ["KERAS_BACKEND"],
            "keras": "keras" in sys.modules,
            "text": Path(job["path"]).read_text(),
        }
        self.device = json.dumps(known)


def write_text(job):
    log("write", job["image_size"])
    Path(job["path"]).write_text(f"for {job['image_size']} px")
    return {}
