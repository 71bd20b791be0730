"""What is known of each image, in some bytes: never all outputs at once."""

import numpy as np


class PerImage:
    """Columns with a number for each image, filled batch by batch."""

    def __init__(self):
        self._batches = {}

    def add(self, **columns):
        """Adds a batch: arrays `(n,)` by name, the same names each time."""
        for name, values in columns.items():
            self._batches.setdefault(name, []).append(np.asarray(values))

    def __contains__(self, name):
        return name in self._batches

    def __getitem__(self, name):
        """One number of each image, `(images,)`."""
        batches = self._batches[name]
        if len(batches) > 1:
            batches[:] = [np.concatenate(batches)]
        return batches[0]
