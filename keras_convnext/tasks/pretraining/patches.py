"""Maps cut into patches, of which some are visible.

The encoder computes visible patches alone. They stand one below another, as
one tall map, so that layers of single positions and convolutions within a
patch need not know of it.
"""

import keras
from keras import ops


def packed(maps, visible, grid):
    """The visible patches of maps, one below another.

    Args:
        maps: `(batch, height, width, channels)`, of which `grid` divides both
            sides.
        visible: int tensor `(batch, count)` of the numbers of patches, row by
            row from the upper left.
        grid: rows and columns of patches.

    Returns:
        A tensor `(batch, count · height / rows, width / columns, channels)`.
    """
    height, width, channels = _patch(maps.shape, grid)
    cut = _cut(maps, grid)
    if keras.backend.backend() == "torch":
        patches = cut[_indices(visible, grid)]
    else:
        cut = ops.transpose(cut, (0, 1, 3, 2, 4, 5))
        rows = ops.reshape(cut, (-1, height * width * channels))
        patches = ops.take(rows, _row_numbers(visible, grid), axis=0)
    return ops.reshape(
        patches, (-1, visible.shape[1] * height, width, channels)
    )


def unpacked(patches, visible, grid):
    """The way back: maps with zeros where no patch is visible.

    Args:
        patches, visible, grid: as `packed` returns and takes them.

    Returns:
        A tensor `(batch, height, width, channels)`.
    """
    count, channels = visible.shape[1], patches.shape[3]
    height, width = patches.shape[1] // count, patches.shape[2]
    batch, (rows, columns) = ops.shape(visible)[0], grid
    if keras.backend.backend() == "torch":
        shape = (batch, rows, height, columns, width, channels)
        cut = patches.new_zeros(shape)
        cut[_indices(visible, grid)] = patches.reshape(
            batch, count, height, width, channels
        )
    else:
        size = height * width * channels
        cut = ops.scatter(
            _row_numbers(visible, grid)[:, None],
            ops.reshape(patches, (-1, size)),
            (batch * rows * columns, size),
        )
        cut = ops.reshape(cut, (-1, rows, columns, height, width, channels))
        cut = ops.transpose(cut, (0, 1, 3, 2, 4, 5))
    return ops.reshape(cut, (-1, rows * height, columns * width, channels))


def hidden(visible, grid, dtype="float32"):
    """1 where a patch is hidden, and else 0: `(batch, rows, columns, 1)`."""
    ones = ops.ones_like(visible[:, :, None, None], dtype=dtype)
    return 1 - unpacked(ones, visible, grid)


def patchified(images, grid):
    """Images as rows of numbers, one for each patch.

    Args:
        images: `(batch, height, width, channels)`.
        grid: rows and columns of patches.

    Returns:
        A tensor `(batch, rows, columns, values)`; the values of a patch are
        in the order of row, column and channel.
    """
    height, width, channels = _patch(images.shape, grid)
    cut = ops.transpose(_cut(images, grid), (0, 1, 3, 2, 4, 5))
    return ops.reshape(cut, (-1, *grid, height * width * channels))


def _patch(shape, grid):
    """Height, width and channels of a patch."""
    rows, columns = grid
    return shape[1] // rows, shape[2] // columns, shape[3]


def _cut(maps, grid):
    """`(batch, rows, height, columns, width, channels)`."""
    height, width, channels = _patch(maps.shape, grid)
    rows, columns = grid
    return ops.reshape(maps, (-1, rows, height, columns, width, channels))


def _indices(visible, grid):
    """PyTorch's indices of patches in `_cut`: `(batch, count, height, width,
    channels)`, in one pass over memory."""
    import torch

    visible = visible.long()
    images = torch.arange(len(visible), device=visible.device)[:, None]
    columns = grid[1]
    return images, visible // columns, slice(None), visible % columns


def _row_numbers(visible, grid):
    """Places of patches among those of all images: `(batch · count,)`."""
    rows, columns = grid
    visible = ops.cast(visible, "int32")
    images = ops.arange(ops.shape(visible)[0], dtype="int32")[:, None]
    return ops.reshape(visible + images * (rows * columns), (-1,))
