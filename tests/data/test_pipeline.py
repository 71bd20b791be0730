"""A recipe's data maps, through `tf.data` and without TensorFlow."""

import subprocess
import sys
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from conftest import long_where_compiled

from keras_convnext import ConvNeXt
from keras_convnext import load_image
from keras_convnext import recipes
from keras_convnext.data.batches import Memory

pytestmark = pytest.mark.once

RECIPE = recipes.imagenet1k.replace(
    image_size=32, batch_size=8, drop_path_rate=0.0, epochs=2, warmup_epochs=1
)
PLAIN = RECIPE.replace(
    rand_augment=None,
    random_erasing=0.0,
    mixup_alpha=0.0,
    cutmix_alpha=0.0,
)


def photos(count=20):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, 40, 48, 3)).astype("uint8")
    return images, np.arange(count) % 5


def dataset_of(arrays):
    return tf.data.Dataset.from_tensor_slices(arrays)


def collect(batches):
    if isinstance(batches, keras.utils.PyDataset):
        batches = [batches[i] for i in range(len(batches))]
    return [(np.asarray(x), np.asarray(y)) for x, y in batches]


@pytest.mark.parametrize("source", [tuple, dataset_of], ids=["numpy", "tf"])
def test_training_batches_are_whole_mixed_and_float(source):
    batches = collect(RECIPE.train_data(source(photos()), 5))
    assert len(batches) == 2  # the remainder of four is left out
    for images, labels in batches:
        assert images.shape == (8, 32, 32, 3) and images.dtype == "float32"
        assert labels.shape == (8, 5) and labels.dtype == "float32"
        np.testing.assert_allclose(labels.sum(-1), 1, rtol=1e-5)
        assert labels.min() >= 0.1 / 5 - 1e-6


@pytest.mark.parametrize("source", [tuple, dataset_of], ids=["numpy", "tf"])
def test_without_mixing_labels_stay_class_numbers(source):
    batches = collect(PLAIN.train_data(source(photos())))
    for images, labels in batches:
        assert images.dtype == "uint8" and labels.shape == (8,)


@pytest.mark.parametrize("source", [tuple, dataset_of], ids=["numpy", "tf"])
def test_a_seed_repeats_and_epochs_differ(source):
    def epochs(seed):
        batches = RECIPE.train_data(source(photos()), 5, seed=seed)
        both = []
        for _ in range(2):
            both.append(collect(batches)[0][0])
            if isinstance(batches, keras.utils.PyDataset):
                batches.on_epoch_end()
        return both

    first, again, other = epochs(1), epochs(1), epochs(2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


def test_crops_differ_between_epochs_in_the_same_order():
    batches = PLAIN.train_pipeline()(photos(8), shuffle=False)
    (first,) = collect(batches)
    batches.on_epoch_end()
    (second,) = collect(batches)
    np.testing.assert_array_equal(first[1], second[1])
    same = [np.array_equal(*pair) for pair in zip(first[0], second[0])]
    assert not any(same)


@pytest.mark.parametrize("size", [8, 6])
def test_batches_are_made_by_the_documented_maps(size):
    """With the seeds of every version: of samples over all epochs."""
    images, labels = photos(20)
    pipeline = RECIPE.train_pipeline(5, seed=4)
    batches = pipeline((images, labels), batch_size=size)
    for epoch in range(3):
        order = np.random.default_rng([4, epoch]).permutation(20)
        for index in range(20 // size):
            first = epoch * 20 + index * size
            samples = [
                pipeline.sample((images[i], labels[i]), (4, first + place))
                for place, i in enumerate(order[index * size :][:size])
            ]
            stacked = [
                np.stack([x[key] for x in samples])
                for key in ("images", "labels")
            ]
            expected = pipeline.batch(stacked, (4, first))
            for ours, theirs in zip(batches[index], expected):
                np.testing.assert_array_equal(ours, theirs)
        batches.on_epoch_end()


def test_maps_write_where_they_are_told_and_nowhere_else():
    images, labels = photos(8)
    pipeline = RECIPE.train_pipeline(5)
    expected = pipeline.sample((images[0], 0), (0, 1))["images"]
    out = np.zeros((32, 32, 3), "float32")
    for image in (images[0], np.float32(images[0])):
        sample = pipeline.sample((image, 0), (0, 1), out)
        assert sample["images"] is out
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(image, images[0])
    with pytest.raises(ValueError, match=r"one shape.*\(32, 32, 3\)"):
        pipeline.sample((images[0], 0), (0, 1), out[:1])
    floats = images.astype("float32")
    mixed, _ = pipeline.batch((floats, labels), (0, 1))
    np.testing.assert_array_equal(floats, images)
    result, _ = pipeline.batch((floats, labels), (0, 1), out=floats)
    assert result is floats
    np.testing.assert_array_equal(floats, mixed)


HELD = {
    "whole": lambda x: x,
    "a part of a part": lambda x: x[1:][0, :, 0],
    "the backend's": keras.ops.convert_to_tensor,
    "torch's": torch.from_numpy,
}


@pytest.mark.every_backend
@pytest.mark.parametrize("held", HELD)
def test_no_batch_that_is_held_is_written_over(held):
    batches = RECIPE.train_data(photos(32), 5)
    kept = [HELD[held](batches[i][0]) for i in range(4)]
    found = [keras.ops.convert_to_numpy(x).copy() for x in kept]
    for _ in range(3):
        collect(batches)
        batches.on_epoch_end()
    for array, expected in zip(kept, found, strict=True):
        array = keras.ops.convert_to_numpy(array)
        np.testing.assert_array_equal(array, expected)


def test_the_memory_of_batches_is_used_again_and_bounded():
    memory = Memory()
    first = memory.array((2, 3), "float32")
    place, part = first.ctypes.data, first[0]
    assert first.flags.writeable and first.dtype == "float32"
    assert memory.array((2, 3), "float32").ctypes.data != place
    del first
    assert memory.array((2, 3), "float32").ctypes.data != place
    del part
    for shape, dtype in (((3, 2), "float32"), ((2, 3), "int32")):
        assert memory.array(shape, dtype).ctypes.data != place
    assert memory.array((2, 3), "float32").ctypes.data == place
    held = [memory.array((2, 3), "float32") for _ in range(99)]
    assert len({x.ctypes.data for x in held}) == 99
    gone = [weakref.ref(x.base) for x in held]
    del held
    assert sum(x() is not None for x in gone) <= Memory.KEPT


def test_arrays_are_shuffled_anew_every_epoch_and_none_is_lost():
    images, labels = photos(16)
    pipeline = PLAIN.replace(crop_scale=None, horizontal_flip=0.0)
    batches = pipeline.train_pipeline()((images, np.arange(16)))
    orders = []
    for _ in range(2):
        orders.append(np.concatenate([y for _, y in collect(batches)]))
        batches.on_epoch_end()
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(16))
    assert orders[0].tolist() != orders[1].tolist()
    for x, y in collect(batches):
        np.testing.assert_array_equal(x, images[y])


@pytest.mark.parametrize("source", [tuple, dataset_of], ids=["numpy", "tf"])
def test_evaluation_is_the_official_transform_of_every_image(source):
    images, labels = photos()
    batches = collect(RECIPE.eval_data(source((images, labels))))
    assert [len(y) for _, y in batches] == [8, 8, 4]
    np.testing.assert_array_equal(
        np.concatenate([y for _, y in batches]), labels
    )
    ours = np.concatenate([x for x, _ in batches])
    expected = np.stack([load_image(image, 32) for image in images])
    np.testing.assert_array_equal(ours, expected)


@long_where_compiled
def test_dicts_and_layers_of_keras_stand_between():
    images, labels = photos(8)
    flip = keras.layers.RandomFlip("horizontal", seed=1)
    train = RECIPE.train_pipeline(5)
    batches = (
        dataset_of({"images": images, "labels": labels})
        .map(lambda x: train.sample(x, (0, 0)))
        .map(lambda x: {**x, "images": flip(x["images"])})
        .batch(4)
        .map(lambda x: train.batch(x, (0, 0)))
    )
    for x, y in collect(batches):
        assert x.shape == (4, 32, 32, 3) and y.shape == (4, 5)


def test_erasing_leaves_the_noise_that_the_model_will_normalize():
    recipe = PLAIN.replace(random_erasing=1.0, crop_scale=None)
    recipe = recipe.replace(horizontal_flip=0.0, batch_size=64)
    images = np.zeros((64, 32, 32, 1), "uint8")
    mean, std = (0.3,), (0.2,)
    train = recipe.train_pipeline(mean=mean, std=std)
    x, _ = train((images, np.zeros(64)))[0]
    erased = x[x != 0]
    assert 0.02 * x.size < erased.size < x.size / 3
    noise = (erased / 255 - 0.3) / 0.2
    assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1) < 0.05


@long_where_compiled
@pytest.mark.parametrize("source", [tuple, dataset_of], ids=["numpy", "tf"])
def test_a_model_trains_on_a_pipeline(source):
    model = ConvNeXt(
        (1,),
        (8,),
        patch_size=8,
        input_shape=(32, 32, 3),
        classes=5,
        classifier_activation=None,
    )
    train = RECIPE.train_data(source(photos()), classes=5)
    RECIPE.compile(model, steps_per_epoch=2)
    history = model.fit(
        train,
        epochs=2,
        validation_data=RECIPE.eval_data(source(photos())),
        callbacks=RECIPE.callbacks(),
        verbose=0,
    )
    assert np.isfinite(history.history["val_loss"]).all()


@pytest.mark.parametrize("source", [tuple, dataset_of], ids=["numpy", "tf"])
def test_too_few_images_for_a_batch_say_so(source):
    with pytest.raises(ValueError, match=r"with_batch_size\(3\)"):
        RECIPE.train_pipeline(5)(source(photos(7)))


@pytest.mark.parametrize("kind", ["train_pipeline", "eval_pipeline"])
@pytest.mark.parametrize("size, steps", [(33, 2), (4, 8)])
def test_batches_are_a_multiple_of_their_micro_batches(kind, size, steps):
    recipe = PLAIN.replace(batch_size=size, gradient_accumulation_steps=steps)
    with pytest.raises(
        ValueError,
        match=f"batch_size={size} and gradient_accumulation_steps={steps}",
    ):
        getattr(recipe, kind)()


def test_micro_batches_are_equal_parts_of_a_batch():
    recipe = PLAIN.replace(batch_size=12, gradient_accumulation_steps=3)
    assert recipe.train_pipeline().batch_size == 4
    assert recipe.eval_pipeline().batch_size == 4


@pytest.mark.parametrize("kind", ["train_pipeline", "eval_pipeline"])
@pytest.mark.parametrize("source", [tuple, dataset_of], ids=["numpy", "tf"])
def test_gray_images_need_their_channels(kind, source):
    images = np.zeros((8, 40, 40), "uint8")
    with pytest.raises(ValueError, match=r"np.repeat\(images\[..., None\], 3"):
        pipeline = getattr(PLAIN, kind)()
        collect(pipeline(source((images, np.arange(8) % 2))))


def test_lengths_must_agree():
    images, labels = photos()
    with pytest.raises(ValueError, match="20 images and 19 labels"):
        RECIPE.train_pipeline(5)((images, labels[:-1]))


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
import numpy as np
from keras_convnext import recipes
recipe = recipes.imagenet1k.replace(image_size=32, batch_size=4)
images = np.zeros((8, 40, 40, 3), "uint8")
batches = recipe.train_pipeline(5)((images, np.arange(8) % 5))
assert batches[1][0].shape == (4, 32, 32, 3)
evaluation = recipe.eval_pipeline()((images, np.arange(8)))
assert evaluation[1][0].shape == (4, 32, 32, 3)
"""


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="it is the backend"
)
@pytest.mark.long
def test_pipelines_need_no_tensorflow():
    subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW], check=True)
