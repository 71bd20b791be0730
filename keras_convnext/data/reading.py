"""Images of a source, and what is done about those that cannot be read."""

import threading
import warnings

import numpy as np

from keras_convnext._util.checks import one_of
from keras_convnext._util.checks import some
from keras_convnext.data.threads import in_order
from keras_convnext.images.reading import Photograph
from keras_convnext.images.reading import Unreadable

TRIES = 10


class Reader:
    """Images of a source by number, and what to do about broken ones.

    Args:
        source: a `Source`.
        on_error: `"skip"` or `"raise"`.
        photograph: class of what files become, `Photograph` or one below it.

    Attributes:
        skipped: dict from names of images that could not be read to reasons.
    """

    def __init__(self, source, on_error, photograph=Photograph):
        one_of("on_error", on_error, ("skip", "raise"))
        self.source, self.on_error = source, on_error
        self.photograph = photograph
        self.skipped = {}
        self._lock = threading.Lock()

    def read(self, number, use):
        """`use(image, number)`; `None` if the image is to be skipped."""
        try:
            return use(self.source.image(number, self.photograph), number)
        except Unreadable as error:
            name, reason = self.source.name(number), error.reason
            if self.on_error == "raise":
                raise ValueError(
                    "Expected images that can be read. Received: "
                    f"{name!r}, {reason}. Repair or remove it, or pass "
                    "on_error='skip'"
                ) from error
        with self._lock:  # more threads than one may come across it
            is_new = name not in self.skipped
            self.skipped[name] = reason
            count = len(self.skipped)
        if is_new:
            warnings.warn(
                f"Skipped {name!r}, {reason}; images skipped so far: {count}",
                stacklevel=1,  # threads have nobody above
            )
        return None

    def read_near(self, number, use):
        """The same of the next image that can be read."""
        numbers = [(number + i) % len(self.source) for i in range(TRIES)]
        for tried in numbers:
            result = self.read(tried, use)
            if result is not None:
                return result
        raise self.none_of(numbers)

    def none_of(self, numbers, advice=""):
        """The error where no image of several in a row can be read."""
        first, last = (self.source.name(numbers[i]) for i in (0, -1))
        return ValueError(
            f"Of {len(numbers)} images after one another at least one must be "
            f"readable. Received: none from {first!r}, {self.skipped[first]}, "
            f"to {last!r}. Check that they are whole{advice}"
        )


def check_readable(source):
    """Raises `ValueError` unless an image of every class can be read.

    Of most classes that is the first.
    """
    labels = source.labels
    if source.task != "single-label":
        places = range(len(source.classes))
        of_class = [np.flatnonzero(source.has(place)) for place in places]
    else:
        order = np.argsort(labels, kind="stable")
        places = np.arange(1, len(source.classes))
        starts = np.searchsorted(labels[order], places)
        of_class = np.split(order, starts)

    def reason(label):
        """Why none of a class can be read."""
        first = None
        for number in of_class[label]:
            try:
                source.image(number).pixels()
                return None
            except Unreadable as error:
                first = first or f"{source.name(number)!r}, {error.reason}"
        return first

    reasons = in_order(reason, range(len(source.classes)))
    unread = {x: y for x, y in zip(source.classes, reasons) if y is not None}
    if unread:
        raise ValueError(
            "Every class needs an image that can be read. Received: none for "
            f"{some([*unread])}, as {next(iter(unread.values()))}. Repair the "
            "images, or remove the class"
        )
