"""The check of the documentation's English finds what it should."""

import json

import prose
import pytest
import yaml

pytestmark = pytest.mark.once

QUESTIONS = yaml.safe_load((prose.ROOT / "docs" / "questions.yml").read_text())
# Pages of docstrings, and of reasons.
WITHOUT_QUESTIONS = (
    *("docs/reference/", "docs/decisions/", "docs/readers.md"),
    prose.NOTES,  # part of docs/benchmarks.md
)

OPENING = "Read this if you train; at the end you have a model.\n\n"
LONG = " ".join(["word"] * 31) + "."
BAD_PAGES = {
    "31 words": OPENING + LONG,
    "31 words in a list": OPENING + "- Short.\n- " + LONG,
    "31 words in a table": OPENING + f"| {LONG} | short |",
    '"What …" as a subject': OPENING + "What is missing is refused.",
    '"Whoever …" as a subject': OPENING + "Fine. Whoever trains waits.",
    '"tower" is a word': OPENING + "The left tower learns.",
    "the first paragraph must say": "# Title\n\nA model learns.",
    "say in a line before": OPENING + "## Title\n\n```sh\nls\n```",
    "say in a line before this": OPENING + "```sh\nls\n```\n\n```sh\nls\n```",
}
GOOD_PAGE = f"""\
# Title

{OPENING}
What is a stem? The `first` layers, e.g. a convolution. [All of
them](page.md) learn:

```python
# What a comment says is no prose, as all of the code of a page. {LONG}
```

| one cell | {" ".join(["word"] * 20)} | {" ".join(["word"] * 20)} |
| --- | --- | --- |

- {" ".join(["word"] * 29)},
  ends.
- A list has items.
"""
MODULE = '''
def train(model):
    """{line}

    Args:
        model: {item}

    Examples:
        >>> train("What is code.")
    """
'''


@pytest.mark.parametrize("expected", BAD_PAGES)
def test_a_bad_page_is_told(expected):
    (found,) = prose.complaints_of_page("page.md", BAD_PAGES[expected])
    assert str(found).startswith(f"page.md:{found.line}: ")
    assert expected.partition(" in a ")[0] in found.remedy


def test_a_good_page_passes():
    assert not [*prose.complaints_of_page("page.md", GOOD_PAGE)]


def test_prose_of_notebooks_is_read_without_their_code(tmp_path):
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", OPENING.strip()]},
        {"cell_type": "code", "source": ["What = 1"], "outputs": []},
        {"cell_type": "markdown", "source": ["What is missing is refused."]},
    ]
    path = tmp_path / "page.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    text = prose.read_page(path)
    (found,) = prose.complaints_of_page("page.ipynb", text)
    assert found.text == "What is missing is refused."


def test_notes_are_part_of_a_page_that_has_the_opening():
    (found,) = prose.complaints_of_page(prose.NOTES, f"# Title\n\n{LONG}")
    assert found.text == LONG
    names = {prose.name_of(path) for path in prose.pages()}
    assert {prose.NOTES, "notebooks/export.ipynb"} <= names


def test_the_line_is_named():
    text = f"{OPENING}One.\n\n- Two.\n- {LONG}\n"
    (found,) = prose.complaints_of_page("page.md", text)
    assert text.splitlines()[found.line - 1] == f"- {LONG}"
    assert found.text == LONG


def test_what_the_glossary_explains_is_allowed():
    assert {"stem", "room", "rooms"} <= prose.glossary_terms()
    assert r"towers?" in prose.forbidden({"stem"})
    assert r"towers?" not in prose.forbidden({"stem", "tower"})


@pytest.mark.parametrize(
    "line, item, words",
    [
        ("Trains.", "the model.", ()),
        ("What trains.", "the model.", ["What trains."]),
        ("Trains.", "What is trained.", ["What is trained."]),
        ("Trains.", LONG, [LONG]),
        (LONG, "the model.", [LONG]),
    ],
)
def test_docstrings_of_the_reference_are_read(line, item, words):
    text = MODULE.format(line=line, item=item)
    found = prose.complaints_of_module("module.py", text, {"train"})
    assert [x.text for x in found] == [*words]
    assert not [*prose.complaints_of_module("module.py", text, {"evaluate"})]


def test_the_reference_names_functions_of_modules():
    assert {"train", "AdamW", "MaskRCNN"} <= prose.names_in_reference()


def test_status_and_messages(monkeypatch, capsys):
    found = prose.Complaint("page.md", 7, "What is.", "name the thing")
    monkeypatch.setattr(prose, "all_complaints", lambda: [found])
    assert prose.main() == 1
    assert "page.md:7: name the thing\n    What is." in capsys.readouterr().out
    monkeypatch.setattr(prose, "all_complaints", list)
    assert prose.main() == 0


def test_every_page_has_questions():
    pages = {prose.name_of(path) for path in prose.pages()}
    asked = {x for x in pages if not x.startswith(WITHOUT_QUESTIONS)}
    assert asked <= QUESTIONS.keys() <= pages
    assert {len(x) for x in QUESTIONS.values()} <= {3, 4, 5}


@pytest.mark.parametrize("page", QUESTIONS)
def test_a_page_has_its_answers(page):
    text = joined(prose.read_page(prose.ROOT / page))
    for row in QUESTIONS[page]:
        assert row["question"].endswith("?")
        assert joined(str(row["found"])) in text, row["question"]


def joined(text):
    return " ".join(text.split())
