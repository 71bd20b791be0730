"""An exported page: served, visited, and asked what it shows."""

import base64
import contextlib
import io
import json
from pathlib import Path

import chromium
import numpy as np
import pytest
from browse_site import served
from PIL import Image

import keras_convnext

PARTS = Path(keras_convnext.__file__).parent / "artifacts" / "web_page"
FILES = {
    "answers.js",
    "index.html",
    "keras_convnext.json",
    "model.onnx",
    "onnxruntime-web.js",
    "onnxruntime-web.wasm",
    "page.js",
    "pixels.js",
    "reading.js",
    "segmentation.js",
    "start.js",
    "style.css",
    "worker.js",
}
# A page of the same server that has no policy, to import parts on.
PLAIN = "style.css"
needs_chromium = pytest.mark.skipif(
    not chromium.find(),
    reason="no Chromium is installed: `apt-get install chromium`",
)
SECONDS = 300
CAMERA = (
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


@contextlib.contextmanager
def visiting(folder, flags=()):
    """A browser for the tests of a file, and the address of a folder."""
    path = chromium.find()
    with (
        served(folder) as address,
        chromium.browser(path, SECONDS, flags) as browser,
    ):
        yield browser, f"{address}/"


def encoded(pixels, format="PNG", **options):
    """An image file as bytes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def blob(content):
    """JavaScript for a file in the browser."""
    text = json.dumps(base64.b64encode(content).decode())
    return f"new Blob([Uint8Array.from(atob({text}), x => x.charCodeAt())])"


def run(browser, script):
    """What the last line of a script of a module returns."""
    return browser.value(f"(async () => {{{script}}})()")


def bytes_of(browser, script, *shape):
    """The same where it is an array of bytes, as an array."""
    text = run(
        browser,
        f"""const bytes = await (async () => {{{script}}})();
        const parts = [];
        for (let i = 0; i < bytes.length; i += 2 ** 14)
          parts.push(String.fromCharCode(...bytes.subarray(i, i + 2 ** 14)));
        return btoa(parts.join(""));""",
    )
    return np.frombuffer(base64.b64decode(text), "uint8").reshape(shape)


def text_of(browser, part):
    """What a part of the page says, by its id."""
    return browser.value(f"document.getElementById('{part}').innerText")


def assert_quiet(browser, address):
    """Nothing in the console, and nobody else was asked for anything."""
    told = browser.told(
        *("Log.entryAdded", "Runtime.consoleAPICalled"),
        *("Runtime.exceptionThrown", "Page.javascriptDialogOpening"),
    )
    assert not told, told
    asked = [
        x["request"]["url"] for x in browser.told("Network.requestWillBeSent")
    ]
    assert asked and all(x.startswith(address) for x in asked), asked
    return [x.removeprefix(address) for x in asked]
