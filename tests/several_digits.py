"""Small pictures of several digits, whose labels are known exactly."""

import keras
import numpy as np

from keras_convnext import ConvNeXt
from keras_convnext import recipes

SIZE = 16
RECIPE = recipes.digits.replace(
    warmup_epochs=1,
    image_size=SIZE,
    drop_path_rate=0.0,
    label_smoothing=0.0,
    ema_decay=None,
)


def composed(scans, count, seed):
    """Noise with up to three scans of digits, each in a quarter of its own.

    Returns:
        The pictures, and of each how often it has each digit.
    """
    images, digits = scans
    generator = np.random.default_rng(seed)
    pictures = generator.integers(0, 64, (count, SIZE, SIZE, 1), dtype="uint8")
    counts = np.zeros((count, 10), "uint8")
    for picture, row in zip(pictures, counts):
        for quarter in generator.permutation(4)[: generator.integers(0, 4)]:
            number = generator.integers(len(digits))
            top, left = 8 * (quarter // 2), 8 * (quarter % 2)
            place = picture[top : top + 8, left : left + 8]
            np.maximum(place, images[number], out=place)
            row[digits[number]] += 1
    return pictures, counts


def new_model(classes, seed=0):
    keras.utils.set_random_seed(seed)
    return ConvNeXt(
        (2, 2),
        (24, 48),
        patch_size=2,
        kernel_size=3,
        input_shape=(SIZE, SIZE, 1),
        classes=classes,
        classifier_activation=None,
        layer_scale_init_value=0.1,
        mean=0.3,
        std=0.35,
    )
