"""The samples of RoIAlign along one axis of every box, and whom they touch."""

from keras import ops

from keras_convnext.layers.arithmetic import floor
from keras_convnext.layers.arithmetic import maximum
from keras_convnext.layers.arithmetic import minimum

# Samples of an adaptive grid are more than half a pixel apart: of them at most
# these many in a row are within one pixel of a place.
NEAR = 5


def axis(starts, ends, limits, size, sampling_ratio):
    """One axis of every box.

    Args:
        starts, ends: float tensors `(r,)`, pixels of the map, where the
            center of the first pixel is 0.
        limits: int tensor `(r,)`, how many pixels the map has.
        size: int, bins of a box.
        sampling_ratio: int, samples of a bin, 0 for ⌈pixels of a bin⌉.

    Returns:
        Dict: `low`, a tensor `(r, size)` of the first pixel that each bin
        touches; `count`, a tensor `(r,)` of the greatest number of pixels
        that a bin of the box touches; `grid`, a dict of tensors `(r,)`:
        `start`, `bin` (the width of one), `samples` and `limit`.
    """
    extent = ends - starts
    bin = extent / size
    if sampling_ratio:
        samples = ops.full_like(extent, sampling_ratio)
    else:
        samples = _ceil_of_part(extent, size)
    grid = {
        "start": starts,
        "bin": bin,
        "samples": samples,
        "limit": ops.cast(limits, extent.dtype),
    }
    wide = {name: x[:, None] for name, x in grid.items()}
    bins = ops.arange(size, dtype=extent.dtype)
    last_sample = ops.maximum(wide["samples"], 1.0) - 1.0
    ends = [_position(wide, bins, index) for index in (0.0, last_sample)]
    low = floor(minimum(*ends))
    high = floor(maximum(*ends)) + 1.0
    last = wide["limit"] - 1.0
    low, high = (_integer(ops.clip(x, 0.0, last)) for x in (low, high))
    count = ops.max(high - low, axis=1) + 1
    count = ops.where(samples > 0, count, ops.zeros_like(count))
    return {"grid": grid, "low": low, "count": count}


def shares(grid, bins, pixels, sampling_ratio):
    """What bins take of pixels along an axis.

    Args:
        grid: dict, as above, with tensors of the rank of `pixels`.
        bins: int tensor that broadcasts to `pixels`, which bin of the box.
        pixels: int tensor, one that the bin touches, or another.
        sampling_ratio: as above.

    Returns:
        A tensor of the shape of `pixels`. All shares of a bin add up to 1
        where all its samples are on the map.
    """
    dtype = grid["start"].dtype
    bins, pixels = (ops.cast(x, dtype)[..., None] for x in (bins, pixels))
    grid = {name: x[..., None] for name, x in grid.items()}
    samples = grid["samples"]
    index = ops.arange(sampling_ratio or NEAR, dtype=dtype)
    if not sampling_ratio:
        step = grid["bin"] / ops.maximum(samples, 1.0)
        step = ops.where(step > 0, step, ops.ones_like(step))
        start = _position(grid, bins, 0.0)
        first = floor((pixels - 1.0 - start) / step)
        index = index + ops.maximum(first, 0.0)
    place = _position(grid, bins, index)
    counts = (index < samples) & (place >= -1.0) & (place <= grid["limit"])
    place = ops.clip(place, 0.0, grid["limit"] - 1.0)
    share = maximum(1.0 - ops.abs(place - pixels), 0.0)
    share = ops.where(counts, share, ops.zeros_like(share))
    return ops.sum(share / ops.maximum(samples, 1.0), axis=-1)


def _position(grid, bins, index):
    """Where samples are, pixels of the map."""
    step = (index + 0.5) * grid["bin"] / ops.maximum(grid["samples"], 1.0)
    return grid["start"] + bins * grid["bin"] + step


def _ceil_of_part(extent, size):
    """`ceil(extent / size)`, without rounding.

    XLA multiplies by a rounded 1 / size: 21 / 7 comes out above 3. Counted are
    the multiples of `size` below `extent`, near the quotient one by one.
    """
    near = ops.maximum(ops.floor(extent / size) - 1.0, 0.0)
    count = near
    for number in range(3):
        is_below = (near + number) * size < extent
        count = count + ops.cast(is_below, extent.dtype)
    is_size = (extent > 0) & ops.isfinite(extent)
    return ops.where(is_size, count, ops.zeros_like(count))


def _integer(x):
    # What is no number becomes any, where integers have no such thing.
    return ops.cast(ops.where(ops.isnan(x), ops.zeros_like(x), x), "int32")
