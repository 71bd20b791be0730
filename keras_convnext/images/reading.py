"""Photographs: every image file is opened and decoded here."""

import contextlib
import io
import math
import os
from pathlib import Path

import numpy as np
from PIL import ExifTags
from PIL import Image
from PIL import ImageOps
from PIL import UnidentifiedImageError

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import Images
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.limits import check_file
from keras_convnext._util.limits import check_memory

# What strangers may send, as Pillow names it (photographs of phones are MPO):
# other decoders are old, or start programs, as that of EPS does.
SENT = (
    *("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF"),
    "WEBP",
)
END_OF_JPEG = b"\xff\xd9"
# Sizes in which JPEGs can be decoded at once, as parts of their own.
JPEG_SCALES = (2, 4, 8)
OVERSAMPLING = 2
# Below so many pixels PIL is as fast as TensorFlow, which crops (measured).
LARGE = 1_000_000


class Unreadable(ValueError):
    """An image that cannot be read.

    Attributes:
        reason: what messages say after the image's name and a comma.
    """

    def __init__(self, description, error):
        self.reason = _reason(error)
        super().__init__(
            "Expected a path, bytes, PIL image or uint8 array that holds an "
            f"image. Received: {description}, {self.reason}. Check that it is "
            "there, whole, and of a format that Pillow reads"
        )


class TooLarge(ValueError):
    """An image with more pixels than are taken."""


class Photograph:
    """An image in gray or RGB as by PIL, decoded when it is needed.

    Layers take it in the place of an array `(height, width, 3)`.

    Args:
        source: path, encoded bytes of a format that PIL reads, `PIL.Image`, or
            `uint8` array `(height, width, channels)` or `(height, width)` with
            one or three channels.
        is_upright: whether to apply the EXIF orientation.
        name: what messages call it; its path or kind if `None`.

    Attributes:
        height, width: ints, pixels.
        is_jpeg: whether it can be decoded in part, and smaller than it is.

    Raises:
        Unreadable: if there is no image, or one without pixels; the methods
            if it cannot be decoded.
        ValueError: for other arrays.
    """

    ndim = 3
    dtype = np.dtype("uint8")

    def __init__(
        self,
        source: PathLike | bytes | Image.Image | Array,
        is_upright: bool = True,
        name: str | None = None,
    ):
        self.source, self.name, self.content = source, name, None
        if isinstance(source, np.ndarray):
            self.image = to_pil(_checked(source))
        else:
            with self._errors():
                self.image = self._opened(source, is_upright)
        self.width, self.height = self.image.size
        # What was turned or converted is decoded, and has no format any more.
        is_jpeg = self.image.format == "JPEG"
        self.is_jpeg = self.content is not None and is_jpeg

    @property
    def shape(self):
        return self.height, self.width, 3

    def pixels(self) -> Images:
        """All of it, as a `uint8` array `(height, width, 3)`."""
        return np.asarray(self.rgb())

    def rgb(self) -> Image.Image:
        """All of it, as a `PIL.Image`."""
        with self._errors():
            self.image.load()
        return _rgb(self.image)

    def whole_resized(self, width, height, resampling):
        """All of it as a `PIL.Image` in another size."""
        with self._errors():
            check_memory(
                3 * width * height,
                f"The image, resized to {width}×{height} pixels,",
            )
        return self.rgb().resize((width, height), resampling)

    def resized(self, box, size, resampling):
        """A part of the image in another size; nothing else is decoded.

        A JPEG that is large against the result is decoded smaller, yet at
        least `OVERSAMPLING` times as large as the result. Pixels then differ
        by about one gray level in the mean from those of the whole image.

        Args:
            box: top, left, height and width, pixels.
            size: height and width of the result.
            resampling: PIL's.

        Returns:
            `uint8` array `(height, width, 3)`.
        """
        top, left, height, width = box
        scale = 1
        if self.is_jpeg:
            surplus = min(height / size[0], width / size[1])
            scales = [x for x in JPEG_SCALES if x * OVERSAMPLING <= surplus]
            scale = max(scales, default=1)
        edges = [x / scale for x in (left, top, left + width, top + height)]
        outer = *map(math.floor, edges[:2]), *map(math.ceil, edges[2:])
        inner = [edge - outer[i % 2] for i, edge in enumerate(edges)]
        with self._errors():
            region = self.region(outer, scale)
        return np.asarray(_rgb(region.resize(size[::-1], resampling, inner)))

    def region(self, box, scale=1):
        """Decodes a part of the image.

        Args:
            box: left, top, right and bottom, pixels of the smaller image.
            scale: how many times smaller that is: 1, or for JPEGs 2, 4 or 8.

        Returns:
            A `PIL.Image` in gray or RGB.
        """
        if scale > 1:
            size = self.width // scale, self.height // scale
            self.image.draft(self.image.mode, size)
        return self.image.crop(box)

    def _opened(self, source, is_upright):
        image = source
        if not isinstance(source, Image.Image):
            if isinstance(source, bytes):
                self.content = source
            else:
                check_file(source)
                self.content = Path(source).read_bytes()
            image = Image.open(io.BytesIO(self.content))
        check_memory(4 * image.width * image.height, "The image")
        # Which may be anything, text too.
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        if is_upright and orientation in range(2, 9):
            image = ImageOps.exif_transpose(image)
        if 0 in image.size:
            raise ValueError("which has no pixels")
        if image.mode in ("L", "RGB"):
            return image
        return _with_8_bits(image).convert("RGB")

    @contextlib.contextmanager
    def _errors(self):
        try:
            yield
        # Broken files end in anything: SyntaxError, EOFError, struct.error …
        except Exception as error:
            name = self.name or _description(self.source)
            raise Unreadable(name, error) from error


class TfPhotograph(Photograph):
    """The same, but of large JPEGs TensorFlow decodes the region alone."""

    def region(self, box, scale=1):
        is_large = self.width * self.height >= LARGE
        # What is wrong with a file that is cut off, PIL tells.
        if not (self.is_jpeg and is_large and self.content[-2:] == END_OF_JPEG):
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


def check_sent(content, max_pixels):
    """Refuses encoded bytes by their header; no pixel is decoded.

    Args:
        content: bytes.
        max_pixels: of one image.

    Raises:
        Unreadable: if they are no image, or of a format not in `SENT`.
        TooLarge: if the image has more pixels.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            format, size = image.format, image.width * image.height
    except Image.DecompressionBombError as error:  # Pillow's own limit
        raise TooLarge(f"which has too many pixels ({error})") from error
    except Exception as error:
        raise Unreadable(_description(content), error) from error
    if format not in SENT:
        unknown = f"its format {format} is none of {', '.join(SENT)}"
        raise Unreadable(_description(content), ValueError(unknown))
    if size > max_pixels:
        raise TooLarge(
            f"which has {image.width}×{image.height} pixels, and at most "
            f"{max_pixels} are taken"
        )


def upright_size(path):
    """Height and width of an image file by its header, turned upright.

    Raises:
        Unreadable: if there is no image.
    """
    try:
        check_file(path)  # a pipe would never end
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(ExifTags.Base.Orientation)
    except Exception as error:
        raise Unreadable(repr(os.fspath(path)), error) from error
    return (width, height) if turned in range(5, 9) else (height, width)


def to_pil(array):
    """A `PIL.Image` in gray or RGB of a `uint8` array."""
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


def _rgb(image):
    return image if image.mode == "RGB" else image.convert("RGB")


def _with_8_bits(image):
    """Of levels of 16 bits the upper byte, as PIL itself takes it for RGB."""
    is_png = image.format == "PNG"  # older versions of PIL call them "I"
    if image.mode.startswith("I;16") or (image.mode == "I" and is_png):
        return Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
    if image.mode in ("I", "F"):
        raise ValueError(
            f"its levels are of mode {image.mode!r}, with 32 bits, and their "
            "range is unknown. Save it with 8 or 16 bits"
        )
    return image


def _checked(array):
    is_image = array.ndim >= 2 and array.shape[2:] in ((), (1,), (3,))
    if array.dtype != "uint8" or not is_image or 0 in array.shape:
        raise ValueError(
            "Expected a uint8 array of shape (height, width, 3) or (height, "
            f"width). Received: {array.dtype} array of shape {array.shape}. "
            "Scale it to 0–255, convert it, and drop any alpha"
        )
    return array


def _description(source):
    if isinstance(source, bytes):
        return f"bytes of length {len(source)}"
    if isinstance(source, (str, os.PathLike)):
        return repr(os.fspath(source))
    return f"source of type {type(source).__name__}"


def _reason(error):
    if isinstance(error, FileNotFoundError):
        return "which does not exist"
    # Its message would name a buffer by its address.
    if isinstance(error, UnidentifiedImageError):
        return "which is not an image"
    return f"which cannot be read ({error})"
