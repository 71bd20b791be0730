"""Test-time augmentation: what a model sees of an image, more than once.

The scores of an image are the mean of those of its views.
"""

import numpy as np

from keras_convnext._util.checks import one_of
from keras_convnext.images import geometry
from keras_convnext.images.preprocessing import load_image_for
from keras_convnext.images.transform import load_crops

COUNTS = {"flip": 2, "five-crop": 5}


def check(tta, preprocessing):
    """Raises `ValueError` for views that there are not.

    Args:
        tta: `None` or a key of `COUNTS`.
        preprocessing: the `Preprocessing` of the model.
    """
    if tta is None:
        return
    one_of("tta", tta, COUNTS)
    if tta == "five-crop" and not _leaves_room(preprocessing):
        raise ValueError(
            "Five crops take images that are larger before the crop. "
            f"Received: tta={tta!r} with crop_mode="
            f"{preprocessing.crop_mode!r} and crop_pct="
            f"{preprocessing.crop_pct:g}, which leave nothing around the "
            "center. Take a smaller `crop_pct`, or `tta='flip'`"
        )


def of_image(tta, preprocessing, source, apply_exif=True):
    """The views of one image.

    Args:
        tta: key of `COUNTS`. `"flip"`: the image, and its mirror image from
            left to right. `"five-crop"`: the center and four corners, of the
            model's size, of the image as it is resized before the crop.
        preprocessing, source, apply_exif: as for `load_image_for`.

    Returns:
        `uint8` array `(views, height, width, 3)`; the first is the image as
        it is without.
    """
    if tta == "five-crop":
        return load_crops(
            source, apply_exif=apply_exif, **preprocessing.arguments()
        )
    return flipped(load_image_for(preprocessing, source, apply_exif))


def flipped(image):
    """An image `(height, width, channels)` and its mirror image."""
    return np.stack([image, image[:, ::-1]])


def _leaves_room(preprocessing):
    if preprocessing.crop_mode == "border":
        return False
    # Of a center crop at 1.0 something is left of all but square images.
    size, pct = preprocessing.image_size, preprocessing.crop_pct
    resized = geometry.resized_shape(np, *size, size, pct, "squash")
    return preprocessing.crop_mode == "center" or resized != tuple(size)
