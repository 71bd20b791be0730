"""Web pages as Chromium shows them, for the notebooks that write some.

Without Chromium there are no pictures, and all else works.
"""

import io
import sys
from pathlib import Path

from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import browse_site  # noqa: E402
import chromium  # noqa: E402

ANSWERED = (
    "!document.getElementById('result').hidden && "
    "document.getElementById('status').textContent === ''"
)


def report_picture(page, width=1000, height=1400):
    """The upper part of a report, or `None` without Chromium."""
    page = Path(page)
    return _picture(page.parent, page.name, width, height)


def site_picture(folder, image, width=800, height=620):
    """An exported page that answers an image, or `None` without Chromium.

    Args:
        folder: path of the page.
        image: path of an image file to choose on it.
    """

    def choose(browser):
        browser.wait("document.body.classList.contains('ready')")
        browser.choose("#file", Path(image).resolve())
        browser.wait(ANSWERED)

    return _picture(folder, "", width, height, choose)


def _picture(folder, name, width, height, act=lambda browser: None):
    path = chromium.find()
    if path is None:
        return None
    with (
        browse_site.served(folder) as address,
        chromium.browser(path) as browser,
    ):
        browser.open(f"{address}/{name}", width)
        act(browser)
        return Image.open(io.BytesIO(browser.picture(height)))
