"""Draws which room of the package imports which: `docs/rooms.svg`.

Rows come from the import contract in pyproject.toml, arrows from the imports
themselves.

python conversion/draw_rooms.py            # writes the picture
python conversion/draw_rooms.py --check    # exit status 1 if stale
"""

import argparse
import sys
import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "rooms.svg"
PACKAGE = "keras_convnext"
# Of three columns; of others the middle one. Only for the looks: so that no
# arrow runs through a room.
COLUMNS = {
    "evaluation": 0,
    "tasks": 2,
    "artifacts": 0,
    "training": 2,
    "models": 0,
    "data": 2,
    "layers": 0,
    "images": 2,
}
WIDTH, HEIGHT = 150, 34
COLUMN, ROW = 210, 66
STYLE = """
  text { font: 15px sans-serif; text-anchor: middle; fill: #222 }
  rect { fill: #e0f2f1; stroke: #00796b }
  path { fill: none; stroke: #666; stroke-width: 1.3 }
  marker path { fill: #666; stroke: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #eee }
    rect { fill: #263f3d; stroke: #4db6ac }
    path { stroke: #aaa }
    marker path { fill: #aaa }
  }
"""
FRAME = """\
<svg xmlns="http://www.w3.org/2000/svg" role="img" \
viewBox="0 0 {width} {height}">
<title>Rooms of keras_convnext and their imports</title>
<style>{style}</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" \
markerHeight="8" orient="auto"><path d="M0,0 L8,4 L0,8 Z"/></marker></defs>
{parts}
</svg>
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    picture = drawn(grimp.build_graph(PACKAGE, cache_dir=None))
    if not check:
        PICTURE.write_text(picture)
        print(f"wrote {PICTURE}")
    elif not PICTURE.exists() or PICTURE.read_text() != picture:
        sys.exit(f"{PICTURE} is stale: run python {sys.argv[0]}")


def drawn(graph):
    rows = rows_of_contract()
    places = {
        room: (COLUMNS.get(room, 1), row)
        for row, rooms in enumerate(rows)
        for room in rooms
    }
    arrows = without_detours(imports_between_rooms(graph))
    parts = [arrow(places[a], places[b]) for a, b in sorted(arrows)]
    parts += [box(room, place) for room, place in places.items()]
    return FRAME.format(
        width=3 * COLUMN,
        height=len(rows) * ROW,
        style=STYLE,
        parts="\n".join(parts),
    )


def rows_of_contract():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for contract in settings["tool"]["importlinter"]["contracts"]:
        if contract.get("containers") == [PACKAGE]:
            return [row.split(" | ") for row in contract["layers"]]
    sys.exit(f"pyproject.toml has no contract on the rooms of {PACKAGE}")


def imports_between_rooms(graph):
    """Pairs of rooms, of which the first imports the second."""
    return {
        (room_of(importer), room_of(imported))
        for importer in graph.modules - {f"{PACKAGE}.__main__"}
        for imported in graph.find_modules_directly_imported_by(importer)
        if room_of(importer) != room_of(imported)
    }


def room_of(module):
    """`__init__.py` of the package hands on the names of `_api`."""
    return module.split(".")[1] if "." in module else "_api"


def without_detours(arrows):
    """Without the arrows that follow from others: a transitive reduction."""

    def reachable(room):
        below = {lower for upper, lower in arrows if upper == room}
        return below.union(*map(reachable, below))

    return {
        (upper, lower)
        for upper, lower in arrows
        if not any(
            lower in reachable(between)
            for above, between in arrows
            if above == upper and between != lower
        )
    }


def center(place):
    column, row = place
    return column * COLUMN + COLUMN // 2, row * ROW + ROW // 2


def arrow(start, end):
    (x1, y1), (x2, y2) = center(start), center(end)
    y1, y2 = y1 + HEIGHT // 2, y2 - HEIGHT // 2
    bend = (y2 - y1) // 2
    curve = f"M{x1},{y1} C{x1},{y1 + bend} {x2},{y2 - bend} {x2},{y2}"
    return f'<path d="{curve}" marker-end="url(#tip)"/>'


def box(room, place):
    x, y = center(place)
    left, top = x - WIDTH // 2, y - HEIGHT // 2
    rect = f'x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" rx="6"'
    return f'<rect {rect}/><text x="{x}" y="{y + 5}">{room}</text>'


if __name__ == "__main__":
    main()
