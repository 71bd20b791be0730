"""What the reference and the tests are given: weights, images and boxes.

Everything follows from names and numbers, so that no file holds it.
"""

import zlib

import numpy as np

# Small widths, and for the rest the official configuration.
DEPTHS, DIMS = (1, 1, 2, 1), (8, 16, 24, 32)
CHANNELS, UNITS, CLASSES = 16, 32, 5
# Proposals of an image while predicting and while training.
PROPOSALS, TRAINING_PROPOSALS = 50, 60
# Height and width, resized and as photographed; padded they are of one size.
SIZES = ((128, 160), (96, 120))
ORIGINAL_SIZES = ((160, 240), (144, 160))
CANVAS = (128, 160)
MEAN = (123.675, 116.28, 103.53)
DEVIATION = (58.395, 57.12, 57.375)

# Objects of each image: x1, y1, x2, y2 in pixels of the resized image; near
# to what is proposed, so that all stages have objects to learn from.
BOXES = (
    (
        (60.5, 68.3, 119.0, 92.3),
        (113.2, 83.2, 135.0, 127.4),
        (5.3, 38.3, 81.2, 76.5),
        (55.1, 14.5, 129.3, 55.1),
    ),
    ((38.2, 4.1, 85.3, 92.7), (1.9, 1.7, 20.4, 44.2)),
)
LABELS = ((0, 3, 1, 2), (4, 0))
# Which images have their objects in training.
CASES = {"objects": (True, True), "half": (True, False), "none": (False, False)}

# Gradient descent in float64, on both images with their objects; the sum of all
# losses falls from 7 to 1.6.
STEPS, STEP_RATE = 30, 2.0**-8

# RoIs of each image for the heads: one for each level of the pyramid, tiny
# ones, some across the border.
ROIS = (
    (
        (20.2, 30.1, 71.3, 66.6),
        (-40.0, -21.5, 140.8, 130.2),
        (-100.3, -150.7, 200.9, 170.1),
        (-300.6, -200.2, 330.3, 310.9),
        (100.1, 100.2, 101.4, 101.3),
        (0.0, 0.0, 160.0, 128.0),
    ),
    (
        (10.7, 5.8, 34.9, 80.3),
        (3.1, 2.2, 118.6, 95.1),
        (60.4, 50.7, 119.9, 95.8),
        (-10.2, 70.3, 130.4, 110.6),
        (40.0, 24.0, 54.0, 45.0),
        (70.5, 8.5, 75.5, 90.5),
    ),
)

# Under this one every decision of the reference has a margin, `margins.py`.
SALT = 8
# Tiny's names and all numbers of the official configuration but the widths,
# on one small image: what mmdetection 2.11.0 was asked.
OFFICIAL_DEPTHS, OFFICIAL_CLASSES, OFFICIAL_SALT = (3, 3, 9, 3), 80, 27
OFFICIAL_SIZE, OFFICIAL_ORIGINAL_SIZE = (57, 90), (76, 100)
OFFICIAL_CANVAS = (64, 96)
# What the weights of a layer are multiplied by, beside 1/√inputs: scores that
# differ, boxes that move but little, masks that are neither full nor empty.
GAINS = (
    ("rpn_cls", 0.6),
    ("rpn_reg", 0.15),
    ("fc_cls", 1.0),
    ("fc_reg", 0.6),
    ("conv_logits", 1.5),
    ("neck", 1.0),
    ("backbone", 1.0),
    ("", 1.4),
)


def weight(key, shape, salt=SALT):
    """The values of a tensor by its official name, as mmdetection has them."""
    random = np.random.RandomState(zlib.crc32(f"{key} {salt}".encode()))
    noise = random.standard_normal(shape)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, "int64")
    if key.endswith("running_var"):
        values = np.exp(0.5 * noise)
    elif key.endswith(("running_mean", "bias")):
        values = 0.1 * noise
    elif len(shape) < 2:  # scales of norms and layers
        values = 1 + 0.3 * noise
    else:
        gain = next(gain for part, gain in GAINS if part in key)
        inputs = shape[0] if "upsample" in key else np.prod(shape[1:])
        values = gain * noise / np.sqrt(inputs)
    return values.astype("float32")


def weights(shapes, salt=SALT):
    """All tensors of a model, by a dict of their shapes."""
    return {key: weight(key, shape, salt) for key, shape in shapes.items()}


def images():
    """The resized images, as uint8 `(height, width, 3)` in RGB."""
    return [image(index, *size) for index, size in enumerate(SIZES)]


def image(seed, height, width):
    random = np.random.RandomState(seed)
    coarse = random.randint(0, 256, (-(-height // 8), -(-width // 8), 3))
    fine = random.randint(-30, 31, (height, width, 3))
    blocks = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    return np.clip(blocks + fine, 0, 255).astype("uint8")


def batch(dtype="float32"):
    """Both images in one canvas."""
    return np.stack([normalized(image, CANVAS, dtype) for image in images()])


def official_batch():
    """The one image for the official configuration."""
    one = image(2, *OFFICIAL_SIZE)
    return normalized(one, OFFICIAL_CANVAS)[None]


def normalized(image, canvas, dtype="float32"):
    """An image as networks take it, with zeros below and to the right."""
    padded = np.zeros((*canvas, 3), dtype)
    height, width = image.shape[:2]
    values = (image - np.array(MEAN, dtype)) / np.array(DEVIATION, dtype)
    padded[:height, :width] = values
    return padded


def masks(index):
    """The objects of an image as booleans `(n, height, width)`: ellipses."""
    height, width = SIZES[index]
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    x1, y1, x2, y2 = np.float32(BOXES[index]).T[..., None, None]
    across, down = (2 * x - x1 - x2) / (x2 - x1), (2 * y - y1 - y2) / (y2 - y1)
    return across**2 + down**2 <= 1


def thin(values):
    """Some 64 of the values, from all over a tensor."""
    return values.reshape(-1)[:: (values.size // 64) | 1]


def fingerprint():
    """Numbers that change with the weights, the images and the objects."""
    kernel = weight("neck.fpn_convs.0.conv.weight", (CHANNELS,) * 2 + (3, 3))
    objects = [np.float32(x).ravel() for x in (*BOXES, *ROIS)]
    areas = [np.float32(masks(x).sum((1, 2))) for x in range(len(SIZES))]
    return np.concatenate([thin(kernel), thin(batch()), *objects, *areas])
