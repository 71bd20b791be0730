"""Masks as the lengths of their runs, as COCO writes them.

Columns follow one another; the first run is of pixels outside. `counts` is a
list, or text: each count from the fourth on less that of the second before it,
in digits of five bits, the lowest first, each with a sixth bit if more follow.

pycocotools does the same. It is compiled, and optional: to detect takes
nothing beyond this package.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import ArrayLike
from keras_convnext._util.checks import is_positive_int
from keras_convnext._util.limits import check_memory

FIRST = ord("0")
DIGIT, SIGN, MORE = 31, 16, 32
# Of a count of 32 bits.
DIGITS = 7


def encode(mask: ArrayLike) -> dict[str, Any]:
    """A mask as COCO's dict.

    Args:
        mask: array `(height, width)`, true inside.

    Returns:
        A dict of `size`, `[height, width]`, and `counts`, a string.

    Examples:
        >>> from keras_convnext.images import rle
        >>> rle.encode([[0, 1], [0, 1]])
        {'size': [2, 2], 'counts': '22'}
    """
    mask = np.asarray(mask, bool)
    flat = mask.T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = [0, 0] if flat[:1].any() else [0]
    counts = np.diff(np.concatenate([starts, edges, [flat.size]]))
    return {"size": list(mask.shape), "counts": text_of(counts)}


def decode(rle: Mapping[str, Any]) -> Array:
    """The mask of COCO's dict.

    Args:
        rle: mapping of `size` and `counts`, see the module.

    Returns:
        `bool` array `(height, width)`.

    Raises:
        ValueError: if the counts are damaged, or of another size.

    Examples:
        >>> from keras_convnext.images import rle
        >>> rle.decode({"size": [2, 2], "counts": [2, 2]}).astype(int)
        array([[0, 1],
               [0, 1]])
    """
    height, width = size_of(rle)
    counts = counts_of(rle)
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def area(rle: Mapping[str, Any]) -> int:
    """How many pixels are inside."""
    return int(counts_of(rle)[1::2].sum())


def size_of(rle):
    """Height and width."""
    size = rle.get("size")
    is_pair = isinstance(size, (list, tuple)) and len(size) == 2
    if not is_pair or not all(map(is_positive_int, size)):
        raise ValueError(
            "The `size` of a mask must be its height and width. Received: "
            f"{size!r}"
        )
    check_memory(size[0] * size[1], f"A mask of {size[0]}×{size[1]} pixels")
    return size


def counts_of(rle):
    """`int64` array of the lengths, of which every second one is inside."""
    height, width = size_of(rle)
    counts = rle.get("counts")
    if isinstance(counts, (str, bytes)):
        counts = _counts(counts)
    else:
        counts = np.asarray(counts)
    is_whole = counts.ndim == 1 and counts.dtype.kind in "iu"
    # One after the other: the sum of wrong ones may be right by overflow.
    if not is_whole or not (
        ((counts >= 0) & (counts <= height * width)).all()
        and counts.sum() == height * width
    ):
        raise ValueError(
            f"The `counts` of a mask of {height}×{width} pixels must be "
            f"lengths of runs, {height * width} pixels in all. Received: "
            f"{str(rle.get('counts'))[:60]!r}"
        )
    return counts.astype("int64")


def text_of(counts):
    """A list of counts as COCO compresses it."""
    values = counts.copy()
    values[3:] -= counts[1:-2]
    letters = np.zeros((len(values), DIGITS), "uint8")
    is_used = np.zeros(letters.shape, bool)
    goes_on = np.ones(len(values), bool)
    for i in range(DIGITS):
        digits = values & DIGIT
        values >>= 5
        is_used[:, i] = goes_on
        # The fifth bit of the last digit is the sign.
        rest = np.where(digits & SIGN, -1, 0)
        goes_on = goes_on & (values != rest)
        letters[:, i] = FIRST + digits + MORE * goes_on
    return letters[is_used].tobytes().decode("ascii")


def _counts(text):
    """What `text_of` wrote, or -1 for what it cannot have written."""
    if isinstance(text, str):
        text = text.encode("ascii", errors="replace")
    letters = np.frombuffer(text, "uint8").astype("int64") - FIRST
    last = np.flatnonzero(~letters & MORE)
    lengths = np.diff(last, prepend=-1)
    is_whole = len(last) > 0 and last[-1] == len(letters) - 1
    is_letter = (letters >= 0) & (letters < 2 * MORE)
    if not is_whole or not is_letter.all() or lengths.max() > DIGITS:
        return np.array([-1])
    starts = last - lengths + 1
    shifts = 5 * (np.arange(len(letters)) - np.repeat(starts, lengths))
    values = np.add.reduceat((letters & DIGIT) << shifts, starts)
    values -= np.where(letters[last] & SIGN, 1 << 5 * lengths, 0)
    for parity in (1, 2):
        values[parity::2] = np.cumsum(values[parity::2])
    return values
