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
        self._process = os.getpid()
        self._generator = np.random.default_rng([self._start, 0])

    def next(self):
        process = os.getpid()
        if process != self._process:
            # Workers forked from one process must not repeat one another.
            words = [self._start, 0 if self._repeatable else process]
            self._generator = np.random.default_rng(words)
            self._process = process
        return self._generator.integers(2**31, size=2)


def pair_of(seed):
    pair = np.asarray(seed)
    if pair.shape != (2,) or pair.dtype.kind not in "iu":
        raise ValueError(
            "The `seed` of a call must be a pair of ints, as a tensor, array, "
            f"tuple or list. Received: seed={seed!r}. A single int is given to "
            "the constructor"
        )
    return pair.astype("int64")
