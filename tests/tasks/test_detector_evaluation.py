"""Detectors measured on data sets, in Python and by command."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import short_on
from detector_files import file_of
from detector_files import small
from mmdet_reference import formula
from PIL import Image
from typer.testing import CliRunner

import keras_convnext
from keras_convnext import detection
from keras_convnext.cli import app
from keras_convnext.data import read_coco
from keras_convnext.facts import coco
from keras_convnext.tasks.detection import evaluation
from keras_convnext.tasks.detection import published
from keras_convnext.weights.registry import checkpoints

pytestmark = LONG_WHERE_COMPILED

NAMES = ("cat", "dog", "cow", "hen", "pig")
IDS = {"pig": 3, "dog": 8, "cat": 90}  # not in the model's order


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = file_of("mask_rcnn", tmp_path_factory.mktemp("weights"))
    return small("mask_rcnn", path, classes=NAMES, proposals=20, short_side=96)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Data whose objects are what the model finds, of three of its classes."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    images = formula.images()[:2]
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
        found = detection.detect(model, image)
        ids = [IDS.get(name) for name in NAMES]
        rows += detection.results_of(found, number, ids)
    for number, row in enumerate(rows, 1):
        row |= {"id": number, "area": row["bbox"][2] * row["bbox"][3]}
    assert len(rows) > 4 and {x["category_id"] for x in rows} == {3, 8, 90}
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": h, "width": w}
            for i, (h, w, _) in enumerate(x.shape for x in images)
        ],
        "categories": [{"id": id, "name": name} for name, id in IDS.items()],
        "annotations": [{**row, "iscrowd": 0} for row in rows],
    }
    (folder / "objects.json").write_text(json.dumps(content))
    return folder


def test_a_model_finds_what_it_found(model, folder):
    found = detection.evaluate(model, folder, verbose=False)
    # Those of the two other classes do not count.
    assert found.boxes["ap"] == pytest.approx(1)
    assert found.images == 2 and found.published is None
    assert [x["class"] for x in found.classes] == ["pig", "dog", "cat"]
    assert 0.5 < found.masks["ap"] <= 1  # some masks are empty
    turned = detection.evaluate(model, folder, verbose=False, flip=True)
    assert turned.boxes["ap"] < 1


def test_the_command_prints_the_same(model, folder, tmp_path):
    path, output = tmp_path / "m.keras", tmp_path / "figures.json"
    model.save(path)
    words = ["evaluate", "--data", str(folder), "--model", str(path)]
    run = CliRunner().invoke(app, [*words, "--output", str(output)])
    assert run.exit_code == 0, run.output
    assert "AP50" in run.stdout and "lowest classes" in run.stdout
    found = json.loads(output.read_text())
    assert found["boxes"]["ap50"] == pytest.approx(1)
    run = CliRunner().invoke(app, [*words, "--rule", "imagenet"])
    assert isinstance(run.exception, ValueError) and run.exit_code
    assert "Received: `--rule`" in str(run.exception)


@short_on("torch")
def test_an_exported_model_finds_the_same(model, folder, tmp_path):
    path = tmp_path / "m.onnx"
    keras_convnext.export(model, path, verify=False, verbose=False)
    artifact = keras_convnext.open_artifact(path)
    photograph = np.repeat(formula.images()[1], 2, axis=0)  # is resized
    expected = detection.detect(model, photograph, score=0.1)
    found = detection.detect_exported(artifact, photograph, score=0.1)
    assert found.names == expected.names and len(found) > 3
    assert found.size == expected.size == photograph.shape[:2]
    for name in ("boxes", "scores"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-3
        )
    masks = found.masks ^ expected.masks
    assert masks.mean() < 1e-3
    output = tmp_path / "figures.json"
    words = ["evaluate", "--data", str(folder), "--model", str(path)]
    run = CliRunner().invoke(app, [*words, "--output", str(output)])
    assert run.exit_code == 0, run.output
    figures = json.loads(output.read_text())
    assert figures["boxes"]["ap50"] == pytest.approx(1)
    metadata = {"outputs": ["logits"]}
    classifier = SimpleNamespace(
        metadata=metadata, path="it", preprocessing=None
    )
    with pytest.raises(ValueError, match="exported detector. Received: 'it'"):
        detection.detect_exported(classifier, photograph)


def test_data_with_other_classes_is_refused(model, folder, tmp_path):
    source = read_coco(folder / "objects.json")
    source.classes = ("pig", "dog", "zebra")
    with pytest.raises(ValueError, match="Received: 'zebra' of 3, which"):
        detection.evaluate(model, source)
    with pytest.raises(ValueError, match="Expected a detector"):
        detection.evaluate(None, source)


@pytest.mark.once
def test_classes_without_names_go_by_number(folder):
    source = read_coco(folder / "objects.json")
    assert evaluation._class_ids(None, 3, source) == [3, 8, 90]
    source.classes = ("0", "2", "4")
    assert evaluation._class_ids(None, 5, source) == [3, None, 8, None, 90]


@pytest.mark.once
def test_published_figures_are_those_of_the_paper():
    rows = [x for task in published.TASKS for x in checkpoints(task)]
    assert len(rows) == 10
    official = [x.name for x in rows if x.tag.startswith("fb_")]
    assert sorted(official) == sorted(published.OVERLAPS)
    for name in (x.name for x in rows):
        found = published.find(name, coco.NAMES)
        assert ("ap50" in found["boxes"]) == (name in official)
        for kind in ("boxes", "masks"):
            figures = list(found[kind].values())
            assert all(0.4 < x < 0.8 for x in figures)
            if len(figures) == 3:
                ap, ap50, ap75 = figures
                assert ap < ap75 < ap50
        assert found["boxes"]["ap"] > found["masks"]["ap"]
    assert published.find(official[0], NAMES) is None
    assert published.find("convnext_tiny.None", coco.NAMES) is None
    tiny = published.find("convnext_tiny.fb_in1k_coco_mask", coco.NAMES)
    np.testing.assert_allclose(tiny["boxes"]["ap"], 0.462, rtol=0, atol=1e-9)
    np.testing.assert_allclose(tiny["masks"]["ap75"], 0.449, rtol=0, atol=1e-9)
