"""What pages do to images, in Chromium: bit for bit as `load_image_for`."""

import itertools
import json
from dataclasses import asdict

import numpy as np
import PIL
import pytest
import web_page
from exported import PHOTOGRAPHS
from PIL import Image
from PIL import ImageCms
from web_page import needs_chromium

from keras_convnext import Preprocessing
from keras_convnext import load_image_for
from keras_convnext import segmentation
from keras_convnext.artifacts import metadata
from keras_convnext.tasks.segmentation import inference

pytestmark = [pytest.mark.once, needs_chromium]

# Before, Pillow resized along the width first, whatever the shape: pages do it
# as the newest does.
TALL = ("narrow", "tall") if int(PIL.__version__.split(".")[0]) < 13 else ()
NOISE = np.random.default_rng(0).integers(0, 256, (37, 300, 3), "uint8")
IMAGES = {
    "china": PHOTOGRAPHS[0],
    "flower": PHOTOGRAPHS[1],
    "narrow": PHOTOGRAPHS[1][:, 100:200],
    "small": NOISE[:, :50],
    # Sharp edges, where bicubic weights leave 0–255.
    "edges": np.where(NOISE[:5] > 127, 255, 0).astype("uint8"),
    "tall": np.where(NOISE[:5] > 127, 255, 0).astype("uint8").swapaxes(0, 1),
}


@pytest.fixture(scope="module")
def browser():
    with web_page.visiting(web_page.PARTS) as (browser, address):
        browser.open(f"{address}{web_page.PLAIN}", 1200)
        yield browser


def prepared(browser, content, *preprocessings):
    """What the page makes of a file, as an array of each."""
    values = json.dumps([asdict(x) for x in preprocessings])
    found = web_page.bytes_of(
        browser,
        f"""const {{ decoded }} = await import("/reading.js");
        const {{ prepared }} = await import("/pixels.js");
        const image = await decoded({web_page.blob(content)});
        const found = {values}.map((x) => prepared(image, x).data);
        const all = await new Blob(found).arrayBuffer();
        return new Uint8Array(all);""",
        -1,
    )
    shapes = [(*x.image_size, 3) for x in preprocessings]
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    assert len(found) == ends[-1]
    return map(np.reshape, np.split(found, ends[:-1]), shapes)


SIZES = [((224, 224), 0.875), ((64, 96), 0.95), ((7, 5), 1.0)]
ALL = [
    Preprocessing(size, crop_pct, mode, interpolation)
    for mode, interpolation, (size, crop_pct) in itertools.product(
        ("center", "squash", "border"), ("bicubic", "bilinear"), SIZES
    )
]


@pytest.mark.parametrize("name", [x for x in IMAGES if x not in TALL])
def test_pixels_are_those_of_load_image_for(browser, name):
    content = web_page.encoded(IMAGES[name])
    for preprocessing, found in zip(ALL, prepared(browser, content, *ALL)):
        expected = load_image_for(preprocessing, content)
        np.testing.assert_array_equal(found, expected, str(preprocessing))


def orientation(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return {"format": "JPEG", "quality": 95, "exif": exif}


def swapped_colors():
    """A profile in which red and blue have changed places."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    content = profile.tobytes()
    red, blue = b"rXYZ", b"bXYZ"
    content = content.replace(red, b"????").replace(blue, red)
    return {
        "format": "JPEG",
        "icc_profile": content.replace(b"????", blue),
    }


FILES = {
    "jpeg": {"format": "JPEG", "quality": 75, "progressive": True},
    "webp": {"format": "WEBP", "quality": 80},
    "avif": {"format": "AVIF", "quality": 80},
    **{f"turned_{x}": orientation(x) for x in range(1, 9)},
    "profile": swapped_colors(),
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_read_as_pillow_reads_them(browser, name):
    """Upright, and without their profiles."""
    content = web_page.encoded(PHOTOGRAPHS[0], **FILES[name])
    preprocessing = Preprocessing((128, 96), crop_mode="squash", crop_pct=1.0)
    expected = load_image_for(preprocessing, content)
    (found,) = prepared(browser, content, preprocessing)
    np.testing.assert_array_equal(found, expected)


def test_transparent_images_are_told(browser):
    """The colors below transparent pixels are lost in browsers."""
    alpha = np.full((*PHOTOGRAPHS[0].shape[:2], 1), 255, "uint8")
    for value, is_clear in ((255, False), (254, True)):
        alpha[-1, -1] = value
        pixels = np.concatenate([PHOTOGRAPHS[0], alpha], axis=2)
        script = f"""const {{ decoded }} = await import("/reading.js");
        return (await decoded({web_page.blob(web_page.encoded(pixels))}))
            .isClear;"""
        assert web_page.run(browser, script) == is_clear


def test_what_is_no_image_is_told(browser):
    script = f"""const {{ decoded }} = await import("/reading.js");
    try {{ await decoded({web_page.blob(b"text")}); }}
    catch (error) {{ return error.message; }}"""
    assert "no image" in web_page.run(browser, script)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    "input_dtype, normalizes",
    [("float32", True), ("float32", False), ("uint8", True)],
)
def test_inputs_are_those_of_artifacts(
    browser, data_format, input_dtype, normalizes
):
    pixels = PHOTOGRAPHS[0][:4, :6]
    values = {
        "data_format": data_format,
        "input_dtype": input_dtype,
        "normalizes": normalizes,
        "preprocessing": Preprocessing((4, 6)),
    }
    expected = metadata.inputs(values, pixels[None])
    found = web_page.bytes_of(
        browser,
        f"""const {{ asInput }} = await import("/pixels.js");
        const pixels = Uint8Array.from({pixels.ravel().tolist()});
        const values = {metadata.to_json(values)};
        const [input, shape] = asInput(pixels, 6, 4, values);
        const told = {list(expected.shape)};
        if (String(shape) !== String(told)) throw new Error(shape);
        return new Uint8Array(input.buffer);""",
        -1,
    )
    found = found.view(expected.dtype).reshape(expected.shape)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("crop", [64, 512])
@pytest.mark.parametrize("size", [(427, 640), (640, 427), (30, 2000), (64, 64)])
def test_windows_are_those_of_segment(browser, size, crop):
    stride = crop * 2 // 3
    scaled = inference.scaled_size(size, crop, 1.0)
    script = f"""const {{ scaledSize, windows }} =
        await import("/segmentation.js");
    const size = scaledSize(...{list(size)}, {crop});
    return [size, windows(...size, {crop}, {stride})];"""
    expected = inference.windows(scaled, crop, stride)
    corners = [[top, left] for top, left, _, _ in expected]
    assert web_page.run(browser, script) == [list(scaled), corners]


def test_colors_are_those_of_overlays(browser):
    pixels = PHOTOGRAPHS[0][:30, :40]
    labels = np.arange(pixels[..., 0].size).reshape(30, 40) % 200
    values = (
        f"""{{ labels: {labels.ravel().tolist()}, height: 30, width: 40 }}"""
    )
    script = f"""const {{ decoded }} = await import("/reading.js");
    const {{ overlaid }} = await import("/segmentation.js");
    const image = await decoded({web_page.blob(web_page.encoded(pixels))});
    return overlaid(image, {values}).data;"""
    found = web_page.bytes_of(browser, script, *pixels.shape)
    expected = segmentation.overlaid(pixels, labels, 200)
    np.testing.assert_array_equal(found, expected)
