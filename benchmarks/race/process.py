"""A contestant's process, as the one who starts it sees it."""

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from keras_convnext._util import subprocesses

SCRIPT = Path(__file__).with_name("worker.py")
# For one answer: the first one takes building, compiling and warming up.
TIMEOUT_SECONDS = 1800
THREADS = (
    "MKL_NUM_THREADS",
    "NPROC",  # XLA
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)


class Failure(Exception):
    """A contestant cannot go on; the text says why, in one line."""


@contextlib.contextmanager
def started(job, backend):
    """A `Process` that does a job, and ends with the context.

    Args:
        job: dict of JSON's types, see `worker.work`.
        backend: of Keras, where the contestant uses it.
    """
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(
            # -P: nothing beside the script hides a module of that name.
            [sys.executable, "-P", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
            env=environment(backend, job["threads"]),
        ) as popen,
    ):
        process = Process(popen, errors)
        try:
            process.send(json.dumps(job))
            yield process
        finally:
            process.end()


class Process:
    """Talks to a process that runs `worker.py`."""

    def __init__(self, popen, errors):
        self.popen = popen
        self.errors = errors
        self.answers = queue.Queue()
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def run(self):
        """Asks for a run, and waits for its answer."""
        self.send("run")
        return self.answer()

    def answer(self):
        """The next answer as a dict.

        Raises:
            Failure: if the process says so, ends, or takes too long.
        """
        try:
            line = self.answers.get(timeout=TIMEOUT_SECONDS)
        except queue.Empty:
            raise Failure(f"no answer in {TIMEOUT_SECONDS} s") from None
        if not line:
            raise Failure(self._end())
        answer = json.loads(line)
        if "failure" in answer:
            raise Failure(answer["failure"].strip().splitlines()[0])
        return answer

    def send(self, line):
        """Writes a line; if nobody reads it, the next answer says so."""
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.write(line.encode() + b"\n")

    def end(self):
        """Ends the process, whatever it is doing."""
        self.popen.kill()
        self.listener.join()

    def _listen(self):
        for line in self.popen.stdout:
            self.answers.put(line)
        self.answers.put("")

    def _end(self):
        status = self.popen.wait()
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines() or ["it said nothing"]
        return f"the process ended with status {status}: {lines[-1]}"


def environment(backend, threads):
    """What every library reads its number of threads from, and more."""
    return subprocesses.environment(
        backend,
        **dict.fromkeys(THREADS, str(threads)),
        # Two processes share a GPU.
        TF_FORCE_GPU_ALLOW_GROWTH="true",
        XLA_PYTHON_CLIENT_PREALLOCATE="false",
        # The first call is that of a fresh machine.
        TORCHINDUCTOR_FORCE_DISABLE_CACHES="1",
    )
