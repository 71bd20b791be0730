"""What a masked autoencoder is to say, and how far it is from that."""

from keras import ops

from keras_convnext.layers.arithmetic import mean
from keras_convnext.tasks.pretraining import patches

EPSILON = 1e-6


def statistics(rows):
    """Mean and standard deviation of each patch, the variance unbiased.

    Args:
        rows: `(batch, rows, columns, values)`, as `patchified` returns.

    Returns:
        Two tensors `(batch, rows, columns, 1)`.
    """
    center = mean(rows, -1)
    squares = ops.sum(ops.square(rows - center), axis=-1, keepdims=True)
    return center, ops.sqrt(squares / (rows.shape[-1] - 1) + EPSILON)


def targets(images, grid):
    """The pixels of each patch, brought to a mean of 0 and a variance of 1.

    Args:
        images: `(batch, height, width, channels)`, as the encoder normalizes
            them.
        grid: rows and columns of patches.
    """
    rows = patches.patchified(images, grid)
    center, deviation = statistics(rows)
    return (rows - center) / deviation


def reconstruction_loss(predictions, images, visible, grid):
    """The mean squared error over the hidden patches, a scalar.

    Args:
        predictions: `(batch, rows, columns, values)`.
        images, grid: as for `targets`.
        visible: int tensor `(batch, count)`.
    """
    wanted = targets(images, grid)
    errors = ops.square(ops.cast(predictions, wanted.dtype) - wanted)
    hidden = patches.hidden(visible, grid, wanted.dtype)
    return ops.sum(mean(errors, -1) * hidden) / ops.sum(hidden)
