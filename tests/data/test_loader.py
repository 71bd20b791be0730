"""Training and evaluation batches, from files with every oddity."""

import subprocess
import sys
import warnings

import image_files
import keras
import numpy as np
import peers
import pytest
import tensorflow as tf
from conftest import long_where_compiled
from PIL import Image
from pipelines import CHINA
from pipelines import within

from keras_convnext import Preprocessing
from keras_convnext import load_image
from keras_convnext import recipes
from keras_convnext.data import Arrays
from keras_convnext.data import EvalLoader
from keras_convnext.data import ImageFolder
from keras_convnext.data import Source
from keras_convnext.data import Subset
from keras_convnext.data import TrainLoader
from keras_convnext.data import order_of
from keras_convnext.data.augmentation import RandomResizedCrop
from keras_convnext.images.reading import Photograph
from keras_convnext.images.reading import TfPhotograph

pytestmark = pytest.mark.once

LOADERS = ("tf", "python")
RECIPE = recipes.imagenet1k.replace(image_size=32, batch_size=8)
PLAIN = RECIPE.replace(
    rand_augment=None,
    random_erasing=0.0,
    mixup_alpha=0.0,
    cutmix_alpha=0.0,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("image_files")
    image_files.write_image_files(path)
    return path


@pytest.fixture
def source(folder):
    return ImageFolder(folder)


@pytest.fixture
def good(source):
    """Those images that can be read."""
    broken = [
        source.name(i).endswith(image_files.BROKEN) for i in numbers(source)
    ]
    return Subset(source, np.flatnonzero(~np.array(broken)))


def numbers(source):
    return range(len(source))


def loader_of(source, recipe=RECIPE, epochs=3, **options):
    pipeline = recipe.train_pipeline(len(source.classes))
    return TrainLoader(source, pipeline, epochs, **options)


def collect(batches):
    return [(np.array(x), np.array(y)) for x, y in batches]


def assert_equal(batches, others):
    assert len(batches) == len(others) > 0
    for pair, other in zip(batches, others):
        for array, expected in zip(pair, other):
            np.testing.assert_array_equal(array, expected)


# Evaluation


def timm_transform(**options):
    peers.import_timm()
    from timm.data import create_transform

    options = {"interpolation": "bicubic", "crop_pct": 0.875, **options}
    return create_transform(64, **options)


@pytest.mark.parametrize("is_upright", [True, False])
def test_evaluation_pixels_are_those_of_timm(folder, is_upright):
    source = ImageFolder(folder, is_upright)
    loader = EvalLoader(source, Preprocessing((64, 64)), batch_size=4)
    with pytest.warns(UserWarning, match="images skipped so far: 3"):
        batches = [loader.load(i) for i in range(len(loader))]
    seen = np.concatenate([x for x, _ in batches])
    images = np.concatenate([x for _, x in batches])
    assert len(seen) == len(image_files.good_files()) == len(source) - 3
    transform = timm_transform(normalize=False)
    for number, pixels in zip(seen, images):
        image = Image.open(source.name(number))
        turn = image_files.TURNS.get(image.getexif().get(0x0112))
        if is_upright and turn is not None:
            image = image.transpose(turn)
        if image.mode == "I;16":  # which PIL clips where RGB is scaled
            image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
        expected = np.asarray(transform(image.convert("RGB")))
        np.testing.assert_array_equal(pixels, expected.transpose(1, 2, 0))


def test_evaluation_batches_are_those_of_timms_loader(good, tmp_path):
    peers.import_timm()
    from timm.data import ImageDataset
    from timm.data import create_loader

    for number in numbers(good):  # timm reads no other formats
        path = tmp_path / good.source.classes[good.labels[number]]
        path.mkdir(exist_ok=True)
        content = good.read(number)
        if good.name(number).endswith("sixteen.png"):  # which timm clips
            content = image_files.good_files()["cat/gray.jpg"]
        if good.name(number).endswith((".jpg", ".png")):
            (path / f"{number:02}.jpg").write_bytes(content)
    expected = create_loader(
        ImageDataset(str(tmp_path)),
        (3, 64, 64),
        batch_size=4,
        use_prefetcher=False,
        interpolation="bicubic",
        crop_pct=0.875,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        num_workers=0,
    )
    source = ImageFolder(tmp_path, is_upright=False)
    loader = EvalLoader(source, Preprocessing((64, 64)), batch_size=4)
    assert len(loader) == len(expected) > 3
    for (images, labels), (x, y) in zip(loader, expected):
        np.testing.assert_array_equal(labels, y)
        pixels = x.numpy().transpose(0, 2, 3, 1) * 255
        np.testing.assert_allclose(images, pixels, atol=1e-3)


def test_processes_evaluate_every_image_once(good):
    seen = []
    for index in range(3):
        loader = EvalLoader(
            good,
            Preprocessing((16, 16)),
            batch_size=4,
            process_index=index,
            process_count=3,
        )
        seen += [loader.load(i)[0] for i in range(len(loader))]
    assert sorted(np.concatenate(seen)) == list(numbers(good))


def test_arrays_in_the_models_shape_are_evaluated_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), "uint8")
    source = Arrays(images, np.arange(6) % 2)
    gray = Preprocessing((8, 8), mean=(0.5,), std=(0.2,))
    loader = EvalLoader(source, gray, batch_size=3)
    np.testing.assert_array_equal(
        np.concatenate([x for x, _ in loader]), images
    )
    (x, y), _ = EvalLoader(source, Preprocessing((8, 8), 1.0), batch_size=3)
    np.testing.assert_array_equal(x, np.repeat(images[:3], 3, axis=-1))
    np.testing.assert_array_equal(y, [0, 1, 0])


def test_evaluation_of_files_takes_three_channels(good):
    with pytest.raises(ValueError, match="three channels.*Received: mean"):
        EvalLoader(good, Preprocessing((8, 8), mean=(0,), std=(1,)), 3)


@long_where_compiled
def test_what_cannot_be_read_is_not_evaluated(folder, source):
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    preprocessing = Preprocessing((16, 16))
    broken = [
        source.name(i).endswith(image_files.BROKEN) for i in numbers(source)
    ]
    places = np.flatnonzero(broken)
    kept = np.flatnonzero(~np.array(broken))[:4]
    results = []
    for chosen in (kept, np.r_[kept[:3], places, kept[3]]):
        loader = EvalLoader(Subset(source, chosen), preprocessing, 6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            results.append(model.evaluate(loader, verbose=0))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)
    assert [len(x) for x, _ in loader] == [3, 1]
    reasons = [
        loader.skipped[str(folder / name)] for name in image_files.BROKEN
    ]
    assert reasons[:2] == ["which is not an image"] * 2
    assert reasons[2].startswith("which cannot be read (image file is trunc")

    lost = EvalLoader(Subset(source, places), preprocessing, 3)
    with (
        pytest.warns(UserWarning, match="Skipped .*text.jpg"),
        pytest.raises(ValueError, match="Of 3 images.*empty.jpg', which is"),
    ):
        lost[0]
    assert lost.load(0)[1].shape == (0, 16, 16, 3)
    strict = EvalLoader(source, preprocessing, 50, on_error="raise")
    with pytest.raises(ValueError, match="empty.jpg', which is not an image"):
        strict[0]


def test_batches_are_alike(good):
    loader = EvalLoader(good, Preprocessing((16, 16)), 7)
    assert [len(y) for _, y in loader] == [5, 6, 5, 6]
    np.testing.assert_array_equal(
        np.concatenate([y for _, y in loader]), good.labels
    )


# Training crops


@pytest.fixture
def by_tensorflow(monkeypatch):
    """Small JPEGs, too, and how many."""
    from keras_convnext.images import reading

    calls = []
    decode = tf.io.decode_and_crop_jpeg
    monkeypatch.setattr(reading, "LARGE", 0)
    monkeypatch.setattr(
        tf.io,
        "decode_and_crop_jpeg",
        lambda *args, **options: calls.append(args) or decode(*args, **options),
    )
    return calls


def photographs_of(content):
    return Photograph(content, True), TfPhotograph(content, True)


def difference(image, other):
    return np.abs(image.astype(int) - other).mean()


PLAIN_JPEGS = (
    "cat/exif_1.jpg",
    "cat/gray.jpg",
    "dog/SHOUTED.JPG",
    "dog/progressive.jpeg",
    "dog/über den Wolken 1.jpg",
)


@pytest.mark.parametrize("name", image_files.good_files())
def test_the_crop_of_a_file_is_that_of_its_pixels(name, by_tensorflow):
    layer = RandomResizedCrop(48)
    content = image_files.good_files()[name]
    pixels = Photograph(content, True).pixels()
    for number in range(3):
        seed = (0, number)
        expected = layer(pixels, seed=seed)
        by_pil, by_tf = (layer(x, seed=seed) for x in photographs_of(content))
        np.testing.assert_array_equal(by_pil, expected)
        assert difference(by_tf, expected) <= 0.5
        other = layer(Photograph(content, True), seed=(1, number))
        assert "tiny" in name or difference(other, expected) > 1
    assert len(by_tensorflow) == (3 if name in PLAIN_JPEGS else 0)


@pytest.mark.parametrize("ending", [b"", b"\xff\xd9"])
def test_what_tensorflow_cannot_decode_is_left_to_pil(by_tensorflow, ending):
    """The end is missing, or something before it."""
    content = image_files.good_files()["dog/SHOUTED.JPG"]
    table = content.index(b"\xff\xc4") + 4  # which, of which there are four
    broken = content[:table] + b"\x09" + content[table + 1 : -2] + ending
    photograph = TfPhotograph(broken, True)
    with pytest.raises(ValueError, match="truncated|broken|marker|stream"):
        RandomResizedCrop(32)(photograph, seed=(0, 0))
    assert len(by_tensorflow) == bool(ending)


def test_large_jpegs_are_decoded_smaller_and_look_alike(by_tensorflow):
    content = image_files.encoded(Image.fromarray(CHINA), "JPEG", quality=95)
    layer = RandomResizedCrop(32, scale=(0.6, 1.0))  # boxes of 330 to 640
    scales = []
    for number in range(4):
        seed = (0, number)
        expected = layer(Photograph(content, True).pixels(), seed=seed)
        for photograph in photographs_of(content):
            region = photograph.region
            photograph.region = lambda box, scale, region=region: (
                scales.append(scale) or region(box, scale)
            )
            result = layer(photograph, seed=seed)
            assert 0 < difference(result, expected) <= 1
    assert set(scales) == {4} and len(by_tensorflow) == 4


def test_training_crops_are_distributed_as_torchvisions(tmp_path):
    """Pixels that tell where they were."""
    peers.import_timm()
    from torchvision import transforms

    rows, columns = np.mgrid[:256, :200].astype("uint8")
    image = Image.fromarray(np.stack([rows, columns, rows], axis=-1))
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(8):
            image.save(tmp_path / name / f"{number}.png")
    recipe = PLAIN.replace(horizontal_flip=0.0)
    loader = loader_of(ImageFolder(tmp_path), recipe, 20, loader="python")
    ours = np.concatenate([x for x, _ in loader.batches()])
    transform = transforms.RandomResizedCrop(
        32, interpolation=transforms.InterpolationMode.BICUBIC
    )
    theirs = np.stack([np.asarray(transform(image)) for _ in range(3000)])
    for statistic in (
        lambda x: x[:, 16, 16, 0].astype(float),
        lambda x: x[:, 16, 16, 1].astype(float),
        lambda x: np.ptp(x[..., 0].astype(float), axis=(1, 2)),
        lambda x: np.ptp(x[..., 1].astype(float), axis=(1, 2)),
    ):
        a, b = statistic(ours), statistic(theirs)
        assert within(a, b.mean(), b.std())
        assert within((a - b.mean()) ** 2, b.var(), ((a - b.mean()) ** 2).std())


# Training batches


def test_the_loaders_give_the_same(good, by_tensorflow):
    by_tf, by_python = (
        collect(loader_of(good, loader=name).batches()) for name in LOADERS
    )
    assert len(by_tf) == len(by_python) == 3 * (len(good) // 8)
    for (x, y), (images, labels) in zip(by_tf, by_python):
        assert x.dtype == images.dtype and y.dtype == labels.dtype
        np.testing.assert_array_equal(y, labels)
        assert np.abs(x - images).mean() <= 0.5


def test_batches_are_those_of_the_recipes_pipeline(good):
    """Pixel by pixel also where only the crop is decoded."""
    loader = loader_of(good, loader="python", seed=5)
    batches = collect(loader.batches(3))
    pipeline = RECIPE.train_pipeline(2)
    order = order_of(len(good), 5, 1)[8:16]  # the second batch of an epoch
    samples = [
        pipeline.sample(
            (Photograph(good.read(i), True).pixels(), good.labels[i]),
            (5, 3 * 8 + place),
        )
        for place, i in enumerate(order)
    ]
    batch = {key: np.stack([x[key] for x in samples]) for key in samples[0]}
    assert_equal(batches[:1], [pipeline.batch(batch, (5, 3))])


def test_fit_sees_the_images_that_a_run_sees(good):
    recipe = RECIPE.replace(mixup_alpha=0.0, cutmix_alpha=0.0)
    loader = loader_of(good, recipe, loader="python", seed=5)
    for_fit = recipe.train_pipeline(2, seed=5)(good)
    assert len(for_fit) == len(loader) == loader.steps_per_epoch == 2
    batches = [for_fit[i] for i in range(2)]
    assert_equal(batches, collect(loader.batches())[:2])
    assert_equal(batches, [loader[i] for i in range(2)])
    assert batches[0][0].dtype == "float32"


def test_fit_evaluates_files_as_load_image_does(source, good):
    pipeline = RECIPE.eval_pipeline()
    batches = pipeline(good)
    images = np.concatenate([batches[i][0] for i in range(len(batches))])
    expected = [load_image(good.read(i), 32) for i in numbers(good)]
    np.testing.assert_array_equal(images, expected)
    with pytest.raises(ValueError, match="empty.jpg', which is not an image"):
        collect(pipeline(source))


@pytest.mark.parametrize("name", LOADERS)
def test_training_goes_on_from_any_step_bit_for_bit(good, name):
    loader = loader_of(good, loader=name)
    steps = loader.steps_per_epoch
    assert steps == 2 and loader.steps == 6
    whole = collect(loader.batches())
    for first in (1, steps, steps + 1, 5):
        rest = collect(loader_of(good, loader=name).batches(first))
        assert_equal(rest, whole[first:])
    assert collect(loader.batches(6)) == []


@pytest.mark.parametrize("name", LOADERS)
def test_every_epoch_has_an_order_of_its_own(name):
    images = np.zeros((21, 32, 32, 3), "uint8")
    source = Arrays(images, np.arange(21))
    batches = collect(loader_of(source, PLAIN, loader=name, seed=3).batches())
    labels = np.concatenate([y for _, y in batches]).reshape(3, 16)
    for epoch, own in enumerate(labels):
        np.testing.assert_array_equal(own, order_of(21, 3, epoch)[:16])
        assert len(set(own)) == 16
    assert not np.array_equal(labels[0], labels[1])


def test_orders_are_of_numpy_and_small():
    order = order_of(1000, 7, 2)
    expected = np.random.default_rng([7, 2]).permutation(1000)
    np.testing.assert_array_equal(order, expected)
    assert order.dtype == "int32"


@pytest.mark.parametrize("name", LOADERS)
def test_crops_differ_in_each_epoch_and_place(name):
    image = CHINA[100:140, 200:250]
    source = Arrays(np.stack([image] * 8), np.arange(8) % 2)
    batches = collect(loader_of(source, PLAIN, loader=name).batches())
    crops = np.concatenate([x for x, _ in batches])
    assert len({x.tobytes() for x in crops}) == 24
    others = collect(loader_of(source, PLAIN, seed=1, loader=name).batches())
    assert not {x.tobytes() for x in others[0][0]} & {
        x.tobytes() for x in crops
    }


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize(
    "size, group, count",
    [(8, 4, 2), (8, 8, 4), (12, 6, 3)],
    ids=["within", "over_processes", "across_borders"],
)
def test_processes_share_the_batches_of_one(good, name, size, group, count):
    recipe = RECIPE.with_batch_size(size)
    options = {"loader": name, "mixup_group": group, "recipe": recipe}
    whole = collect(loader_of(good, **options).batches(1))
    parts = [
        collect(
            loader_of(
                good, process_index=i, process_count=count, **options
            ).batches(1)
        )
        for i in range(count)
    ]
    joined = [tuple(map(np.concatenate, zip(*pair))) for pair in zip(*parts)]
    assert_equal(joined, whole)
    # All images of the process alike, unless told.
    options["mixup_group"] = None if group < size else size // 2
    other = collect(loader_of(good, **options).batches(1))
    assert not np.array_equal(other[0][1], whole[0][1])


def test_a_process_reads_its_images_and_their_partners(good):
    loader = loader_of(
        good, process_index=1, process_count=4, mixup_group=8, loader="python"
    )
    read = []
    loader._fill = lambda out, _, seed: out.fill(0) or read.append(seed[1]) or 0
    list(loader.batches(loader.steps - 1))
    first = 8 * (loader.steps - 1)
    assert sorted(read) == [first + x for x in (2, 3, 4, 5)]


@pytest.mark.parametrize("name", LOADERS)
def test_the_next_image_stands_in_for_a_broken_one(source, name):
    numbered = Subset(source, range(len(source)))
    numbered.labels = np.arange(len(source), dtype="int32")
    loader = loader_of(numbered, PLAIN, loader=name, seed=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        labels = np.concatenate([y for _, y in collect(loader.batches())])
    messages = [str(x.message) for x in caught if "Skipped" in str(x.message)]
    assert len(messages) == len(loader.skipped) == 3
    assert messages[2].endswith("images skipped so far: 3")
    order = np.concatenate([order_of(len(source), 2, i)[:24] for i in range(3)])
    broken = [source.name(i) in loader.skipped for i in numbers(source)]
    assert sum(broken) == 3
    order = np.where(np.array(broken)[order], order + 1, order)
    np.testing.assert_array_equal(labels, order % len(source))


@pytest.mark.parametrize("name", LOADERS)
def test_broken_images_end_the_run_if_told(source, name):
    loader = loader_of(source, loader=name, on_error="raise")
    with pytest.raises(Exception, match=r"\.jpg', which .*on_error='skip'"):
        collect(loader.batches())


class Unreadable(Source):
    """One image of each class, and no more."""

    classes = ("a", "b")
    labels = np.arange(20, dtype="int32") % 2

    def read(self, number):
        if number < 2:
            return image_files.good_files()["cat/gray.jpg"]
        raise OSError("the disk is gone")

    def name(self, number):
        return f"image {number}"


@pytest.mark.parametrize("name", LOADERS)
def test_ten_broken_images_end_the_run(name):
    loader = loader_of(Unreadable(), loader=name)
    with (
        pytest.warns(UserWarning, match="the disk is gone"),
        pytest.raises(Exception, match="none from 'image .*the disk is gone"),
    ):
        collect(loader.batches())


@pytest.mark.parametrize("name", LOADERS)
def test_gray_arrays_become_rgb_for_models_of_three_channels(name):
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), "uint8")
    source = Arrays(images, np.arange(9))
    recipe = recipes.digits.replace(batch_size=3)
    for channels in (1, 3):
        pipeline = recipe.train_pipeline(9, mean=(0.5,) * channels)
        loader = TrainLoader(source, pipeline, 1, loader=name)
        for x, y in collect(loader.batches()):
            np.testing.assert_array_equal(
                x, np.repeat(images[y], channels, axis=-1)
            )


@pytest.mark.parametrize("name", LOADERS)
def test_sizes_must_fit_where_nothing_is_cropped(good, name):
    with pytest.raises(Exception, match=r"shape \(32, 32, 3\).*Received: '.*'"):
        loader = loader_of(good, PLAIN.replace(crop_scale=None), loader=name)
        collect(loader.batches())


@long_where_compiled
@pytest.mark.parametrize("name", LOADERS)
def test_a_model_trains_on_the_batches_of_several_epochs(good, name):
    loader = loader_of(good, epochs=2, loader=name)
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.CategoricalCrossentropy(True))
    history = model.fit(
        loader.batches(1),
        steps_per_epoch=1,
        epochs=3,
        shuffle=False,
        verbose=0,
    )
    assert len(history.history["loss"]) == 3


@pytest.mark.parametrize(
    "options, message",
    [
        ({"process_index": 2, "process_count": 2}, "process_index=2"),
        ({"process_count": 3}, "divisible by `process_count`.* 8 images"),
        (
            {"mixup_group": 3},
            "divisible by `mixup_group`.* 8 images",
        ),
        ({"loader": "grain"}, "`loader` must be one of"),
        ({"on_error": "ignore"}, "`on_error` must be one of"),
        ({"recipe": RECIPE.replace(batch_size=50)}, r"with_batch_size\(11\)"),
    ],
)
def test_bad_arguments_are_value_errors(good, options, message):
    with pytest.raises(ValueError, match=message):
        loader_of(good, **options)


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
import numpy as np
from keras_convnext import Preprocessing
from keras_convnext import data
from keras_convnext import recipes
train, test = data.open_splits(sys.argv[1], validation_split=0.3)
recipe = recipes.imagenet1k.replace(image_size=32, batch_size=4)
loader = data.TrainLoader(train, recipe.train_pipeline(2), 2)
batches = list(loader.batches(2))
assert len(batches) == loader.steps - 2
assert batches[0][0].shape == (4, 32, 32, 3)
loader = data.EvalLoader(test, Preprocessing((32, 32)), 4)
assert loader[0][0].shape[1:] == (32, 32, 3)
"""


@pytest.mark.long
@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="it is the backend"
)
def test_loaders_need_no_tensorflow(folder):
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_TENSORFLOW]
    subprocess.run([*command, str(folder)], check=True)
