"""The saved answers of mmdetection, as dicts of arrays.

`tests/tasks/mmdet_answers/README.md` says what each one is.
"""

import functools
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "tasks" / "mmdet_answers"
# Every so many of the detections has its mask saved.
STEP = 12


@functools.cache
def load(name, folder=FOLDER):
    """All arrays of `trunk`, `mask_rcnn`, `cascade` or `official_2_11`."""
    with np.load(Path(folder) / f"{name}.npz") as file:
        return dict(file)


# What mmdetection's own files call parts of the blocks, by official name.
# Everything else has the same name there, and is in the same order.
OWN_NAMES = {
    ".dwconv.": ".depthwise_conv.",
    ".pwconv1.": ".pointwise_conv1.",
    ".pwconv2.": ".pointwise_conv2.",
}


def shapes(kind, own=False):
    """Shape of every tensor of a model, by name and in order.

    Args:
        kind: `"mask_rcnn"` or `"cascade"` for Tiny's official files; with
            `"small_"` before it for what `mask_rcnn.npz` and `cascade.npz`
            are of, with `"official_"` for what `official.npz` is of.
        own: whether in mmdetection's own names rather than the official ones.
    """
    result, found = {}, None
    for line in (FOLDER / "layouts.txt").read_text().splitlines():
        name, *sizes = line.split()
        if name.startswith("["):
            found = name == f"[{kind}]"
        elif found:
            name = own_name(name) if own else name
            result[name] = tuple(map(int, sizes))
    return result


def own_name(name):
    """What mmdetection's own files call a tensor of the official ones."""
    for official, other in OWN_NAMES.items():
        name = name.replace(official, other)
    return name


def losses(kind, case):
    """The losses of a training step by name."""
    return {
        name.partition("/")[2]: float(x)
        for name, x in load(kind).items()
        if name.startswith(f"{case}/") and x.ndim == 0
    }


def gradients(kind, case):
    """By weight, in official names: `formula.thin` of the gradient of the sum
    of all losses."""
    start = f"{case}/gradients/"
    return {
        name.removeprefix(start): x
        for name, x in load(kind).items()
        if name.startswith(start)
    }


def bits(packed, shape):
    """Booleans that were packed into bytes."""
    return np.unpackbits(packed, count=int(np.prod(shape))).reshape(shape) > 0


def probabilities(of_65535):
    """Probabilities that were saved in 65535ths."""
    return of_65535.astype("float32") / 65535
