"""What is counted, batch by batch: never all outputs at once."""

from collections import Counter

import numpy as np


class Tally:
    """Counts of right and wrong in memory that does not grow with the data.

    Args:
        parts: how many data sets are counted apart.
        classes: of the data.
        top: how many of the best outputs may hold the right one.

    Attributes:
        images: int array `(parts, classes)`.
        right: how many of them have a right output as their best, likewise.
        mistakes: `Counter` of pairs of a class and the output it was taken for.
    """

    def __init__(self, parts, classes, top):
        self.top = top
        self.images = np.zeros((parts, classes), "int64")
        self.right = np.zeros((parts, classes), "int64")
        self.mistakes = Counter()

    def add(self, part, labels, logits, targets):
        """Counts a batch.

        Args:
            part: int, which data set it is from.
            labels: int array `(n,)`, classes of the data.
            logits: `float64` array `(n, outputs)`, finite or `-inf`. Of equal
                ones the first is better, as for `argmax`.
            targets: for each image the set of outputs that are right.

        Returns:
            Of each image the best output, whether it is right, and whether a
            right one is among the `top` best; arrays `(n,)`.
        """
        best = np.argsort(-logits, axis=1, kind="stable")[:, : self.top]
        hits = np.array(
            [[x in right for x in row] for row, right in zip(best, targets)]
        )
        np.add.at(self.images[part], labels, 1)
        np.add.at(self.right[part], labels, hits[:, 0])
        self.mistakes.update(
            (int(label), int(output))
            for label, output, hit in zip(labels, best[:, 0], hits[:, 0])
            if not hit
        )
        return best[:, 0], hits[:, 0], hits.any(axis=1)


def cross_entropies(logits, columns):
    """The natural logarithm of the softmax at one output each, negated.

    Args:
        logits: `float64` array `(n, outputs)`; `-inf` takes no part.
        columns: int array `(n,)`.

    Returns:
        `float64` array `(n,)`.
    """
    best = logits.max(axis=1)
    sums = np.exp(logits - best[:, None]).sum(axis=1)
    return np.log(sums) + best - logits[np.arange(len(logits)), columns]
