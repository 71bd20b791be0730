"""Random numbers that follow from seed, step and image, and from nothing else.

Keras' generators draw for an array of some shape: what an image gets depends on
how many there are beside it, and on which device. Here each number is a hash of
what it belongs to, the same on every backend and for any number of devices.
"""

from keras import ops

# The multipliers of `lowbias32` by Chris Wellons, as signed numbers.
FIRST, SECOND = 0x7FEB352D, 0x846CA68B - 2**32
# 2³² over the golden ratio: neighbors far apart.
STRIDE = 0x9E3779B9 - 2**32


def draws(seed, images, count):
    """Random numbers for images.

    Args:
        seed: int tensor `(2,)`, as `keras.random.SeedGenerator.next` returns
            it: the seed, and how often it was drawn from.
        images: int32 tensor `(batch,)`, the place of each image in the batch
            over all devices.
        count: int, numbers for each image.

    Returns:
        An int32 tensor `(batch, count)` of numbers from 0 on.

    Examples:
        >>> seed = np.array([0, 1])
        >>> ahead, behind = draws(seed, np.arange(2), 4), draws(seed, [1], 3)
        >>> bool(keras.ops.all(ahead[1, :3] == behind[0]))
        True
    """
    seed = ops.cast(ops.convert_to_tensor(seed), "int32")
    images = ops.cast(ops.convert_to_tensor(images), "int32")
    key = _hash(_hash(seed[0]) + seed[1])
    key = _hash(key + images * STRIDE)[:, None]
    numbers = ops.arange(count, dtype="int32") * STRIDE
    return ops.bitwise_and(_hash(key + numbers[None]), 2**31 - 1)


def _hash(x):
    """Every bit of the result depends on all of a 32-bit number."""
    x = _mixed(x, 16) * FIRST
    x = _mixed(x, 15) * SECOND
    return _mixed(x, 16)


def _mixed(x, bits):
    # A signed number is filled up with copies of its sign.
    high = ops.bitwise_and(ops.right_shift(x, bits), 2 ** (32 - bits) - 1)
    return ops.bitwise_xor(x, high)
