"""How near each way comes to the model's matrix products alone.

    python benchmarks/ceilings.py --minutes 8

On each backend the products of a forward pass, or of a training step, take
turns with the ways to run the whole model, all in processes of their own. What
is in `benchmarks/speed/ceilings.json` is not measured again, and each backend
and task is written when it is there: start it until nothing is left. The
exported files are compared with the products on PyTorch.
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":  # tests have a backend already
    os.environ["KERAS_BACKEND"] = "torch"  # counts without memory

from race import machine
from race.contestants import BACKENDS
from race.contestants import CONTESTANTS
from race.contestants import Contestant
from race.process import Failure
from race.starter import Starter
from race.tasks import Task
from race.turn import SETTLE_SECONDS

from keras_convnext import create_model
from keras_convnext import profile
from keras_convnext._util.machine import usable_cores
from keras_convnext._util.writing import written_aside
from keras_convnext.models.profiling import without_numbers

FOLDER = Path(__file__).parent / "speed"
MODEL = "convnext_tiny"
TASKS = [
    Task(mode, count, size)
    for mode, size in (("inference", 224), ("training", 128))
    for count in (1, 8)
]
PRODUCTS = "products"


def way(name, backend, builder, modes=("inference", "training")):
    return Contestant(
        f"{name}/{backend}", builder, backend, (backend,), modes=modes
    )


# What takes turns on each backend: the products first.
GROUPS = {
    backend: [
        way(PRODUCTS, backend, f"in_products.py:{backend.title()}Products"),
        CONTESTANTS[f"ours/{backend}"],
        way("ours-keeping", backend, "in_keras.py:OursKeeping"),
        CONTESTANTS[f"ours-optimized/{backend}"],
    ]
    for backend in BACKENDS
}
GROUPS["tensorflow"].append(
    way("ours-compiled", "tensorflow", "in_keras.py:OursCompiled")
)
GROUPS["torch"] += [
    CONTESTANTS["ours/onnxruntime"],
    CONTESTANTS["ours/openvino"],
]
# It compiles for minutes.
GROUPS["torch, compiled"] = [
    GROUPS["torch"][0],
    CONTESTANTS["ours-compiled/torch"],
    CONTESTANTS["ours-frozen/torch"],
]


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--group", choices=GROUPS, action="append")
    parser.add_argument("--output", type=Path, default=FOLDER)
    parser.add_argument("--again", action="store_true", help="what is there")
    asked = parser.parse_args(arguments)
    end = time.monotonic() + 60 * asked.minutes
    file = asked.output / "ceilings.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        starter = Starter(MODEL, "float32", usable_cores(), Path(folder))
        for task, group in pending(results, asked):
            if time.monotonic() > end:
                print("no time left for the others: start it again")
                break
            row = measured(starter, task, GROUPS[group], asked.rounds)
            results[key(task, group)] = row
            file.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{task}, {group}: {row['failures'] or 'done'}", flush=True)
    if results:
        with written_aside(asked.output / "ceilings.md") as unfinished:
            unfinished.write_text(as_markdown(results), encoding="utf-8")


def key(task, group):
    return f"{task}, {group}"


def pending(results, asked):
    """Tasks and groups that are still to be measured."""
    for task in TASKS:
        for group in asked.group or GROUPS:
            if asked.again or key(task, group) not in results:
                yield task, group


def measured(starter, task, contestants, rounds):
    """Seconds of everyone's call, round by round."""
    starter.job["products"] = products(task)
    present = [x for x in contestants if task.mode in x.modes]
    seconds, failures = {}, {x.name: m for x in present if (m := x.missing)}
    with contextlib.ExitStack() as stack:
        # They build at the same time, and run one after the other.
        processes = {
            x.name: stack.enter_context(starter.start(x, task))
            for x in present
            if x.name not in failures
        }
        for name, process in processes.items():
            try:
                process.answer()
                seconds[name] = []
            except Failure as failure:
                failures[name] = str(failure)
        for number in range(rounds):
            for name in list(seconds)[:: -1 if number % 2 else 1]:
                time.sleep(SETTLE_SECONDS)
                seconds[name].append(processes[name].run()["seconds"])
    return {
        **asdict(task),
        "seconds": seconds,
        "failures": failures,
        **machine.conditions(),
    }


def products(task):
    """Shapes `(m, k, n)` of every product of a batch, in order.

    Of training with those of both gradients, but for the first layer's: the
    images need none.
    """
    shape = task.image_size, task.image_size, 3
    with without_numbers():
        model = create_model(MODEL, weights=None, input_shape=shape)
    forward = []
    for layer in profile(model).layers:
        if layer.macs and layer.kind != "DepthwiseConv2D":
            *places, columns = layer.output_shape
            rows = math.prod(places)
            inner = layer.macs // rows // columns
            forward.append((task.batch_size * rows, inner, columns))
    if task.mode == "inference":
        return forward
    backward = [
        shape
        for rows, inner, columns in reversed(forward)
        # Of the kernel, and of the inputs.
        for shape in ((inner, rows, columns), (rows, columns, inner))
    ]
    return [*forward, *backward[:-1]]


def as_markdown(results):
    """Images per second, and in brackets the share of the products' rate."""
    tasks = list(dict.fromkeys(str(_task(x)) for x in results.values()))
    dates = sorted({x["date"] for x in results.values()})
    row = next(iter(results.values()))
    lines = [
        f"{MODEL}, float32, {row['cores']} cores of {row['processor']}, "
        f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}. Images per "
        "second, medians; in brackets the share of the rate of the matrix "
        "products alone, round by round in the same turn.",
        "",
        f"| | {' | '.join(tasks)} |",
        f"| --- |{' ---: |' * len(tasks)}",
    ]
    for group, contestants in GROUPS.items():
        rows = {task: results.get(key(task, group)) for task in tasks}
        if not any(rows.values()):
            continue
        for contestant in contestants:
            cells = [_cell(x, contestant.name, group) for x in rows.values()]
            lines.append(f"| {contestant.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _task(row):
    return Task(row["mode"], row["batch_size"], row["image_size"])


def _cell(row, name, group):
    if row is None or not row["seconds"].get(name):
        return "–"
    own = row["seconds"][name]
    rate = f"{row['batch_size'] / statistics.median(own):.3g}"
    ceiling = row["seconds"].get(GROUPS[group][0].name)
    if not ceiling or name == GROUPS[group][0].name:
        return rate
    share = statistics.median(a / b for a, b in zip(ceiling, own))
    return f"{rate} ({share:.0%})"


if __name__ == "__main__":
    main()
