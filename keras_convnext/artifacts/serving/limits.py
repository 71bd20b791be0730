"""What a server takes, and how long it waits."""

from dataclasses import asdict
from dataclasses import dataclass
from typing import Any

from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import check_fields


@dataclass(frozen=True)
class Limits:
    """The figures of a server.

    Attributes:
        max_bytes: of the body of one request.
        max_pixels: of one image, by its header.
        queue_size: images that are taken and not yet answered, over all
            requests; also the most of one request.
        batch_size: images that the model gets at once, at most.
        max_batch_delay: milliseconds that an image waits for others.
        timeout: seconds for a request to arrive, and again for its answer.
    """

    max_bytes: Count
    max_pixels: Count
    queue_size: Count
    batch_size: Count
    max_batch_delay: NotNegative
    timeout: Positive

    def __post_init__(self):
        check_fields(self)
        if self.batch_size > self.queue_size:
            raise ValueError(
                "A batch must fit into the queue: `batch_size` may be at most "
                f"`queue_size`. Received: batch_size={self.batch_size}, "
                f"queue_size={self.queue_size}"
            )

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return asdict(self)
