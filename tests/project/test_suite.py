"""The suite's own rules: which tests run where, and which a change reaches."""

from types import SimpleNamespace

import check
import keras
import pytest
from conftest import UsesBackend
from conftest import refuse_backend
from conftest import when


@pytest.mark.parametrize(
    "call",
    [
        lambda: keras.ops.add(1, 1),
        lambda: keras.Variable(1.0),
        lambda: keras.layers.Dense(1)(keras.Input((2,))),
        lambda: keras.ops.convert_to_tensor([1.0]),
    ],
    ids=["operation", "variable", "layer", "tensor"],
)
def test_what_runs_once_computes_nothing(call, monkeypatch):
    with monkeypatch.context() as patch:
        refuse_backend(patch)
        with pytest.raises(UsesBackend, match="Remove the mark"):
            call()
    call()


@pytest.mark.parametrize(
    "of_case, of_file, expected",
    [
        ([], [], "every_backend"),
        ([], ["once"], "once"),
        (["every_backend"], ["once"], "every_backend"),
        (["long"], ["once"], "long"),
        # A decorator of the function, and a mark of one case.
        (["every_backend", "long"], ["once"], "long"),
        (["parametrize"], ["long"], "long"),
    ],
)
def test_the_nearest_mark_counts(of_case, of_file, expected):
    of_case, of_file = (
        [SimpleNamespace(name=name) for name in names]
        for names in (of_case, of_file)
    )
    parent = SimpleNamespace(iter_markers=lambda: of_file)
    item = SimpleNamespace(own_markers=of_case, parent=parent)
    assert when(item) == expected


@pytest.mark.once
@pytest.mark.parametrize(
    "changed, first",
    [
        ("keras_convnext/layers/depthwise.py", "tests/layers/test_layers.py"),
        ("keras_convnext/weights/hub.py", "tests/weights/test_hub.py"),
        (
            "keras_convnext/visualize/grad_cam.py",
            "tests/visualize/test_visualize.py",
        ),
        (
            "keras_convnext/evaluation/rules.py",
            "tests/evaluation/test_evaluation.py",
        ),
        ("benchmarks/race/turn.py", "tests/project/test_benchmark.py"),
        ("docs/how_to/train.md", "tests/project/test_docs.py"),
        ("tests/conftest.py", "tests"),
    ],
)
def test_changes_reach_the_nearest_tests_first(changed, first):
    assert check.reached([changed])[0] == first


@pytest.mark.once
def test_helpers_reach_the_tests_that_import_them():
    reached = check.reached(["tests/peers.py"])
    assert "tests/models/test_numerics.py" in reached
    assert "tests/cli/test_cli.py" not in reached


@pytest.mark.once
def test_documents_reach_no_tests_of_code():
    assert check.reached(["CHANGELOG.md"]) == []
