"""HTML: what is no `Markup` is text, and is escaped.

Names of files and classes are anybody's. Every text goes through `readable`.
"""

import base64
import html
import io
import re
from collections.abc import Iterable
from importlib import resources
from typing import Any

# Longer names are cut: a class may be called anything.
LONGEST = 200
# All but the page's own style and the pictures in it is forbidden.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
VOID = ("img", "link", "meta")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# From so many pixels on JPEG is smaller, and what it loses cannot be seen.
JPEG_FROM = 64


class Markup(str):
    """Text that is HTML."""


def readable(value: Any) -> str:
    """A text as people can read it, which UTF-8 holds and no log breaks.

    Bytes that are no UTF-8 and control characters become escapes.

    Examples:
        >>> readable("a\\udcff\\n")
        'a\\\\udcff\\\\n'
    """
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return CONTROL.sub(lambda x: repr(x[0])[1:-1], text)


def escaped(value: Any) -> Markup:
    """HTML of a value: as it is, or as the text that it is."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(readable(value)))


def join(parts: Iterable[Any]) -> Markup:
    """One after another; `None` is left out."""
    return Markup("".join(escaped(x) for x in parts if x is not None))


def tag(name: str, /, *content: Any, **attributes: Any) -> Markup:
    """An element.

    Args:
        name: of the element.
        content: text or `Markup`.
        attributes: `class_` is `class`, and `data_x` is `data-x`; those that
            are `None` are left out.
    """
    words = "".join(
        f' {key.strip("_").replace("_", "-")}="{html.escape(_whole(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{words}>")
    return Markup(f"<{name}{words}>{join(content)}</{name}>")


def _whole(value):
    """An attribute: a picture is long, and all else is text."""
    return value if isinstance(value, Markup) else shortened(value)


def shortened(value: Any) -> str:
    """The same as `readable`, at most `LONGEST` characters of it."""
    text = readable(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def name_of(value: Any) -> Markup:
    """A name that somebody chose, which may be written from right to left."""
    return tag("bdi", shortened(value))


def number(value: Any, text: str) -> Markup:
    """A number with all its digits, shown as a text."""
    if value is None:
        return escaped(text)
    return tag("data", text, value=repr(value))


def table(
    columns: Iterable[Any], rows: Iterable[Iterable[Any]], **attributes: Any
) -> Markup:
    """A table that scrolls where it is too wide; the first column are heads.

    Args:
        columns: the heads.
        rows: of cells: text, numbers or `Markup`.
        attributes: of the table.
    """
    heads = (tag("th", x, scope="col") for x in columns)
    body = (
        tag("tr", tag("th", first, scope="row"), *map(_cell, others))
        for first, *others in rows
    )
    whole = tag(
        "table",
        tag("thead", tag("tr", *heads)),
        tag("tbody", *body),
        **attributes,
    )
    return tag("div", whole, class_="wide")


def _cell(value):
    is_number = isinstance(value, (int, float)) or (
        isinstance(value, Markup) and value.startswith("<data")
    )
    return tag("td", value, class_="number" if is_number else None)


def pairs(rows: Iterable[tuple[Any, Any]]) -> Markup:
    """A table of two columns; rows whose value is `None` are left out."""
    body = (
        tag("tr", tag("th", key, scope="row"), tag("td", value))
        for key, value in rows
        if value is not None
    )
    whole = tag("table", tag("tbody", *body), class_="pairs")
    return tag("div", whole, class_="wide")


def folded(title: Any, *content: Any) -> Markup:
    """What is shown when its title is clicked."""
    return tag("details", tag("summary", title), *content)


def plot(figure: Any, text: str) -> Markup:
    """A matplotlib figure as a picture.

    Args:
        figure: the figure.
        text: what those read who cannot see it.
    """
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    uri = _uri("png", file)
    return tag("img", src=uri, alt=text, class_="plot")


def picture(image: Any, text: str) -> Markup:
    """A `PIL.Image` as a picture."""
    file = io.BytesIO()
    is_tiny = max(image.size) < JPEG_FROM
    kind = "png" if is_tiny else "jpeg"
    image.save(file, kind.upper(), **({} if is_tiny else {"quality": 85}))
    return tag(
        "img",
        src=_uri(kind, file),
        alt=text,
        width=image.width,
        height=image.height,
        class_="tiny" if is_tiny else None,
    )


def _uri(kind, file):
    content = base64.b64encode(file.getvalue()).decode()
    return Markup(f"data:image/{kind};base64,{content}")


def page(title: str, sections: Iterable[tuple[str, Any]], foot: Any) -> str:
    """A whole page.

    Args:
        title: its head.
        sections: pairs of a title and `Markup`; empty ones are left out.
        foot: what stands below.
    """
    style = resources.files(__package__) / "page.css"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag(
            "meta",
            **{"http-equiv": "Content-Security-Policy", "content": POLICY},
        ),
        tag(
            "meta",
            name="viewport",
            content="width=device-width, initial-scale=1",
        ),
        tag("meta", name="referrer", content="no-referrer"),
        # Or browsers ask a server for `favicon.ico`.
        tag("link", rel="icon", href="data:,"),
        tag("title", shortened(title)),
        tag("style", Markup(style.read_text(encoding="utf-8"))),
    )
    body = tag(
        "body",
        tag("h1", name_of(title)),
        *(
            tag("section", tag("h2", name), content)
            for name, content in sections
            if content
        ),
        tag("footer", tag("p", foot, class_="quiet")),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"
