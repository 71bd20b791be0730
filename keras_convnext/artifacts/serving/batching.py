"""Images of many requests, put together into batches for one model."""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import Images

STOP = None


class Batcher:
    """One thread that runs a model on what has come in meanwhile.

    A batch begins with the image that waits longest. It is run when it is
    full, or when that image has waited for `max_delay`.

    Args:
        predict: function from images `(n, height, width, 3)` to one row for
            each; called in the thread alone.
        batch_size: images at a time, at most.
        max_delay: seconds.
        widths: whether only batches of 1, 2, 4 … and `batch_size` images are
            run: what compiles a model does so for each width.
        ran: called with the images and the seconds of every batch.
    """

    def __init__(
        self,
        predict: Callable[[Images], Array],
        batch_size: int,
        max_delay: float,
        widths: bool = False,
        ran: Callable[[int, float], Any] = lambda images, seconds: None,
    ):
        self._predict, self._ran = predict, ran
        self._size, self._delay = batch_size, max_delay
        powers = [2**i for i in range(batch_size.bit_length())]
        self._widths = sorted({*powers, batch_size}) if widths else None
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # So that a second Ctrl-C does not wait for it.
        self._thread = threading.Thread(
            target=self._work, name="batches", daemon=True
        )
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether images that are submitted will be answered."""
        return self._thread.is_alive()

    def submit(self, image: Images) -> "Future[Array]":
        """The row of an image `(height, width, 3)`, when it is there.

        Cancel the future of an image that nobody waits for any more.
        """
        future: Future[Array] = Future()
        self._waiting.put((time.monotonic(), image, future))
        return future

    def warm_up(self, image: Images) -> None:
        """Runs a batch of each width, so that no request waits for it."""
        for width in self._widths or (1, self._size):
            self._predict(np.repeat(image[None], width, axis=0))

    def close(self) -> None:
        """Answers what was submitted, and ends the thread."""
        self._waiting.put(STOP)
        self._thread.join()

    def _work(self):
        is_open = True
        while is_open:
            batch, is_open = self._next()
            # Whoever waited may have gone.
            batch = [x for x in batch if x[2].set_running_or_notify_cancel()]
            if batch:
                self._run([x[1] for x in batch], [x[2] for x in batch])

    def _next(self):
        """The images of a batch, and whether more may come."""
        batch = []
        while len(batch) < self._size:
            wait = None
            if batch:
                wait = max(0.0, batch[0][0] + self._delay - time.monotonic())
            try:
                item = self._waiting.get(timeout=wait)
            except queue.Empty:
                break
            if item is STOP:
                return batch, False
            batch.append(item)
        return batch, True

    def _run(self, images, futures):
        start = time.perf_counter()
        try:
            rows = self._predict(self._in_width(np.stack(images)))
        except Exception as error:  # each runtime has its own
            for future in futures:
                future.set_exception(error)
        else:
            for future, row in zip(futures, rows):
                future.set_result(row)
        self._ran(len(futures), time.perf_counter() - start)

    def _in_width(self, images):
        """Filled up by repeated images to one of the widths."""
        if self._widths is None:
            return images
        width = next(x for x in self._widths if x >= len(images))
        return np.resize(images, (width, *images.shape[1:]))
