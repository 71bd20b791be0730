"""The benchmark, from its arguments to its results."""

import datetime
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import one_of
from keras_convnext.facts.variants import VARIANTS
from keras_convnext.models.builder import total_stride
from race import machine
from race import report
from race.contestants import MODES
from race.contestants import Contestant
from race.contestants import select
from race.progress import Progress
from race.starter import Starter
from race.tasks import TASKS
from race.tasks import Task
from race.turn import Turn
from race.turn import groups

COMMAND = "python benchmarks/race"
DTYPES = ("float32", "mixed_bfloat16", "mixed_float16")


def run(
    output: PathLike,
    contestants: Sequence[Contestant] | None = None,
    tasks: Sequence[Task] = TASKS,
    model: str = "convnext_tiny",
    dtype: str = "float32",
    pairs: int = 15,
    threads: int | None = None,
    overwrite: bool = False,
    verbose: bool = True,
) -> dict[str, Any]:
    """Times this package beside others, in turn, in one run.

    Everyone has a process, pinned to the same cores. Ours and a peer take
    turns, never at the same time, each going first in every other pair; their
    ratio is taken pair by pair. At last the fastest of ours meets the fastest
    of the others that compute the same network. Who fails is reported with
    the reason, and the rest goes on.

    Args:
        output: folder for `results.json` (all raw times), `results.md` and
            `results.png`; written anew after every task.
        contestants: list of `Contestant`; all that are installed if `None`.
        tasks: list of `Task`.
        model: name of a variant; weights are random.
        dtype: `"float32"`, `"mixed_bfloat16"` or `"mixed_float16"`: a policy
            of Keras, autocast in PyTorch. On GPUs TensorFlow and JAX may
            compute float32 products in TF32 where PyTorch does not: compare
            mixed precision there.
        pairs: int, how often each pair runs.
        threads: int, cores to run on; all that may be used if `None`.
        overwrite: whether `output` may hold results.
        verbose: whether to show progress on stderr.

    Returns:
        What `results.json` holds, see `report`.

    Raises:
        ValueError: for arguments out of range, and existing results.
        ImportError: without matplotlib.

    Examples:
        >>> race.run(
        ...     "speed", select(["ours/torch", "timm/eager"])
        ... )  # doctest: +SKIP
    """
    cores = machine.usable_cores()
    threads = len(cores) if threads is None else threads
    _check(tasks, model, dtype, pairs, threads, len(cores))
    output = report.folder(output, overwrite)
    contestants = select() if contestants is None else contestants
    results = {
        "date": datetime.datetime.now(datetime.UTC).isoformat("T", "seconds"),
        "command": shlex.join([*COMMAND.split(), *sys.argv[1:]]),
        "model": model,
        "dtype": dtype,
        "pairs": pairs,
        "threads": threads,
        "machine": machine.describe(),
        "versions": machine.versions(),
        "missing": {x.name: x.missing for x in contestants if x.missing},
        "tasks": [],
    }
    present = [x for x in contestants if not x.missing]
    total = sum(_runs(present, task, pairs) for task in tasks)
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(total, verbose) as progress,
    ):
        for name, missing in results["missing"].items():
            progress.say(f"{name}: {_not_installed(missing)}")
        starter = Starter(model, dtype, cores[:threads], Path(folder))
        progress.begin("measuring the ceiling")
        results |= starter.survey({task.image_size for task in tasks})
        for task in tasks:
            turn = Turn(task, starter, pairs, progress)
            results["tasks"].append(turn.measure(present, results))
            report.write(results, output)
    return results


def _runs(contestants, task, pairs):
    """How many runs, of one or in turn, a task takes."""
    counts = [len(x) or 1 for _, x in groups(contestants, task.mode)]
    return pairs * sum(counts)


def _not_installed(modules):
    return f"skipped, as {' and '.join(modules)} is not installed"


def _check(tasks, model, dtype, pairs, threads, cores):
    one_of("model", model, VARIANTS)
    one_of("dtype", dtype, DTYPES)
    least = total_stride(VARIANTS[model])
    for task in tasks:
        one_of("mode", task.mode, MODES)
        if task.image_size < least:
            raise ValueError(
                f"The images of {model!r} must have at least {least} pixels "
                f"a side. Received: {task.image_size}"
            )
        if task.batch_size < 1:
            raise ValueError(
                "A batch must hold at least 1 image. Received: "
                f"{task.batch_size}"
            )
    if pairs < 1:
        raise ValueError(f"`pairs` must be at least 1. Received: {pairs}")
    if not 1 <= threads <= cores:
        raise ValueError(
            f"`threads` must be from 1 to {cores}, the cores that this "
            f"process may use. Received: {threads}"
        )
