"""The site in headless Chromium: what a reader must not meet, and the zoo."""

import sys

import browse_site
import chromium
import markdown
import pytest
from PIL import Image

ASSETS = browse_site.ROOT / "docs" / "assets"
pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(
        not chromium.find(),
        reason="no Chromium is installed: `apt-get install chromium`",
    ),
]
FAULTY = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<body style="margin: 0">{}</body>"""
FAULTS = {
    "": [],
    '<p style="width: 1500px">x': ["it is 1500 pixels wide"],
    '<img src="http://other.invalid/x.png">': [
        "it asks other.invalid for http://other.invalid/x.png",
        "the console says 'Failed to load resource: "
        "net::ERR_NAME_NOT_RESOLVED'",
    ],
    '<div class="doc doc-module">x': [
        "it describes a module: name the function in it, `a.b.b`"
    ],
    "<script>missing()</script>": ["a script fails: 'Uncaught'"],
    "<script>console.log(7)</script>": [
        "a script writes [{'type': 'number', 'value': 7, 'description': '7'}]"
    ],
}


@pytest.fixture(scope="module")
def browser():
    with chromium.browser(chromium.find()) as browser:
        yield browser


@pytest.mark.parametrize("body", FAULTS)
def test_faults_of_a_page_are_told(body, browser, tmp_path):
    (tmp_path / "page.html").write_text(FAULTY.format(body))
    with browse_site.served(tmp_path) as address:
        browser.open(f"{address}/page.html", 1200)
        found = [*browse_site.complaints(browser, address, 1200)]
    assert found == FAULTS[body]


# Keeps the colors of the first visit, as the theme does.
COLORED = FAULTY.format("""<meta name="viewport" content="width=device-width">
<style>html { height: 1000px }</style><script>
localStorage.color ??= matchMedia("(prefers-color-scheme: dark)").matches
  ? "#000" : "#fff";
document.documentElement.style.background = localStorage.color</script>""")


def test_pages_are_photographed_in_both_widths_and_colors(
    tmp_path, monkeypatch
):
    site, pictures = tmp_path / "site", tmp_path / "pictures"
    for name in ("index.html", "how_to/web/index.html"):
        (site / name).parent.mkdir(parents=True)
        (site / name).write_text(COLORED)
    arguments = ["", str(site), "--pictures", str(pictures)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert browse_site.main() == 0
    colors = {"light": (255,) * 3, "dark": (0,) * 3}
    for page in ("index", "how_to_web"):
        for width in browse_site.WIDTHS:
            for scheme, color in colors.items():
                with Image.open(
                    pictures / f"{page}_{width}_{scheme}.png"
                ) as picture:
                    assert picture.size == (width, 1000)
                    seen = picture.convert("RGB").getpixel((9, 999))
                assert seen == color
    assert len([*pictures.iterdir()]) == 8


@pytest.fixture(scope="module")
def zoo(browser, tmp_path_factory):
    """The page of the model zoo, with its script."""
    folder = tmp_path_factory.mktemp("zoo")
    text = (ASSETS.parent / "model_zoo.md").read_text()
    body = markdown.markdown(text, extensions=["tables", "md_in_html"])
    script = f"<script>{(ASSETS / 'zoo.js').read_text()}</script>"
    (folder / "page.html").write_text(FAULTY.format(body + script))
    with browse_site.served(folder) as address:
        browser.open(f"{address}/page.html", 1200)
        yield browser
        assert not browser.told("Runtime.exceptionThrown", "Log.entryAdded")


def column(browser, head):
    """The cells of a column that are to be seen."""
    return browser.value(
        "(() => { const heads = [...document.querySelectorAll('.zoo th')];"
        f"const index = heads.findIndex(x => x.textContent === '{head}');"
        "return [...document.querySelectorAll('.zoo tbody tr')]"
        ".filter(x => !x.hidden).map(x => x.cells[index].textContent) })()"
    )


def enter(browser, label, value):
    browser.value(
        "(() => { const label = [...document.querySelectorAll('.zoo label')]"
        f".find(x => x.textContent.startsWith('{label}'));"
        f"label.lastChild.value = '{value}'; label.lastChild.dispatchEvent("
        "new Event('input', {bubbles: true})) })()"
    )


def click(browser, head):
    browser.value(
        "[...document.querySelectorAll('.zoo th button')]"
        f".find(x => x.textContent === '{head}').click()"
    )


def test_the_zoo_sorts(zoo):
    click(zoo, "GMACs")
    found = [float(x) for x in column(zoo, "GMACs")]
    assert found == sorted(found, reverse=True) and found[0] > 1000
    click(zoo, "GMACs")
    assert [float(x) for x in column(zoo, "GMACs")] == found[::-1]
    click(zoo, "score")  # without a score comes last
    scores = column(zoo, "score")
    first = [float(x.split()[0]) for x in scores if x != "–"]
    assert first == sorted(first, reverse=True)
    assert set(scores[len(first) :]) == {"–"}
    click(zoo, "images/s")
    speeds = column(zoo, "images/s")
    first = [float(x) for x in speeds if x != "–"]
    assert first == sorted(first, reverse=True)
    assert set(speeds[len(first) :]) == {"–"}
    click(zoo, "checkpoint")
    assert column(zoo, "checkpoint") == sorted(column(zoo, "checkpoint"))


def test_the_zoo_filters(zoo):
    everything = column(zoo, "checkpoint")
    enter(zoo, "Name", "TINY fb_")
    names = column(zoo, "checkpoint")
    assert names == [x for x in everything if "tiny" in x and "fb_" in x]
    enter(zoo, "Task", "detect")
    assert set(column(zoo, "task")) == {"detect"}
    enter(zoo, "Name", "")
    enter(zoo, "License", "apache-2.0")
    assert set(column(zoo, "license")) == {"apache-2.0"}
    enter(zoo, "Task", "")
    enter(zoo, "GMACs", "5")
    enter(zoo, "M params", "9")
    assert max(float(x) for x in column(zoo, "GMACs")) <= 5
    assert max(float(x) for x in column(zoo, "M params")) <= 9
    enter(zoo, "Images/s from", "20")
    assert min(float(x) for x in column(zoo, "images/s")) >= 20
    assert zoo.value("document.querySelector('.zoo output').textContent") == (
        f"{len(column(zoo, 'checkpoint'))} of {len(everything)}"
    )
