"""The fifteen operations of RandAugment, and its configuration string."""

import re
from dataclasses import dataclass

from PIL import Image
from PIL import ImageEnhance
from PIL import ImageOps

from keras_convnext._util.checks import did_you_mean

MAXIMUM = 10
BICUBIC = Image.Resampling.BICUBIC


def _posterized(image, level, sign, fill):
    # No bits at all are drawn at magnitude 10, and recent Pillow raises.
    mask = 256 - 2 ** (4 + int(level * 4.0))
    return image.point([v & mask for v in range(256)] * len(image.getbands()))


def _solarized_add(image, level, sign, fill):
    amount = int(level * 110.0)
    table = [min(255, v + amount) if v < 128 else v for v in range(256)]
    return image.point(table * len(image.getbands()))


def _enhanced_by(enhancer):
    return lambda image, level, sign, fill: enhancer(image).enhance(
        1.0 + sign * (level * 0.9)
    )


def _affine(matrix_of):
    return lambda image, level, sign, fill: image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix_of(image, sign * level),
        BICUBIC,
        fillcolor=fill,
    )


# Of a level of 0–1, a tenth of the magnitude, a sign of ±1 for those that have
# a direction, and the color of what comes from outside.
OPERATIONS = {
    "AutoContrast": lambda image, *_: ImageOps.autocontrast(image),
    "Equalize": lambda image, *_: ImageOps.equalize(image),
    "Invert": lambda image, *_: ImageOps.invert(image),
    "Rotate": lambda image, level, sign, fill: image.rotate(
        sign * (level * 30.0), BICUBIC, fillcolor=fill
    ),
    "PosterizeIncreasing": _posterized,
    "SolarizeIncreasing": lambda image, level, *_: ImageOps.solarize(
        image, 256 - int(level * 256.0)
    ),
    "SolarizeAdd": _solarized_add,
    "ColorIncreasing": _enhanced_by(ImageEnhance.Color),
    "ContrastIncreasing": _enhanced_by(ImageEnhance.Contrast),
    "BrightnessIncreasing": _enhanced_by(ImageEnhance.Brightness),
    "SharpnessIncreasing": _enhanced_by(ImageEnhance.Sharpness),
    "ShearX": _affine(lambda _, x: (1, x * 0.3, 0, 0, 1, 0)),
    "ShearY": _affine(lambda _, x: (1, 0, 0, x * 0.3, 1, 0)),
    "TranslateXRel": _affine(
        lambda image, x: (1, 0, x * 0.45 * image.width, 0, 1, 0)
    ),
    "TranslateYRel": _affine(
        lambda image, x: (1, 0, 0, 0, 1, x * 0.45 * image.height)
    ),
}


def distorted(picture, name, magnitude, sign=1, fill=(124, 116, 104)):
    """One operation at one magnitude.

    Args:
        picture: `PIL.Image` in gray or RGB.
        name: a key of `OPERATIONS`.
        magnitude: float of 0–10.
        sign: 1 or -1, for operations that have a direction.
        fill: gray level for each channel, for what comes from outside.

    Returns:
        A `PIL.Image` of the same size: that of timm's operation.

    Examples:
        >>> from PIL import Image
        >>> from keras_convnext.data.augmentation import operations
        >>> operations.distorted(
        ...     Image.new("L", (2, 2)), "Invert", 9, fill=(117,)
        ... ).getpixel((0, 0))
        255
    """
    # Of gray images PIL takes a number alone.
    fill = fill if len(fill) > 1 else fill[0]
    return OPERATIONS[name](picture, magnitude / MAXIMUM, sign, fill)


@dataclass(frozen=True)
class RandAugmentConfig:
    """What a string such as `"rand-m9-mstd0.5-inc1"` says.

    Attributes:
        magnitude: int of 0–10.
        deviation: float, the standard deviation of the magnitude.
        count: int, the operations drawn for each image.
        probability: float of 0–1 with which each of them is applied.
    """

    magnitude: int = MAXIMUM
    deviation: float = 0.0
    count: int = 2
    probability: float = 0.5


def parse(config):
    """Reads timm's string: `m`, `n`, `mstd` and `p`, and always `inc1`.

    Raises:
        ValueError: for other strings, sections, and numbers out of range.

    Examples:
        >>> from keras_convnext.data.augmentation import operations
        >>> operations.parse("rand-m9-mstd0.5-inc1")
        RandAugmentConfig(magnitude=9, deviation=0.5, count=2, probability=0.5)
    """
    head, *sections = str(config).split("-")
    values = {}
    for section in sections:
        match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", section)
        if match is None or match[1] not in FIELDS:
            raise _error(config, section, did_you_mean(section, FIELDS))
        name, kind, is_valid = FIELDS[match[1]]
        if kind is int and "." in match[2] or not is_valid(kind(match[2])):
            raise _error(config, section)
        values[name] = kind(match[2])
    if head != "rand" or not values.pop("increasing", False):
        raise _error(config, head)
    return RandAugmentConfig(**values)


FIELDS = {
    "m": ("magnitude", int, lambda value: value <= MAXIMUM),
    "n": ("count", int, lambda value: value >= 1),
    # Above 100 it means a uniform magnitude in timm.
    "mstd": ("deviation", float, lambda value: value <= 100),
    "p": ("probability", float, lambda value: value <= 1),
    "inc": ("increasing", int, lambda value: value == 1),
}


def _error(config, section, hint=""):
    return ValueError(
        "`config` must read like 'rand-m9-mstd0.5-inc1': 'rand', 'inc1' (the "
        "increasing operations, the only ones here), and any of m (0–10), n "
        "(at least 1), mstd (0–100) and p (0–1) with a number. Received: "
        f"config={config!r}, at {section!r}{hint}"
    )


def fill_color(mean, channels):
    """The mean of 0–1 as gray levels; gray images get PIL's gray of it."""
    color = [min(255, round(255 * value)) for value in mean]
    if channels == 1 and len(color) == 3:
        red, green, blue = color
        return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16,)
    return tuple(color * channels if len(color) == 1 else color)
