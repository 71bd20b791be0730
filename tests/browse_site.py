"""Opens every page of the built site in headless Chromium, and complains.

Usage: python tests/browse_site.py [SITE] [--pictures FOLDER]

No page may ask another host for anything, write to the console, or be wider
than a window of 1200 or 390 pixels. Without Chromium nothing is checked, and a
line says so. With `--pictures` it writes what it sees of each page, in both
widths, light and dark, for people to look at.
"""

import argparse
import contextlib
import functools
import http.server
import itertools
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import chromium

ROOT = Path(__file__).parents[1]
WIDTHS = (1200, 390)
SCHEMES = ("light", "dark")
SECONDS = 600


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", nargs="?", type=Path, default=ROOT / "site")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    site, pictures = arguments.site, arguments.pictures
    path = chromium.find()
    if path is None:
        print(
            "The site was not opened in a browser: Chromium is not installed."
        )
        return 0
    pages = sorted(x.relative_to(site) for x in site.glob("**/*.html"))
    # Other colors change nothing of what is complained of.
    schemes = SCHEMES if pictures else SCHEMES[:1]
    found = []
    with served(site) as address, chromium.browser(path, SECONDS) as browser:
        for view in itertools.product(pages, WIDTHS, schemes):
            page, width, scheme = view
            if pictures:  # the theme keeps the colors of the first visit
                browser.forget(address)
            browser.open(f"{address}/{page}", width, scheme)
            found += [
                f"{page} at {width} pixels: {x}"
                for x in complaints(browser, address, width)
            ]
            if pictures:
                write_picture(browser, pictures, *view)
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{len(pages)} pages opened, {len(found)} complaints.")
    return int(bool(found))


def write_picture(
    browser: chromium.Browser, folder: Path, page: Path, width: int, scheme: str
) -> None:
    """`how_to_export_390_dark.png` and the like."""
    folder.mkdir(parents=True, exist_ok=True)
    place = page.parent if page.name == "index.html" else page.with_suffix("")
    name = "_".join(place.parts) or "index"
    file = folder / f"{name}_{width}_{scheme}.png"
    file.write_bytes(browser.picture())


def complaints(browser: chromium.Browser, address: str, width: int) -> Iterator:
    """What a reader must not meet on the page that is open."""
    shown = browser.value("document.documentElement.scrollWidth")
    if shown > width:
        yield f"it is {shown} pixels wide"
    if browser.value("document.querySelector('.doc-module') !== null"):
        yield "it describes a module: name the function in it, `a.b.b`"
    for event in browser.told("Network.requestWillBeSent"):
        url = event["request"]["url"]
        if not url.startswith((address, "data:", "blob:")):
            yield f"it asks {urlsplit(url).netloc} for {url}"
    for event in browser.told("Log.entryAdded"):
        yield f"the console says {event['entry']['text']!r}"
    for event in browser.told("Runtime.exceptionThrown"):
        yield f"a script fails: {event['exceptionDetails']['text']!r}"
    for event in browser.told("Runtime.consoleAPICalled"):
        yield f"a script writes {event['args']}"


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which the files of a folder are to be had."""
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    sys.exit(main())
