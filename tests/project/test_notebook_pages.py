"""Notebooks as pages of the site."""

import base64
import re
from pathlib import Path

import notebook_pages
import pytest

pytestmark = pytest.mark.once
ROOT = Path(__file__).parents[2]


def test_cells_and_outputs_are_shown_in_order():
    picture = base64.b64encode(b"pixels").decode()
    notebook = {
        "cells": [
            {
                "cell_type": "markdown",
                "source": ["# Title\n", "\n", "[Text](../docs/a/b.md)\n"],
            },
            {
                "cell_type": "code",
                "source": ["print(1)\n", "figure"],
                "outputs": [
                    {"text": ["1\n"]},
                    {
                        "data": {
                            "image/png": picture,
                            "text/plain": ["<Figure>"],
                        }
                    },
                    {"data": {"text/plain": ["\x1b[1;36m2\x1b[0m"]}},
                    {"text": ["3\n"]},
                    {"text": ["\n"]},
                ],
            },
        ]
    }
    text, pictures = notebook_pages.page_of(notebook, "name")
    assert text == (
        "# Title\n\n[Text](../a/b.md)\n\n```python\nprint(1)\nfigure\n```\n\n"
        "```text\n1\n```\n\n![](name_0.png)\n\n```text\n2\n3\n```\n"
    )
    assert pictures == {"name_0.png": b"pixels"}


def test_of_long_texts_the_beginning_and_the_end_are_shown():
    outputs = [{"text": [f"{x}\n"]} for x in range(100)]
    (block,) = notebook_pages.printed(outputs)
    lines = block.splitlines()[1:-1]
    assert lines[:2] == ["0", "1"] and lines[-1] == "99"
    assert len(lines) == notebook_pages.MOST_LINES + 1 and "…" in lines


def test_links_of_notebooks_lead_to_files():
    links = [
        (notebook.name, link)
        for notebook in notebook_pages.NOTEBOOKS.glob("*.ipynb")
        for link in re.findall(r"\]\((\.[^)]*)\)", notebook.read_text())
    ]
    assert ("few_labels.ipynb", "../docs/how_to/few_labels.md") in links
    for notebook, link in links:
        assert (notebook_pages.NOTEBOOKS / link).is_file(), (notebook, link)


def test_every_notebook_is_a_tutorial_of_the_site():
    notebooks = {x.stem for x in notebook_pages.NOTEBOOKS.glob("*.ipynb")}
    shown = re.findall(
        r": tutorials/(\w+)\.md", (ROOT / "mkdocs.yml").read_text()
    )
    assert sorted(shown) == sorted(notebooks)
