"""`python benchmarks/growth`: how cost grows, as a table and a chart.

    python benchmarks/growth --minutes 8

Every point has a process of its own. Points that are in `results.json` are not
measured again, and each is written when it is there: stop it at any time, and
start it until nothing is left. Nothing else may run meanwhile. On a busy
machine processor time would be as wrong: PyTorch's threads wait in loops.
"""

import argparse
import functools
import json
import statistics
import time
from dataclasses import asdict
from pathlib import Path

from race import machine
from race.contestants import Contestant
from race.process import Failure
from race.starter import Starter
from race.tasks import Task

from growth import report
from growth.points import BACKENDS
from growth.points import WAYS
from growth.points import points
from keras_convnext import create_model
from keras_convnext import profile
from keras_convnext._util.machine import usable_cores
from keras_convnext.models.profiling import without_numbers

FOLDER = Path(__file__).parent
# Of a point, beyond what warms it up.
LEAST_RUNS, MOST_RUNS, SECONDS = 2, 5, 3.0


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--backend", choices=BACKENDS, action="append")
    parser.add_argument("--way", choices=WAYS, action="append")
    parser.add_argument("--output", type=Path, default=FOLDER)
    parser.add_argument("--again", action="store_true", help="what is there")
    asked = parser.parse_args(arguments)
    end = time.monotonic() + 60 * asked.minutes
    file = asked.output / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for point in points(asked.backend or BACKENDS, asked.way or tuple(WAYS)):
        known = results.get(str(point))
        if known and not known["failure"] and not asked.again:
            continue
        if time.monotonic() > end:
            print("no time left for the others: start it again")
            break
        results[str(point)] = row = {**asdict(point), **measured(point)}
        file.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{point}: {row['failure'] or row['seconds']}", flush=True)
    report.write(results, asked.output)


def measured(point):
    """Seconds of a call and bytes beyond the imports, or why there are none."""
    mode, builder = WAYS[point.way]
    contestant = Contestant(
        "ours", builder, point.backend, (point.backend,), modes=(mode,)
    )
    task = Task(mode, point.batch_size, point.image_size)
    starter = Starter(point.model, "float32", usable_cores(), None)
    conditions = {
        **machine.conditions(),
        "macs": macs(point.model, point.image_size),
    }
    try:
        with starter.start(contestant, task) as process:
            started = process.answer()
            runs = []
            while len(runs) < MOST_RUNS and (
                len(runs) < LEAST_RUNS or sum(runs) < SECONDS
            ):
                answer = process.run()
                runs.append(answer["seconds"])
    except Failure as failure:
        return {"failure": str(failure), **conditions}
    return {
        "failure": None,
        "seconds": statistics.median(runs),
        "runs": runs,
        "first_call_seconds": started["first_call_seconds"],
        "bytes": answer["peak_bytes"] - started["imported_bytes"],
        **conditions,
    }


@functools.cache
def macs(model, size):
    """Multiply-adds for one image."""
    with without_numbers():
        built = create_model(model, weights=None, input_shape=(size, size, 3))
    return profile(built).macs
