"""The operations of RandAugment by Pillow."""

import numpy as np
from PIL import Image
from PIL import ImageEnhance
from PIL import ImageOps

from keras_convnext.data.augmentation.operations import MAXIMUM
from keras_convnext.data.augmentation.operations import OPERATIONS
from keras_convnext.images.reading import to_pil


def apply_operation(image, name, magnitude, sign=1, fill=(124, 116, 104)):
    """One operation at one magnitude.

    Args:
        image: `uint8` array `(height, width, 3)` or `(height, width, 1)`.
        name: a key of `OPERATIONS`.
        magnitude: float of 0–10.
        sign: 1 or -1, for operations that have a direction.
        fill: one grey level per channel, for what comes from outside.

    Returns:
        `uint8` array of the same shape: that of timm's operation.

    Examples:
        >>> image = np.zeros((2, 2, 1), "uint8")
        >>> keras_convnext.data.augmentation.pil_operations.apply_operation(
        ...     image, "Invert", 9
        ... )[0, 0]
        array([255], dtype=uint8)
    """
    result = distorted(to_pil(image), name, magnitude, sign, fill)
    return np.asarray(result).reshape(image.shape)


def distorted(picture, name, magnitude, sign, fill):
    """`apply_operation` of a `PIL.Image` in grey or RGB."""
    argument = OPERATIONS[name](magnitude / MAXIMUM, sign)
    return FUNCTIONS[name](picture, argument, tuple(fill))


def _posterize(image, bits, fill):
    # No bits at all are drawn at magnitude 10, and recent Pillow raises.
    mask = 256 - 2 ** (8 - int(bits))
    return image.point([v & mask for v in range(256)] * len(image.getbands()))


def _solarize_add(image, amount, fill):
    table = [min(255, v + int(amount)) if v < 128 else v for v in range(256)]
    return image.point(table * len(image.getbands()))


def _affine(image, matrix, fill):
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix,
        Image.Resampling.BICUBIC,
        # Of grey images PIL takes a number alone.
        fillcolor=fill[0] if len(fill) == 1 else fill,
    )


def _rotate(image, degrees, fill):
    return image.rotate(
        degrees,
        Image.Resampling.BICUBIC,
        fillcolor=fill[0] if len(fill) == 1 else fill,
    )


def _enhanced_by(enhancer):
    return lambda image, factor, fill: enhancer(image).enhance(factor)


FUNCTIONS = {
    "AutoContrast": lambda image, _, fill: ImageOps.autocontrast(image),
    "Equalize": lambda image, _, fill: ImageOps.equalize(image),
    "Invert": lambda image, _, fill: ImageOps.invert(image),
    "Rotate": _rotate,
    "PosterizeIncreasing": _posterize,
    "SolarizeIncreasing": lambda image, threshold, fill: ImageOps.solarize(
        image, int(threshold)
    ),
    "SolarizeAdd": _solarize_add,
    "ColorIncreasing": _enhanced_by(ImageEnhance.Color),
    "ContrastIncreasing": _enhanced_by(ImageEnhance.Contrast),
    "BrightnessIncreasing": _enhanced_by(ImageEnhance.Brightness),
    "SharpnessIncreasing": _enhanced_by(ImageEnhance.Sharpness),
    "ShearX": lambda image, slope, fill: _affine(
        image, (1, slope, 0, 0, 1, 0), fill
    ),
    "ShearY": lambda image, slope, fill: _affine(
        image, (1, 0, 0, slope, 1, 0), fill
    ),
    "TranslateXRel": lambda image, part, fill: _affine(
        image, (1, 0, part * image.width, 0, 1, 0), fill
    ),
    "TranslateYRel": lambda image, part, fill: _affine(
        image, (1, 0, 0, 0, 1, part * image.height), fill
    ),
}
