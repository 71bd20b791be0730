"""The process of one contestant: builds it once, runs it when told to.

A script that imports nothing of this package, so that a peer's process holds
the peer and nothing else. The first line of stdin is the job in JSON, answers
are lines of JSON on stdout, and each further line of stdin asks for one run.
"""

import contextlib
import importlib
import importlib.util
import json
import math
import os
import sys
import time
import traceback
from pathlib import Path

WARM_UP_CALLS = 2
SECONDS = 0.5


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print

    def answer(**fields):
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    try:
        work(json.loads(sys.stdin.readline()), sys.stdin, answer)
    except Exception as error:
        traceback.print_exc()
        answer(failure=f"{type(error).__name__}: {error}")
        sys.exit(1)


def work(job, requests, answer):
    """Does a job, and then a run for each line of `requests`.

    Args:
        job: dict; `builder`, `needs` and `cores` are read here, the builder
            reads the others.
        requests: iterable of lines.
        answer: called with the fields of each answer as keywords.
    """
    if job["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job["cores"])
    start = time.perf_counter()
    build = load(job["builder"])
    for module in job["needs"]:
        importlib.import_module(module)
    import_seconds = time.perf_counter() - start
    imported_bytes = memory("VmRSS")

    start = time.perf_counter()
    model = build(job)
    build_seconds = time.perf_counter() - start
    if isinstance(model, dict):  # no model, but the answer
        answer(**model)
        return

    run = model.prepare(*batch(job, model.takes_normalized))
    start = time.perf_counter()
    result = run()
    model.finish()
    first_call_seconds = time.perf_counter() - start
    check(result, job)
    for _ in range(WARM_UP_CALLS):
        warm_seconds = timed(run, model.finish, 1)
    calls = max(1, math.ceil(SECONDS / warm_seconds))
    answer(
        device=model.device,
        import_seconds=import_seconds,
        imported_bytes=imported_bytes,
        build_seconds=build_seconds,
        first_call_seconds=first_call_seconds,
        calls=calls,
    )
    for _ in requests:
        seconds = timed(run, model.finish, calls) / calls
        answer(
            seconds=seconds,
            peak_bytes=memory("VmHWM"),
            device_peak_bytes=model.peak_bytes(),
        )


def load(name):
    """The object of `FILE:OBJECT`, the file beside this one."""
    file, _, name = name.rpartition(":")
    path = Path(__file__).parent / file
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def batch(job, normalize):
    """Images, channels last, of 0–255 or normalized, and labels."""
    import numpy as np

    generator = np.random.default_rng(0)
    size, count = job["image_size"], job["batch_size"]
    images = generator.integers(0, 256, (count, size, size, 3))
    labels = generator.integers(0, 1000, count)
    if normalize:
        images = (images / 255 - job["mean"]) / job["std"]
    return images.astype("float32"), labels


def check(result, job):
    """The speed of something that does not work means nothing."""
    import numpy as np

    expected = (job["batch_size"], 1000) if job["mode"] == "inference" else ()
    result = np.asarray(result, "float32")
    if result.shape != expected or not np.isfinite(result).all():
        raise ValueError(
            f"expected finite outputs of shape {expected}. Received: "
            f"{np.isfinite(result).sum()} finite ones of shape {result.shape}"
        )


def timed(run, finish, calls):
    start = time.perf_counter()
    for _ in range(calls):
        run()
    finish()
    return time.perf_counter() - start


def memory(field):
    """Bytes of this process: `VmRSS` now, `VmHWM` at most so far.

    Not `getrusage`, whose maximum begins at that of the starting process;
    elsewhere than on Linux there is nothing else.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return 1024 * int(line.split()[1])
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
