"""Images of every mode of PIL are right or refused, and so are sizes."""

import io
import os

import numpy as np
import pytest
from PIL import Image
from PIL import ImageCms
from PIL import ImageFile
from sklearn import datasets

from keras_convnext import load_image
from keras_convnext import tf_load_image
from keras_convnext._util import limits
from keras_convnext.images.reading import Photograph
from keras_convnext.images.reading import TfPhotograph
from keras_convnext.images.reading import TooLarge
from keras_convnext.images.reading import Unreadable
from keras_convnext.images.reading import check_sent
from keras_convnext.images.tf_transform import _tf_decoded

pytestmark = pytest.mark.once

CHINA = datasets.load_sample_images().images[0][:60, :80]
RAMP = np.linspace(0, 65535, 60 * 80).reshape(60, 80).astype("uint16")
# Mode: the format that keeps it.
CONVERTED = {
    "1": "PNG",
    "LA": "PNG",
    "P": "PNG",
    "RGBA": "PNG",
    "CMYK": "TIFF",
    "YCbCr": "TIFF",
    "LAB": "TIFF",
}


@pytest.mark.parametrize("mode", CONVERTED)
def test_modes_are_read_as_pil_converts_them(mode, tmp_path):
    image = Image.fromarray(CHINA)
    if mode == "LAB":
        image = Image.frombytes("LAB", image.size, image.tobytes())
    image = image.convert(mode)
    path = tmp_path / "image"
    image.save(path, CONVERTED[mode])
    with Image.open(path) as saved:
        if saved.mode != mode:
            pytest.skip("Pillow before 12.1 writes no such file")
        expected = np.asarray(saved.convert("RGB"))
    np.testing.assert_array_equal(Photograph(path).pixels(), expected)
    np.testing.assert_array_equal(Photograph(image).pixels(), expected)


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_16_bit_levels_are_read_by_their_upper_byte(format_, tmp_path):
    """As PIL reads those of RGB, and TensorFlow both."""
    path = tmp_path / "ramp"
    Image.fromarray(RAMP).save(path, format_)
    read = Photograph(path).pixels()
    np.testing.assert_array_equal(read, np.repeat(RAMP[..., None] >> 8, 3, 2))
    np.testing.assert_array_equal(Photograph(path.read_bytes()).pixels(), read)
    if format_ == "PNG":
        tf = pytest.importorskip("tensorflow")
        decoded = tf.io.decode_png(path.read_bytes(), 3).numpy()
        np.testing.assert_array_equal(read, decoded)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_levels_without_a_known_range_are_refused(dtype, tmp_path):
    path = tmp_path / "levels.tiff"
    Image.fromarray((RAMP / 65535).astype(dtype)).save(path)
    with pytest.raises(ValueError, match=r"levels\.tiff'.*8 or 16 bits"):
        load_image(path)


def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", "/dev/zero"):
        with pytest.raises(ValueError, match=f"{path}'.*not a regular file"):
            load_image(path)


def test_sizes_that_no_memory_holds_are_refused(tmp_path):
    path = tmp_path / "thin.png"
    Image.new("RGB", (60_000, 1)).save(path)
    with pytest.raises(
        ValueError, match=rf"thin\.png.*11GiB.*{limits.VARIABLE}"
    ):
        load_image(path)
    with pytest.raises(ValueError, match=limits.VARIABLE):
        load_image(CHINA, size=10**6)


def test_the_limit_is_the_users(monkeypatch, tmp_path):
    image = np.zeros((100, 100, 3), "uint8")
    monkeypatch.setenv(limits.VARIABLE, "10 KiB")
    with pytest.raises(ValueError, match=r"at most 10KiB are allowed"):
        load_image(image)
    monkeypatch.setenv(limits.VARIABLE, "1.5GiB")
    load_image(image)
    monkeypatch.setenv(limits.VARIABLE, "much")
    with pytest.raises(ValueError, match=r"KiB.*Received: 'much'"):
        load_image(image)
    file = tmp_path / "file"
    monkeypatch.setenv(limits.VARIABLE, "16")
    file.write_bytes(bytes(17))
    with pytest.raises(ValueError, match=r"file' would take 17 of memory"):
        limits.check_file(file)
    limits.check_memory(17 * limits.LARGEST_INFLATION, "It", file_size=17)
    with pytest.raises(ValueError, match=r"at most 136 are allowed"):
        limits.check_memory(
            1 + 17 * limits.LARGEST_INFLATION, "It", file_size=17
        )


def encoded(image, format_, **options):
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def in_modes():
    """PNGs and JPEGs of every mode and depth."""
    image = Image.fromarray(CHINA)
    with_alpha = image.convert("RGBA")
    with_alpha.putalpha(image.convert("L"))
    palette = image.convert("P")
    files = {
        mode: encoded(image.convert(mode), "PNG") for mode in ("1", "L", "RGB")
    }
    files |= {
        "LA": encoded(with_alpha.convert("LA"), "PNG"),
        "RGBA": encoded(with_alpha, "PNG"),
        "P": encoded(palette, "PNG"),
        "P, transparent": encoded(palette, "PNG", transparency=3),
        "L, transparent": encoded(image.convert("L"), "PNG", transparency=9),
        "RGB, transparent": encoded(image, "PNG", transparency=(1, 2, 3)),
        "16 bits": encoded(Image.fromarray(RAMP), "PNG"),
        "animated": encoded(
            image, "PNG", save_all=True, append_images=[image.rotate(180)]
        ),
        "gray JPEG": encoded(image.convert("L"), "JPEG"),
        "CMYK JPEG": encoded(image.convert("CMYK"), "JPEG"),
        "ICC": encoded(image, "JPEG", icc_profile=LAB_PROFILE),
    }
    return files


LAB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


@pytest.mark.parametrize("name", in_modes())
def test_tensorflow_reads_all_modes_alike(name):
    tf = pytest.importorskip("tensorflow")
    content = in_modes()[name]
    read = _tf_decoded(tf, tf.constant(content)).numpy()
    np.testing.assert_array_equal(Photograph(content).pixels(), read)
    np.testing.assert_array_equal(TfPhotograph(content).pixels(), read)


def test_tensorflow_refuses_other_formats():
    tf = pytest.importorskip("tensorflow")
    image = Image.fromarray(CHINA)
    in_graph = tf.function(lambda x: tf_load_image(x, 32))
    for format_ in ("WEBP", "BMP", "TIFF"):
        content = tf.constant(encoded(image, format_))
        with pytest.raises(tf.errors.InvalidArgumentError):
            in_graph(content)


def test_profiles_and_alpha_are_left_out():
    files = in_modes()
    plain = encoded(Image.fromarray(CHINA), "JPEG")
    np.testing.assert_array_equal(
        Photograph(files["ICC"]).pixels(), Photograph(plain).pixels()
    )
    np.testing.assert_array_equal(Photograph(files["RGBA"]).pixels(), CHINA)


def test_what_is_sent_is_checked_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    for format_ in ("BMP", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP"):
        sent = io.BytesIO()
        Image.fromarray(CHINA).save(sent, format_)
        check_sent(sent.getvalue(), 60 * 80)
        with pytest.raises(TooLarge, match="80×60 pixels, and at most 4799"):
            check_sent(sent.getvalue(), 60 * 80 - 1)
    for format_, message in (("EPS", "its format EPS is none"), ("PDF", "not")):
        sent = io.BytesIO()
        Image.fromarray(CHINA).save(sent, format_)
        with pytest.raises(Unreadable, match=message):
            check_sent(sent.getvalue(), 60 * 80)


@pytest.mark.parametrize("format_", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_animations_the_first_image_is_read(format_):
    first = Image.fromarray(CHINA)
    last = Image.fromarray(255 - CHINA)
    options = {"lossless": True} if format_ == "WEBP" else {}
    content = encoded(
        first, format_, save_all=True, append_images=[last], **options
    )
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 2
    read = Photograph(content).pixels().astype(int)
    assert np.abs(read - CHINA).mean() < 10  # the palette of GIFs


def test_large_images_of_16_bits_are_read_in_part_alike():
    """As training crops them, by both loaders."""
    levels = np.linspace(0, 65535, 1200 * 1000).reshape(1200, 1000)
    content = encoded(Image.fromarray(levels.astype("uint16")), "PNG")
    box, size = (100, 200, 700, 600), (70, 60)
    read = [
        kind(content).resized(box, size, Image.Resampling.BOX)
        for kind in (Photograph, TfPhotograph)
    ]
    np.testing.assert_array_equal(*read)
    part = levels.astype("uint16")[100:800, 200:800] >> 8
    expected = part.reshape(70, 10, 60, 10).mean((1, 3))
    assert np.abs(read[0][..., 0] - expected).max() < 1
