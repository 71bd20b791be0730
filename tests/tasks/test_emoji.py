"""Composed emoji: what is said of them holds, and they are data."""

from pathlib import Path

import numpy as np
import pytest
from composed_emoji import CLASSES
from composed_emoji import FIELD
from composed_emoji import SEEN
from composed_emoji import compose_emoji
from composed_emoji import drawings_by
from composed_emoji import write_coco
from scipy import ndimage
from scipy.spatial import KDTree

from keras_convnext.data import read_coco
from keras_convnext.images import rle

pytestmark = pytest.mark.once

HANDS = ("noto", "twemoji")


@pytest.fixture(scope="module")
def both():
    return compose_emoji(40, 40, test_hand="twemoji", seed=2)


def colors_of(hand):
    """What is opaque in each sign, as a tree of colors."""
    drawings = [np.asarray(x) for x in drawings_by(hand)]
    return [KDTree(x[x[..., 3] == 255][:, :3]) for x in drawings]


@pytest.mark.parametrize("part", [0, 1])
def test_boxes_and_masks_are_those_of_the_signs(both, part):
    images, boxes, classes, masks = both[part]
    colors = colors_of(HANDS[part])
    seen = []
    for image, places, labels, seen_there in zip(images, boxes, classes, masks):
        assert (
            labels[0] >= 0 and (np.diff((labels >= 0).astype(int)) <= 0).all()
        )
        assert seen_there.sum(axis=0).max() == 1  # no pixel of two signs
        for box, label, mask in zip(places, labels, seen_there):
            if label < 0:
                assert not box.any() and not mask.any()
                continue
            ((rows, columns),) = ndimage.find_objects(mask.astype(int))
            edges = columns.start, rows.start, columns.stop, rows.stop
            assert edges == tuple(box)
            inside = image[ndimage.binary_erosion(mask, iterations=2)]
            if len(inside) > 20:
                distances, _ = colors[label].query(inside, p=1)
                seen.append((distances < 60).mean())
    assert len(seen) > 60 and np.mean(seen) > 0.95 and min(seen) > 0.6
    expected = np.zeros(images.shape[:3], int)
    for i, j in np.argwhere(classes >= 0):
        expected[i][masks[i, j]] = classes[i, j] + 1
    np.testing.assert_array_equal(both[part].class_masks, expected)


def test_signs_hide_parts_of_one_another():
    """And never too much: none is there that nobody could see."""
    pictures, _ = compose_emoji(60, 1, signs=4, seed=1)
    alone, _ = compose_emoji(60, 1, signs=1, seed=1)
    areas = pictures.masks.sum(axis=(2, 3))[pictures.classes >= 0]
    least = alone.masks.sum(axis=(1, 2, 3)).min()
    assert areas.min() > SEEN * least / 2
    # Boxes of two signs overlap often.
    overlaps = 0
    for boxes, labels in zip(pictures.boxes, pictures.classes):
        found = boxes[labels >= 0]
        low = np.maximum(found[:, None, :2], found[None, :, :2])
        high = np.minimum(found[:, None, 2:], found[None, :, 2:])
        overlaps += (np.triu((high > low).all(-1), 1)).sum()
    assert overlaps > 20
    assert ((pictures.classes >= 0).sum(axis=1) > 1).mean() > 0.5
    assert (alone.classes >= 0).all()


def test_places_and_grounds_are_held_out(both):
    def parities(pictures):
        """Of the middles of signs that are whole: alone in their picture."""
        alone = (pictures.classes >= 0).sum(axis=1) == 1
        boxes = pictures.boxes[alone, 0]
        return (boxes[:, :2] + boxes[:, 2:]) / 2

    # A box is the part that is more than half opaque: a pixel smaller.
    for part, pictures in enumerate(both):
        middles = parities(pictures)
        near = [
            ((np.floor(middles + x) // FIELD).sum(axis=1) % 2 == part)
            for x in (-1, 0, 1)
        ]
        assert np.any(near, axis=0).all() and len(middles) > 3
    train, test = (x.images.reshape(40, -1) for x in both)
    assert not {x.tobytes() for x in train} & {x.tobytes() for x in test}


def test_arguments_repeat_and_others_do_not(both):
    again = compose_emoji(40, 40, test_hand="twemoji", seed=2)
    for found, expected in zip(again, both):
        for a, b in zip(found, expected):
            np.testing.assert_array_equal(a, b)
    fewer, _ = compose_emoji(3, 1, seed=2)
    np.testing.assert_array_equal(fewer.images, both[0].images[:3])
    other, _ = compose_emoji(3, 1, seed=3)
    assert (other.images != fewer.images).any()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"signs": 0}, "signs=0"),
        ({"signs": 9}, "signs=9"),
        ({"image_size": 47}, "image_size=47"),
        ({"image_size": 321}, "image_size=321"),
        ({"test_hand": "mine"}, "mine"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, words):
    with pytest.raises(ValueError, match=f"Received: .*{words}"):
        compose_emoji(1, 1, **arguments)


def test_written_pictures_are_read(both, tmp_path):
    pictures = both[0]
    source = read_coco(write_coco(pictures, tmp_path / "emoji"))
    assert source.classes == CLASSES and len(source) == 40
    for number in range(40):
        objects = source.objects(number)
        kept = pictures.classes[number] >= 0
        np.testing.assert_array_equal(
            source.image(number).pixels(), pictures.images[number]
        )
        np.testing.assert_array_equal(
            objects.boxes, pictures.boxes[number][kept]
        )
        np.testing.assert_array_equal(
            objects.classes, pictures.classes[number][kept]
        )
        masks = pictures.masks[number][kept]
        np.testing.assert_array_equal(objects.masks(), masks)
        assert [rle.area(x) for x in objects.rles()] == objects.areas.tolist()


def test_licenses_are_told():
    folder = Path(__file__).parents[2] / "notebooks" / "emoji"
    readme = (folder / "README.md").read_text()
    for word in ("noto.png", "Apache", "twemoji.png", "CC BY 4.0"):
        assert word in readme
    assert {x.name for x in folder.iterdir()} == {
        *("README.md", "noto.png", "twemoji.png")
    }
    for name in HANDS:
        assert (folder / f"{name}.png").stat().st_size < 50_000
        assert len(drawings_by(name)) == len(CLASSES) == 10
