"""Views for test-time augmentation, beside torchvision's."""

import numpy as np
import peers
import pytest
from PIL import Image
from sklearn import datasets

from keras_convnext.images import views
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.images.preprocessing import load_image_for

pytestmark = pytest.mark.once

CHINA = datasets.load_sample_images().images[0]


@pytest.mark.parametrize(
    "size, crop_pct, mode",
    [
        ((64, 64), 0.875, "center"),
        ((64, 64), 1.0, "center"),
        ((63, 48), 0.8, "center"),
        ((64, 49), 0.7, "squash"),
    ],
)
def test_five_crops_are_torchvisions(size, crop_pct, mode):
    peers.import_timm()
    from torchvision.transforms.functional import five_crop

    preprocessing = Preprocessing(size, crop_pct, mode)
    for shape in ((427, 640), (101, 100), (90, 90)):
        image = Image.fromarray(CHINA[: shape[0], : shape[1]])
        goal = [int(side / crop_pct) for side in size]
        scale = max(x / y for x, y in zip(goal, shape))
        if mode == "center" and goal[0] == goal[1]:
            goal = [int(goal[0] * x / min(shape)) for x in shape]
        elif mode == "center":
            goal = [round(x * scale) for x in shape]
        resized = image.resize(goal[::-1], Image.Resampling.BICUBIC)
        *corners, center = map(np.asarray, five_crop(resized, list(size)))
        found = views.of_image("five-crop", preprocessing, image)
        np.testing.assert_array_equal(found, [center, *corners])
        np.testing.assert_array_equal(
            found[0], load_image_for(preprocessing, image)
        )


def test_a_flip_is_the_image_and_its_mirror_image(tmp_path):
    preprocessing = Preprocessing((64, 48))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(CHINA).save(tmp_path / "x.png", exif=exif)
    for apply_exif in (True, False):
        image, mirrored = views.of_image(
            "flip", preprocessing, tmp_path / "x.png", apply_exif
        )
        expected = load_image_for(preprocessing, tmp_path / "x.png", apply_exif)
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(mirrored, expected[:, ::-1])
    whole = views.of_image("five-crop", preprocessing, tmp_path / "x.png")
    upright = Image.fromarray(np.rot90(CHINA, -1))
    np.testing.assert_array_equal(
        whole, views.of_image("five-crop", preprocessing, upright)
    )


@pytest.mark.parametrize("options", [(1.0, "squash"), (0.9, "border")])
def test_corners_need_room(options):
    preprocessing = Preprocessing((64, 64), *options)
    with pytest.raises(ValueError, match="Five crops.*crop_pct"):
        views.check("five-crop", preprocessing)
    views.check("flip", preprocessing)
    views.check(None, preprocessing)
    views.check("five-crop", Preprocessing((64, 64), 0.9, "squash"))
    with pytest.raises(ValueError, match="`tta` must be one of.*five-crop"):
        views.check("ten-crop", preprocessing)
