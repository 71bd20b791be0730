"""The package's rooms: few, in storeys, and models stand on the ground.

`make lint` checks which room may import which; this measures the result.
"""

from pathlib import Path

import draw_rooms
import grimp
import pytest

import keras_convnext

pytestmark = pytest.mark.once

PACKAGE = Path(keras_convnext.__file__).parent


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("keras_convnext", cache_dir=None)


def test_a_newcomer_sees_few_entries():
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert len(entries) <= 18, sorted(entries)


def test_no_chain_of_rooms_is_long(graph):
    """Of rooms that import one another, each once."""
    below = {}
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            upper, lower = room_of(importer), room_of(imported)
            if upper != lower:
                below.setdefault(upper, set()).add(lower)

    def height(room, above=()):
        assert room not in above, f"a circle: {[*above, room]}"
        rooms = below.get(room, ())
        return 1 + max((height(x, (*above, room)) for x in rooms), default=0)

    assert height("keras_convnext.cli") > 3
    assert max(map(height, below)) <= 13


def room_of(module):
    return ".".join(module.split(".")[:2])


def test_a_pyramid_needs_neither_training_nor_data(graph):
    needed = graph.find_upstream_modules("keras_convnext.models.pyramid")
    rooms = {room_of(module) for module in needed}
    assert "keras_convnext.layers" in rooms
    assert not {"keras_convnext.data", "keras_convnext.training"} & rooms
    assert "keras_convnext.artifacts" not in rooms


def test_the_picture_shows_the_rooms_as_they_are(graph):
    picture = draw_rooms.drawn(graph)
    stale = "run python conversion/draw_rooms.py"
    assert draw_rooms.PICTURE.read_text() == picture, stale


def test_arrows_that_follow_from_others_are_left_out():
    arrows = {("a", "b"), ("b", "c"), ("a", "c"), ("a", "d"), ("d", "c")}
    expected = arrows - {("a", "c")}
    assert draw_rooms.without_detours(arrows) == expected
