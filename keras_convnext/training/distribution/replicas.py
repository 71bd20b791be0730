"""What a program that computes a part of a batch has to know of the others.

On PyTorch every process runs one, and on TensorFlow every replica. On JAX one
program computes the whole batch, on any number of devices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras import ops


@dataclass(frozen=True)
class Replicas:
    """The programs that share out every batch, in equal parts.

    Attributes:
        count: how many there are.
        index: function without arguments that returns the number of this one.
        total: function of a tensor that returns the sum of those of all, in
            each. It is differentiated, too.
        weight: what the loss of a part is multiplied with, where gradients of
            all parts are added up, and not averaged.
    """

    count: int = 1
    index: Callable[[], Any] = lambda: 0
    total: Callable[[Any], Any] = lambda x: x
    weight: float = 1.0

    def places(self, size: Any) -> Any:
        """The places of this part's images in the whole batch.

        Args:
            size: how many images the part has.
        """
        return self.index() * size + ops.arange(size, dtype="int32")

    def divisor(self, number: Any) -> Any:
        """What to divide a sum over this part by, for a mean over the batch.

        The gradients of all parts are averaged. So each part's sum is divided
        by how many count in the mean part, at least one in the whole batch.

        Args:
            number: scalar, how many count in this part.
        """
        return ops.maximum(self.total(number), 1.0) / self.count


ALONE = Replicas()
