"""A hook of MkDocs: shows each notebook as a page, `tutorials/NAME.md`.

Cells and their committed outputs become Markdown. The plugin mkdocs-jupyter
does this too, but brings some forty packages with it.
"""

import base64
import json
import re
from pathlib import Path

from mkdocs.structure.files import File

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
FOLDER = "tutorials"
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
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                file = f"{name}_{len(pictures)}.png"
                pictures[file] = base64.b64decode(data["image/png"])
                parts.append(f"![]({file})")
            elif printed := text_of(output):
                parts.append(f"```text\n{printed}\n```")
    return "\n\n".join(parts) + "\n", pictures


def text_of(output):
    """What a cell printed, or the value of its last line."""
    text = output.get("text") or output.get("data", {}).get("text/plain", "")
    return COLORS.sub("", "".join(text)).rstrip()
