"""The benchmark: who runs when, and what is kept of it."""

import contextlib
import datetime
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_convnext.arguments import one_of
from keras_convnext.benchmark import machine
from keras_convnext.benchmark import ratios
from keras_convnext.benchmark import report
from keras_convnext.benchmark.contestants import ARTEFACTS
from keras_convnext.benchmark.contestants import MODES
from keras_convnext.benchmark.contestants import Contestant
from keras_convnext.benchmark.contestants import installed_backend
from keras_convnext.benchmark.contestants import select
from keras_convnext.benchmark.process import Failure
from keras_convnext.benchmark.process import started
from keras_convnext.benchmark.progress import Progress
from keras_convnext.builder import total_stride
from keras_convnext.preprocessing import IMAGENET_MEAN
from keras_convnext.preprocessing import IMAGENET_STD
from keras_convnext.typing import PathLike
from keras_convnext.variants import VARIANTS

DTYPES = ("float32", "mixed_bfloat16", "mixed_float16")
# Threads of the one who ran last spin for a while, waiting for more.
SETTLE_SECONDS = 0.3
# A training step's multiply-adds: forward, and two gradients of as many.
PASSES = {"inference": 1, "training": 3}


@dataclass(frozen=True)
class Task:
    """What everyone does.

    Attributes:
        mode: `"inference"` (NumPy in, NumPy out) or `"training"` (forward,
            backward and AdamW on a batch).
        batch_size: images in a call.
        image_size: height and width in pixels.
    """

    mode: str
    batch_size: int
    image_size: int

    def __str__(self):
        return f"{self.mode}, batch {self.batch_size}, {self.image_size} px"


TASKS = (
    Task("inference", 1, 224),
    Task("inference", 8, 224),
    Task("inference", 32, 224),
    Task("training", 8, 128),
)


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
        >>> keras_convnext.benchmark.run(
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
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
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


class Starter:
    """Starts processes for one model, all on the same cores."""

    def __init__(self, model, dtype, cores, folder):
        self.folder = folder
        self.artefacts = {}
        self.job = {
            "model": model,
            "variant": asdict(VARIANTS[model]),
            "dtype": dtype,
            "cores": cores,
            "threads": len(cores),
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
        }

    def start(self, contestant, task):
        """A context with the `Process` of a contestant."""
        models = contestant.models
        if models is not None and self.job["model"] not in models:
            raise Failure(f"it has no {self.job['model']}")
        job = {
            "builder": contestant.builder,
            "needs": contestant.needs,
            "their_model": models and models[self.job["model"]],
            **asdict(task),
        }
        if contestant.artefact:
            job["path"] = self._artefact(contestant.artefact, task.image_size)
        return self._process(job, contestant.runs_on)

    def survey(self, image_sizes):
        """Multiply-adds by image size, and the ceiling."""
        job = {
            "builder": "in_keras.py:survey",
            "needs": (),
            "image_sizes": sorted(image_sizes),
        }
        backend = installed_backend()
        with self._process(job, backend) as process:
            found = process.answer()
        return {
            "macs": found["macs"],
            "ceiling": {
                "backend": backend,
                "device": found["device"],
                "gflops": max(found["gflops"]),
                "raw_gflops": found["gflops"],
            },
        }

    def _artefact(self, name, image_size):
        """The path of a file, which a process of its own has written."""
        key = name, image_size
        if key not in self.artefacts:
            artefact = ARTEFACTS[name]
            file = f"{len(self.artefacts)}{artefact.ending}"
            job = {
                "builder": artefact.builder,
                "needs": artefact.needs,
                "image_size": image_size,
                "path": str(self.folder / file),
            }
            with self._process(job, installed_backend()) as process:
                process.answer()
            self.artefacts[key] = job["path"]
        return self.artefacts[key]

    def _process(self, job, runs_on):
        backends = ("tensorflow", "jax", "torch")
        backend = runs_on if runs_on in backends else installed_backend()
        return started({**self.job, **job}, backend)


class Turn:
    """One task: starts who takes part, and makes them run in turn."""

    def __init__(self, task, starter, pairs, progress):
        self.task = task
        self.starter = starter
        self.pairs = pairs
        self.progress = progress
        self.records = {}
        self.comparisons = []

    def measure(self, contestants, results):
        """Everyone's record, and the comparisons, as JSON's types."""
        for ours, peers in groups(contestants, self.task.mode):
            with self._side(ours) as own:
                for peer in peers or [None]:
                    with self._side(peer) as other:
                        self._duel(own, other)
        if (best := self._fastest(contestants)) is not None:
            self.progress.expect(self.pairs)
            with self._side(best[0]) as own, self._side(best[1]) as other:
                self._duel(own, other)
        macs = results["macs"][str(self.task.image_size)]
        for contestant in contestants:
            if contestant.name in self.records:
                self._summarise(contestant, macs, results["ceiling"]["gflops"])
        return {
            **asdict(self.task),
            "contestants": list(self.records.values()),
            "comparisons": self.comparisons,
        }

    @contextlib.contextmanager
    def _side(self, contestant):
        """A started `Side`, or `None` where there is none or it fails."""
        if contestant is None:
            yield None
            return
        name = contestant.name
        self.progress.begin(f"{self.task}: starting {name}")
        record = self.records.setdefault(
            name,
            {
                "name": name,
                "runs_on": contestant.runs_on,
                "is_ours": contestant.is_ours,
                "failure": None,
                "seconds": [],
            },
        )
        with contextlib.ExitStack() as stack:
            side = None
            try:
                process = stack.enter_context(
                    self.starter.start(contestant, self.task)
                )
                # Of two starts the first counts.
                record |= {**process.answer(), **record}
                side = Side(record, process)
            except Failure as failure:
                self._failed(record, failure)
            yield side

    def _duel(self, own, other):
        """Runs both in turn, or the one that there is alone."""
        sides = [side for side in (own, other) if side is not None]
        samples = []
        self.progress.begin(
            f"{self.task}: " + " and ".join(x.name for x in sides)
        )
        for number in range(self.pairs):
            seconds = {}
            for side in sides if number % 2 == 0 else sides[::-1]:
                if side.record["failure"] is None:
                    try:
                        seconds[side.name] = side.run()
                    except Failure as failure:
                        self._failed(side.record, failure)
            if len(seconds) == 2:
                samples.append(
                    {
                        "first": next(iter(seconds)),
                        "ours": seconds[own.name],
                        "theirs": seconds[other.name],
                    }
                )
            self.progress.advance()
        if len(samples) == self.pairs:
            self._compare(own, other, samples)

    def _compare(self, own, other, samples):
        found = ratios.compared(samples)
        self.comparisons.append(
            {
                "ours": own.name,
                "theirs": other.name,
                "pairs": samples,
                **found,
            }
        )
        low, high = found["interval"]
        self.progress.say(
            f"{self.task}: {own.name} is {found['median']:.2f} times "
            f"({low:.2f}–{high:.2f}) as fast as {other.name}"
        )

    def _fastest(self, contestants):
        """The best of ours and of the others, unless they have met."""
        best = {}
        for contestant in contestants:
            record = self.records.get(contestant.name)
            if not record or record["failure"] or not record["seconds"]:
                continue
            if not contestant.is_same_network:
                continue
            seconds = statistics.median(record["seconds"])
            known = best.get(contestant.is_ours)
            if known is None or seconds < known[0]:
                best[contestant.is_ours] = seconds, contestant
        if len(best) < 2:
            return None
        ours, theirs = best[True][1], best[False][1]
        return None if ours.name == theirs.against else (ours, theirs)

    def _failed(self, record, failure):
        record["failure"] = str(failure)
        self.progress.say(f"{self.task}: {record['name']}: {failure}")

    def _summarise(self, contestant, macs, ceiling):
        """Adds what follows from the raw times."""
        record, count = self.records[contestant.name], self.task.batch_size
        if not record["seconds"]:
            return
        found = ratios.spread([count / x for x in record["seconds"]])
        record["images_per_second"] = found["median"]
        record["images_per_second_interval"] = found["interval"]
        if contestant.is_same_network:
            operations = 2 * macs * PASSES[self.task.mode]
            record["gflops"] = operations * found["median"] / 1e9
            record["part_of_ceiling"] = record["gflops"] / ceiling


class Side:
    """A contestant that is running."""

    def __init__(self, record, process):
        self.name = record["name"]
        self.record = record
        self.process = process

    def run(self):
        """Seconds of a call."""
        time.sleep(SETTLE_SECONDS)
        answer = self.process.run()
        seconds = answer.pop("seconds")
        self.record["seconds"].append(seconds)
        self.record |= answer
        return seconds


def groups(contestants, mode):
    """Pairs of one of ours, or `None`, and the peers that it meets."""
    present = [x for x in contestants if mode in x.modes]
    names = [x.name for x in present if x.is_ours]
    found = [
        (ours, [x for x in present if x.against == ours.name])
        for ours in present
        if ours.is_ours
    ]
    left = [x for x in present if not x.is_ours and x.against not in names]
    return found + [(None, [x]) for x in left]


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
