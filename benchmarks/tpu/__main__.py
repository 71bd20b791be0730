"""Compiles training steps and depthwise forms for TPUs, and writes a table.

    KERAS_BACKEND=jax python benchmarks/tpu --minutes 60

No TPU is needed, but `libtpu`. Rows that are in `results.json` are not compiled
again, and every row is written when it is there: stop it at any time. A row
that takes more than `--minutes` of one core is left out, and named in the
table.
"""

import argparse
import json
import resource
import signal
import subprocess
import sys
from dataclasses import fields
from datetime import date
from pathlib import Path

from report import write

from keras_convnext.training.distribution.keeping import ON_TPUS
from keras_convnext.training.distribution.planning import Job
from keras_convnext.training.distribution.planning import possible

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"
WORKER = FOLDER / "worker.py"
TINY, BASE = "convnext_tiny", "convnext_base"
XLARGE, HUGE = "convnext_xlarge", "convnextv2_huge"
# The smallest first: what is learned from them serves the others.
STEPS = [
    {"model": model, "topology": topology}
    for topology, models in {
        "v5e:1x1": (TINY, BASE, XLARGE, HUGE),
        "v5e:2x4": (TINY, BASE, XLARGE, HUGE),
        "v5p:2x2x1": (BASE,),
        "v6e:2x4": (BASE,),
        "v5e:8x8": (TINY, BASE, XLARGE, HUGE),
        "v5e:16x16": (TINY, BASE, XLARGE, HUGE),
    }.items()
    for model in models
]
# Tiny's stages at 224 pixels: height and width, channels.
FORMS = [
    {"side": side, "channels": channels, "dtype": dtype, "form": form}
    for dtype in ("bfloat16", "float32")
    for side, channels in ((56, 96), (14, 384), (28, 192), (7, 768))
    for form in ("native", "shifted")
]


WANTED = {
    " ".join([kind, *map(str, row.values())]): (kind, row)
    for kind, rows in {"forms": FORMS, "steps": STEPS}.items()
    for row in rows
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=60, help="of one core")
    parser.add_argument("--only", choices=("steps", "forms"))
    parser.add_argument("--again", action="store_true", help="what took long")
    parser.add_argument(
        "--formulas",
        action="store_true",
        help="compile nothing, and estimate all steps anew; on any backend",
    )
    asked = parser.parse_args()
    results = read()
    if asked.formulas:
        for row in results.values():
            if row["kind"] == "steps" and row["figures"]:
                row["figures"]["plan"] = estimate(row["figures"]["plan"])
        save(results)
        return
    for key, (kind, row) in WANTED.items():
        known = results.get(key)
        if asked.only not in (None, kind):
            continue
        if known and not (asked.again and known["figures"] is None):
            continue
        figures, reason = compiled(kind, row, asked.minutes)
        done = {
            "kind": kind,
            **row,
            "date": date.today().isoformat(),
            "figures": figures,
            "reason": reason,
        }
        # Another process may have written others meanwhile.
        save({**read(), key: done})
        print(key, reason or "", flush=True)


def compiled(kind, row, minutes):
    """The figures of a row, from a process of its own; or why there are none.

    A compiler keeps what it has taken of memory.
    """
    command = [sys.executable, str(WORKER), kind, json.dumps(row)]
    seconds = 60 * minutes

    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 60))

    done = subprocess.run(command, stdout=subprocess.PIPE, preexec_fn=limit)
    if done.returncode == -signal.SIGXCPU:
        return None, f"longer than {minutes} minutes of one core"
    if done.returncode:
        return None, f"ended with status {done.returncode}"
    return json.loads(done.stdout.splitlines()[-1]), None


def estimate(plan):
    """What the formulas say today of the step of a plan."""
    known = {x.name: plan[x.name] for x in fields(Job) if x.name in plan}
    (found,) = possible(Job(**known), ON_TPUS)
    return found.as_dict()


def read():
    """All rows by name."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def save(results):
    """Writes all rows as JSON, one a line, and as tables."""
    rows = [f"{json.dumps(k)}: {json.dumps(x)}" for k, x in results.items()]
    RESULTS.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    write(results, WANTED, FOLDER / "results.md")


if __name__ == "__main__":
    main()
