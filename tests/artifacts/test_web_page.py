"""Exported pages in Chromium: what they show, and whom they ask."""

import json
import shutil

import keras
import numpy as np
import pytest
import web_page
from conftest import LONG_WHERE_COMPILED
from conftest import predict
from exported import PHOTOGRAPHS
from exported import pair
from web_page import FILES
from web_page import needs_chromium

import keras_convnext
from keras_convnext import load_image_for
from keras_convnext import segmentation
from keras_convnext.artifacts import onnxruntime_web
from keras_convnext.artifacts import open_artifact
from keras_convnext.artifacts.metadata import FILE
from keras_convnext.facts.labels import softmax

pytestmark = LONG_WHERE_COMPILED

CLASSES = ["<b>bee</b>", "\u202eant", *(f"kind {index}" for index in range(9))]


@pytest.fixture(scope="module")
def package():
    """The true one, of some 30 MB; kept where users have it."""
    try:
        return onnxruntime_web.fetch()
    except ValueError as error:
        pytest.skip(f"no ONNX Runtime Web: {error}")


@pytest.fixture(scope="module")
def site(package, tmp_path_factory):
    """A page of a classifier, and the file that it runs."""
    model, _ = pair("v2")
    model.class_names = CLASSES
    folder = tmp_path_factory.mktemp("web") / "site"
    keras_convnext.export(model, folder, "web", verify=False)
    return folder, open_artifact(folder)


READY = "document.body.classList.contains('ready')"


@pytest.fixture(scope="module")
def visit(site):
    """Opens the page, or another one beside it, and waits for its model."""
    folder = site[0].parent
    with web_page.visiting(folder, web_page.CAMERA) as (browser, address):

        def visit(name="site", until=READY):
            page = f"{address}{name}/"
            browser.open(page, 1200)
            browser.wait(until)
            return browser, page

        yield visit


def answered(browser):
    """The texts of the page, once it has answered."""
    browser.wait(
        "!document.getElementById('result').hidden && "
        "document.getElementById('status').textContent === ''"
    )
    rows = web_page.text_of(browser, "answers").splitlines()
    browser.value("document.getElementById('result').hidden = true")
    return [(a, float(b.rstrip(" %"))) for a, b in zip(rows[::2], rows[1::2])]


def expected_of(artifact, content):
    """The five best classes and their percents, and the logits."""
    image = load_image_for(artifact.preprocessing, content)[None]
    (scores,) = artifact.predict(image)
    best = artifact.named(scores, np.argsort(-scores)[:5])
    rows = [(x["class"], 100 * x["score"]) for x in best]
    return rows, artifact.outputs_of(image)["logits"][0]


def assert_rows(found, expected):
    assert [name for name, _ in found] == [name for name, _ in expected]
    values, goals = ([x for _, x in rows] for rows in (found, expected))
    np.testing.assert_allclose(values, goals, rtol=0, atol=0.051)


LOGITS = """const { ask } = await import("./page.js");
return [...(await ask("answer", IT)).values.logits];"""
PICTURE = """const { ask } = await import("./page.js");
return (await ask("answer", IT)).picture.data;"""
GIVE = """const transfer = new DataTransfer();
transfer.items.add(new File([CONTENT], "x.jpg"));
const event = { dataTransfer: transfer, clipboardData: transfer };
document.dispatchEvent(new KIND(NAME, { ...event, bubbles: true }));"""


def given(browser, content, kind, name):
    """Drops or pastes a file."""
    script = GIVE.replace("CONTENT", web_page.blob(content))
    script = script.replace("KIND", kind).replace("NAME", repr(name))
    web_page.run(browser, script)


@needs_chromium
def test_chromium_answers_as_python_does(site, visit, tmp_path):
    """Photographs that are chosen, dropped and pasted, of two formats."""
    artifact = site[1]
    browser, address = visit()
    assert web_page.text_of(browser, "title") == "v2"
    for pixels in PHOTOGRAPHS:
        for kind in ("PNG", "JPEG"):
            content = web_page.encoded(pixels, kind)
            rows, logits = expected_of(artifact, content)
            path = tmp_path / f"x.{kind.lower()}"
            path.write_bytes(content)
            browser.choose("#file", path)
            assert_rows(answered(browser), rows)
            script = LOGITS.replace("IT", web_page.blob(content))
            found = web_page.run(browser, script)
            assert np.argmax(found) == np.argmax(logits)
            bound = 1e-4 * max(1, np.abs(logits).max())
            np.testing.assert_allclose(found, logits, rtol=0, atol=bound)
            assert np.ptp(logits) > 100 * bound
    for event in (("DragEvent", "drop"), ("ClipboardEvent", "paste")):
        given(browser, content, *event)
        assert_rows(answered(browser), rows)
    seen = web_page.text_of(browser, "seen")
    assert "center cropped (0.875); 64 × 64 pixels; bicubic" in seen
    version = f"ONNX Runtime Web {onnxruntime_web.VERSION}"
    assert version in web_page.text_of(browser, "versions")
    asked = web_page.assert_quiet(browser, address)
    assert {*asked} == FILES - {"index.html"} | {""}


BACKGROUND = "getComputedStyle(document.body).backgroundColor"
WRONG = "document.getElementById('status').className === 'wrong'"


@needs_chromium
def test_the_page_fits_phones_light_and_dark(visit):
    browser, address = visit()
    given(browser, web_page.encoded(PHOTOGRAPHS[0]), "DragEvent", "drop")
    browser.wait("!document.getElementById('result').hidden")
    for width in (1200, 390):
        browser.resize(width)
        wide = browser.value("document.documentElement.scrollWidth")
        assert wide == width
    colors = []
    for scheme in ("light", "dark"):
        browser.dress(scheme)
        colors.append(browser.value(BACKGROUND))
    assert colors == ["rgb(255, 255, 255)", "rgb(20, 25, 27)"]
    web_page.assert_quiet(browser, address)


@needs_chromium
def test_the_camera_takes_a_picture_and_is_switched_off(visit):
    browser, address = visit()
    browser.value("document.getElementById('camera').click()")
    browser.wait("document.getElementById('video').videoWidth > 0")
    browser.value("document.getElementById('shoot').click()")
    assert len(answered(browser)) == 5
    assert browser.value("document.getElementById('live').hidden")
    assert browser.value("document.getElementById('video').srcObject") is None
    web_page.assert_quiet(browser, address)


@needs_chromium
def test_what_is_wrong_is_told(site, visit):
    browser, _ = visit()
    given(browser, b"text", "DragEvent", "drop")
    browser.wait(WRONG)
    assert "no image" in web_page.text_of(browser, "status")
    # As on a plain address that is not the own machine's.
    browser.value(
        "Object.defineProperty(navigator, 'mediaDevices', {value: undefined});"
        "document.getElementById('status').className = '';"
        "document.getElementById('camera').click()"
    )
    browser.wait(WRONG)
    assert "https://" in web_page.text_of(browser, "status")
    # The policy holds: what a script would ask of others is refused.
    refused = """try { await fetch("https://example.org/x"); }
    catch (error) { return String(error); }"""
    assert "Failed to fetch" in web_page.run(browser, refused)
    assert "Content Security Policy" in str(browser.told("Log.entryAdded"))
    browser.open((site[0] / "index.html").as_uri(), 1200)
    status = web_page.text_of(browser, "status")
    assert "python -m http.server" in status


@needs_chromium
def test_a_model_that_is_not_there_is_told(site, visit):
    folder = site[0].with_name("without")
    shutil.copytree(site[0], folder)
    (folder / "model.onnx").unlink()
    browser, address = visit("without", until=WRONG)
    status = web_page.text_of(browser, "status")
    assert "could not be loaded: model.onnx: HTTP status 404" in status


@needs_chromium
def test_many_labels_have_their_thresholds(site, visit, tmp_path):
    """The same model, said to be one of many labels."""
    folder, artifact = site
    image = tmp_path / "x.png"
    image.write_bytes(web_page.encoded(PHOTOGRAPHS[0]))
    (scores,) = artifact.predict(artifact.preprocessing(image)[None])
    order = np.argsort(-scores)
    thresholds = np.full(11, 0.9)
    thresholds[order[[0, 2]]] = 0.01  # these two reach theirs
    file = shutil.copytree(folder, folder.with_name("many")) / FILE
    known = json.loads(file.read_text())
    known |= {"activation": "sigmoid", "thresholds": thresholds.tolist()}
    file.write_text(json.dumps(known))
    browser, address = visit("many")
    browser.choose("#file", image)
    found = [name for name, _ in answered(browser)]
    names = [CLASSES[x] for x in order]
    there = "[...document.querySelectorAll('li.there bdi')]"
    assert browser.value(f"{there}.map(x => x.textContent)") == names[:3:2]
    ranks = [0, 2, 1, 3, 4, 5, 6]  # five that do not reach theirs
    assert found == [names[x] for x in ranks]
    lines = "[...document.querySelectorAll('.threshold')]"
    lines = browser.value(f"{lines}.map(x => parseFloat(x.style.left))")
    goals = 100 * thresholds[order[ranks]]
    np.testing.assert_allclose(lines, goals, rtol=1e-5, atol=0)
    web_page.assert_quiet(browser, address)


def segmenter(image):
    """A small UperNet with random weights; in an image all classes are near."""
    backbone = keras_convnext.ConvNeXt(
        *((1, 1, 1, 1), (8, 16, 16, 16)),
        include_top=False,
        input_shape=(None, None, 3),
    )
    names = ["sky", "sea", "land", "tree", "tower"]
    options = {"channels": 8, "crop": 64, "auxiliary": False}
    model = segmentation.UperNet(backbone, names, **options)
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        noise = generator.normal(0, 0.3, variable.shape)
        variable.assign(keras.ops.convert_to_numpy(variable) + noise)
    (bias,) = (x for x in model.trainable_variables if x.shape == (5,))
    small = image[None, ::4, ::4].astype("float32")  # about as it is resized
    logits = predict(model, small)
    bias.assign(bias - np.median(logits, axis=(0, 1, 2)))
    return model


@needs_chromium
def test_segmenters_show_what_segment_finds(site, visit, tmp_path):
    pixels = PHOTOGRAPHS[0][:300, ::2]
    model = segmenter(pixels)
    folder = site[0].with_name("segmenter")
    keras_convnext.export(model, folder, "web", verify=False, verbose=False)
    labels = segmentation.segment(model, pixels, verbose=False)
    shares = np.bincount(labels.ravel(), minlength=5) / labels.size
    assert np.count_nonzero(shares > 0.01) > 3
    image = tmp_path / "x.png"
    image.write_bytes(web_page.encoded(pixels))
    browser, address = visit("segmenter")
    browser.choose("#file", image)
    found = answered(browser)
    names = model.info.class_names
    order = [x for x in np.argsort(-shares) if shares[x]]
    assert_rows(found, [(names[x], 100 * shares[x]) for x in order])
    script = PICTURE.replace("IT", web_page.blob(image.read_bytes()))
    picture = web_page.bytes_of(browser, script, *pixels.shape)
    expected = segmentation.overlaid(pixels, labels, 5)
    # Where two logits are all but equal another may be the larger one.
    is_same = (picture == expected).all(axis=-1)
    assert np.mean(is_same) > 0.999
    assert "windows of 64 × 64" in web_page.text_of(browser, "seen")
    web_page.assert_quiet(browser, address)


@needs_chromium
@pytest.mark.parametrize("quantization", ["float16", "int8_weight_only"])
def test_smaller_models_answer_as_in_python(site, visit, quantization):
    model, _ = pair("v2")
    folder = site[0].with_name(quantization)
    options = {"verify": False, "verbose": False, "quantization": quantization}
    keras_convnext.export(model, folder, "web", **options)
    content = web_page.encoded(PHOTOGRAPHS[0])
    _, logits = expected_of(open_artifact(folder), content)
    browser, address = visit(quantization)
    script = LOGITS.replace("IT", web_page.blob(content))
    found = web_page.run(browser, script)
    # float16 is rounded after other operations than in Python.
    bound = 1e-2 * max(1, np.abs(logits).max())
    np.testing.assert_allclose(found, logits, rtol=0, atol=bound)
    assert np.ptp(logits) > 10 * bound
    web_page.assert_quiet(browser, address)


def answers(browser, values, **known):
    """What `answersOf` makes of outputs."""
    known = {"classes": None, "activation": None, "thresholds": None, **known}
    script = f"""const {{ answersOf }} = await import("/answers.js");
    return answersOf({json.dumps(values)}, {json.dumps(known)});"""
    return web_page.run(browser, script)


@pytest.mark.once
@needs_chromium
def test_answers_are_those_of_artifacts():
    with web_page.visiting(web_page.PARTS) as (browser, address):
        browser.open(f"{address}{web_page.PLAIN}", 1200)
        # Without a softmax of its own, as `Artifact.predict`.
        logits = [1000.0, 1001.5, -3.0]
        found = answers(browser, {"logits": logits})
        parts = [x["part"] for x in found["rows"]]
        goals = np.sort(softmax(np.array(logits)))[::-1]
        np.testing.assert_allclose(parts, goals, rtol=1e-6, atol=1e-12)
        assert found["rows"][0]["name"] == "class 1"
        assert [x["text"] for x in found["rows"]][1:] == ["18.2 %", "0.00 %"]

        # Numbers in the units of their targets.
        found = answers(
            browser,
            {"values": [31.4159, -12345.6]},
            classes=[["0", "age"], ["1", "height"]],
            units={"mean": [30.0, 1.5], "std": [2.25, 0.0001234]},
        )
        texts = [(x["name"], x["text"]) for x in found["rows"]]
        assert texts == [("age", "31.42"), ("height", "-12350")]
        assert "age 30 ± 2.25, height 1.5 ± 0.0001234" in found["note"]

        # No label reaches its threshold, 0.5 where there are none.
        known = {"activation": "sigmoid"}
        found = answers(browser, {"scores": [0.4, 0.1]}, **known)
        assert {x["threshold"] for x in found["rows"]} == {0.5}
        assert found["note"].startswith("No label's score reaches")
        found = answers(browser, {"scores": [0.4, 0.5]}, **known)
        assert [x["isThere"] for x in found["rows"]] == [True, False]
