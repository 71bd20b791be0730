"""Image files as training takes them, and those that cannot be read."""

import io
import threading
import warnings

import numpy as np
from PIL import ExifTags
from PIL import Image
from PIL import ImageOps

from keras_convnext._util.checks import one_of
from keras_convnext.images.transform import why_unreadable

TRIES = 10
END_OF_JPEG = b"\xff\xd9"
# Below so many pixels PIL is as fast as TensorFlow, which crops (measured).
LARGE = 1_000_000


class Photograph:
    """An image file in grey or RGB as by PIL, decoded when it is needed.

    Args:
        content: bytes of a file of any format that PIL reads.
        is_upright: whether to apply the EXIF orientation.

    Attributes:
        height, width: ints, pixels.
        is_jpeg: whether it can be decoded in part, and smaller than it is.
    """

    def __init__(self, content, is_upright):
        image = Image.open(io.BytesIO(content))
        # Which may be anything, text too.
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        if is_upright and orientation in range(2, 9):
            image = ImageOps.exif_transpose(image)
        if image.mode not in ("L", "RGB"):
            image = image.convert("RGB")
        if 0 in image.size:
            raise ValueError("which has no pixels")
        self.content, self.image = content, image
        self.width, self.height = image.size
        # What was turned or converted is decoded, and has no format any more.
        self.is_jpeg = image.format == "JPEG"

    def region(self, box, scale=1):
        """Decodes a part of the image.

        Args:
            box: left, top, right and bottom, pixels of the smaller image.
            scale: how many times smaller that is: 1, or for JPEGs 2, 4 or 8.

        Returns:
            A `PIL.Image` in grey or RGB.
        """
        if scale > 1:
            size = self.width // scale, self.height // scale
            self.image.draft(self.image.mode, size)
        return self.image.crop(box)

    def pixels(self):
        """All of it, as a `uint8` array `(height, width, 3)`."""
        return np.asarray(self.image.convert("RGB"))


class TfPhotograph(Photograph):
    """The same, but of large JPEGs TensorFlow decodes the region alone."""

    def region(self, box, scale=1):
        is_large = self.width * self.height >= LARGE
        # What is wrong with a file that is cut off, PIL tells.
        is_whole = self.content.endswith(END_OF_JPEG)
        if not (self.is_jpeg and is_large and is_whole):
            return super().region(box, scale)
        import tensorflow as tf

        left, top, right, bottom = box
        try:
            pixels = tf.io.decode_and_crop_jpeg(
                self.content,
                (top, left, bottom - top, right - left),
                channels=3,
                ratio=scale,
                dct_method="INTEGER_ACCURATE",  # that of PIL
            )
        except tf.errors.InvalidArgumentError:
            return super().region(box, scale)
        return Image.fromarray(pixels.numpy())


class Reader:
    """Image files of a source by number, and what to do about broken ones.

    Args:
        source: a `Source` of encoded images.
        on_error: `"skip"` or `"raise"`.

    Attributes:
        skipped: dict from names of images that could not be read to reasons.
    """

    def __init__(self, source, on_error):
        one_of("on_error", on_error, ("skip", "raise"))
        self.source, self.on_error = source, on_error
        self.skipped = {}
        self._lock = threading.Lock()

    def read(self, number, decode):
        """What `decode` makes of the bytes; `None` if it is to be skipped."""
        try:
            return decode(self.source.read(number))
        # Broken files end in anything: SyntaxError, EOFError, struct.error …
        except Exception as error:
            name = self.source.name(number)
            reason = why_unreadable(error.__cause__ or error)
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

    def read_near(self, number, decode):
        """The same of the next image that can be read, and its number."""
        numbers = [(number + i) % len(self.source) for i in range(TRIES)]
        for tried in numbers:
            result = self.read(tried, decode)
            if result is not None:
                return result, tried
        first, last = (self.source.name(x) for x in (number, numbers[-1]))
        raise ValueError(
            f"Of {TRIES} images after one another at least one must be "
            f"readable. Received: none from {first!r}, "
            f"{self.skipped[first]}, to {last!r}. Check that they are whole"
        )
