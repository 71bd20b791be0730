"""Compiles training steps and depthwise forms for TPUs, and writes a table.

    KERAS_BACKEND=jax python benchmarks/tpu --minutes 60

No TPU is needed, but `libtpu`. Rows that are in `results.json` are not compiled
again, and every row is written when it is there: stop it at any time. A row
that takes longer than `--minutes` is left out, and named in the table.
"""

import argparse
import json
import subprocess
import sys
from datetime import date
from pathlib import Path

from report import write

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"
WORKER = FOLDER / "worker.py"
V5E = ("v5e:1x1", "v5e:2x4", "v5e:8x8", "v5e:16x16")
# The smallest first: what is learned from them serves the others.
STEPS = [
    {"model": model, "topology": topology}
    for model, topologies in {
        "convnext_tiny": V5E,
        "convnext_base": (*V5E, "v5p:2x2x1", "v6e:2x4"),
        "convnext_xlarge": V5E,
        "convnextv2_huge": V5E,
    }.items()
    for topology in topologies
]
# Tiny's stages at 224 pixels: height and width, channels.
FORMS = [
    {"side": side, "channels": channels, "dtype": dtype, "form": form}
    for dtype in ("bfloat16", "float32")
    for side, channels in ((56, 96), (14, 384), (28, 192), (7, 768))
    for form in ("native", "shifted")
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--only", choices=("steps", "forms"))
    parser.add_argument("--again", action="store_true", help="what took long")
    asked = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for kind, rows in {"forms": FORMS, "steps": STEPS}.items():
        if asked.only not in (None, kind):
            continue
        for row in rows:
            key = " ".join([kind, *map(str, row.values())])
            known = results.get(key)
            if known and not (asked.again and known["figures"] is None):
                continue
            figures, reason = compiled(kind, row, asked.minutes)
            results[key] = {
                "kind": kind,
                **row,
                "date": date.today().isoformat(),
                "figures": figures,
                "reason": reason,
            }
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            write(results, FOLDER / "results.md")
            print(key, reason or "", flush=True)


def compiled(kind, row, minutes):
    """The figures of a row, from a process of its own; or why there are none.

    A compiler keeps what it has taken of memory.
    """
    command = [sys.executable, str(WORKER), kind, json.dumps(row)]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, timeout=60 * minutes, check=True
        )
    except subprocess.TimeoutExpired:
        return None, f"longer than {minutes:g} minutes"
    except subprocess.CalledProcessError as error:
        return None, f"ended with status {error.returncode}"
    return json.loads(done.stdout.splitlines()[-1]), None


if __name__ == "__main__":
    main()
