"""Scores against scikit-learn, timm and cases counted by hand."""

import importlib.util
import json
import sys
import tracemalloc
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import long_where_compiled
from exported import PHOTOGRAPHS
from exported import pair
from peers import import_timm
from PIL import Image
from sklearn import metrics
from table_classifier import IMAGENET
from table_classifier import SIDE
from table_classifier import TableClassifier
from table_classifier import colored
from table_classifier import linked
from table_classifier import named
from table_classifier import write
from table_classifier import write_validation

import keras_convnext
from keras_convnext.artifacts import open_artifact
from keras_convnext.data import Arrays
from keras_convnext.data import ImageFolder
from keras_convnext.data import Source
from keras_convnext.data import load_digits
from keras_convnext.evaluation import corruptions
from keras_convnext.evaluation import evaluate
from keras_convnext.evaluation import rules
from keras_convnext.evaluation.classifier import Classifier
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.images.preprocessing import load_image_for

pytestmark = pytest.mark.once

WNIDS = [wnid for wnid, _ in IMAGENET]


def scored(model, source, rule="classes", **options):
    return evaluate(model, source, rule, **{"verbose": False, **options})


def colored_arrays(labels, classes=None):
    images = np.stack([colored(number) for number in range(len(labels))])
    return Arrays(images, labels, classes)


def one_hot(answers, outputs):
    """Logits that answer so."""
    return 10.0 * np.eye(outputs)[answers]


def timm_info(name):
    """A data file of timm, which need not be imported for it."""
    (folder,) = importlib.util.find_spec("timm").submodule_search_locations
    return (Path(folder) / "data" / "_info" / name).read_text().split()


@pytest.fixture(scope="module")
def validation(tmp_path_factory):
    return write_validation(tmp_path_factory.mktemp("imagenet"))


@pytest.fixture(scope="module")
def random_case():
    """Logits of 10 classes for 203 images, and labels."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 203)
    logits = generator.normal(size=(203, 10)) + 2 * np.eye(10)[labels]
    return logits, labels


# Figures


def assert_balanced(result, labels, answers, counted=None):
    with warnings.catch_warnings():  # of classes that are answers alone
        warnings.simplefilter("ignore")
        expected = metrics.balanced_accuracy_score(labels, answers)
    assert result.balanced_accuracy == pytest.approx(expected, rel=0, abs=1e-12)
    expected = metrics.f1_score(
        labels, answers, labels=counted, average="macro"
    )
    assert result.f1_macro == pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 32, 500])
def test_figures_are_those_of_scikit_learn(random_case, batch_size):
    logits, labels = random_case
    names = [f"class {index}" for index in range(10)]
    result = scored(
        TableClassifier(logits, named(*names)),
        colored_arrays(labels, names),
        batch_size=batch_size,
        top=3,
        confused=1000,
    )
    answers = logits.argmax(1)
    assert result.images == 203
    assert result.top1 == metrics.accuracy_score(labels, answers)
    assert result.accuracy["top3"] == metrics.top_k_accuracy_score(
        labels, logits, k=3
    )
    exponentials = np.exp(logits)
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    assert result.cross_entropy == pytest.approx(
        metrics.log_loss(labels, probabilities), rel=1e-12
    )
    assert_balanced(result, labels, answers)
    assert [x["class"] for x in result.classes] == names
    np.testing.assert_allclose(
        [x["accuracy"] for x in result.classes],
        metrics.recall_score(labels, answers, average=None),
    )
    found = np.zeros((10, 10), int)
    for x in result.confused:
        found[int(x["true_id"]), int(x["predicted_id"])] = x["count"]
    expected = metrics.confusion_matrix(labels, answers)
    np.testing.assert_array_equal(found, expected - np.diag(np.diag(expected)))
    counts = [x["count"] for x in result.confused]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize(
    "labels, answers",
    [
        ([0, 0, 3], [0, 3, 3]),  # two classes without images, never answered
        ([0, 0, 3], [1, 1, 1]),  # one of them is the only answer
        ([2], [2]),
        ([2], [0]),
        ([0] * 9 + [1], [0] * 10),
    ],
)
def test_rare_and_absent_classes_count_as_in_scikit_learn(labels, answers):
    names = ("a", "b", "c", "d")
    # In another order than the data's, and with an output that is no class.
    order = ("d", "other", "b", "a", "c")
    logits = np.zeros((len(labels), 5))
    for row, answer in zip(logits, answers):
        row[order.index(names[answer])] = 1
    artifact = TableClassifier(logits, named(*order))
    source = colored_arrays(np.array(labels), names)
    result = scored(artifact, source, confused=0)
    assert_balanced(result, labels, answers)
    # What is taken for none of the data's classes is wrong, and no class.
    logits[0] = [0, 2, 0, 0, 0]
    result = scored(artifact, source)
    beyond = [4, *answers[1:]]
    assert_balanced(result, labels, beyond, sorted({*labels, *beyond} - {4}))


def test_the_most_confused_pairs_come_first():
    # Two cats are dogs, one is an ant; one ant is a dog.
    labels, answers = [1, 1, 1, 1, 0, 0, 2], [2, 2, 0, 1, 2, 0, 2]
    result = scored(
        TableClassifier(one_hot(answers, 3), named("ant", "cat", "dog")),
        colored_arrays(labels, ("ant", "cat", "dog")),
        confused=2,
    )
    assert [
        (x["true"], x["predicted"], x["count"]) for x in result.confused
    ] == [("cat", "dog", 2), ("ant", "dog", 1)]
    assert [x["accuracy"] for x in result.classes] == [0.5, 0.25, 1]
    assert [x["images"] for x in result.classes] == [2, 4, 1]
    # All three outputs are among the best five.
    assert result.accuracy == {"top1": 3 / 7}


def test_of_equal_outputs_the_first_is_better():
    # The right one is 3 of 8; before it none, two, and behind it the rest.
    table = np.zeros((3, 8))
    table[1, 6:] = 1
    table[2, 3:] = -1
    result = scored(TableClassifier(table), colored_arrays([3, 3, 3], range(8)))
    # Fourth of equals; sixth, as two are better; fourth again.
    assert result.accuracy == {"top1": 0, "top5": 2 / 3}
    first = scored(TableClassifier(table), colored_arrays([0, 0, 0], range(8)))
    assert first.top1 == 2 / 3


def test_cross_entropy_survives_large_logits():
    table = np.array([[2000.0, 0.0], [0.0, 1000.0]], "float32")
    result = scored(TableClassifier(table), colored_arrays([0, 0], range(2)))
    assert result.cross_entropy == 500


@pytest.mark.parametrize(
    "known", [{"outputs": ["scores"]}, {"activation": "sigmoid"}]
)
def test_without_logits_of_a_softmax_there_is_no_cross_entropy(known):
    artifact = TableClassifier(one_hot([1, 1], 2), **known)
    result = scored(artifact, colored_arrays([0, 1]))
    assert (result.top1, result.cross_entropy) == (0.5, None)
    assert "cross_entropy" not in result.measured


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_are_an_error(bad):
    table = one_hot([0, 1, 0], 2)
    table[2, 0] = bad
    with pytest.raises(ValueError, match="finite. Received.*image 2"):
        scored(TableClassifier(table), colored_arrays([0, 1, 0]))


class Endless(Source):
    """As many images as one likes, none of them in memory."""

    classes = tuple(map(str, range(1000)))
    is_encoded = False

    def __init__(self, count):
        self.labels = np.arange(count, dtype="int32") % 1000

    def read(self, number):
        return colored(number % 1000)

    def name(self, number):
        return str(number)


def test_memory_does_not_grow_with_the_images():
    answers = TableClassifier(np.eye(1000, dtype="float32"))
    answers.seen = type("Forgetful", (), {"append": lambda *_: None})()
    peaks = []
    for count in (500, 500, 5000):
        tracemalloc.start()
        assert scored(answers, Endless(count)).top1 == 1
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # All logits in float64 would be 36 MB more.
    assert peaks[2] - peaks[1] < 2e6


# Classes


def test_classes_are_found_by_name_in_any_order():
    artifact = TableClassifier(
        one_hot([2, 0, 2], 3), named("elk", "ant", "cat")
    )
    result = scored(artifact, colored_arrays([1, 1, 1], ("ant", "cat")))
    assert result.matched_by == "names"
    assert (result.top1, result.outputs) == (2 / 3, 3)
    assert result.confused[0]["predicted"] == "elk"
    assert [x["images"] for x in result.classes] == [0, 3]
    assert result.classes[0]["accuracy"] is None


def test_classes_are_found_by_wordnet_ids_and_numbers():
    answers = [2, 3, 999]
    artifact = TableClassifier(one_hot(answers, 1000), IMAGENET)
    for names, how in (
        ([WNIDS[999], WNIDS[3], WNIDS[2]], "ids"),
        (["toilet_tissue", "tiger_shark", "great_white_shark"], "names"),
        (["999", "3", "2"], "numbers"),
    ):
        result = scored(artifact, colored_arrays([2, 1, 0], names))
        assert (result.matched_by, result.top1) == (how, 1)
        assert result.classes[2] == {
            "class": "great_white_shark",
            "id": "n01484850",
            "images": 1,
            "accuracy": 1,
        }


def test_own_names_that_are_numbers_are_names():
    artifact = TableClassifier(one_hot([0, 1], 3), named("1", "10", "2"))
    result = scored(artifact, colored_arrays([0, 1], ("1", "10")))
    assert (result.matched_by, result.top1) == ("names", 1)


def test_without_names_the_place_counts():
    artifact = TableClassifier(one_hot([0, 0], 2))
    result = scored(artifact, colored_arrays([0, 1], ("cat", "ant")))
    assert (result.matched_by, result.top1) == ("positions", 0.5)
    assert result.confused[0]["true"] == "ant"
    assert result.confused[0]["predicted"] == "cat"


@pytest.mark.parametrize(
    "names, classes, outputs, message",
    [
        (("ant", "yak"), named("ant", "bee"), 2, "'yak' among 2.*'ant', 'bee'"),
        (("katze", "hund"), named("cat", "dog"), 2, "'katze', 'hund' among"),
        (("crane", "tench"), IMAGENET, 1000, "'crane'.*by their ids"),
        (("ant", "bee"), None, 3, "'ant', 'bee' among 2.*3 outputs"),
        (("0", "3"), None, 3, "'3' among 2"),
        # Folders as text: by number or by place?
        (sorted(map(str, range(11))), None, 11, "0, 1, 10, 2, 3….*class_names"),
    ],
)
def test_classes_that_cannot_be_told_are_an_error(
    names, classes, outputs, message
):
    artifact = TableClassifier(np.zeros((2, outputs)), classes)
    with pytest.raises(ValueError, match=message):
        scored(artifact, colored_arrays([0, 1], names))


# ImageNet's own sets


def test_imagenet_takes_all_its_classes(validation, tmp_path):
    answers = np.arange(1000)
    answers[:100] = 999
    artifact = TableClassifier(one_hot(answers, 1000), IMAGENET)
    result = scored(artifact, validation, "imagenet")
    assert (result.images, result.top1) == (1000, 0.9)
    # Three others are among the five by the order of equals.
    assert result.accuracy["top5"] == 0.904
    linked(tmp_path / "few", {x: x for x in WNIDS[:3]}, validation)
    assert scored(artifact, tmp_path / "few").top1 == 0
    with pytest.raises(ValueError, match="has 1000 classes. Received: 3 in"):
        scored(artifact, tmp_path / "few", "imagenet")


def test_the_validation_images_are_taken_where_there_are_some(
    validation, tmp_path
):
    artifact = TableClassifier(one_hot(np.arange(1000), 1000), IMAGENET)
    linked(tmp_path / "train", {x: x for x in WNIDS[:4]}, validation)
    linked(tmp_path / "val", {x: x for x in WNIDS[2:5]}, validation)
    result = scored(artifact, tmp_path)
    assert [x["id"] for x in result.classes] == WNIDS[2:5]


def test_v2_folders_are_class_numbers(validation, tmp_path):
    folders = {str(i): wnid for i, wnid in enumerate(WNIDS)}
    linked(tmp_path / "v2", folders, validation)
    assert ImageFolder(tmp_path / "v2").classes[2] == "10"
    # A model that has the classes, among others, in an order of its own.
    order = np.random.default_rng(0).permutation(1001)
    classes = [["n99999999", "other"], *IMAGENET]
    table = one_hot(np.argsort(order)[1:], 1001)
    artifact = TableClassifier(table, [classes[i] for i in order])
    result = scored(artifact, tmp_path / "v2", "v2")
    assert (result.images, result.top1, result.outputs) == (1000, 1, 1001)
    with pytest.raises(ValueError, match="number from 0 to 999.*'n01440764'"):
        scored(artifact, validation, "v2")
    # One that knows no classes, but has ImageNet's outputs.
    artifact = TableClassifier(one_hot(np.arange(1000), 1000), None)
    result = scored(artifact, tmp_path / "v2", "v2")
    assert (result.top1, result.matched_by) == (1, "numbers")


def test_given_statistics_are_those_that_images_are_normalized_with():
    artifact = TableClassifier(np.eye(2), named("a", "b"), normalizes=False)
    given = Preprocessing((SIDE, SIDE), mean=(0.5,) * 3, std=(0.1,) * 3)
    classifier = Classifier(artifact, given, batch_size=2)
    artifact.run = lambda inputs: (
        artifact.seen.append(inputs) or {"logits": np.eye(2)}
    )
    classifier.logits(np.full((2, SIDE, SIDE, 3), 255, "uint8"))
    np.testing.assert_allclose(artifact.seen[-1], 5.0, rtol=1e-6)


def test_real_labels_score_as_timm_does(validation, tmp_path):
    import_timm()
    from timm.data.real_labels import RealLabelsImagenet

    generator = np.random.default_rng(0)
    labels = [
        generator.integers(0, 20, generator.integers(0, 4)).tolist()
        for _ in range(1000)
    ]
    table = generator.normal(size=(1000, 1000))
    table[:, :20] += 4
    file = tmp_path / "real.json"
    file.write_text(json.dumps(labels))
    artifact = TableClassifier(table, IMAGENET)
    result = scored(artifact, validation, "real", labels=file)

    import torch

    names = [f"ILSVRC2012_val_{i + 1:08d}.JPEG" for i in range(1000)]
    theirs = RealLabelsImagenet(names, file)
    theirs.add_result(torch.from_numpy(table))
    expected = theirs.get_accuracy()
    assert 0.05 < result.top1 < result.accuracy["top5"] < 0.95
    assert result.top1 == pytest.approx(expected[1] / 100, abs=1e-12)
    assert result.accuracy["top5"] == pytest.approx(expected[5] / 100)
    assert result.unlabeled == sum(not each for each in labels)
    assert result.images + result.unlabeled == 1000
    assert result.cross_entropy is None


def test_real_labels_by_hand(validation, tmp_path):
    labels = [[] for _ in range(1000)]
    # Right, right by the second, wrong although the folder says so.
    labels[7], labels[8], labels[9] = [7], [3, 700], [5]
    (tmp_path / "real.json").write_text(json.dumps(labels))
    answers = np.arange(1000)
    answers[8] = 700
    classes = IMAGENET[::-1]  # the model's order is not the labels'
    artifact = TableClassifier(one_hot(999 - answers, 1000), classes)
    result = scored(artifact, validation, "real", labels=tmp_path / "real.json")
    assert (result.images, result.unlabeled) == (3, 997)
    assert result.top1 == 2 / 3
    (mistake,) = result.confused
    assert mistake["true_id"] == mistake["predicted_id"] == WNIDS[9]


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "JSON file of the ReaL labels"),
        ("{", "JSON file of the ReaL labels"),
        ("[1, 2]", "one list of class numbers"),
        ("[[1], [1000]]", "one list of class numbers"),
        ("[[1], [2]]", "go by the names.*ILSVRC2012_val_00000003.JPEG"),
    ],
)
def test_bad_real_labels_are_an_error(validation, tmp_path, content, message):
    artifact = TableClassifier(np.zeros((1000, 1000)), IMAGENET)
    file = tmp_path / "real.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=message):
        scored(artifact, validation, "real", labels=file)


@pytest.mark.parametrize("rule", ["a", "r"])
def test_only_the_200_classes_compete(validation, tmp_path, rule):
    wnids = timm_info(f"imagenet_{rule}_synsets.txt")
    indices = np.array(timm_info(f"imagenet_{rule}_indices.txt"), int)
    folder = linked(tmp_path / rule, {x: x for x in wnids}, validation)
    logits = np.random.default_rng(0).normal(size=(1000, 1000))
    logits[np.arange(1000), np.arange(1000)] += 3
    artifact = TableClassifier(logits, IMAGENET)
    result = scored(artifact, folder, rule)
    kept, right = logits[indices][:, indices], np.arange(200)
    assert (result.images, result.outputs) == (200, 200)
    assert result.top1 == metrics.accuracy_score(right, kept.argmax(1))
    assert result.accuracy["top5"] == metrics.top_k_accuracy_score(
        right, kept, k=5
    )
    exponentials = np.exp(kept)
    assert result.cross_entropy == pytest.approx(
        metrics.log_loss(right, exponentials / exponentials.sum(1)[:, None])
    )

    all_classes = scored(artifact, folder, rule, all_classes=True)
    assert all_classes.outputs == 1000
    answers = logits[indices].argmax(1)
    assert all_classes.top1 == metrics.accuracy_score(indices, answers)
    assert all_classes.top1 < result.top1
    with pytest.raises(ValueError, match="200 classes. Received: 1000"):
        scored(artifact, validation, rule)


def test_a_200_class_set_counted_by_hand(validation, tmp_path):
    """The best output of every image is no class of the set; the best of
    those is right for all but one."""
    wnids = timm_info("imagenet_a_synsets.txt")
    folder = linked(tmp_path / "a", {x: x for x in wnids}, validation)
    indices = [WNIDS.index(wnid) for wnid in wnids]
    outsider = next(i for i in range(1000) if i not in indices)
    table = np.eye(1000)
    table[indices[0], indices[1]] = 2
    table[:, outsider] = 9
    artifact = TableClassifier(table, IMAGENET)
    assert scored(artifact, folder, "a").top1 == 199 / 200
    assert scored(artifact, folder, "a", all_classes=True).top1 == 0


# ImageNet-C, of two classes


@pytest.fixture
def c_of_two_classes(monkeypatch):
    small = rules.replace(rules.RULES["c"], class_count=2)
    monkeypatch.setitem(rules.RULES, "c", small)


def write_corruption(folder, name, wrong, severities=(1, 2, 3, 4, 5)):
    """Four images for each severity, of which `wrong[s - 1]` are wrong."""
    for severity, count in zip(severities, wrong):
        for index in range(4):
            # Class 0 is always answered 0, and class 1 with number 1.
            number = 1 - index % 2 if index < count else index % 2
            target = folder / name / str(severity) / WNIDS[index % 2]
            write(target / f"{index}.png", number)


def write_c(folder, wrong):
    for name in corruptions.ALEXNET_ERRORS:
        write_corruption(folder, name, wrong.get(name, (2, 2, 2, 2, 2)))


TWO = TableClassifier(one_hot([0, 1], 1000), IMAGENET)


def test_mce_by_hand(c_of_two_classes, tmp_path):
    write_c(tmp_path, {"snow": (0, 1, 1, 2, 4), "fog": (0, 0, 0, 0, 0)})
    result = scored(TWO, tmp_path, "c")
    assert result.images == 15 * 5 * 4
    rows = {row["corruption"]: row for row in result.corruptions}
    assert len(rows) == 15
    assert rows["snow"]["errors"] == {
        "1": 0, "2": 0.25, "3": 0.25, "4": 0.5, "5": 1
    }  # fmt: skip
    assert rows["snow"]["error"] == 0.4
    # 0.4 / 0.866816, 0.5 / 0.886428
    assert rows["snow"]["ce"] == pytest.approx(46.1459, abs=1e-4)
    assert rows["gaussian_noise"]["ce"] == pytest.approx(56.4061, abs=1e-4)
    assert rows["fog"]["ce"] == 0
    # In the order of the facts: noise, blur, weather, digital.
    alexnet = [
        *(0.886428, 0.894468, 0.922640),
        *(0.819880, 0.826268, 0.785948, 0.798360),
        *(0.866816, 0.826572, 0.819324, 0.564592),
        *(0.853204, 0.646056, 0.717840, 0.606500),
    ]
    errors = [0.5] * 7 + [0.4, 0.5, 0.0, 0.5] + [0.5] * 4
    ratios = [100 * a / b for a, b in zip(errors, alexnet)]
    assert result.mce == pytest.approx(sum(ratios) / 15, rel=1e-12)
    # 13 × 50 %, 40 % and none.
    assert result.top1 == pytest.approx(1 - (13 * 0.5 + 0.4) / 15)
    assert result.preprocessing.crop_pct == 1
    assert not result.applies_exif


def test_alexnet_has_an_mce_of_100():
    errors = {
        (name, severity): error * (0.8 + severity * 0.2 / 3)
        for name, error in corruptions.ALEXNET_ERRORS.items()
        for severity in corruptions.SEVERITIES
    }
    rows, mce = corruptions.summary(errors)
    assert [row["ce"] for row in rows] == pytest.approx([100] * 15)
    assert mce == pytest.approx(100)


def test_archives_may_stay_apart(c_of_two_classes, tmp_path):
    write_c(tmp_path / "all", {})
    for name in corruptions.ALEXNET_ERRORS:
        target = tmp_path / "apart" / name[0] / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / name).rename(target)
    assert scored(TWO, tmp_path / "apart", "c").mce > 0


def test_a_missing_corruption_is_named(c_of_two_classes, tmp_path):
    write_c(tmp_path, {})
    (tmp_path / "frost" / "4").rename(tmp_path / "frost" / "six")
    with pytest.raises(ValueError, match=r"without frost/4 \(1 of 75"):
        scored(TWO, tmp_path, "c")
    result = scored(TWO, tmp_path, "c", partial=True)
    assert result.mce is None
    assert "mce" not in result.measured
    rows = {row["corruption"]: row for row in result.corruptions}
    assert rows["frost"]["ce"] is None
    assert list(rows["frost"]["errors"]) == ["1", "2", "3", "5"]
    assert rows["snow"]["ce"] is not None
    (tmp_path / "frost").rename(tmp_path / "cold")
    assert len(scored(TWO, tmp_path, "c", partial=True).corruptions) == 14
    with pytest.raises(ValueError, match="75 of 75 missing"):
        scored(TWO, tmp_path / "cold", "c", partial=True)


def test_corruptions_have_the_same_classes(c_of_two_classes, tmp_path):
    write_c(tmp_path, {})
    odd = tmp_path / "snow" / "2" / WNIDS[1]
    odd.rename(odd.with_name(WNIDS[5]))
    with pytest.raises(ValueError, match="'snow/2' with 2"):
        scored(TWO, tmp_path, "c")


def test_c_takes_a_folder_and_all_classes(tmp_path):
    with pytest.raises(ValueError, match="the folder of ImageNet-C"):
        scored(TWO, colored_arrays([0, 1]), "c")
    write_c(tmp_path, {})
    with pytest.raises(ValueError, match="has 1000 classes. Received: 2"):
        scored(TWO, tmp_path, "c")


# Images


def test_bad_images_are_named_and_do_not_count(tmp_path):
    for number in range(6):
        write(tmp_path / "ab"[number % 2] / f"{number}.png", number)
    bad = tmp_path / "a" / "2.png"
    bad.write_bytes(bad.read_bytes()[:40])
    artifact = TableClassifier(one_hot([0, 1, 1, 0, 0, 1], 2), named("a", "b"))
    with pytest.warns(UserWarning, match="2.png"):
        result = scored(artifact, tmp_path, batch_size=2)
    assert list(result.unreadable) == [str(bad)]
    assert (result.images, result.top1) == (5, 0.8)
    assert [x["images"] for x in result.classes] == [2, 3]


def test_none_that_can_be_read_is_an_error(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"no image")
    artifact = TableClassifier(np.zeros((2, 2)), named("a", "b"))
    with (
        pytest.warns(UserWarning, match="x.png"),
        pytest.raises(ValueError, match="None of 2 images.*x.png"),
    ):
        scored(artifact, tmp_path)


@long_where_compiled
def test_images_are_those_of_the_weights_preprocessing(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, image in zip("ab", PHOTOGRAPHS):
        (tmp_path / name).mkdir()
        Image.fromarray(image).save(tmp_path / name / "x.png", exif=exif)
    model = keras_convnext.ConvNeXt(
        (1,), (8,), patch_size=4, input_shape=(32, 32, 3), classes=2
    )
    own = model.preprocessing
    squash = rules.replace(own, crop_mode="squash", crop_pct=1.0)
    paths = [tmp_path / name / "x.png" for name in "ab"]
    predicted = {}
    for preprocessing, apply_exif in (
        (own, True),
        (own, False),
        (squash, False),
    ):
        images = np.stack(
            [load_image_for(preprocessing, x, apply_exif) for x in paths]
        )
        scores = keras.ops.convert_to_numpy(model(images))
        expected = -np.log(scores[[0, 1], [0, 1]].astype("float64")).mean()
        predicted[preprocessing, apply_exif] = expected
        options = {"preprocessing": preprocessing, "apply_exif": apply_exif}
        if (preprocessing, apply_exif) == (own, True):
            options = {}
        result = scored(model, tmp_path, **options)
        assert result.cross_entropy == pytest.approx(expected, abs=1e-6)
        assert result.preprocessing == preprocessing
        assert result.applies_exif == apply_exif
    assert np.ptp(list(predicted.values())) > 1e-4
    lying = scored(model, ImageFolder(tmp_path, is_upright=False))
    assert lying.cross_entropy == pytest.approx(predicted[own, False], abs=1e-6)


def test_benchmarks_ignore_exif(validation):
    artifact = TableClassifier(np.zeros((1000, 1000)), IMAGENET)
    result = scored(artifact, ImageFolder(validation), "imagenet")
    assert not result.applies_exif
    assert scored(artifact, validation, "sketch", apply_exif=True).applies_exif


@long_where_compiled
def test_gray_digits():
    (_, _), (images, labels) = load_digits()
    model = keras_convnext.ConvNeXt(
        *((1,), (8,)),
        patch_size=1,
        input_shape=(8, 8, 1),
        mean=0.3,
        std=0.35,
        classes=10,
        head_init_scale=50,
    )
    scores = model.predict(images, verbose=0).astype("float64")
    scores /= scores.sum(1, keepdims=True)
    result = scored(model, "digits")
    assert (result.images, result.matched_by) == (359, "numbers")
    assert result.top1 == metrics.accuracy_score(labels, scores.argmax(1))
    assert result.cross_entropy == pytest.approx(
        metrics.log_loss(labels, scores, labels=range(10)),
        abs=1e-4,
    )


def test_images_of_another_shape_are_an_error():
    images = np.zeros((2, SIDE + 1, SIDE, 1), "uint8")
    artifact = TableClassifier(np.zeros((2, 2)), named(*"ab"), channels=1)
    with pytest.raises(ValueError, match="shape"):
        scored(artifact, Arrays(images, [0, 1], "ab"))


# Models and options


@pytest.fixture(scope="module")
def trained_like():
    """A model with names whose answers depend on the image."""
    keras.utils.set_random_seed(1)
    model = keras_convnext.ConvNeXt(
        (1,),
        (8,),
        patch_size=4,
        input_shape=(32, 32, 3),
        classes=7,
        head_init_scale=50,
        name="small",
    )
    model.class_names = "abcdefg"
    return model


@pytest.fixture(scope="module")
def pieces():
    """Pieces of photographs, of any class."""
    generator = np.random.default_rng(0)
    corners = generator.integers(0, 390, (70, 2))
    images = [
        PHOTOGRAPHS[i % 2][y : y + 32, x : x + 32]
        for i, (y, x) in enumerate(corners)
    ]
    return Arrays(np.stack(images), np.arange(70) % 7, "abcdefg")


@long_where_compiled
@pytest.mark.parametrize(
    "name",
    [
        "m.keras",
        "m.onnx",
        pytest.param("m.tflite", marks=pytest.mark.long),
        pytest.param("folder", marks=pytest.mark.long),
    ],
)
def test_every_artifact_gives_the_same_numbers(
    trained_like, pieces, name, tmp_path
):
    expected = scored(trained_like, pieces)
    path = tmp_path / name
    if path.suffix == ".keras":
        trained_like.save(path)
    else:
        format = None if path.suffix else "saved_model"
        keras_convnext.export(
            trained_like, path, format, verify=False, verbose=False
        )
    result = scored(open_artifact(path), pieces)
    assert 0 < result.top1 < result.accuracy["top5"] < 1
    assert result.cross_entropy == pytest.approx(
        expected.cross_entropy, abs=1e-4
    )
    for field in ("model", "accuracy", "classes", "confused", "preprocessing"):
        assert getattr(result, field) == getattr(expected, field)
    if path.suffix == ".keras":
        return
    flipped = scored(trained_like, pieces, tta="flip").cross_entropy
    result = scored(open_artifact(path), pieces, tta="flip")
    assert result.cross_entropy == pytest.approx(flipped, abs=1e-4)
    assert abs(flipped - expected.cross_entropy) > 1e-3


@long_where_compiled
def test_a_folder_scores_as_with_timm(tmp_path):
    """timm's transform, PyTorch's model and loss, timm's accuracy."""
    import_timm()
    import torch
    from timm.data import create_transform
    from timm.utils import accuracy

    model, peer = pair("v1")
    model.class_names = [f"class {index:02}" for index in range(11)]
    generator = np.random.default_rng(0)
    paths, labels = [], []
    for label, name in enumerate(model.class_names):
        (tmp_path / name).mkdir()
        for index in range(3):
            y, x = generator.integers(0, 200, 2)
            image = PHOTOGRAPHS[index % 2][y : y + 150, x : x + 90 + 20 * label]
            paths.append(tmp_path / name / f"{index}.jpg")
            labels.append(label)
            Image.fromarray(image).save(paths[-1])
    transform = create_transform(64, crop_pct=0.875, interpolation="bicubic")
    batch = torch.stack(
        [transform(Image.open(path).convert("RGB")) for path in paths]
    )
    labels = torch.tensor(labels)
    with torch.no_grad():
        logits = peer.eval()(batch)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    top1, top5 = accuracy(logits, labels, (1, 5))

    result = scored(model, tmp_path, batch_size=10)
    assert 0 < result.top1 < result.accuracy["top5"] < 1
    assert result.top1 == pytest.approx(float(top1) / 100)
    assert result.accuracy["top5"] == pytest.approx(float(top5) / 100)
    assert result.cross_entropy == pytest.approx(float(loss), abs=1e-4)


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="needs TensorFlow"
)
def test_no_tensorflow_is_needed(validation, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    artifact = TableClassifier(np.eye(1000), IMAGENET)
    assert scored(artifact, validation).top1 == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rule": "imagnet"}, "Did you mean imagenet"),
        ({"rule": "real"}, "real.json"),
        ({"labels": "real.json"}, "`labels` is of another rule"),
        ({"rule": "v2", "all_classes": True}, "`all_classes` is of another"),
        ({"rule": "a", "partial": True}, "`partial` is of another"),
        ({"batch_size": 0}, "`batch_size` must be a positive int"),
        ({"top": 0.5}, "`top` must be a positive int"),
    ],
)
def test_bad_options_are_an_error(options, message):
    artifact = TableClassifier(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=message):
        scored(artifact, colored_arrays([0, 1]), **options)


def test_bad_models_are_an_error(trained_like):
    source = colored_arrays([0, 1])
    features = keras.Model(trained_like.input, trained_like.layers[3].output)
    wrong_size = rules.replace(trained_like.preprocessing, image_size=(8, 8))
    for model, preprocessing, message in (
        ("model.keras", None, "open_artifact"),
        (features, None, "with its classifier"),
        (
            TableClassifier(np.eye(2), preprocessing=None),
            None,
            "preprocessing=",
        ),
        (TableClassifier(np.eye(2)), wrong_size, "images of its own size"),
    ):
        with pytest.raises(ValueError, match=message):
            scored(model, source, preprocessing=preprocessing)


def test_sources_that_are_none_are_an_error(tmp_path):
    artifact = TableClassifier(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="folder or a `Source`"):
        scored(artifact, [np.zeros((4, 4, 3))])
    with pytest.raises(ValueError, match="nowhere"):
        scored(artifact, tmp_path / "nowhere")


# Reports


def published(validation, rule, tta=None, **known):
    known = {"model": "convnext_tiny", "weights": "fb_in1k", **known}
    artifact = TableClassifier(np.eye(1000), IMAGENET, **known)
    return scored(artifact, validation, rule, tta=tta).published


def test_published_figures_stand_beside(validation, tmp_path):
    expected = {
        "top1": pytest.approx(0.82066, abs=1e-4),
        "top5": pytest.approx(0.95854, abs=2e-4),
        "source": "ImageNet-1k at 224 pixels",
    }
    assert published(validation, "imagenet") == expected
    assert published(validation, "classes") == expected
    assert published(validation, "imagenet", weights="mine.keras") is None
    # Robustness: arXiv:2201.03545, table 8.
    assert published(validation, "sketch")["top1"] == pytest.approx(0.338)
    assert published(validation, "sketch", model="convnext_nano") is None
    linked(tmp_path / "few", {x: x for x in WNIDS[:3]}, validation)
    assert published(tmp_path / "few", "classes") is None
    own = TableClassifier(
        np.eye(1000), named(*WNIDS), model="convnext_tiny", weights="fb_in1k"
    )
    assert scored(own, validation).published is None


def test_other_readings_have_no_published_figures(
    c_of_two_classes, validation, tmp_path
):
    artifact = TableClassifier(
        np.eye(1000), IMAGENET, model="convnext_tiny", weights="fb_in1k"
    )
    wnids = timm_info("imagenet_a_synsets.txt")
    linked(tmp_path / "a", {x: x for x in wnids}, validation)
    assert scored(artifact, tmp_path / "a", "a").published["top1"] == 0.242
    other = scored(artifact, tmp_path / "a", "a", all_classes=True)
    assert other.published is None
    write_c(tmp_path / "c", {})
    assert scored(artifact, tmp_path / "c", "c").published["mce"] == 53.2
    (tmp_path / "c" / "fog").rename(tmp_path / "c" / "mist")
    part = scored(artifact, tmp_path / "c", "c", partial=True)
    assert part.published is None


def test_reports_are_json_and_come_back(random_case):
    logits, labels = random_case
    result = scored(TableClassifier(logits), colored_arrays(labels))
    values = result.as_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["preprocessing"]["image_size"] == [SIDE, SIDE]
    assert values["accuracy"]["top1"] == result.top1


def test_reports_are_printed(capsys):
    names = ("[red]ant", "bee :bee:", "cat")
    artifact = TableClassifier(
        one_hot([0, 1, 1], 3),
        named(*names),
        weights="fb_in1k",
        license="mit",
        quantization="int8",
    )
    scored(artifact, colored_arrays([0, 1, 2], names)).print()
    printed = capsys.readouterr().out
    for text in (
        "known, int8 (fb_in1k, mit)",
        "own classes: 3 images of 3 classes, found by names among 3 outputs",
        "66.67%",
        "[red]ant",
        "bee :bee:",
        "4×4, center 0.5, bicubic, EXIF applied",
    ):
        assert text in printed


def test_a_report_of_c_has_mce_only_when_whole(
    c_of_two_classes, tmp_path, capsys
):
    write_c(tmp_path, {})
    scored(TWO, tmp_path, "c").print()
    printed = capsys.readouterr().out
    assert "mCE" in printed and "jpeg_compression" in printed
    (tmp_path / "frost").rename(tmp_path / "cold")
    scored(TWO, tmp_path, "c", partial=True).print()
    printed = capsys.readouterr().out
    assert "mCE" not in printed and "CE" in printed
    assert "Part of ImageNet-C" in printed


def test_published_figures_are_printed(validation, capsys):
    artifact = TableClassifier(
        np.eye(1000), IMAGENET, model="convnext_tiny", weights="fb_in1k"
    )
    scored(artifact, validation, "imagenet").print()
    printed = capsys.readouterr().out
    assert "published (ImageNet-1k at 224" in printed
    assert "82.0" in printed and "100.00%" in printed
    assert "great_white_shark (n01484850)" in printed
