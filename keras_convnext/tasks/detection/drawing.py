"""Detections as a picture: masks in colors, boxes, names and scores."""

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from keras_convnext._util.annotations import Images
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import in_range
from keras_convnext._util.writing import written_aside
from keras_convnext.images.reading import Photograph
from keras_convnext.tasks.detection.inference import Detections
from keras_convnext.tasks.detection.masks import decode
from keras_convnext.tasks.segmentation.overlay import palette

# Of the short side: text and lines are read at any size.
TEXT, LINE = 1 / 40, 1 / 300


@in_range
def drawn(
    image: PathLike | Images, found: Detections, opacity: Part = 0.5
) -> Images:
    """An image with what was found in it, each in a color of its own.

    Args:
        image: path, or `uint8` array `(height, width, 3)` of 0–255.
        found: what `detect` returned for it.
        opacity: of the masks, from 0 to 1.

    Returns:
        `uint8` array `(height, width, 3)` of 0–255. The best lie on top.

    Raises:
        ValueError: for an image of another size.

    Examples:
        >>> image = np.full((2, 3, 3), 200, "uint8")
        >>> keras_convnext.detection.drawn(image, found)  # doctest: +SKIP
    """
    pixels = Photograph(image).pixels()
    if pixels.shape[:2] != tuple(found.size):
        raise ValueError(
            "Expected the image in which the objects were found, of "
            f"{found.size[0]}x{found.size[1]} pixels. Received: an image of "
            f"{pixels.shape[0]}x{pixels.shape[1]}"
        )
    colors = palette(max(len(found), 1))
    pixels = pixels.copy()
    for rle, color in reversed(list(zip(found.rles, colors))):
        mask = decode(rle)
        mixed = pixels[mask] * (1 - opacity) + color * opacity
        pixels[mask] = np.round(mixed).astype("uint8")
    picture = Image.fromarray(pixels)
    draw, short = ImageDraw.Draw(picture), min(found.size)
    font = ImageFont.load_default(max(round(short * TEXT), 10))
    width = max(round(short * LINE), 1)
    rows = list(zip(found.boxes, found.scores, found.names, colors))
    for box, score, name, color in reversed(rows):
        draw.rectangle(box.tolist(), outline=tuple(color.tolist()), width=width)
        _label(draw, f"{name} {score:.2f}", box, color, font)
    return np.asarray(picture)


def _label(draw, text, box, color, font):
    """Name and score in the upper left corner of a box."""
    place = box[0].item(), box[1].item()
    draw.rectangle(draw.textbbox(place, text, font), fill=tuple(color.tolist()))
    draw.text(place, text, fill="white", font=font)


@in_range
def write_drawn(
    path: PathLike,
    image: PathLike | Images,
    found: Detections,
    opacity: Part = 0.5,
) -> None:
    """Writes `drawn` as an image file, whole or not at all.

    Args:
        path: to write, such as `"out.png"`.
        image, found, opacity: as for `drawn`.
    """
    picture = Image.fromarray(drawn(image, found, opacity))
    with written_aside(path) as unfinished:
        picture.save(unfinished)
