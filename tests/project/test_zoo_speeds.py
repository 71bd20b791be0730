"""What times all architectures for the model zoo, without timing any."""

import pytest
import zoo

from keras_convnext import VARIANTS
from keras_convnext.weights import registry

pytestmark = pytest.mark.once


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Models and sizes that were timed: a call takes a second for each
    hundred pixels."""
    found = []

    def timed(model, size):
        found.append((model, size))
        return [size / 100, 99.0, size / 100]

    monkeypatch.setattr(zoo, "ROWS", tmp_path / "zoo.csv")
    monkeypatch.setattr(zoo, "timed", timed)
    return found


def test_every_checkpoint_has_its_row_and_none_is_timed_twice():
    pairs = zoo.wanted("*")
    assert len(pairs) == len(set(pairs))
    assert {x for x, _ in pairs} == set(VARIANTS)
    checkpoints = registry.checkpoints()
    assert {(x.model, x.image_size) for x in checkpoints} <= set(pairs)
    assert pairs.index(("convnext_atto", 224)) < pairs.index(
        ("convnext_tiny", 224)
    )
    assert pairs[-1] == ("convnextv2_huge", 512)


def test_it_goes_on_where_it_ended(asked, capsys):
    zoo.main(["--models", "convnext_nano", "--minutes", "-1"])
    assert not asked and "start it again" in capsys.readouterr().out
    zoo.main(["--models", "convnext_nano"])
    assert asked == [("convnext_nano", 224), ("convnext_nano", 384)]
    zoo.main(["--models", "convnext_[an]*o"])
    assert asked[2:] == [("convnext_atto", 224)]
    rows = zoo.read()
    assert list(rows) == [asked[2], *asked[:2]]
    row = rows["convnext_nano", 384]
    assert (row["images_per_second"], row["calls"]) == ("0.26", "3")
    assert row["date"] and row["processor"] and row["torch"]
    zoo.main(["--models", "convnext_nano", "--again"])
    assert len(asked) == 5
