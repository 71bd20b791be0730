"""Which patches of an image are visible."""

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import in_range

# Tells these draws from those of augmentation, which have the same numbers.
STREAM = 0x6D61736B


def visible_count(patches, mask_ratio):
    """How many patches of an image are seen; the official code rounds down.

    Raises:
        ValueError: if that is none or all.
    """
    count = int(patches * (1 - mask_ratio))
    if 0 < count < patches:
        return count
    raise ValueError(
        "A mask must leave a patch visible and a patch hidden. Received: "
        f"mask_ratio={mask_ratio} of {patches} patches, of which {count} would "
        "be visible. Take larger images, or a ratio between "
        f"{1 / patches:.2g} and {1 - 1 / patches:.2g}"
    )


@in_range
def visible_patches(
    patches: Count, count: Count, seed: Seed, number: CountOrZero
) -> Array:
    """The patches of an image that are seen, at random without repetition.

    They follow from the seed and the number of the sample, and from nothing
    else: the same on every backend, with every loader and number of devices.

    Args:
        patches: how many an image has.
        count: how many of them are seen.
        seed: int.
        number: of the sample, over all epochs.

    Returns:
        `int32` array `(count,)`, in order.

    Examples:
        >>> keras_convnext.pretraining.visible_patches(9, 4, 0, 17).tolist()
        [0, 3, 5, 8]
    """
    generator = np.random.default_rng([seed, number, STREAM])
    chosen = generator.permutation(patches)[:count]
    return np.sort(chosen).astype("int32")


def check_visible(visible, images, count, grid):
    """Raises `ValueError` for numbers that are no patches, or come twice.

    Args:
        visible: int array.
        images: how many there are.
        count: how many patches of each are visible.
        grid: rows and columns of patches.
    """
    rows, columns = grid
    is_known = (
        visible.shape == (images, count)
        and ((visible >= 0) & (visible < rows * columns)).all()
    )
    if is_known and (np.diff(np.sort(visible, axis=1), axis=1) > 0).all():
        return
    raise ValueError(
        f"`visible` must have {count} different numbers of 0 to "
        f"{rows * columns - 1} for each image. Received: shape "
        f"{visible.shape} for {images} images. Draw them by "
        "`pretraining.visible_patches`"
    )
