"""How an image becomes a model's input: a property of its weights."""

from dataclasses import dataclass

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """The evaluation transform that belongs to a set of weights.

    Attributes:
        image_size: `(height, width)` in pixels.
        crop_pct: `image_size` divided by the size that the image is resized
            to before the crop.
        crop_mode: `"center"` (resize the short side, then crop the centre),
            `"squash"` (resize both sides, losing the aspect ratio) or
            `"border"` (resize the long side, then pad).
        interpolation: `"bicubic"` or `"bilinear"`, antialiased as in PIL.
        mean, std: one number per channel, for pixels scaled to 0–1.
    """

    image_size: tuple
    crop_pct: float = 0.875
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    mean: tuple = IMAGENET_MEAN
    std: tuple = IMAGENET_STD


def official_crop(image_size):
    """`crop_pct` and `crop_mode` of the official evaluation at a size.

    Below 384 pixels: resize the short side, crop the centre. From there on:
    resize both sides, losing the aspect ratio.
    """
    return (1.0, "squash") if min(image_size) >= 384 else (0.875, "center")
