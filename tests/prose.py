"""Checks that the documentation is plain English: `make docs` runs it.

It reads the pages of the site with the notebooks and benchmarks/NOTES.md,
README.md, CONTRIBUTING.md, and the docstrings of the names in docs/reference
and of commands, as text: nothing is imported.
"""

import ast
import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
GLOSSARY = "docs/glossary.md"
# The page that shows them says who should read them.
NOTES = "benchmarks/NOTES.md"
MOST_WORDS = 30

# These show other files, and have little text of their own.
SHOWN_ELSEWHERE = re.compile(r"^(:::|--8<--|<!--|-->|!\[|\|[ :|-]+\|$)")

# Words of this code's inside, and what to write instead. The glossary may
# explain one: then pages may use it.
INSIDE = {
    r"towers?": "model, encoder or branch",
    r"leans?|leaning": "imports, or depends on",
    r"seams?": "interface, or where two parts meet",
    r"store?ys?": "layer of imports",
    r"rooms?": "package, or module",
    r"house": "package",
    r"twins?": "copy, or the second implementation",
    r"walks?": "path of the data",
    r"is told|are told": "reads, or gets",
    r"held against": "compared with",
    r"goes on|go on": "continues, or resumes",
    r"spread": "range, or standard deviation",
}
OPENING = re.compile(r"Read this if .+; at the end you (have|know) ")
WITHOUT_SUBJECT = re.compile(r"(What|Whoever|Whatever)\b")

ABBREVIATIONS = re.compile(r"\b(e\.g|i\.e|vs|etc|al|cf|approx|Fig|No)\.")
SENTENCE_END = re.compile(r"(?<=[.!?])[)\"*_]*\s+(?=[\"'(*_\[]*[A-Z0-9`§])")
SECTIONS_OF_ITEMS = ("Args:", "Attributes:", "Call arguments:", "Raises:")
SECTION = re.compile(r"[A-Z][\w ]+:$")


@dataclasses.dataclass(frozen=True)
class Complaint:
    path: str
    line: int
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.remedy}\n    {self.text}"


@dataclasses.dataclass
class Unit:
    """A paragraph, an item of a list or a cell of a table."""

    line: int
    text: str


def main() -> int:
    complaints = [*all_complaints()]
    for complaint in complaints:
        print(complaint)
    if complaints:
        print(f"{len(complaints)} complaints. tests/prose.py has the rules.")
    return bool(complaints)


def all_complaints() -> Iterator[Complaint]:
    for path in pages():
        yield from complaints_of_page(name_of(path), read_page(path))
    documented = names_in_reference()
    for path in sorted(ROOT.glob("keras_convnext/**/*.py")):
        command = {path.stem} if path.parent.name == "cli" else set()
        yield from complaints_of_module(
            name_of(path), path.read_text(), documented | command
        )


def pages() -> list[Path]:
    found = sorted(ROOT.glob("docs/**/*.md"))
    found += sorted(ROOT.glob("notebooks/*.ipynb"))
    found += [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / NOTES]
    return found


def read_page(path: Path) -> str:
    """Its text without the settings at its head; of a notebook its prose."""
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text())["cells"]
        texts = [x["source"] for x in cells if x["cell_type"] == "markdown"]
        return "\n\n".join(map("".join, texts)) + "\n"
    return re.sub(r"\A---\n.*?\n---\n", "", path.read_text(), flags=re.S)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def names_in_reference() -> set[str]:
    text = "".join(x.read_text() for x in ROOT.glob("docs/reference/*.md"))
    return set(re.findall(r"::: keras_convnext\.(?:\w+\.)*(\w+)", text))


def complaints_of_page(path: str, text: str) -> Iterator[Complaint]:
    units = [*units_of_page(text)]
    first = units[0] if units else Unit(1, "")
    is_part = path == NOTES
    if not is_part and not any(map(OPENING.match, sentences(first.text))):
        yield Complaint(
            path,
            first.line,
            first.text[:80],
            "the first paragraph must say who should read the page and what "
            'they will have: "Read this if …; at the end you have …."',
        )
    yield from bare_code(path, text)
    terms = forbidden(glossary_terms())
    for unit in units:
        yield from complaints_of_sentences(path, unit)
        for word, remedy in terms.items():
            if found := re.search(rf"\b({word})\b", unit.text, re.IGNORECASE):
                yield Complaint(
                    path,
                    unit.line,
                    unit.text[:100],
                    f'"{found[0]}" is a word of this code\'s inside: write '
                    f"{remedy}, or explain it in {GLOSSARY}",
                )


def complaints_of_sentences(path: str, unit: Unit) -> Iterator[Complaint]:
    for sentence in sentences(unit.text):
        words = [x for x in sentence.split() if re.search(r"\w", x)]
        if len(words) > MOST_WORDS:
            remedy = (
                f"{len(words)} words in a sentence, of at most {MOST_WORDS}: "
                "make two of it, or a list, or a table"
            )
            yield Complaint(path, unit.line, sentence, remedy)
        if WITHOUT_SUBJECT.match(sentence) and not sentence.endswith("?"):
            remedy = (
                f'"{sentence.split()[0]} …" as a subject: name the thing, or '
                "make the reader the subject"
            )
            yield Complaint(path, unit.line, sentence, remedy)


def bare_code(path: str, text: str) -> Iterator[Complaint]:
    """Blocks of code whose purpose no line of text says before them."""
    above, inside = "", False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            if not inside and re.match(r"$|#|```|\||:::|<", above):
                remedy = "say in a line before this code what it is for"
                yield Complaint(path, number, line, remedy)
            inside = not inside
        if line.strip():
            above = line.strip()


def glossary_terms() -> set[str]:
    """The first cell of each row."""
    text = (ROOT / GLOSSARY).read_text()
    cells = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    return {term.strip() for cell in cells for term in cell.split(",")}


def forbidden(explained: set[str]) -> dict[str, str]:
    return {
        word: remedy
        for word, remedy in INSIDE.items()
        if not any(re.fullmatch(word, term) for term in explained)
    }


def units_of_page(text: str) -> Iterator[Unit]:
    unit, is_code = Unit(0, ""), False
    for number, line in enumerate([*text.splitlines(), ""], 1):
        stripped = line.strip()
        is_fence = stripped.startswith("```")
        is_code ^= is_fence
        begins = re.match(r"([-*]|\d+\.) ", stripped)
        is_row = stripped.startswith("|")
        ends = not stripped or begins or is_row or is_fence or is_code
        if ends or stripped.startswith("#") or SHOWN_ELSEWHERE.match(stripped):
            if unit.text:
                yield Unit(unit.line, as_text(unit.text))
            unit = Unit(0, "")
        if is_code or is_fence or SHOWN_ELSEWHERE.match(stripped):
            continue
        if is_row:
            for cell in re.split(r"(?<!\\)\|", stripped.strip("|")):
                yield Unit(number, as_text(cell))
        elif not stripped.startswith("#"):
            words = stripped[begins.end() :] if begins else stripped
            unit = Unit(unit.line or number, f"{unit.text} {words}".strip())


def as_text(markdown: str) -> str:
    text = re.sub(r"<!--.*?-->", "", markdown)
    text = re.sub(r"`[^`]*`", "`code`", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return text.replace("**", "").strip()


def sentences(text: str) -> list[str]:
    text = ABBREVIATIONS.sub(lambda found: found[0].replace(".", "․"), text)
    return [x.strip("*_ ") for x in SENTENCE_END.split(text) if x.strip()]


def complaints_of_module(
    path: str, text: str, documented: set[str]
) -> Iterator[Complaint]:
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        if node.name in documented:
            yield from complaints_of_docstrings(path, node)


def complaints_of_docstrings(path: str, node: ast.AST) -> Iterator[Complaint]:
    """Those of a public name, and of the public methods of a class."""
    for child in [node, *(node.body if isinstance(node, ast.ClassDef) else [])]:
        if not isinstance(child, ast.FunctionDef | ast.ClassDef):
            continue
        if child.name.startswith("_") and child.name != "__init__":
            continue
        docstring = ast.get_docstring(child)
        for unit in units_of_docstring(docstring or ""):
            line = child.body[0].lineno + unit.line
            yield from complaints_of_sentences(path, Unit(line, unit.text))


def units_of_docstring(docstring: str) -> Iterator[Unit]:
    unit, section, is_code = Unit(0, ""), "", False
    for number, line in enumerate([*docstring.splitlines(), ""]):
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        is_section = SECTION.fullmatch(line)
        section = line if is_section else section if indent else ""
        is_item = section in SECTIONS_OF_ITEMS and indent == 4
        if stripped.startswith((">>>", "```")):
            is_code = True
        begins = is_item or re.match(r"([-*]|\d+\.) ", stripped)
        if not stripped or is_section or begins:
            if unit.text:
                yield Unit(unit.line, as_text(unit.text))
            unit = Unit(number, "")
        if not stripped:
            is_code = False
        elif not is_section and not is_code and stripped[0] not in "|":
            if is_item:
                stripped = re.sub(r"^[\w*`., ]+(\(.*?\))?: ", "", stripped)
            unit.text = f"{unit.text} {stripped}".strip()


if __name__ == "__main__":
    sys.exit(main())
