"""Images against timm's own transform, bit for bit."""

import io
import sys
import warnings

import numpy as np
import peers
import pytest
from PIL import Image
from sklearn import datasets

from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.images.preprocessing import load_image_for
from keras_convnext.images.tf_transform import tf_load_image
from keras_convnext.images.transform import load_image

pytestmark = pytest.mark.once

CHINA, FLOWER = datasets.load_sample_images().images
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
ODD_SHAPES = ((1, 1), (7, 31), (223, 225), (224, 224), (256, 257), (301, 40))
SIZES = (
    *(160, 224, 256, 288, (192, 256), (225, 160)),
    pytest.param(384, marks=pytest.mark.long),
)
ORIENTATIONS = {
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: np.rot90,
}


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype("uint8")


def encoded(image, format="PNG", **options):
    """Bytes of an image file that holds an array or `PIL.Image`."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def timm_pixels(image, size, **arguments):
    peers.import_timm()
    from timm.data import create_transform

    transform = create_transform(size, normalize=False, **arguments)
    return transform(image.convert("RGB")).permute(1, 2, 0).numpy()


def assert_equals_timm(image, size, crop_pct, mode, interpolation="bicubic"):
    arguments = {"interpolation": interpolation, "mean": CLIP_MEAN}
    expected = timm_pixels(
        Image.fromarray(image),
        size,
        crop_pct=crop_pct,
        crop_mode=mode,
        **arguments,
    )
    result = load_image(image, size, crop_pct, mode, **arguments)
    assert result.dtype == "uint8"
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_pixels_are_those_of_timm(mode, size):
    images = [CHINA, FLOWER.swapaxes(0, 1).copy(), FLOWER[:200, :150]]
    images += [noise(*shape, 3) for shape in ODD_SHAPES]
    for crop_pct in (0.875, 0.9, 0.95, 1.0):
        for image in images:
            assert_equals_timm(image, size, crop_pct, mode)


def test_bilinear_pixels_are_those_of_timm():
    assert_equals_timm(CHINA, 224, 0.875, "center", "bilinear")
    assert not np.array_equal(
        load_image(CHINA), load_image(CHINA, interpolation="bilinear")
    )


def test_the_thinnest_image_keeps_a_line():
    line = load_image(np.full((1, 1000, 3), 255, "uint8"), 32, 1.0, "border")
    assert (line == 255).all(axis=(1, 2)).sum() == 1


def test_a_preprocessing_is_all_one_needs():
    preprocessing = Preprocessing(
        (160, 192), 0.95, "border", "bilinear", mean=CLIP_MEAN
    )
    expected = timm_pixels(
        Image.fromarray(CHINA),
        (160, 192),
        crop_pct=0.95,
        crop_mode="border",
        interpolation="bilinear",
        mean=CLIP_MEAN,
    )
    np.testing.assert_array_equal(
        load_image_for(preprocessing, CHINA), expected
    )
    turned = encoded(CHINA, exif=orientation(3))
    np.testing.assert_array_equal(
        load_image_for(preprocessing, turned, apply_exif=False), expected
    )
    assert not np.array_equal(load_image_for(preprocessing, turned), expected)


def test_a_preprocessing_is_called_with_an_image():
    preprocessing = Preprocessing((64, 48), 0.9)
    expected = load_image(CHINA, **preprocessing.arguments())
    np.testing.assert_array_equal(preprocessing(CHINA), expected)
    turned = encoded(CHINA, exif=orientation(3))
    upright = load_image(turned, **preprocessing.arguments())
    np.testing.assert_array_equal(preprocessing(turned), upright)
    np.testing.assert_array_equal(preprocessing(turned, False), expected)


def test_a_preprocessing_is_called_in_tf_data():
    import tensorflow as tf

    preprocessing = Preprocessing((64, 48), 0.9)
    expected = tf_load_image(CHINA, **preprocessing.arguments())
    data = tf.data.Dataset.from_tensors(CHINA).map(preprocessing)
    (image,) = data
    np.testing.assert_array_equal(image, expected)


def test_a_preprocessing_for_other_channels_is_refused():
    with pytest.raises(ValueError, match="three channels.*Received: mean"):
        load_image_for(Preprocessing((8, 8), mean=(0.3,), std=(1.0,)), CHINA)


def test_every_kind_of_source_gives_the_same(tmp_path):
    path = tmp_path / "china.png"
    path.write_bytes(encoded(CHINA))
    expected = load_image(CHINA)
    for source in (path, str(path), path.read_bytes(), Image.open(path)):
        np.testing.assert_array_equal(load_image(source), expected)


@pytest.mark.parametrize(
    "mode, format",
    [
        ("1", "PNG"),
        ("L", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("PA", "TIFF"),
        ("RGBA", "PNG"),
        ("CMYK", "JPEG"),
    ],
)
def test_other_modes_become_rgb_as_in_pil(mode, format):
    image = Image.fromarray(noise(50, 60, 4), "RGBA")
    if mode in ("P", "PA"):
        image = image.convert("RGB").convert("P")
    image = image.convert(mode)
    file = encoded(image, format)
    opened = Image.open(io.BytesIO(file))
    assert opened.mode == mode
    np.testing.assert_array_equal(
        load_image(file, 40), timm_pixels(opened, 40, interpolation="bicubic")
    )


def test_gray_arrays_become_rgb():
    gray = noise(50, 60)
    np.testing.assert_array_equal(
        load_image(gray), load_image(np.stack([gray] * 3, axis=-1))
    )


def orientation(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


@pytest.mark.parametrize("number", ORIENTATIONS)
def test_exif_orientation_is_applied_or_ignored(number):
    image = FLOWER[:300, :200]
    file = encoded(image, exif=orientation(number))
    upright = np.ascontiguousarray(ORIENTATIONS[number](image))
    opened = Image.open(io.BytesIO(file))
    for source in (file, opened):
        np.testing.assert_array_equal(load_image(source), load_image(upright))
        np.testing.assert_array_equal(
            load_image(source, apply_exif=False), load_image(image)
        )


def test_a_source_image_is_left_as_it_was():
    image = Image.open(io.BytesIO(encoded(CHINA, exif=orientation(6))))
    load_image(image)
    assert image.size == (640, 427)
    assert image.getexif()[0x0112] == 6


WHOLE = {format: encoded(CHINA, format) for format in ("PNG", "JPEG", "GIF")}
BROKEN = {
    "empty": b"",
    "text": b"not an image",
    "header": WHOLE["PNG"][:20],
    "damaged": WHOLE["PNG"][:40] + bytes(100) + WHOLE["PNG"][140:],
    **{format: file[: len(file) // 2] for format, file in WHOLE.items()},
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_images_are_value_errors_that_name_them(name, tmp_path):
    file = BROKEN[name]
    path = tmp_path / "broken.png"
    path.write_bytes(file)
    with pytest.raises(ValueError, match="Received: .*broken.png"):
        load_image(path)
    with pytest.raises(ValueError, match=f"bytes of length {len(file)}") as e:
        load_image(file)
    assert "0x" not in str(e.value)


def test_other_sources_are_value_errors(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="missing.png'.*does not exist"):
        load_image(tmp_path / "missing.png")
    with pytest.raises(ValueError, match=tmp_path.name):
        load_image(tmp_path)
    with pytest.raises(ValueError, match="source of type int"):
        load_image(3)
    with pytest.raises(ValueError, match="no pixels"):
        load_image(Image.new("RGB", (0, 4)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with (
        pytest.raises(ValueError, match="decompression bomb"),
        warnings.catch_warnings(),
    ):
        load_image(WHOLE["PNG"])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), "float32"),
        np.zeros((4, 4, 4), "uint8"),
        np.zeros((1, 4, 4, 3), "uint8"),
        np.zeros((4, 0, 3), "uint8"),
        np.zeros(4, "uint8"),
    ],
    ids=lambda array: str((array.dtype, array.shape)),
)
def test_other_arrays_are_value_errors(array):
    with pytest.raises(ValueError, match="uint8 array of shape .*Received"):
        load_image(array)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"mode": "centre"}, "Did you mean center"),
        ({"interpolation": "nearest"}, "`interpolation` must be one of"),
        ({"size": 0}, "`size` must be a positive int.*size=0"),
        ({"size": 224.0}, "`size` must be a positive int"),
        ({"size": (64, True)}, "`size` must be a positive int"),
        ({"size": (1, 2, 3)}, "`size` must be a positive int or two"),
        ({"crop_pct": 0}, "`crop_pct` must be .*crop_pct=0"),
        ({"crop_pct": 1.1}, "`crop_pct` must be a number above 0"),
        ({"crop_pct": "0.9"}, "`crop_pct` must be a number above 0"),
        ({"mode": "border", "mean": (0.5,)}, "`mean` must hold three"),
        ({"mode": "border", "mean": (127,) * 3}, "three numbers of 0–1"),
    ],
)
def test_bad_arguments_are_value_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_image(CHINA, **arguments)
    pytest.importorskip("tensorflow")
    with pytest.raises(ValueError, match=message):
        tf_load_image(CHINA, **arguments)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_tf_data_gives_nearly_the_same_pixels(mode, interpolation):
    tf = pytest.importorskip("tensorflow")
    shapes = ((427, 640), (400, 301), (90, 150), (231, 230), (40, 200))
    photographs = [CHINA[:h, -w:] for h, w in shapes] + [FLOWER]
    files = [encoded(image, "JPEG", quality=95) for image in photographs]
    dynamic = tf.data.Dataset.from_generator(
        lambda: iter(photographs),
        output_signature=tf.TensorSpec((None, None, 3), tf.uint8),
    )
    sizes = ((224, 224), (288, 288), (160, 192))
    for size, crop_pct in zip(sizes, (0.875, 1.0, 0.95)):
        arguments = Preprocessing(
            size, crop_pct, mode, interpolation, CLIP_MEAN
        ).arguments()

        def load(image, arguments=arguments):
            return tf_load_image(image, **arguments)

        encoded_files = tf.data.Dataset.from_tensor_slices(files)
        for dataset, sources in (
            (dynamic, photographs),
            (encoded_files, files),
        ):
            dataset = dataset.map(load)
            goal = size if isinstance(size, tuple) else (size, size)
            assert dataset.element_spec == tf.TensorSpec((*goal, 3), tf.uint8)
            for result, source in zip(dataset, sources, strict=True):
                expected = load_image(source, **arguments).astype("float32")
                difference = np.abs(result.numpy() - expected)
                assert difference.mean() <= 0.5


def test_tf_function_takes_static_shapes_gray_images_and_png():
    tf = pytest.importorskip("tensorflow")
    load = tf.function(tf_load_image)
    gray = CHINA[..., :1]
    result = load(tf.constant(gray)).numpy()
    assert result.shape == (224, 224, 3)
    expected = load_image(gray[..., 0]).astype("float32")
    assert np.abs(result - expected).mean() <= 0.5
    np.testing.assert_array_equal(
        load(tf.constant(encoded(CHINA))), load(tf.constant(CHINA))
    )


def test_tf_does_not_wrap_around_where_bicubic_overshoots():
    pytest.importorskip("tensorflow")
    squares = np.kron(np.eye(8), np.ones((5, 5))).astype("uint8") * 255
    expected = load_image(squares).astype("float32")
    result = tf_load_image(np.stack([squares] * 3, axis=-1)).numpy()
    assert np.abs(result - expected).mean() <= 0.5


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3), "float32"), np.zeros((2, 4, 4, 3), "uint8")]
)
def test_other_tensors_are_value_errors(image):
    pytest.importorskip("tensorflow")
    with pytest.raises(ValueError, match="Expected a string tensor.*Received"):
        tf_load_image(image)


def test_without_tensorflow_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert load_image(CHINA).shape == (224, 224, 3)
    with pytest.raises(ImportError, match=r'"keras-convnext\[tensorflow\]"'):
        tf_load_image(CHINA)


@pytest.mark.parametrize(
    "size, options, explicit",
    [
        (224, {}, {"crop_pct": 0.875, "mode": "center"}),
        (383, {}, {"crop_pct": 0.875, "mode": "center"}),
        (384, {}, {"crop_pct": 1.0, "mode": "squash"}),
        ((224, 400), {}, {"crop_pct": 0.875, "mode": "center"}),
        (384, {"crop_pct": 0.9}, {"crop_pct": 0.9, "mode": "center"}),
        (224, {"mode": "squash"}, {"crop_pct": 1.0, "mode": "squash"}),
    ],
)
def test_the_official_rule_is_the_default(size, options, explicit):
    photograph = datasets.load_sample_image("china.jpg")
    np.testing.assert_array_equal(
        load_image(photograph, size, **options),
        load_image(photograph, size, **explicit),
    )
