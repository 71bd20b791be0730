"""Times every architecture, at the sizes of its checkpoints, for the zoo.

    python benchmarks/zoo.py --minutes 7

Single images through `predict_on_batch` of the model on PyTorch, on all cores:
float32, random weights, 1000 classes. `benchmarks/speed/zoo.csv` gets a row as
soon as it is measured. Rows that are there are not measured again: start it
until nothing is left, then run `conversion/make_model_zoo.py`.
"""

import argparse
import csv
import fnmatch
import os
import statistics
import time
from datetime import date
from pathlib import Path

if __name__ == "__main__":  # tests have a backend already
    os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch

from keras_convnext import VARIANTS
from keras_convnext import create_model
from keras_convnext._util.machine import cpu_name
from keras_convnext._util.machine import usable_cores
from keras_convnext._util.writing import written_aside
from keras_convnext.weights import registry

ROWS = Path(__file__).parent / "speed" / "zoo.csv"
COLUMNS = ("model", "size", "images_per_second", "calls", "date")
COLUMNS += ("processor", "threads", "keras", "torch")
WARM_UP, LEAST_CALLS, SECONDS = 2, 3, 3.0


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--models", default="*", help="a pattern of names")
    parser.add_argument("--again", action="store_true", help="what is there")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(len(usable_cores()))
    end = time.monotonic() + 60 * asked.minutes
    rows = read()
    for model, size in wanted(asked.models):
        if (model, size) in rows and not asked.again:
            continue
        if time.monotonic() > end:
            print("no time left for the others: start it again")
            return
        rows[model, size] = row = measured(model, size)
        write(rows)
        print(f"{model} {size}: {row['images_per_second']}", flush=True)


def wanted(pattern):
    """Pairs of a model and a size, the cheapest first."""
    pairs = {(name, x.image_size) for name, x in VARIANTS.items()}
    pairs |= {(x.model, x.image_size) for x in registry.checkpoints()}
    chosen = [x for x in pairs if fnmatch.fnmatch(x[0], pattern)]
    return sorted(chosen, key=cost)


def cost(pair):
    """A multiple of the multiply-adds, roughly; then the name."""
    variant, size = VARIANTS[pair[0]], pair[1]
    strides = (variant.patch_size << i for i in range(len(variant.dims)))
    stages = zip(variant.depths, variant.dims, strides)
    return sum(n * (size * dim / x) ** 2 for n, dim, x in stages), pair


def measured(model, size):
    """A row of the table."""
    calls = timed(model, size)
    return {
        "model": model,
        "size": size,
        "images_per_second": f"{1 / statistics.median(calls):.3g}",
        "calls": len(calls),
        "date": date.today().isoformat(),
        "processor": cpu_name(),
        "threads": len(usable_cores()),
        "keras": keras.__version__,
        "torch": torch.__version__,
    }


def timed(name, size):
    """Seconds of each call, without those that warm it up."""
    shape = (size, size, 3)
    model = create_model(name, weights=None, input_shape=shape)
    pixels = np.random.default_rng(0).integers(0, 256, (1, *shape))
    image = pixels.astype("float32")
    for _ in range(WARM_UP):
        model.predict_on_batch(image)
    seconds = []
    while len(seconds) < LEAST_CALLS or sum(seconds) < SECONDS:
        start = time.perf_counter()
        model.predict_on_batch(image)
        seconds.append(time.perf_counter() - start)
    return seconds


def read():
    """Rows by model and size."""
    if not ROWS.exists():
        return {}
    with ROWS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {(row["model"], int(row["size"])): row for row in rows}


def write(rows):
    with (
        written_aside(ROWS) as unfinished,
        unfinished.open("w", newline="") as file,
    ):
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows[key] for key in sorted(rows, key=cost))


if __name__ == "__main__":
    main()
