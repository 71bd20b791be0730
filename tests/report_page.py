"""A written page, read as a browser reads it."""

import base64
import io
from html.parser import HTMLParser

from PIL import Image

VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """The parts of a page.

    Attributes:
        elements: pairs of a tag and the dict of its attributes.
        sections: texts by their titles.
        rows: by section and the text of the first cell, the texts of others.
        values: likewise, the numbers that `<data>` elements hold.
        pictures: by section, pairs of the `alt` text and a `PIL.Image`.
        captions: by section, texts of the captions.
    """

    def __init__(self, path):
        super().__init__()
        self.elements, self.sections, self.pictures = [], {}, {}
        self.rows, self.values, self.captions = {}, {}, {}
        self.text, self._open, self._cells = "", [], []
        self._section, self._numbers = None, []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "h2":
            self._section = ""
        elif tag == "tr":
            self._cells, self._numbers = [], []
        elif tag in ("td", "th"):
            self._cells.append("")
        elif tag == "data":
            self._numbers.append(float(attributes["value"]))
        elif tag == "figcaption":
            self.captions.setdefault(self._section, []).append("")
        elif tag == "img":
            kind, _, content = attributes["src"].partition(";base64,")
            image = Image.open(io.BytesIO(base64.b64decode(content)))
            assert kind == f"data:image/{image.format.lower()}"
            pair = attributes["alt"], image
            self.pictures.setdefault(self._section, []).append(pair)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag == "h2":
            self.sections[self._section] = ""
        if tag == "tr":
            first, *others = self._cells
            self.rows.setdefault(self._section, {})[first] = others
            self.values.setdefault(self._section, {})[first] = self._numbers
            self._cells, self._numbers = [], []

    def handle_data(self, data):
        self.text += data
        if "h2" in self._open:
            self._section += data
            return
        self.sections[self._section] = (
            self.sections.get(self._section, "") + data
        )
        if self._cells and {"td", "th"} & set(self._open):
            self._cells[-1] += data
        if "figcaption" in self._open:
            self.captions[self._section][-1] += f"{data}\n"
