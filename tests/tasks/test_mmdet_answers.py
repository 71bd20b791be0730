"""Are the saved answers of mmdetection what their readers expect?"""

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
from detector_files import file_of
from detector_files import small
from mmdet_reference import answers
from mmdet_reference import formula
from safetensors.numpy import load_file

from keras_convnext import convert_weights

pytestmark = pytest.mark.once
ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-mmdet" / "bin" / "python"
KINDS = ("mask_rcnn", "cascade")


def test_weights_images_and_objects_are_still_those_of_the_answers():
    saved = answers.load("trunk")["formula"]
    np.testing.assert_allclose(formula.fingerprint(), saved, 1e-6, 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_detections_are_sorted_and_inside_of_the_photograph(kind):
    found = answers.load(kind)
    for index, (height, width) in enumerate(formula.ORIGINAL_SIZES):
        name = f"found_{index}"
        boxes, scores = found[f"{name}/boxes"], found[f"{name}/scores"]
        assert 50 < len(boxes) <= 100
        assert (np.diff(scores) <= 0).all() and scores[-1] > 0.05
        assert (boxes >= 0).all() and (boxes <= (width, height) * 2).all()
        some = len(scores[:: answers.STEP])
        masks = answers.bits(found[f"{name}/masks"], (some, height, width))
        areas = found[f"{name}/areas"][:: answers.STEP]
        np.testing.assert_array_equal(masks.sum((1, 2)), areas)
        maps = answers.probabilities(found[f"{name}/maps"])
        assert maps.shape == (some, 28, 28)
        assert 0 <= maps.min() < 0.5 < maps.max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_official_configuration_finds_a_hundred(kind):
    found = answers.load("official")
    height, width = formula.OFFICIAL_ORIGINAL_SIZE
    boxes, scores, classes, areas = (
        found[f"{kind}/{x}"] for x in ("boxes", "scores", "classes", "areas")
    )
    assert boxes.shape == (100, 4) and (np.diff(scores) <= 0).all()
    assert classes.min() >= 0 and classes.max() < formula.OFFICIAL_CLASSES
    shape = (len(scores[:: answers.STEP]), height, width)
    masks = answers.bits(found[f"{kind}/masks"], shape)
    np.testing.assert_array_equal(masks.sum((1, 2)), areas[:: answers.STEP])


@pytest.mark.parametrize(
    "kind, tensors, numbers",
    [("mask_rcnn", 228, 48_095_376), ("cascade", 334, 85_930_578)],
)
def test_layouts_have_the_published_sizes(kind, tensors, numbers):
    shapes = answers.shapes(kind)
    assert len(shapes) == len(answers.shapes(kind, own=True)) == tensors
    assert shapes["backbone.stages.3.2.dwconv.weight"] == (768, 1, 7, 7)
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    parameters = [x for k, x in shapes.items() if not k.endswith(buffers)]
    assert sum(map(math.prod, parameters)) == numbers


def run_there(module, folder):
    """A module of `mmdet_reference` where mmdetection is."""
    if not PYTHON.exists():
        pytest.skip("`make .venv-mmdet/ready` first")
    command = [PYTHON, "-m", module, folder]
    subprocess.run(command, cwd=ROOT / "tests", check=True)


@pytest.mark.long
def test_mmdetection_still_answers_so(tmp_path):
    """Live, and on whatever machine this is."""
    run_there("mmdet_reference", tmp_path)
    for name in ("trunk", *KINDS, "official", "steps"):
        saved, fresh = answers.load(name), answers.load(name, tmp_path)
        assert list(saved) == list(fresh)
        for key, values in saved.items():
            if values.dtype.kind == "U":
                assert (values == fresh[key]).all()
                continue
            if values.dtype == "uint8":  # bits of masks
                different = np.unpackbits(values ^ fresh[key]).mean()
                assert different < 1e-4, key
                continue
            atol = 1e-5 * max(1, np.abs(values).max(initial=0))
            np.testing.assert_allclose(
                fresh[key], values, rtol=1e-4, atol=atol, err_msg=key
            )
    layouts = tmp_path / "layouts.txt"
    assert layouts.read_text() == (answers.FOLDER / layouts.name).read_text()


@pytest.mark.long
def test_files_go_to_mmdetection_and_back(tmp_path):
    """What it saves loads here, in both layouts; what is saved here loads there
    strictly, and is the same."""
    run_there("mmdet_reference.exchange", tmp_path)
    saved = tmp_path / "model.keras"
    for kind in KINDS:
        theirs = load_file(file_of(kind, tmp_path))
        for name, to, named in (
            (kind, "official_mmdet", str),
            (f"{kind}_own", "mmdet", answers.own_name),
        ):
            small(kind, tmp_path / f"{name}.pth").save(saved)
            back = tmp_path / f"{name}_back.safetensors"
            convert_weights(saved, back, to)
            ours = load_file(back)
            for key, values in theirs.items():
                if not key.endswith("num_batches_tracked"):
                    np.testing.assert_array_equal(ours[named(key)], values)
        convert_weights(saved, tmp_path / f"{kind}_ours.pth", "official_mmdet")
    run_there("mmdet_reference.exchange", tmp_path)
