"""Encoded images in, their classes out: what a server does for requests."""

import asyncio
import contextlib
import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_convnext._util.telling import tell
from keras_convnext.artifacts.answers import answering
from keras_convnext.artifacts.running import Artifact
from keras_convnext.artifacts.serving.batching import Batcher
from keras_convnext.artifacts.serving.limits import Limits
from keras_convnext.artifacts.serving.metrics import Metrics
from keras_convnext.images.preprocessing import load_image_for
from keras_convnext.images.reading import TooLarge
from keras_convnext.images.reading import Unreadable
from keras_convnext.images.reading import check_sent

# Decoding needs few: the model takes what cores there are.
READERS = min(4, os.cpu_count() or 1)


class Refused(Exception):
    """A request that is answered by an error.

    Args:
        status: of HTTP.
        text: what was expected, what was received, what to do.
        headers: further ones of the answer.
    """

    def __init__(
        self, status: int, text: str, headers: dict[str, str] | None = None
    ):
        super().__init__(text)
        self.status, self.headers = status, headers


class Service:
    """An artifact that answers requests; a context that ends its threads.

    Args:
        artifact: an `Artifact` of RGB images, with its preprocessing.
        limits: `Limits`.
        top, threshold: as for `answering`.
        apply_exif: whether to turn photographs upright.
    """

    def __init__(
        self,
        artifact: Artifact,
        limits: Limits,
        top: int | None = None,
        threshold: float | None = None,
        apply_exif: bool = True,
    ):
        self.artifact, self.limits = artifact, limits
        self.taken = 0
        self.metrics = Metrics(lambda: self.taken)
        self._threshold = threshold
        self._prepared = functools.partial(
            load_image_for,
            artifact.metadata["preprocessing"],
            apply_exif=apply_exif,
        )
        self._answer = answering(artifact, top, threshold)
        self._readers = ThreadPoolExecutor(READERS, "readers")
        self._batcher = Batcher(
            artifact.predict,
            limits.batch_size,
            limits.max_batch_delay / 1000,
            # A Keras model is compiled for each, where its backend compiles.
            widths=artifact.model is not None,
            ran=self.metrics.batch,
        )

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        self._readers.shutdown(cancel_futures=True)
        self._batcher.close()

    @property
    def is_alive(self) -> bool:
        """Whether the model's thread runs."""
        return self._batcher.is_alive

    def warm_up(self) -> None:
        """Runs the model, which compiles it where the backend compiles."""
        self._batcher.warm_up(self._prepared(np.zeros((8, 8, 3), "uint8")))

    @contextlib.contextmanager
    def place_for(self, count: int) -> Any:
        """Room for so many images in the queue, given back at the end.

        Raises:
            Refused: if there is none.
        """
        if self.taken + count > self.limits.queue_size:
            raise Refused(
                503,
                f"The server has room for {self.limits.queue_size} images at "
                f"a time, and {self.taken} are being answered. Try again "
                "later",
                {"Retry-After": "1"},
            )
        self.taken += count
        try:
            yield
        finally:
            self.taken -= count

    async def results(
        self, images: list[tuple[str | None, bytes]], top: int | None = None
    ) -> list[dict[str, Any]]:
        """What is told of images, in order.

        Args:
            images: pairs of a name or `None`, and encoded bytes.
            top: other than the server's.

        Returns:
            For each a dict with `image`, its name, and `predictions` or an
            `error`.

        Raises:
            Refused: if no image can be read, if the model fails, and if it
                takes too long.
        """
        answer = self._answer
        if top is not None:
            answer = self._answering(top)
        try:
            async with asyncio.timeout(self.limits.timeout):
                found = await asyncio.gather(
                    *(self._result(*image, answer) for image in images)
                )
        except TimeoutError as error:
            raise Refused(
                504,
                f"The server had no answer within {self.limits.timeout:g} s. "
                "Send fewer images, or try again later",
            ) from error
        for result, _ in found:
            self.metrics.image("error" not in result)
        statuses = [status for _, status in found]
        if min(statuses) > 200:
            texts = [result["error"] for result, _ in found]
            raise Refused(min(statuses), " ".join(texts))
        return [result for result, _ in found]

    async def _result(self, name, content, answer):
        """The dict of an image, and the status that it alone would have."""
        result: dict[str, Any] = {"image": name}
        loop = asyncio.get_running_loop()
        try:
            pixels = await loop.run_in_executor(
                self._readers, self._read, content
            )
        except (Unreadable, TooLarge) as error:
            reason = getattr(error, "reason", str(error))
            what = repr(name) if name else f"{len(content)} bytes"
            text = f"Expected an image. Received: {what}, {reason}."
            is_large = isinstance(error, TooLarge)
            return {**result, "error": text}, 413 if is_large else 400
        try:
            row = await asyncio.wrap_future(self._batcher.submit(pixels))
        except Exception as error:  # each runtime has its own
            # Its words may name files of this machine.
            tell(f"keras-convnext: {error}")
            raise Refused(
                500, "The model failed. What the server printed says why"
            ) from error
        return {**result, "predictions": answer(row)}, 200

    def _read(self, content):
        """The pixels that the model takes, of bytes that may be anything."""
        check_sent(content, self.limits.max_pixels)
        return self._prepared(content)

    def _answering(self, top):
        try:
            return answering(self.artifact, top, self._threshold)
        except ValueError as error:
            raise Refused(400, str(error)) from error
