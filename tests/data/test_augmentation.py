"""The augmentation of images against timm's, and where it may stand."""

import copy
import json
import os
import pickle
import random
import subprocess
import sys

import keras
import numpy as np
import peers
import pytest
import tensorflow as tf
from conftest import long_where_compiled
from PIL import Image
from pipelines import CHINA
from pipelines import FLOWER
from pipelines import SHAPE
from pipelines import Dice
from pipelines import mapped
from pipelines import photographs
from pipelines import within
from scipy import stats

from keras_convnext.data.augmentation import RandAugment
from keras_convnext.data.augmentation import boxes
from keras_convnext.data.augmentation import operations
from keras_convnext.data.augmentation import seeds
from keras_convnext.data.augmentation.image_layers import RandomErasing
from keras_convnext.data.augmentation.image_layers import RandomFlip
from keras_convnext.data.augmentation.image_layers import RandomResizedCrop
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD
from keras_convnext.images.reading import to_pil
from keras_convnext.images.transform import load_image

pytestmark = pytest.mark.once

FILL = (124, 116, 104)
IMAGES = (
    CHINA[:150, 200:301],
    FLOWER[100:187, 300:450].swapaxes(0, 1).copy(),
    photographs(1, 8, 9)[0],
    photographs(1, 20, 20)[0],  # few enough for an equalization to overflow
    photographs(1, 2, 5)[0],
    photographs(1, 1, 1)[0],
    np.full((6, 7, 3), 200, "uint8"),
)
MAGNITUDES = (0, 4.99, 7.3, 9, 10)
LAYERS = {
    "RandAugment": lambda **options: RandAugment(**options),
    "RandomErasing": lambda **options: RandomErasing(0.5, **options),
    "RandomFlip": lambda **options: RandomFlip(**options),
    "RandomResizedCrop": lambda **options: RandomResizedCrop(32, **options),
}
DTYPES = {"RandomErasing": "float32"}
every_layer = pytest.mark.parametrize("name", LAYERS)


# The fifteen operations


def timm_pixels(monkeypatch, image, name, magnitude, sign, fill=FILL):
    peers.import_timm()
    from timm.data import auto_augment

    monkeypatch.setattr(auto_augment, "_randomly_negate", lambda x: x * sign)
    hparams = {"img_mean": fill, "interpolation": Image.Resampling.BICUBIC}
    operation = auto_augment.AugmentOp(name, 1, magnitude, hparams)
    return np.asarray(operation(image))


def distorted(image, *arguments):
    result = operations.distorted(to_pil(image), *arguments)
    return np.asarray(result).reshape(image.shape)


def test_the_operations_are_the_increasing_ones_of_timm():
    peers.import_timm()
    from timm.data import auto_augment

    increasing = auto_augment._RAND_INCREASING_TRANSFORMS
    assert list(operations.OPERATIONS) == increasing
    assert tuple(FILL) == operations.fill_color(IMAGENET_MEAN, 3)


@pytest.mark.parametrize("name", operations.OPERATIONS)
def test_pixels_are_those_of_timm(monkeypatch, name):
    cases = [(image, m) for image in IMAGES for m in MAGNITUDES]
    for image, magnitude in [*cases, (CHINA, 9), (FLOWER, 9)]:
        for sign in (1, -1):
            if name == "PosterizeIncreasing" and magnitude == 10:
                continue  # recent Pillow refuses
            expected = timm_pixels(
                monkeypatch, Image.fromarray(image), name, magnitude, sign
            )
            result = distorted(image, name, magnitude, sign)
            assert result.dtype == "uint8"
            np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("name", operations.OPERATIONS)
def test_gray_pixels_are_those_of_timm(monkeypatch, name):
    assert operations.fill_color(IMAGENET_MEAN, 1) == (117,)
    for image in (photographs(1, 30, 21)[0], photographs(1, 8, 8)[0]):
        image = image[..., :1]
        for magnitude, sign in ((9, 1), (9, -1), (2.5, 1)):
            expected = timm_pixels(
                monkeypatch,
                Image.fromarray(image[..., 0]),
                name,
                magnitude,
                sign,
                fill=117,
            )[..., None]
            result = distorted(image, name, magnitude, sign, (117,))
            np.testing.assert_array_equal(result, expected)


def test_one_number_fills_all_channels():
    assert operations.fill_color((0.2,), 1) == (51,)
    assert operations.fill_color((0.2,), 3) == (51, 51, 51)


def test_no_bits_are_black():
    arguments = (photographs()[0], "PosterizeIncreasing", 10)
    assert not distorted(*arguments).any()


# RandAugment


class Loaded(RandAugment):
    """Draws what it is told to."""

    told = ([3, 7, 12], [True, False, True], [9.0, 8.0, 4.5], [-1.0, 1.0, 1.0])

    def _draw(self, generator):
        return self.told


def test_rand_augment_applies_what_it_draws():
    image = CHINA[:50, :61]
    layer = Loaded("rand-m9-n3-inc1")
    expected = distorted(image, "Rotate", 9, -1)
    expected = distorted(expected, "ShearY", 4.5, 1)
    for result in (layer(image), *mapped(layer, image[None])):
        np.testing.assert_array_equal(result, expected)


def test_rand_augment_rounds_floats_and_keeps_their_dtype():
    image = photographs()[0]
    layer = Loaded("rand-m9-n3-inc1")
    expected = layer(image)
    shifted = image + np.where(image % 2, 0.4, -0.4).astype("float32")
    for floats in (shifted, tf.constant(shifted)):
        result = layer(floats)
        assert result.dtype == "float32"
        np.testing.assert_array_equal(result, expected)
    outside = np.where(image > 127, 300.0, -20.0)
    clipped = np.where(image > 127, 255, 0).astype("uint8")
    for floats in (outside, tf.constant(outside)):
        np.testing.assert_array_equal(layer(floats), layer(clipped))


def test_rand_augment_draws_as_timm_does():
    layer = RandAugment("rand-m9-mstd0.5-inc1")
    count = 4000
    generators = map(np.random.default_rng, range(count))
    drawn = zip(*(layer._draw(each) for each in generators))
    chosen, applied, magnitudes, signs = (np.stack(x) for x in drawn)
    assert chosen.shape == (count, 2)
    frequencies = np.bincount(chosen.ravel(), minlength=15)
    assert stats.chisquare(frequencies).pvalue > 1e-6
    pairs = np.bincount(chosen @ [15, 1], minlength=225)  # with replacement
    assert stats.chisquare(pairs).pvalue > 1e-6
    assert within(applied.ravel(), 0.5, 0.5)
    assert within(applied[:, 0] == applied[:, 1], 0.5, 0.5)
    assert within(signs.ravel(), 0, 1) and set(signs.ravel()) == {-1, 1}
    reference = np.clip(np.random.default_rng(0).normal(9, 0.5, 40000), 0, 10)
    assert magnitudes.max() == 10
    assert stats.ks_2samp(magnitudes.ravel(), reference).pvalue > 1e-6
    uniform = magnitudes.ravel() < np.median(magnitudes)
    assert within(uniform == (signs.ravel() > 0), 0.5, 0.5)
    assert within(uniform == applied.ravel(), 0.5, 0.5)
    assert within((signs > 0).ravel() == applied.ravel(), 0.5, 0.5)


def test_rand_augment_reads_timms_strings():
    parsed = operations.parse("rand-m5-n3-mstd1.5-p0.25-inc1")
    assert parsed == operations.RandAugmentConfig(5, 1.5, 3, 0.25)
    assert operations.parse("rand-inc1") == operations.RandAugmentConfig()
    image = photographs()[0]
    for same in (image, tf.constant(image)):
        never = RandAugment("rand-m9-p0-inc1")(same)
        np.testing.assert_array_equal(never, image)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("original-mstd0.5-inc1", "at 'original'"),
        ("rand-m9-mstd0.5", "at 'rand'"),
        ("rand-m9-inc0", "at 'inc0'"),
        ("rand-m11-inc1", "at 'm11'"),
        ("rand-m9.5-inc1", "at 'm9.5'"),
        ("rand-n0-inc1", "at 'n0'"),
        ("rand-p1.5-inc1", "at 'p1.5'"),
        ("rand-mstd101-inc1", "at 'mstd101'"),
        ("rand-tweights-inc1", "at 'tweights'"),
        ("rand-msd0.5-inc1", "Did you mean mstd"),
        ("rand-m-inc1", "at 'm'"),
        (9, "'rand-m9-mstd0.5-inc1'"),
    ],
)
def test_rand_augment_refuses_other_strings(config, reason):
    with pytest.raises(ValueError, match=reason):
        RandAugment(config)


# Crops


@pytest.mark.parametrize(
    "shape", [(480, 640), (427, 640), (33, 8), (8, 8), (1, 900), (700, 3)]
)
def test_crops_are_those_of_timm(monkeypatch, shape):
    peers.import_timm()
    from timm.data import transforms

    crop = transforms.RandomResizedCropAndInterpolation
    for number in range(30):
        rows = np.random.default_rng(number).random((boxes.TRIES, 4))
        for limits in (((0.08, 1.0), (3 / 4, 4 / 3)), ((0.5, 0.9), (0.9, 2))):
            monkeypatch.setattr(transforms, "random", Dice(rows))
            expected = crop.get_params(Image.new("L", shape[::-1]), *limits)
            assert boxes.crop_box(rows, *shape, *limits) == expected


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    "box", [(10, 200, 150, 301), (0, 0, 30, 40), (5, 7, 100, 100)]
)
def test_cropped_pixels_are_those_of_torchvision(
    monkeypatch, box, interpolation
):
    peers.import_timm()
    from torchvision.transforms import functional

    monkeypatch.setattr(boxes, "crop_box", lambda *_: box)
    layer = RandomResizedCrop((64, 80), interpolation=interpolation)
    expected = functional.resized_crop(
        Image.fromarray(CHINA),
        *box,
        (64, 80),
        getattr(functional.InterpolationMode, interpolation.upper()),
    )
    result = layer(CHINA)
    assert result.dtype == "uint8"
    np.testing.assert_array_equal(result, expected)
    (by_tf,) = mapped(layer, CHINA[None])
    assert by_tf.dtype == "uint8"
    np.testing.assert_array_equal(by_tf, expected)
    gray = layer(CHINA[..., :1])
    np.testing.assert_array_equal(gray, result[..., :1])
    (gray,) = mapped(layer, CHINA[None, ..., :1])
    np.testing.assert_array_equal(gray, result[..., :1])
    np.testing.assert_array_equal(layer(CHINA + 0.3), result)


def test_crops_are_distributed_as_timms():
    peers.import_timm()
    from timm.data.transforms import RandomResizedCropAndInterpolation

    count, height, width = 3000, 480, 640
    limits = (0.08, 1.0), (3 / 4, 4 / 3)
    drawn = [
        boxes.crop_box(
            np.random.default_rng(number).random((boxes.TRIES, 4)),
            height,
            width,
            *limits,
        )
        for number in range(count)
    ]
    random.seed(0)
    image = Image.new("L", (width, height))
    expected = [
        RandomResizedCropAndInterpolation.get_params(
            image, (0.08, 1.0), (3 / 4, 4 / 3)
        )
        for _ in range(count)
    ]
    for statistic in (
        lambda top, left, height, width: height * width,
        lambda top, left, height, width: np.log(width / height),
        lambda top, left, height, width: top,
        lambda top, left, height, width: left,
    ):
        ours, theirs = (
            statistic(*np.array(each).T) for each in (drawn, expected)
        )
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-6


@pytest.mark.parametrize("size", [96, (64, 80), 400])
def test_evaluation_crops_as_load_image_does(size):
    layer = RandomResizedCrop(size)
    expected = load_image(CHINA, size)
    np.testing.assert_array_equal(layer(CHINA, training=False), expected)
    gray = layer(CHINA[..., :1].astype("float32"), training=False)
    np.testing.assert_array_equal(
        gray, load_image(CHINA[..., 0], size)[..., :1]
    )
    by_tf = layer(tf.constant(CHINA)[None], training=False)
    np.testing.assert_array_equal(by_tf[0], expected)
    by_tf = layer(tf.constant(CHINA[..., :1]), training=False)
    assert by_tf.shape == (*expected.shape[:2], 1)
    np.testing.assert_array_equal(by_tf, gray)


# Flips and erasures


def test_flips_mirror():
    image = photographs()[0]
    for given in (image, tf.constant(image)):
        for probability, expected in ((1, image[:, ::-1]), (0, image)):
            result = RandomFlip(probability)(given)
            np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("probability", [0.5, 0.2])
@pytest.mark.parametrize("path", ["tf", "numpy"])
def test_flips_are_as_frequent_as_asked_for(path, probability):
    layer = RandomFlip(probability, seed=0)
    images = np.tile(np.array([[[[0], [1]]]], "uint8"), (3000, 1, 1, 1))
    results = mapped(layer, images, 3000)[0] if path == "tf" else layer(images)
    assert within(results[:, 0, 0, 0], probability, 0.5)


def normalized(images):
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    return (images / 255 - mean) / std


@pytest.mark.parametrize("shape", [(224, 224), (30, 50), (8, 8), (3, 2)])
def test_erased_boxes_are_those_of_timm(monkeypatch, shape):
    peers.import_timm()
    import torch
    from timm.data import random_erasing

    theirs = random_erasing.RandomErasing(1, mode="pixel", device="cpu")
    for number in range(30):
        rows = np.random.default_rng(number).random((boxes.TRIES, 4))
        monkeypatch.setattr(random_erasing, "random", Dice(rows))
        expected = theirs(torch.zeros((1, *shape)))[0].numpy() != 0
        erased = np.zeros(shape, bool)
        box = boxes.erased_box(rows, *shape)
        if box is not None:
            top, left, height, width = box
            erased[top : top + height, left : left + width] = True
        np.testing.assert_array_equal(erased, expected)


@pytest.mark.parametrize("path", ["tf", "numpy"])
def test_erasures_are_noise_in_a_box(path):
    layer = RandomErasing(0.25, seed=0)
    images = np.full((2000, 24, 32, 3), 7, "uint8")
    results = mapped(layer, images, 2000)[0] if path == "tf" else layer(images)
    assert results.dtype == "float32"
    changed = results != images
    erased = changed.all(-1)
    np.testing.assert_array_equal(erased, changed.any(-1))
    assert within(erased.any((1, 2)), 0.25, 0.5)
    erased_images = erased[erased.any((1, 2))]
    areas = erased_images.mean((1, 2))
    for mask, area in zip(erased_images, areas):
        sides = [np.flatnonzero(mask.any(axis)) for axis in (0, 1)]
        boxed = np.prod([np.ptp(side) + 1 for side in sides])
        assert boxed == area * mask.size  # a box, and full
    timm_areas = erased_areas_of_timm(len(areas))
    assert stats.ks_2samp(areas, timm_areas).pvalue > 1e-6
    noise = normalized(results)[erased]
    for channel in noise.T:
        assert within(channel, 0, 1)
        assert within(channel**2, 1, 2**0.5)
    assert abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.05
    assert (results[erased] < 0).any() and (results[erased] > 255).any()


def erased_areas_of_timm(count):
    peers.import_timm()
    import torch
    from timm.data.random_erasing import RandomErasing

    random.seed(0)
    layer = RandomErasing(1, mode="pixel", device="cpu")
    masks = layer(torch.zeros((count, 1, 24, 32))) != 0
    return masks.float().mean((1, 2, 3)).numpy()


def test_erasing_takes_any_channels_with_their_statistics():
    gray, many = (np.zeros((9, 9, n), "uint8") for n in (1, 5))
    for images in (gray, many, tf.constant(gray)):
        result = RandomErasing(1, 0.5, 0.25, seed=3)(images)
        assert result.shape == images.shape and np.any(result != 0)
        with pytest.raises(ValueError, match="3 channels.*one number for each"):
            RandomErasing()(images)
    result = RandomErasing(1, (1, 2, 3, 4, 5), (1e-6,) * 5, seed=3)(many)
    colors = np.unique(result.round().reshape(-1, 5), axis=0)
    np.testing.assert_array_equal(colors, [[0] * 5, 255 * np.arange(1, 6)])


def test_erasing_writes_where_it_is_told():
    image = photographs(1)[0]
    layer = RandomErasing(1.0)
    expected = layer(image, seed=(0, 1))
    out = np.zeros_like(expected)
    assert layer(image, seed=(0, 1), out=out) is out
    np.testing.assert_array_equal(out, expected)
    own = image.astype("float32")
    layer(own, seed=(0, 1))
    np.testing.assert_array_equal(own, image)
    layer(own, seed=(0, 1), out=own)
    np.testing.assert_array_equal(own, expected)


# Where layers stand


def sample(count=6, **options):
    images = photographs(count, **options)
    return {
        "images": images,
        "labels": np.arange(count),
        "file": np.array([f"{i}.png" for i in range(count)]),
    }


@every_layer
@pytest.mark.parametrize(("channels", "batch"), [(3, None), (1, 4)])
def test_layers_stand_in_tf_data(name, channels, batch):
    statistics = {"mean": 0.5, "std": 0.25} if name == "RandomErasing" else {}
    layer = LAYERS[name](seed=0, **statistics)
    inputs = sample(channels=channels)
    dataset = tf.data.Dataset.from_tensor_slices(inputs)
    if batch is not None:
        dataset = dataset.batch(batch)
    dataset = dataset.map(layer)
    shape = (32, 32) if name == "RandomResizedCrop" else SHAPE
    leading = [] if batch is None else [None]
    spec = dataset.element_spec["images"]
    assert spec.shape.as_list() == [*leading, *shape, channels]
    assert spec.dtype == DTYPES.get(name, "uint8")
    results = list(dataset.as_numpy_iterator())
    assert len(results) == (6 if batch is None else 2)
    first = results[0]
    assert list(first) == list(inputs)
    joined = np.stack if batch is None else np.concatenate
    results = {key: joined([each[key] for each in results]) for key in first}
    np.testing.assert_array_equal(results["labels"], inputs["labels"])
    np.testing.assert_array_equal(results["file"].astype("U"), inputs["file"])
    if name != "RandomResizedCrop":
        assert (results["images"] != inputs["images"]).any()


@every_layer
def test_layers_do_without_static_shapes(name):
    layer = LAYERS[name](seed=0)
    side = 32 if name == "RandomResizedCrop" else None
    dataset = tf.data.Dataset.from_generator(
        lambda: photographs(2),
        output_signature=tf.TensorSpec((None, None, 3), tf.uint8),
    ).map(layer)
    assert dataset.element_spec.shape.as_list() == [side, side, 3]
    assert len(list(dataset)) == 2


@every_layer
def test_every_image_has_its_own_draw(name):
    layer = LAYERS[name](seed=0)
    images = np.repeat(photographs(1), 8, 0)
    for batch in (images, tf.constant(images)):
        results = np.asarray(layer(batch))
        distinct = np.unique(results.reshape(8, -1), axis=0)
        assert len(distinct) >= (2 if name == "RandomFlip" else 3)
        np.testing.assert_array_equal(batch, images)  # left as it was


@pytest.mark.parametrize("name", sorted(set(LAYERS) - {"RandomResizedCrop"}))
def test_inference_is_the_identity(name):
    layer = LAYERS[name]()
    inputs = sample()
    assert layer(inputs, training=False)["images"] is inputs["images"]
    dataset = tf.data.Dataset.from_tensors(inputs)
    (result,) = dataset.map(lambda x: layer(x, training=False))
    np.testing.assert_array_equal(result["images"], inputs["images"])


@every_layer
def test_layers_work_on_eager_tensors(name):
    result = LAYERS[name](seed=0)(tf.constant(photographs()))
    assert isinstance(result, tf.Tensor)


@long_where_compiled
def test_layers_stand_between_others():
    keras_cv = pytest.importorskip("keras_cv", exc_type=ImportError)
    # Where a run of another test asked TensorFlow for determinism, it makes
    # none by itself.
    tf.random.set_global_generator(tf.random.Generator.from_seed(0))
    inputs = sample()
    inputs["labels"] = np.eye(6, dtype="float32")
    del inputs["file"]
    chain = [
        RandomResizedCrop(48, seed=0),
        keras_cv.layers.RandomBrightness(0.2, seed=0),
        RandAugment(seed=0),
        keras.layers.RandomFlip(seed=0),
        RandomErasing(1.0, seed=0),
        keras_cv.layers.MixUp(seed=0),
    ]
    dataset = tf.data.Dataset.from_tensor_slices(inputs).batch(3)
    for layer in chain:
        dataset = dataset.map(layer)
    for result in dataset:
        assert result["images"].shape == (3, 48, 48, 3)
        assert result["images"].dtype == tf.float32
        assert result["labels"].shape == (3, 6)
    pipeline = keras.layers.Pipeline([chain[0], chain[4]])
    results = mapped(pipeline, inputs, 3)
    assert results[0]["images"].shape == (3, 48, 48, 3)


# Seeds


def images_of(layer, seed=None, given=None):
    given = photographs() if given is None else given
    return np.asarray(layer(given, seed=seed))


@every_layer
@pytest.mark.parametrize("to", [np.asarray, tf.constant], ids=["numpy", "tf"])
def test_a_seed_decides_alone(name, to):
    image = photographs(1)[0]
    given = to(image)
    runs = [
        [images_of(LAYERS[name](seed=own), (3, i), given) for i in range(8)]
        for own in (None, 5)
    ]
    np.testing.assert_array_equal(*runs)
    assert len(np.unique(np.reshape(runs[0], (8, -1)), axis=0)) > 1
    layer = LAYERS[name]()
    by_arrays = [images_of(layer, (3, i), image) for i in range(8)]
    np.testing.assert_array_equal(runs[0], by_arrays)
    pairs = [[3, 1], np.array([3, 1]), tf.constant([3, 1])]
    for pair in (*pairs, tf.constant([3, 1], "int64")):
        result = images_of(layer, pair, given)
        np.testing.assert_array_equal(result, runs[0][1])
    negative = images_of(layer, (-(2**31), 2**31 - 1), given)
    assert negative.dtype == runs[0][0].dtype


@every_layer
def test_parallel_maps_repeat(name):
    layer = LAYERS[name]()
    count = 12
    dataset = tf.data.Dataset.from_tensor_slices(photographs(count))
    numbered = tf.data.Dataset.zip(tf.data.Dataset.range(count), dataset)

    def augment(number, image):
        return layer(image, seed=tf.stack([number, 1]))

    serial = numbered.map(augment).as_numpy_iterator()
    parallel = numbered.map(augment, num_parallel_calls=4).as_numpy_iterator()
    np.testing.assert_array_equal(list(serial), list(parallel))


@every_layer
def test_an_int_repeats_serial_maps_and_loops(name):
    images = photographs(12)
    first, again = (mapped(LAYERS[name](seed=1), images) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    layers = [LAYERS[name](seed=own) for own in (1, 1, 2)]
    first, again, other, continued = (
        np.stack([layer(image) for image in images])
        for layer in (*layers, layers[0])
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and (first != continued).any()


def test_without_an_int_keras_fixes_the_seed():
    results = []
    for seed in (4, 4, 5):
        keras.utils.set_random_seed(seed)
        results.append(RandomErasing(1.0)(photographs(1)))
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()


@pytest.mark.parametrize("seed", [-1, 2**70, np.int64(3)])
def test_any_int_is_a_seed(seed):
    image = photographs()[0]
    layer = RandomErasing(1.0, seed=seed)
    assert (layer(image) != image).any()
    assert (layer(tf.constant(image)).numpy() != image).any()


def test_maps_of_a_dataset_differ_between_epochs():
    dataset = tf.data.Dataset.from_tensor_slices(photographs(12))
    dataset = dataset.map(RandomFlip(seed=0))
    epochs = [np.stack(list(dataset.as_numpy_iterator())) for _ in range(2)]
    assert (epochs[0] != epochs[1]).any()


def test_workers_do_not_repeat_one_another(monkeypatch):
    source = seeds.Seeds(None)
    repeatable = seeds.Seeds(0)
    drawn = []
    for process in (os.getpid(), 11, 12):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        drawn.append([*source.next(), *repeatable.next()])
    drawn = np.array(drawn)
    assert len(np.unique(drawn[:, 0])) == 3
    assert len(np.unique(drawn[1:, 2])) == 1


class OtherFlip(RandomFlip):
    pass


@pytest.mark.parametrize("path", ["tf", "numpy"])
def test_classes_of_layers_draw_apart(path):
    images = np.tile(np.array([[[[0], [1]]]], "uint8"), (2000, 1, 1, 1))
    flips = []
    for layer in (RandomFlip(), OtherFlip()):

        def flip(given, layer=layer):
            return layer(given, seed=(0, 0))

        flipped = flip(images)
        if path == "tf":
            (flipped,) = mapped(flip, images, 2000)
        flips.append(flipped[:, 0, 0, 0])
    assert within(flips[0] == flips[1], 0.5, 0.5)


# Files and errors


@pytest.mark.parametrize(
    "layer",
    [
        RandAugment("rand-m5-n3-mstd1-p0.7-inc1", mean=0.3, seed=1),
        RandomErasing(0.7, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), seed=1),
        RandomFlip(0.3, seed=1),
        RandomResizedCrop((32, 48), (0.3, 0.4), (1, 2), "bilinear", seed=1),
    ],
    ids=lambda layer: layer.name,
)
def test_layers_return_from_their_config(layer):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    assert config["registered_name"].startswith("keras_convnext>")
    copies = [
        keras.saving.deserialize_keras_object(config),
        type(layer).from_config(layer.get_config()),
        pickle.loads(pickle.dumps(layer)),
        copy.deepcopy(layer),
    ]
    expected = images_of(layer)
    for each in copies:
        assert each.get_config() == layer.get_config()
        np.testing.assert_array_equal(images_of(each), expected)


@pytest.mark.every_backend
@every_layer
def test_layers_belong_in_the_data_pipeline(name):
    layer = LAYERS[name]()
    message = f"{name} belongs in the data pipeline.*Received: images of type"
    with pytest.raises(ValueError, match=message):
        layer(keras.Input((32, 32, 3)))
    with pytest.raises(ValueError, match=message):
        layer({"images": Image.new("RGB", (9, 9))})
    if keras.backend.backend() != "tensorflow":
        tensor = keras.ops.zeros((1, 32, 32, 3))
        with pytest.raises(ValueError, match=message):
            layer(tensor)
        with pytest.raises(ValueError, match=message):
            layer({"images": tensor}, training=False)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda flip, x: flip({"image": x}), 'key "images"'),
        (lambda flip, x: flip(x, np.arange(6)), "make dicts"),
        (lambda flip, x: flip(x.astype("int32")), "int32 images"),
        (lambda flip, x: flip(x[0, ..., 0]), "of shape \\(40, 50\\)"),
        (lambda flip, x: flip(x, seed=3), "pair of ints"),
        (lambda flip, x: flip(x, seed=(1.0, 2.0)), "pair of ints"),
        (lambda flip, x: flip(tf.constant(x), seed=3), "pair of ints"),
        (
            lambda flip, x: flip(tf.constant(x), seed=tf.constant([1, 2, 3])),
            "pair of ints",
        ),
        (
            lambda flip, x: flip({"images": x, "bounding_boxes": x}),
            "would leave \\['bounding_boxes'\\]",
        ),
        (
            lambda flip, x: tf.data.Dataset.from_tensors((x, x)).map(flip),
            "make dicts",
        ),
        (
            lambda flip, x: (
                tf.data.Dataset.from_tensors(x)
                .map(lambda x: tf.py_function(lambda x: x, [x], "uint8"))
                .map(flip)
            ),
            "fix their rank",
        ),
    ],
)
def test_errors_say_what_to_do(call, reason):
    with pytest.raises(ValueError, match=reason):
        call(RandomFlip(), photographs())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: RandomFlip(1.5), "`probability`"),
        (lambda: RandomErasing(-0.1), "`probability`"),
        (lambda: RandomErasing(mean=0.5), "`std`"),
        (lambda: RandAugment(mean=(0.5, 0.5)), "`mean`"),
        (lambda: RandAugment(seed=(1, 2)), "`seed`"),
        (lambda: RandomResizedCrop(0), "`size`"),
        (lambda: RandomResizedCrop(32, (0, 1)), "`scale`"),
        (lambda: RandomResizedCrop(32, (0.5, 1.5)), "`scale`"),
        (lambda: RandomResizedCrop(32, ratio=(2, 1)), "`ratio`"),
        (lambda: RandomResizedCrop(32, interpolation="area"), "bicubic"),
    ],
)
def test_constructors_check_their_arguments(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()


@pytest.mark.parametrize("make", [RandAugment, lambda: RandomResizedCrop(32)])
def test_operations_of_pil_need_one_or_three_channels(make):
    for images in (
        np.zeros((9, 9, 4), "uint8"),
        tf.zeros((2, 9, 9, 2), "uint8"),
    ):
        with pytest.raises(ValueError, match="1 or 3 channels.*Received"):
            make()(images)


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
import keras
import numpy as np
from keras_convnext.data.augmentation import RandAugment
from keras_convnext.data.augmentation.image_layers import RandomErasing
from keras_convnext.data.augmentation.image_layers import RandomFlip
from keras_convnext.data.augmentation.image_layers import RandomResizedCrop
from keras_convnext.data.augmentation.mixing import MixupCutmix

chain = [
    RandomResizedCrop(16, seed=0),
    RandomFlip(seed=0),
    RandAugment("rand-m9-n15-mstd0.5-p1-inc1", seed=0),
    RandomErasing(1.0, seed=0),
    MixupCutmix(num_classes=3, seed=0),
]

class Data(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        images = np.random.default_rng(index).integers(0, 256, (4, 40, 30, 3))
        batch = {"images": images.astype("uint8"), "labels": np.arange(4) % 3}
        for layer in chain:
            batch = layer(batch)
        return batch["images"], batch["labels"]

model = keras.Sequential(
    [keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
)
model.compile("sgd", "categorical_crossentropy")
model.fit(Data(workers=2), verbose=0)
evaluated = chain[0](np.zeros((40, 30, 3), "uint8"), training=False)
assert evaluated.shape == (16, 16, 3)
assert sys.modules["tensorflow"] is None
print("done")
"""


@pytest.mark.long
def test_arrays_need_no_tensorflow():
    backend = keras.backend.backend()
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW],
        env={
            **os.environ,
            "KERAS_BACKEND": "torch" if backend == "tensorflow" else backend,
        },
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip().endswith("done"), result.stderr
