"""Pytest in forks of a process that has imported what takes long.

Keras, its backend and other people's packages are imported once; the package
itself in each fork alone, from the folder that the process works in. The
process says that it is ready, and answers each line that it reads, a file for
the output and arguments of pytest, with a status.
"""

import contextlib
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

HEAVY = (
    *("keras", "tensorflow", "torch", "timm.data", "transformers", "pytest"),
    *("safetensors.torch", "scipy.stats", "sklearn.metrics", "matplotlib"),
)


class Forks:
    """Such a process, seen from the one that has started it.

    Args:
        folder: path of a copy of the repository.
        backend: of Keras.
    """

    def __init__(self, folder, backend):
        self.folder, self.backend = folder, backend
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).resolve()],
            cwd=self.folder,
            env={
                **os.environ,
                "KERAS_BACKEND": self.backend,
                "OMP_NUM_THREADS": "1",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # half a second each
                "PYTHONPATH": str(self.folder),
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A group of its own, with all that tests start, to end at once.
            start_new_session=True,
        )
        self.process.stdout.readline()  # ready

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def run(self, tests, limit):
        """Status of pytest, seconds, and the end of what it printed.

        The status is `None` where the time was over.
        """
        file = self.folder.parent / f"{self.folder.name}_output.txt"
        file.write_text("")
        begun = time.monotonic()
        line = json.dumps([str(file), *tests]) + "\n"
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()
        is_done, _, _ = select.select([self.process.stdout], [], [], limit)
        answer = self.process.stdout.readline() if is_done else b""
        seconds = round(time.monotonic() - begun, 1)
        status = int(answer) if answer else -1 if is_done else None
        if not is_done:
            self.end()
            self.start()
        return status, seconds, file.read_text(errors="replace")[-2000:]


def serve():
    import torch

    # What timm's import asks for, see `peers.import_timm`, which declares it
    # again in the forks.
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # there is a build of its own
            library.define(f"{operator}(Tensor a, Tensor b, float c) -> Tensor")
    for name in HEAVY:
        with contextlib.suppress(ImportError):
            __import__(name)
    del library
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            file, *tests = json.loads(line)
            os._exit(run_tests(file, tests))
        status = os.waitpid(child, 0)[1]
        print(os.waitstatus_to_exitcode(status), flush=True)


def run_tests(file, tests):
    import pytest

    output = os.open(file, os.O_WRONLY | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(output, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    found = Path(importlib.util.find_spec("keras_convnext").origin).resolve()
    if not found.is_relative_to(Path.cwd()):
        print(f"The package must be the copy's. Received: {found}", flush=True)
        return 70
    status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])
    sys.stdout.flush()
    sys.stderr.flush()
    return int(status)


if __name__ == "__main__":
    serve()
