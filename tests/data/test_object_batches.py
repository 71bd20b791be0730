"""Images with objects, augmented and in batches of fixed shapes."""

import functools

import keras
import numpy as np
import object_files
import pytest

from keras_convnext.data import ObjectLoader
from keras_convnext.data import RandomScales
from keras_convnext.data import read_coco
from keras_convnext.data import read_voc
from keras_convnext.data.objects import batching
from keras_convnext.data.objects.views import View
from keras_convnext.images import resizing

SMALL = {
    "shortest": (40, 48, 56),
    "longest": 96,
    "crop_shortest": (30, 40),
    "crop_sides": (24, 40),
}
SCALES = RandomScales(**SMALL)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Thirty images, a third of them high ones, with up to nine objects."""
    generator = np.random.default_rng(0)
    images = {}
    for number in range(30):
        height, width = generator.integers((34, 50), (48, 70)).tolist()
        if number % 3 == 0:
            height, width = width, height
        objects = []
        for _ in range(generator.integers(1, 10)):
            corners = generator.integers(0, (width - 4, height - 4))
            sides = generator.integers(2, (width, height) - corners + 1)
            box = (*corners.tolist(), *(corners + sides).tolist())
            objects.append((int(generator.integers(2)), box, True))
        images[f"{number:02}.png"] = height, width, objects
    folder = tmp_path_factory.mktemp("coco")
    content = object_files.coco(images)
    return read_coco(object_files.write_coco(folder, content, images))


def loaders(source, **options):
    options = {"scales": SCALES, "max_objects": 12, **options}
    return ObjectLoader(source, 4, **options)


# Views


@pytest.mark.once
def test_steps_carry_boxes_and_masks_along(source):
    objects = source.objects(1)
    image = source.image(1).pixels()
    height, width = image.shape[:2]
    steps = [
        ("flipped", ()),
        ("resized", (61, 83)),
        ("cropped", (9, 7, 31, 40)),
    ]
    view = View.of(image, objects.boxes)
    for name, arguments in [*steps, ("resized", (50, 77))]:
        view = getattr(view, name)(*arguments)
    # The same one by one.
    expected = resizing.linear(image[:, ::-1], 61, 83)[9:40, 7:47]
    expected = resizing.linear(expected, 50, 77)
    np.testing.assert_array_equal(view.image, expected)
    masks = resizing.nearest(objects.masks()[:, :, ::-1], 61, 83)
    masks = resizing.nearest(masks[:, 9:40, 7:47], 50, 77)
    np.testing.assert_array_equal(view.masks(objects), masks[view.kept])
    left, top, right, bottom = objects.boxes.astype("float64").T
    scale = 83 / width, 61 / height
    boxes = [width - right, top, width - left, bottom] * np.tile(scale, 2)[
        :, None
    ]
    boxes = np.clip(boxes.T - [7, 9, 7, 9], 0, [40, 31, 40, 31])
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    assert 0 < inside.sum() < len(inside)
    np.testing.assert_array_equal(view.kept, np.flatnonzero(inside))
    boxes = boxes[inside] * np.tile([77 / 40, 50 / 31], 2)
    np.testing.assert_allclose(view.boxes, boxes, rtol=1e-6, atol=1e-4)


@pytest.mark.once
def test_a_crop_without_objects_is_a_sample(source):
    objects = source.objects(0).only([])
    image = source.image(0).pixels()
    steps = [("cropped", (0, 0, 8, 8)), ("resized", (16, 16))]
    sample = batching.sample(image, objects, steps, 5, True)
    assert sample["masks"].shape == (0, 16, 16)
    _, targets = batching.batch([sample], (32, 32), 5)
    assert not targets["valid"].any() and not targets["masks"].any()


# Draws


@pytest.mark.once
def test_sizes_are_the_published_ones():
    scales = RandomScales()
    short, crops, sides, flips = set(), 0, [], 0
    for number in range(2000):
        steps = scales.steps(480, 640, (7, number))
        flips += steps[0][0] == "flipped"
        names = [name for name, _ in steps if name != "flipped"]
        if len(names) == 1:
            short.add(min(steps[-1][1]))
            continue
        assert names == ["resized", "cropped", "resized"]
        crops += 1
        (_, before), (_, crop), (_, after) = steps[-3:]
        assert min(before) in (400, 500, 600)
        assert 0 <= crop[0] <= before[0] - crop[2]
        assert 0 <= crop[1] <= before[1] - crop[3]
        sides.append(crop[2:])
        assert after in {
            resizing.fitted_size(*crop[2:], shortest=x)
            for x in range(480, 801, 32)
        }
    assert short == set(range(480, 801, 32))
    sides = np.array(sides)
    assert sides.min() == 384 and sides.max() == 600
    # Of 2000 coins 1000 ± 4 standard deviations.
    assert abs(crops - 1000) < 90 and abs(flips - 1000) < 90
    assert sides.std(axis=0).min() > 50


@pytest.mark.once
def test_small_images_are_not_enlarged_for_a_crop():
    for number in range(100):
        steps = SCALES.steps(20, 200, (0, number))
        for name, arguments in steps:
            if name == "cropped":
                # 96 pixels at most, and so 10 of the short side.
                assert arguments[2] == 10 and 24 <= arguments[3] <= 40
    assert RandomScales(**SMALL, horizontal_flip=0).largest == (56, 96)
    with pytest.raises(ValueError, match="least and the greatest"):
        RandomScales(crop_sides=(600, 384))


# Batches


def check_batch(inputs, targets, count=4, rows=12):
    images, sizes = inputs["images"], inputs["image_sizes"]
    height, width = images.shape[1:3]
    assert images.shape == (count, height, width, 3)
    assert images.dtype == "uint8" and height % 32 == width % 32 == 0
    assert sizes.dtype == "int32" and sizes.shape == (count, 2)
    np.testing.assert_array_equal(inputs["original_sizes"], sizes)
    boxes, valid = targets["boxes"], targets["valid"]
    assert boxes.shape == (count, rows, 4) and boxes.dtype == "float32"
    assert valid.shape == (count, rows) and valid.dtype == "bool"
    assert targets["classes"].dtype == "int32"
    masks = targets["masks"]
    assert masks.shape == (count, rows, height, width)
    assert masks.dtype == "uint8" and masks.max() <= 1
    for i, (rows, columns) in enumerate(sizes):
        assert not images[i, rows:].any() and not images[i, :, columns:].any()
        found = boxes[i][valid[i]]
        assert not boxes[i][~valid[i]].any() and not masks[i][~valid[i]].any()
        assert (found[:, 2:] > found[:, :2]).all() and (found >= 0).all()
        assert (found[:, [1, 3]] <= rows).all()
        assert (found[:, [0, 2]] <= columns).all()
        for box, mask in zip(found, masks[i][valid[i]]):
            places = np.argwhere(mask)
            if len(places):  # small ones may fall between the pixels
                low, high = places.min(0)[::-1], places.max(0)[::-1] + 1
                # Half a pixel of the original, times what enlarges it.
                assert (low >= box[:2] - 3).all() and (
                    high <= box[2:] + 3
                ).all()


@pytest.mark.once
def test_batches_have_fixed_shapes(source):
    loader = loaders(source)
    assert loader.steps_per_epoch == len(loader) == 8
    seen = 0
    for batch in loader.batches() if loader.loader == "python" else loader:
        check_batch(*batch)
        seen += batch[1]["valid"].sum()
    assert seen > 50


@pytest.mark.once
def test_images_of_a_group_have_one_orientation(source):
    loader = loaders(source, group=2)
    order = loader._order(3)
    assert set(order.tolist()) == set(range(30)) and len(order) == 30
    heights, widths = source.sizes[order].T
    wide = (widths > heights).reshape(-1, 2)
    assert (wide[:, 0] == wide[:, 1]).all()
    assert 0 < wide[:, 0].sum() < len(wide)
    assert (loader._order(4) != order).any()
    # 20 wide and 10 high images, filled up.
    assert len(batching.grouped_order(np.arange(30) < 20, 8, 0, 0)) == 40
    assert len(batching.grouped_order(np.ones(3, bool), 2, 0, 0)) == 4


@pytest.mark.once
def test_steps_follow_from_their_numbers_alone(source):
    expected = [*loaders(source, epochs=2, loader="python").batches()]
    assert len(expected) == 16
    again = loaders(source, epochs=2, loader="python").batches(first_step=11)
    for batch, same in zip(expected[11:], again, strict=True):
        keras.tree.map_structure(np.testing.assert_array_equal, batch, same)
    first, second = expected[0][0]["images"], expected[8][0]["images"]
    assert first.shape != second.shape or (first != second).any()
    other = loaders(source, seed=1).make(0, 0)[0]["images"]
    assert first.shape != other.shape or (first != other).any()


@pytest.mark.once
def test_processes_share_a_batch(source):
    whole = loaders(source, group=2).make(0, 1)
    parts = [
        loaders(source, process_index=i, process_count=2).make(0, 1)
        for i in range(2)
    ]
    joined = keras.tree.map_structure(lambda *x: np.concatenate(x), *parts)
    keras.tree.map_structure(np.testing.assert_array_equal, whole, joined)


@pytest.mark.once
def test_fixed_canvases_are_three(source):
    loader = loaders(source, group=1, canvas="fixed", epochs=4)
    shapes = set()
    for step in range(loader.steps):
        inputs, targets = loader.make(*divmod(step, loader.steps_per_epoch))
        check_batch(inputs, targets)
        shapes.add(inputs["images"].shape[1:3])
    assert shapes <= {(64, 96), (96, 64), (96, 96)} and len(shapes) > 1
    assert batching.fixed([(800, 1333)], (800, 1333)) == (800, 1344)
    assert batching.fixed([(700, 810)], (800, 1333)) == (800, 1344)
    assert batching.fixed([(700, 700)], (800, 1333)) == (800, 1344)
    assert batching.fixed([(801, 801)], (800, 1333)) == (1344, 1344)
    assert batching.fixed([(801, 5)], (800, 1333)) == (1344, 800)


@pytest.mark.once
def test_chance_takes_some_of_many_objects(source):
    few = loaders(source, max_objects=3)
    for step in range(8):
        _, (targets) = few.make(0, step)
        assert targets["boxes"].shape == (4, 3, 4)
        _, all_of_them = loaders(source).make(0, step)
        for i in range(4):
            kept = targets["boxes"][i][targets["valid"][i]]
            there = all_of_them["boxes"][i][all_of_them["valid"][i]]
            assert len(kept) == min(len(there), 3)
            assert all((x == there).all(axis=1).any() for x in kept)


@pytest.mark.once
def test_boxes_alone_have_no_masks(tmp_path):
    source = read_voc(object_files.write_voc(tmp_path))
    loader = loaders(source, group=2)
    assert len(loader.source) == 2  # one has no objects
    _, targets = loader[0]
    assert sorted(targets) == ["boxes", "classes", "valid"]
    # Each is alone in its group, and so comes twice.
    assert targets["valid"].sum(axis=1).tolist() in ([2, 2, 1, 1], [1, 1, 2, 2])


@pytest.mark.once
def test_batches_tell_of_which_objects_there_are_masks(tmp_path):
    folder = object_files.write_voc_masks(tmp_path)
    (folder / "SegmentationObject/deep/b.png").unlink()
    source = read_voc(folder)
    loader = loaders(source, group=2, loader="tf")
    batch = loader[0]
    _, targets = batch
    # a.png has two objects, b.png one.
    is_first = targets["valid"].sum(axis=1, keepdims=True) == 2
    assert 0 < is_first.sum() < len(is_first)
    np.testing.assert_array_equal(
        targets["masked"], targets["valid"] & is_first
    )
    assert targets["masks"].any((1, 2, 3)).tolist() == is_first[:, 0].tolist()
    (same,) = loader.batches().take(1).as_numpy_iterator()
    keras.tree.map_structure(np.testing.assert_array_equal, same, batch)


@pytest.mark.once
def test_images_that_cannot_be_read(source, tmp_path):
    images = {f"{x}.png": object_files.IMAGES["a.png"] for x in "abcd"}
    content = object_files.coco(images)
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4, 5, 1e9]]  # d
    path = object_files.write_coco(tmp_path, content, images)
    (tmp_path / "images" / "a.png").write_bytes(b"no image")
    load = functools.partial(
        ObjectLoader, read_coco(path), 4, scales=SCALES, max_objects=4
    )
    with pytest.warns(UserWarning, match="Skipped"):
        loader = load()
        check_batch(*loader[0], rows=4)
    assert len(loader.skipped) == 2
    with pytest.raises(ValueError, match="images that can be read"):
        load(on_error="raise")[0]
    with pytest.raises(ValueError, match="batch_size=8 and 4 images"):
        ObjectLoader(read_coco(path), 8, group=1)
    with pytest.raises(ValueError, match="divisible by `group`"):
        load(group=3)
    with pytest.raises(ValueError, match="memory"):
        load(max_objects=10**9)


@pytest.mark.parametrize("loader", ["tf", "python"])
def test_fit_takes_them_on_every_backend(loader, source):
    """Both paths give the same; the sizes of images are not known before."""
    expected = loaders(source, epochs=1, loader="python").batches()
    found = loaders(source, epochs=1, loader=loader).batches()
    if loader == "tf":
        found = found.as_numpy_iterator()
    for batch, same in zip(expected, found, strict=True):
        keras.tree.map_structure(np.testing.assert_array_equal, batch, same)
    inputs = {
        name: keras.Input(shape, dtype="int32", name=name)
        for name, shape in {
            "images": (None, None, 3),
            "image_sizes": (2,),
            "original_sizes": (2,),
        }.items()
    }
    x = keras.layers.Rescaling(1 / 255)(inputs["images"])
    x = keras.layers.GlobalAveragePooling2D()(x)

    class Model(keras.Model):
        def compute_loss(self, x, y, y_pred, sample_weight, training):
            valid = keras.ops.cast(y["valid"], "float32")
            masks = keras.ops.cast(y["masks"], "float32")
            area = keras.ops.mean(masks, axis=(2, 3)) * valid
            known = keras.ops.sum(area) + keras.ops.sum(y["boxes"])
            return keras.ops.mean(keras.ops.square(y_pred - known))

    model = Model(inputs, keras.layers.Dense(1)(x))
    model.compile("sgd")
    batches = loaders(source, loader=loader).batches()
    history = model.fit(batches, steps_per_epoch=8, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    history = model.fit(loaders(source), verbose=0)
    assert np.isfinite(history.history["loss"][0])
