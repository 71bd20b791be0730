"""Emoji in photographs and noise, where boxes and masks are known exactly.

Two hands drew the same ten signs: who trains on one hand's drawings can be
tested on the other's. `emoji/README.md` names both and their licenses.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

CLASSES = (
    *("apple", "banana", "mushroom", "cat", "fish"),
    *("butterfly", "car", "airplane", "umbrella", "soccer ball"),
)
HANDS = ("noto", "twemoji")
DRAWN = 64  # pixels of a drawing
# Of the signs in a picture, in parts of its side.
SIZES = (0.22, 0.5)
TURN = 30  # degrees to either side
# Where the middle of a sign lies in a field of this chessboard decides whether
# the place is one to train on or a held out one. Pixels.
FIELD = 4
# A sign is seen if so much of it is not hidden by others.
SEEN = 0.4
TRIES = 50


class Compositions(NamedTuple):
    """Pictures of emoji, and what is to be found in them.

    Attributes:
        images: `uint8` RGB, `(n, size, size, 3)`.
        boxes: `float32`, `(n, signs, 4)`: left, top, right and bottom edge of
            what is seen of each sign, pixels; zeros where there is none.
        classes: `int32`, `(n, signs)`: numbers of `CLASSES`, or -1.
        masks: `bool`, `(n, signs, size, size)`: where each sign is seen.
    """

    images: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    masks: np.ndarray

    @property
    def class_masks(self) -> np.ndarray:
        """`int32`, `(n, size, size)`: 0 for the ground, or one more than the
        class that is seen there."""
        numbers = (self.classes + 1)[..., None, None]
        return (self.masks * numbers).sum(axis=1, dtype="int32")


def compose_emoji(
    train_count: int = 2400,
    test_count: int = 200,
    image_size: int = 96,
    signs: int = 4,
    hand: str = "noto",
    test_hand: str | None = None,
    seed: int = 0,
) -> tuple[Compositions, Compositions]:
    """Composes pictures of emoji on photographs and on noise.

    Signs differ in size, are turned and flipped, and hide parts of one
    another. The places of the second set are held out, and so is the half of
    each photograph that its grounds are cut from. The same arguments give the
    same pictures.

    Args:
        train_count, test_count: numbers of pictures.
        image_size: their width and height, pixels, 48 to 320.
        signs: the most that there are in a picture; the least is one.
        hand: `"noto"` or `"twemoji"`, whose drawings these are.
        test_hand: whose those of the second set are; the same if `None`.
        seed: any integer.

    Returns:
        `Compositions` to train on, and held out ones.

    Raises:
        ValueError: if an argument is out of range.
        ImportError: if scikit-learn, which has the photographs, is not
            installed.

    Examples:
        >>> train, test = compose_emoji(8, 4, test_hand="twemoji")
        >>> train.images.shape, train.boxes.shape, test.masks.shape
        ((8, 96, 96, 3), (8, 4, 4), (4, 4, 96, 96))
    """
    hands = hand, test_hand or hand
    if not (48 <= image_size <= 320 and 1 <= signs <= 8):
        raise ValueError(
            "One to eight signs are composed in images of 48 to 320 pixels. "
            f"Received: image_size={image_size!r}, signs={signs!r}"
        )
    if unknown := set(hands) - set(HANDS):
        raise ValueError(f"`hand` must be one of {HANDS}. Received: {unknown}")
    train, test = (
        _compose(
            drawings_by(hand),
            _photographs(part),
            count,
            image_size,
            signs,
            np.random.default_rng([seed, part]),
            part,
        )
        for part, (hand, count) in enumerate(
            zip(hands, (train_count, test_count))
        )
    )
    return train, test


def drawings_by(hand: str) -> list[Image.Image]:
    """The ten signs in one hand's drawings, as RGBA."""
    row = Image.open(Path(__file__).parent / "emoji" / f"{hand}.png")
    return [
        row.crop((DRAWN * i, 0, DRAWN * (i + 1), DRAWN))
        for i in range(len(CLASSES))
    ]


def write_coco(pictures: Compositions, folder: Path) -> Path:
    """Writes pictures as `keras-convnext train --task detect` takes them.

    Args:
        pictures: a set of them.
        folder: for PNG files and `annotations.json`, in COCO's format.

    Returns:
        The path of the JSON file.
    """
    from keras_convnext.images import rle

    folder.mkdir(parents=True, exist_ok=True)
    size = dict(zip(("height", "width"), pictures.images.shape[1:3]))
    images, annotations = [], []
    for number, image in enumerate(pictures.images):
        name = f"{number:05}.png"
        Image.fromarray(image).save(folder / name)
        images.append({"id": number, "file_name": name, **size})
        for box, label, mask in zip(
            pictures.boxes[number].tolist(),
            pictures.classes[number].tolist(),
            pictures.masks[number],
        ):
            if label < 0:
                continue
            left, top, right, bottom = box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": int(mask.sum()),
                    "segmentation": rle.encode(mask),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i, "name": x} for i, x in enumerate(CLASSES, 1)]
    path = folder / "annotations.json"
    content = {"images": images, "annotations": annotations}
    path.write_text(json.dumps({**content, "categories": categories}))
    return path


def _photographs(part):
    """The left halves of scikit-learn's two, or the right ones."""
    from sklearn.datasets import load_sample_images

    halves = []
    for image in load_sample_images().images:
        middle = image.shape[1] // 2
        halves.append(image[:, middle:] if part else image[:, :middle])
    return halves


def _compose(drawings, photographs, count, size, signs, generator, parity):
    images = np.zeros((count, size, size, 3), "uint8")
    boxes = np.zeros((count, signs, 4), "float32")
    classes = np.full((count, signs), -1, "int32")
    masks = np.zeros((count, signs, size, size), bool)
    for i in range(count):
        ground = Image.fromarray(_ground(photographs, size, generator))
        whole = np.zeros(signs)  # pixels of each sign, hidden ones too
        for j in range(generator.integers(1, signs + 1)):
            label = generator.integers(len(drawings))
            placed = _placed(
                drawings[label], masks[i, :j], whole[:j], generator, parity
            )
            if placed is None:
                break
            sign, corner, mask = placed
            ground.paste(sign, corner, sign)
            masks[i, :j] &= ~mask
            masks[i, j], whole[j], classes[i, j] = mask, mask.sum(), label
        images[i] = ground
        for j in np.flatnonzero(classes[i] >= 0):
            boxes[i, j] = _box_of(masks[i, j])
    return Compositions(images, boxes, classes, masks)


def _ground(photographs, size, generator):
    """A part of a photograph, or noise of one color."""
    if generator.random() < 0.3:
        color = generator.integers(40, 216, 3)
        noise = generator.integers(-40, 41, (size, size, 3))
        return (color + noise).astype("uint8")
    image = photographs[generator.integers(len(photographs))]
    top, left = (generator.integers(x - size + 1) for x in image.shape[:2])
    return image[top : top + size, left : left + size]


def _placed(drawing, others, whole, generator, parity):
    """A sign where it hides none of the others too much.

    Returns:
        `(sign, corner, mask)`: RGBA, its left and top, and where it is; `None`
        if there is no such place.
    """
    size = others.shape[-1]
    for _ in range(TRIES):
        middle = generator.integers(0, size, 2)
        if (middle // FIELD).sum() % 2 != parity:
            continue
        side = round(generator.uniform(*SIZES) * size)
        sign = drawing.resize((side, side), Image.Resampling.BICUBIC)
        if generator.random() < 0.5:
            sign = sign.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        angle = generator.uniform(-TURN, TURN)
        sign = sign.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        sign = sign.crop(sign.getbbox())
        left, top = (int(m - x // 2) for m, x in zip(middle, sign.size))
        right, bottom = left + sign.width, top + sign.height
        if min(left, top) < 0 or max(right, bottom) > size:
            continue
        mask = np.zeros((size, size), bool)
        mask[top:bottom, left:right] = np.asarray(sign)[..., 3] >= 128
        left_over = (others & ~mask).sum(axis=(1, 2))
        if (left_over >= SEEN * whole).all():
            return sign, (left, top), mask
    return None


def _box_of(mask):
    """The edges of what is seen."""
    rows, columns = (np.flatnonzero(mask.any(axis=x)) for x in (1, 0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
