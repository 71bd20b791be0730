"""Where the random numbers of the data pipeline come from."""

import os
import random

import numpy as np


class Seeds:
    """The pairs of ints that a layer draws from when a call brings none."""

    def __init__(self, seed):
        self._repeatable = seed is not None
        start = seed if self._repeatable else random.getrandbits(31)
        self._start = int(start) % 2**63
        self._home = self._process = os.getpid()
        self._generator = self._tf_generator = None

    def next(self):
        process = os.getpid()
        if self._generator is None or process != self._process:
            # Workers forked from one process must not repeat one another.
            is_worker = process != self._home and not self._repeatable
            words = [self._start, int(is_worker and process)]
            self._generator = np.random.default_rng(words)
            self._process = process
        return self._generator.integers(2**31, size=2)

    def next_tf(self):
        import tensorflow as tf

        if self._tf_generator is None:
            # Beside the graph that `dataset.map` traces, and where it runs.
            with tf.init_scope(), tf.device("CPU:0"):
                self._tf_generator = tf.random.Generator.from_seed(self._start)
        return self._tf_generator.uniform_full_int((2,), dtype=tf.int32)


def pair_of(seed):
    pair = np.asarray(seed)
    if pair.shape != (2,) or pair.dtype.kind not in "iu":
        raise not_a_pair(seed)
    return pair.astype("int64")


def not_a_pair(seed):
    return ValueError(
        "The `seed` of a call must be a pair of ints, as a tensor, array, "
        f"tuple or list. Received: seed={seed!r}. A single int is given to "
        "the constructor"
    )
