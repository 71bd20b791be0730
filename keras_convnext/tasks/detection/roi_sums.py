"""Sums of pixels for RoIAlign: a loop for XLA, bags for PyTorch.

XLA wants fixed shapes, and boxes have few pixels or many. So boxes are sorted
by how many pixels their bins touch, and for each group of alike ones a loop
takes one pixel of every bin at once, as often as the largest box needs.
PyTorch's `embedding_bag` adds up lists of any lengths by itself.
"""

import keras
from keras import ops

from keras_convnext.layers.arithmetic import at_least_float32
from keras_convnext.tasks.detection import roi_grid
from keras_convnext.tasks.detection.loops import compiled_loops

GROUP = 64  # boxes whose sums stay in a processor's cache


@compiled_loops("size", "sampling_ratio")
def sums(table, rois, size, sampling_ratio):
    """The mean of each bin's samples.

    Args:
        table: float tensor `(pixels, channels)`, the pixels of all maps.
        rois: dict of tensors for r boxes: `x` and `y` of `roi_grid.axis`, and
            `first`, where the map of each begins in the table.
        size, sampling_ratio: as for `roi_align`.

    Returns:
        A tensor `(r, size², channels)` in the dtype of the table, float32 of
        one of integers.
    """
    form = {
        "jax": _on_jax,
        "tensorflow": _on_tensorflow,
        "torch": _on_torch,
    }[keras.backend.backend()]
    dtype = keras.backend.standardize_dtype(table.dtype)
    result = form(table, rois, size, sampling_ratio)
    return result if "int" in dtype else ops.cast(result, dtype)


def _on_jax(table, rois, size, sampling_ratio):
    import jax

    # Boxes are an argument: what is closed over may be traced elsewhere.
    @jax.custom_vjp
    def gathered(table, rois):
        return _gathered(table, rois, size, sampling_ratio)

    def forward(table, rois):
        return gathered(table, rois), (table, rois)

    def backward(residuals, upstream):
        table, rois = residuals
        return _scattered(table, upstream, rois, size, sampling_ratio), None

    gathered.defvjp(forward, backward)
    return gathered(table, rois)


def _on_tensorflow(table, rois, size, sampling_ratio):
    import tensorflow as tf

    @tf.custom_gradient
    def gathered(table):
        def backward(upstream):
            return _scattered(table, upstream, rois, size, sampling_ratio)

        return _gathered(table, rois, size, sampling_ratio), backward

    return gathered(table)


def _gathered(table, rois, size, sampling_ratio):
    dtype = _summed_in(table)
    channels = table.shape[-1]
    groups = _groups(rois)

    def of_group(group):
        def add_pixel(number, total):
            index, share = _pixel(group, number, size, sampling_ratio)
            rows = ops.cast(ops.take(table, index, axis=0), dtype)
            return number + 1, total + rows * ops.cast(share, dtype)[:, None]

        zeros = ops.zeros((GROUP * size**2, channels), dtype=dtype)
        return ops.while_loop(_until(group), add_pixel, (0, zeros))[1]

    total = ops.reshape(ops.map(of_group, groups), (-1, size**2, channels))
    places = ops.argsort(ops.reshape(groups["box"], (-1,)))
    count = ops.shape(rois["first"])[0]
    return ops.take(total, places[:count], axis=0)


def _scattered(table, upstream, rois, size, sampling_ratio):
    """The gradient of the table."""
    channels = table.shape[-1]
    groups = _groups(rois)
    count = ops.shape(rois["first"])[0]

    def of_group(number, total):
        group = keras.tree.map_structure(
            lambda x: ops.take(x, number, axis=0), groups
        )
        above = ops.take(upstream, ops.minimum(group["box"], count - 1), axis=0)
        is_box = ops.cast(group["box"] < count, above.dtype)
        above = above * is_box[:, None, None]
        above = ops.reshape(above, (-1, channels))

        def add_pixel(number, total):
            index, share = _pixel(group, number, size, sampling_ratio)
            rows = above * ops.cast(share, above.dtype)[:, None]
            total = ops.scatter_update(
                total, index[:, None], rows, reduction="add"
            )
            return number + 1, total

        return ops.while_loop(_until(group), add_pixel, (0, total))[1]

    total = ops.zeros(ops.shape(table), dtype=upstream.dtype)
    total = ops.fori_loop(0, ops.shape(groups["box"])[0], of_group, total)
    return ops.cast(total, table.dtype)


def _summed_in(table):
    dtype = keras.backend.standardize_dtype(table.dtype)
    return "float32" if "int" in dtype else at_least_float32(dtype)


def _groups(rois):
    """Boxes in groups of alike numbers of pixels, and `box`, their numbers.

    The last group is filled up with copies, whose number no box has.
    """
    count = ops.shape(rois["first"])[0]
    order = ops.argsort(-_pixels(rois))
    size = -(-count // GROUP) * GROUP
    places = ops.arange(size, dtype="int32")
    copied = ops.take(order, ops.minimum(places, count - 1), axis=0)
    groups = keras.tree.map_structure(
        lambda x: ops.take(x, copied, axis=0), rois
    )
    groups["box"] = ops.where(places < count, copied, places)
    return keras.tree.map_structure(
        lambda x: ops.reshape(x, (-1, GROUP, *x.shape[1:])), groups
    )


def _pixels(rois):
    """How many pixels the bins of each box touch."""
    return rois["y"]["count"] * rois["x"]["count"]


def _until(group):
    pixels = ops.max(_pixels(group))
    return lambda number, total: number < pixels


def _pixel(group, number, size, sampling_ratio):
    """The pixel of this number in every bin: place in the table, and share.

    Behind the last one of a bin, shares are 0.
    """
    columns = ops.maximum(group["x"]["count"], 1)
    row = number // columns
    bins = ops.arange(size, dtype="int32")
    places, shares = [], []
    for name, offset in (("y", row), ("x", number - row * columns)):
        grid = {key: x[:, None] for key, x in group[name]["grid"].items()}
        pixels = group[name]["low"] + offset[:, None]
        shares.append(roi_grid.shares(grid, bins, pixels, sampling_ratio))
        last = ops.cast(grid["limit"], "int32") - 1
        places.append(ops.minimum(pixels, last))
    width = ops.cast(group["x"]["grid"]["limit"], "int32")[:, None, None]
    index = places[0][:, :, None] * width + places[1][:, None, :]
    index = index + group["first"][:, None, None]
    share = shares[0][:, :, None] * shares[1][:, None, :]
    return ops.reshape(index, (-1,)), ops.reshape(share, (-1,))


def _on_torch(table, rois, size, sampling_ratio):
    """All pixels of all bins in one list, added up bin by bin."""
    import torch

    y, x = (_touched(rois[name], size, sampling_ratio) for name in "yx")
    number = torch.arange(len(rois["first"]) * size**2, device=table.device)
    box, cell = number // size**2, number % size**2
    down, across = box * size + cell // size, box * size + cell % size
    # Every row of each bin, and then every pixel of each such row.
    bin, row = _spread(y["count"][down], y["start"][down])
    line, column = _spread(x["count"][across][bin], x["start"][across][bin])
    width = rois["x"]["grid"]["limit"].long()
    begin = rois["first"][box][bin] + y["pixel"][row] * width[box][bin]
    share = y["share"][row][line] * x["share"][column]
    lengths = y["count"][down] * x["count"][across]
    index = begin[line] + x["pixel"][column]
    if not table.is_floating_point():  # of masks much is never looked at
        table, index = table[index], torch.arange(len(index)).to(index)
    table = ops.cast(table, _summed_in(table))
    return torch.nn.functional.embedding_bag(
        index,
        table,
        lengths.cumsum(0) - lengths,
        mode="sum",
        per_sample_weights=share.to(table.dtype),
    )


def _touched(axis, size, sampling_ratio):
    """The pixels that all bins touch along an axis, in one list.

    Returns a dict of `pixel` and `share`, and for each bin its `start` in
    these lists and its `count`.
    """
    count = axis["count"].repeat_interleave(size)
    start = count.cumsum(0) - count
    bin, number = _spread(count, ops.zeros_like(count))
    pixel = axis["low"].flatten()[bin] + number
    grid = {name: x[bin // size] for name, x in axis["grid"].items()}
    share = roi_grid.shares(grid, bin % size, pixel, sampling_ratio)
    # What is outside of the map has no share, but needs a place.
    pixel = pixel.minimum(grid["limit"].long() - 1)
    return {"pixel": pixel, "share": share, "start": start, "count": count}


def _spread(lengths, starts):
    """Whose each element is of lists of these lengths, and its number in a
    list of all, where they begin at `starts`."""
    import torch

    ends = lengths.cumsum(0)
    owners = torch.arange(len(lengths), device=lengths.device)
    owners = owners.repeat_interleave(lengths)
    numbers = torch.arange(len(owners), device=lengths.device)
    return owners, numbers + (starts - ends + lengths)[owners]
