"""A hook of MkDocs: shows each notebook as a page, `tutorials/NAME.md`.

Cells and their committed outputs become Markdown. The plugin mkdocs-jupyter
does this too, but brings some forty packages with it.
"""

import base64
import itertools
import json
import re
from pathlib import Path

from mkdocs.structure.files import File

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
FOLDER = "tutorials"
MOST_LINES, LAST_LINES = 40, 12  # of what a cell printed
# Of terminals, which rich's tables have.
COLORS = re.compile(r"\x1b\[[\d;]*m")


def on_files(files, config):
    """Adds the pages and their pictures."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        text, pictures = page_of(json.loads(path.read_text()), path.stem)
        contents = {f"{path.stem}.md": text, **pictures}
        for name, content in contents.items():
            place = f"{FOLDER}/{name}"
            files.append(File.generated(config, place, content=content))
    return files


def page_of(notebook, name):
    """Markdown, and `{file name: bytes}` of its pictures.

    Args:
        notebook: the parsed file.
        name: of the pictures, before their number.
    """
    parts, pictures = [], {}
    for cell in notebook["cells"]:
        text = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            # A link of the notebook's, as the site has it.
            parts.append(text.replace("](../docs/", "](../"))
            continue
        parts.append(f"```python\n{text}\n```")
        by_kind = itertools.groupby(
            cell["outputs"], lambda x: "image/png" in x.get("data", {})
        )
        for is_picture, outputs in by_kind:
            if not is_picture:
                parts += printed(outputs)
                continue
            for output in outputs:
                file = f"{name}_{len(pictures)}.png"
                pictures[file] = base64.b64decode(output["data"]["image/png"])
                parts.append(f"![]({file})")
    return "\n\n".join(parts) + "\n", pictures


def printed(outputs):
    """What was printed, one after another, as one block or none."""
    lines = "\n".join(filter(None, map(text_of, outputs))).splitlines()
    if len(lines) > MOST_LINES:
        lines[MOST_LINES - LAST_LINES : -LAST_LINES] = ["…"]
    return ["\n".join(("```text", *lines, "```"))] if lines else []


def text_of(output):
    """What a cell printed, or the value of its last line."""
    text = output.get("text") or output.get("data", {}).get("text/plain", "")
    return COLORS.sub("", "".join(text)).rstrip()
