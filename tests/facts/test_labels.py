"""Label sets against facts from elsewhere, and predictions in words."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import peers
import pytest

from keras_convnext.facts import labels
from keras_convnext.facts.labels import decode_predictions
from keras_convnext.facts.labels import imagenet22k_to_1k_indices
from keras_convnext.facts.labels import label_set

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "conversion" / "make_labels.py"

# As `keras.applications` names them.
KNOWN = {
    0: ("n01440764", "tench"),
    1: ("n01443537", "goldfish"),
    2: ("n01484850", "great_white_shark"),
    134: ("n02012849", "crane"),
    207: ("n02099601", "golden_retriever"),
    281: ("n02123045", "tabby"),
    517: ("n03126707", "crane"),
    607: ("n03590841", "jack-o'-lantern"),
    850: ("n04399382", "teddy"),
    999: ("n15075141", "toilet_tissue"),
}
# Where torchvision departs from WordNet's first lemma, to be unique.
TORCHVISION = {134: "crane_bird", 639: "maillot_tank_suit"}


def test_known_classes_have_their_ids_and_names():
    rows = label_set(1000)
    assert {index: rows[index] for index in KNOWN} == KNOWN


@pytest.mark.parametrize("classes", [1000, 11821, 21841])
def test_label_sets_are_complete_sorted_and_those_of_timm(classes):
    peers.import_timm()
    from timm.data import ImageNetInfo

    name = {1000: "1k", 11821: "12k", 21841: "22k"}[classes]
    info = ImageNetInfo(f"imagenet-{name}")
    ids, names = zip(*label_set(classes))
    assert len(ids) == len(set(ids)) == classes
    assert list(ids) == sorted(ids) == info.label_names()
    assert not any(" " in name or "," in name or not name for name in names)
    described = info.label_descriptions()
    for name, description in zip(names, described, strict=True):
        assert (description + ",").startswith(name.replace("_", " ") + ",")


def test_the_same_class_has_one_name_everywhere():
    names = dict(label_set(21841))
    for classes in (1000, 11821):
        for wnid, name in label_set(classes):
            assert names.get(wnid, name) == name


def test_names_are_those_of_torchvision():
    peers.import_timm()
    from torchvision.models import AlexNet_Weights

    categories = AlexNet_Weights.DEFAULT.meta["categories"]
    names = [name for _, name in label_set(1000)]
    different = {
        index: category.replace(" ", "_")
        for index, category in enumerate(categories)
        if category.replace(" ", "_") != names[index]
    }
    assert different == TORCHVISION


def test_classes_of_1k_are_found_in_22k():
    indices = imagenet22k_to_1k_indices()
    assert len(indices) == 1000
    first = (359, 368, 460, 475, 486, 492, 496, 514, 516, 525)
    assert indices[:10] == first
    assert indices[-5:] == (21179, 21194, 21198, 21367, 21815)
    assert [i for i, index in enumerate(indices) if index < 0] == [850]
    found = [index for index in indices if index >= 0]
    assert found == sorted(set(found))
    large, small = label_set(21841), label_set(1000)
    assert all(
        large[index] == small[i] for i, index in enumerate(indices[:850])
    )


def test_label_sets_are_read_once():
    """And only when asked for: see `test_import`."""
    assert label_set(1000) is label_set(1000)
    assert imagenet22k_to_1k_indices() is imagenet22k_to_1k_indices()


def test_unknown_label_sets_are_value_errors():
    with pytest.raises(ValueError, match=r"one of \[1000.*classes=1001"):
        label_set(1001)


def test_the_script_writes_the_same_bytes_again(tmp_path):
    assert importlib.util.find_spec("timm")
    subprocess.run(
        [sys.executable, SCRIPT, "--output", tmp_path],
        check=True,
        capture_output=True,
    )
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    package = Path(labels.__file__).parent / "label_sets"
    kept = {path.name: path.read_bytes() for path in package.glob("*.bz2")}
    assert written == kept
    assert len(kept) == 3
    assert "Princeton" in (package / "WORDNET_LICENSE.txt").read_text()


def test_the_script_explains_itself():
    help_text = subprocess.run(
        [sys.executable, SCRIPT, "--help"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "Example: python conversion/make_labels.py" in help_text


@pytest.mark.parametrize("classes", [1000, 11821, 21841])
def test_predictions_are_the_best_by_falling_score(classes):
    scores = np.random.default_rng(0).normal(size=(3, classes))
    scores = scores.astype("float32")
    decoded = decode_predictions(scores, top=4)
    assert len(decoded) == 3
    for sample, predictions in zip(scores, decoded):
        expected = sorted(
            (
                (*label, score)
                for label, score in zip(label_set(classes), sample)
            ),
            key=lambda prediction: prediction[2],
            reverse=True,
        )
        assert predictions == expected[:4]
        assert all(type(score) is float for *_, score in predictions)


def test_predictions_default_to_five():
    assert [len(x) for x in decode_predictions(np.eye(1000)[:2])] == [5, 5]


def test_class_names_take_the_place_of_a_label_set():
    scores = [[0.1, 0.7, 0.2]]
    assert decode_predictions(scores, 2, class_names=["a", "b", "a"]) == [
        [("1", "b", 0.7), ("2", "a", 0.2)]
    ]
    names = [f"mine {index}" for index in range(1000)]
    assert decode_predictions(np.eye(1000)[[7]], 1, names) == [
        [("7", "mine 7", 1.0)]
    ]


def test_of_equal_scores_the_first_comes_first_and_nan_last():
    scores = np.array([[np.nan, 0.5, 0.5]])
    decoded = decode_predictions(scores, 3, class_names="abc")
    assert [name for _, name, _ in decoded[0]] == ["b", "c", "a"]


@pytest.mark.every_backend
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_tensors_are_taken_as_arrays_are(dtype):
    scores = keras.ops.cast([[1, 3, 2], [0, -1, 4]], dtype)
    expected = [[("1", "b", 3.0)], [("2", "c", 4.0)]]
    assert decode_predictions(scores, 1, "abc") == expected
    array = np.array([[1, 3, 2], [0, -1, 4]]).astype(
        getattr(ml_dtypes, dtype, dtype)
    )
    assert decode_predictions(array, 1, "abc") == expected


@pytest.mark.parametrize(
    "shape, arguments, message",
    [
        ((1000,), {}, r"shape \(samples, classes\).*Received.*\(1000,\)"),
        ((1, 7), {}, "Received: 7 classes. Pass `class_names`"),
        ((1, 3), {"class_names": "ab"}, "Received: 2 names for 3 classes"),
        ((1, 1000), {"class_names": "ab"}, "Received: 2 names for 1000"),
        ((1, 1000), {"top": 0}, "a positive int.*top=0"),
        ((1, 1000), {"top": 1001}, "from 1 to 1000.*top=1001"),
        ((1, 1000), {"top": 2.0}, "a positive int.*top=2.0"),
        ((1, 3), {"class_names": "abc", "top": 5}, "from 1 to 3.*top=5"),
    ],
)
def test_bad_predictions_are_value_errors(shape, arguments, message):
    with pytest.raises(ValueError, match=message):
        decode_predictions(np.zeros(shape), **arguments)
