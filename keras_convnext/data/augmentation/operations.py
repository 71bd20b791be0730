"""The fifteen operations of RandAugment, and its configuration string."""

import re
from dataclasses import dataclass

from keras_convnext._util.checks import did_you_mean


def _nothing(level, sign):
    return None


def _factor(level, sign):
    return 1.0 + sign * (level * 0.9)


def _shear(level, sign):
    return sign * (level * 0.3)


def _translation(level, sign):
    return sign * (level * 0.45)


# What an operation makes of a level of 0–1, a tenth of the magnitude, and a
# sign of ±1.
OPERATIONS = {
    "AutoContrast": _nothing,
    "Equalize": _nothing,
    "Invert": _nothing,
    "Rotate": lambda level, sign: sign * (level * 30.0),  # degrees
    "PosterizeIncreasing": lambda level, sign: 4.0 - level * 4.0 // 1,  # bits
    "SolarizeIncreasing": lambda level, sign: 256.0 - level * 256.0 // 1,
    "SolarizeAdd": lambda level, sign: level * 110.0 // 1,
    "ColorIncreasing": _factor,
    "ContrastIncreasing": _factor,
    "BrightnessIncreasing": _factor,
    "SharpnessIncreasing": _factor,
    "ShearX": _shear,
    "ShearY": _shear,
    "TranslateXRel": _translation,
    "TranslateYRel": _translation,
}

MAXIMUM = 10


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


def fill_colour(mean, channels):
    """The mean of 0–1 as grey levels; grey images get PIL's grey of it."""
    colour = [min(255, round(255 * value)) for value in mean]
    if channels == 1 and len(colour) == 3:
        red, green, blue = colour
        return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16,)
    return tuple(colour * channels if len(colour) == 1 else colour)
