"""Writes `docs/model_zoo.md` and its chart from the package's tables.

python conversion/make_model_zoo.py            # writes both
python conversion/make_model_zoo.py --check    # exit status 1 if one is stale
"""

import argparse
import contextlib
import csv
import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # tests have a backend already
    os.environ["KERAS_BACKEND"] = "torch"  # counts without memory

from zoo_chart import draw

from keras_convnext import detection
from keras_convnext import segmentation
from keras_convnext.facts.variants import VARIANTS
from keras_convnext.models.applications import create_model
from keras_convnext.models.profiling import profile
from keras_convnext.models.profiling import without_numbers
from keras_convnext.weights import registry

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "model_zoo.md"
CHART = ROOT / "docs" / "model_zoo.svg"
# Measured by benchmarks/zoo.py.
SPEEDS = ROOT / "benchmarks" / "speed" / "zoo.csv"
BACKBONE = 'create_model("{0.model}", include_top=False, weights=None)'


@dataclass(frozen=True)
class Task:
    """How the page shows the checkpoints of one task.

    Attributes:
        name: what a reader chooses.
        head: builds the model on a backbone; `None` if it is a classifier.
        shape: of the images whose cost is shown, from the size of a row.
        line: loads a row.
        scores: pairs of a field of a row and its name.
    """

    name: str
    head: Callable | None
    shape: Callable
    line: str
    scores: tuple


def square(size):
    return size, size


def paper_detection(size):
    """As in Table 3 of the paper."""
    return size, size * 8 // 5


def dense(name, head, shape, scores):
    line = f'{head.__name__}({BACKBONE}, weights="{{0.tag}}")'
    return Task(name, head, shape, line, scores)


AP = (("box_ap", "box AP"), ("mask_ap", "mask AP"))
TASKS = {
    "classify": Task(
        "classify",
        None,
        square,
        'create_model("{0.model}", weights="{0.tag}")',
        (("top1", "top-1"),),
    ),
    "segment": dense(
        "segment", segmentation.UperNet, square, (("miou", "mIoU"),)
    ),
    "mask_rcnn": dense("detect", detection.MaskRCNN, paper_detection, AP),
    "cascade_mask_rcnn": dense(
        "detect", detection.CascadeMaskRCNN, paper_detection, AP
    ),
}
TEMPLATE = Path(__file__).parent / "model_zoo_page.md"
LEAST = 70  # per cent in the chart: the others are models for tests
# The columns of the table of checkpoints, and their alignment.
COLUMNS = {
    "checkpoint": "---",
    "task": "---",
    "score": "---:",
    "size": "---:",
    "M params": "---:",
    "GMACs": "---:",
    "images/s": "---:",
    "license": "---",
    "line that loads it": "---",
    "crop": "---",
    "classes": "---:",
    "alias": "---",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for path, text in ((CHART, make_chart()), (PAGE, make_page())):
        if not check:
            path.write_text(text)
            print(f"wrote {path}")
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"{path} is stale: run python {sys.argv[0]}")


def make_page():
    rows = {task: registry.checkpoints(task) for task in TASKS}
    everything = [row for task in TASKS for row in rows[task]]
    return TEMPLATE.read_text().format(
        classifiers=len(rows["classify"]),
        models=len({row.model for row in rows["classify"]}),
        variants=len(VARIANTS),
        segmenters=len(rows["segment"]),
        detectors=len(rows["mask_rcnn"]) + len(rows["cascade_mask_rcnn"]),
        head=" | ".join(COLUMNS),
        rule=" | ".join(COLUMNS.values()),
        checkpoints="\n".join(map(checkpoint, everything)),
        speeds=told_speeds(),
        architectures="\n".join(map(architecture, VARIANTS.values())),
    )


def make_chart():
    points = [
        (row, counts.macs / 1e9, counts.parameters / 1e6)
        for row in registry.checkpoints()
        if (row.top1 or 0) > LEAST
        for counts in [counts_of(row)]
    ]
    return draw(points, anchor)


def checkpoint(row):
    """A row of the table of checkpoints."""
    task, counts = TASKS[row.task], counts_of(row)
    scores = [
        f"{value:g} {name}"
        for field, name in task.scores
        if (value := getattr(row, field)) is not None
    ]
    cells = [
        f'<span id="{anchor(row)}"></span>{row.name}',
        task.name,
        ", ".join(scores) or "–",
        str(row.image_size),
        f"{counts.parameters / 1e6:.1f}",
        billions(counts.macs),
        speed(row),
        row.license,
        f"`{task.line.format(row)}`",
        f"{row.crop_mode} {row.crop_pct:g}",
        str(row.classes or "–"),
        ", ".join(f"`{x}`" for x in aliases_of(row)),
    ]
    return f"| {' | '.join(cells)} |"


def architecture(variant):
    counts = costs("classify", variant.name, variant.image_size, 1000)
    own = [x for x in registry.checkpoints() if x.model == variant.name]
    cells = [
        variant.name,
        *map(str, (variant.depths, variant.dims, variant.image_size)),
        f"{counts.parameters / 1e6:.1f}",
        billions(counts.macs),
        f"{counts.activations / 1e6:.3g}",
        str(len(own)),
    ]
    return f"| {' | '.join(cells)} |"


def billions(count):
    count /= 1e9
    return f"{count:.0f}" if count >= 100 else f"{count:.3g}"


def anchor(row):
    return f"{row.model}-{row.tag}"


def counts_of(row):
    return costs(row.task, row.model, row.image_size, row.classes)


@functools.cache
def costs(task, model, size, classes):
    """Parameters, multiply-adds and activations for one image."""
    shape = (*TASKS[task].shape(size), 3)
    with without_numbers():
        if TASKS[task].head is None:
            top = {"classes": classes} if classes else {"include_top": False}
            built = create_model(model, weights=None, input_shape=shape, **top)
        else:
            backbone = create_model(
                model, weights=None, include_top=False, input_shape=shape
            )
            built = TASKS[task].head(backbone, classes=classes)
        return profile(built)


def speed(row):
    """Images per second, if that was measured."""
    found = measured().get((row.model, str(row.image_size)))
    is_timed = found is not None and row.task == "classify"
    return found["images_per_second"] if is_timed else "–"


def told_speeds():
    """How they were measured."""
    dates, processors, threads = (
        sorted({row[x] for row in measured().values()})
        for x in ("date", "processor", "threads")
    )
    days = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return (
        f"Speeds were measured by `benchmarks/zoo.py` on {days}. The processor "
        f"was {' or '.join(processors)}, with {' or '.join(threads)} threads. "
        "The model ran on PyTorch in float32, by `predict_on_batch`, with one "
        "image at a time. Its weights were random, and it had 1000 classes. "
        "Segmenters and detectors were not measured."
    )


@functools.cache
def measured():
    """Rows of measured speeds by architecture and image size."""
    with SPEEDS.open(newline="") as file:
        return {(x["model"], x["size"]): x for x in csv.DictReader(file)}


def aliases_of(row):
    """The other names of a tag."""
    found = []
    for alias in registry.TASKS[row.task][1]:
        with contextlib.suppress(ValueError):
            if registry.find(row.model, alias, row.task).tag == row.tag:
                found.append(alias)
    return found


if __name__ == "__main__":
    main()
