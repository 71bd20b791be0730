"""Batches by the numbers of their steps, made while others are trained on."""

from collections.abc import Callable
from collections.abc import Iterable

import keras

from keras_convnext._util.checks import is_positive_int
from keras_convnext._util.checks import one_of
from keras_convnext.data.threads import in_order

# So that no thread rests while the samples of a batch become one.
BATCHES_AT_ONCE = 2


def by_step(
    make: Callable, steps: range, loader: str, specs: Callable
) -> Iterable:
    """Yields a batch for each step, in order.

    Args:
        make: function from a step's number to a batch of NumPy arrays, in
            tuples and dicts.
        steps: range.
        loader: `"tf"` for a `tf.data.Dataset`, `"python"` for threads.
        specs: function without arguments that gives the same structure of
            `keras.InputSpec`s; sizes that differ are `None`.
    """
    if loader == "python":
        return in_order(make, steps, BATCHES_AT_ONCE)
    import tensorflow as tf

    structure = specs()
    flat = keras.tree.flatten(structure)

    def tensors(step):
        arrays = tf.numpy_function(
            lambda number: keras.tree.flatten(make(int(number))),
            (step,),
            [x.dtype for x in flat],
        )
        shapes = [x.shape for x in flat]
        tensors = [*map(tf.ensure_shape, arrays, shapes)]
        return keras.tree.pack_sequence_as(structure, tensors)

    dataset = tf.data.Dataset.range(steps.start, steps.stop)
    batches = dataset.map(tensors, num_parallel_calls=BATCHES_AT_ONCE)
    return batches.prefetch(1)


def loader_of(loader):
    """`"tf"` or `"python"`, by the backend if `None`."""
    if loader is None:
        # Elsewhere TensorFlow would be imported for it, take a GPU's whole
        # memory, and copy every batch: a fifth of the rate (measured).
        is_tf = keras.backend.backend() == "tensorflow"
        loader = "tf" if is_tf else "python"
    one_of("loader", loader, ("tf", "python"))
    return loader


def part_of(size, name, count):
    """How many images of a batch each of several parts has."""
    if not is_positive_int(count) or size % count:
        raise ValueError(
            "Batches (the recipe's `batch_size` over its "
            f"`gradient_accumulation_steps`) must be divisible by `{name}`. "
            f"Received: {size} images and {name}={count}. Change one of them"
        )
    return size // count
