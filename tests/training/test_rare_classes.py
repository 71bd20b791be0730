"""Classes that weigh more, and scores in which all count alike."""

import io
import re
import warnings

import keras
import numpy as np
import pytest
import torch
from conftest import long_where_compiled
from gradients import assert_same
from gradients import of_torch
from gradients import value_and_gradient
from sklearn import metrics
from sklearn.utils import compute_class_weight
from test_multi_label_losses import sample
from torch.nn import functional as F

from keras_convnext import ConvNeXt
from keras_convnext import recipes
from keras_convnext.data import Arrays
from keras_convnext.training.class_scores import scores_of
from keras_convnext.training.class_table import class_table
from keras_convnext.training.recipes.losses import PositiveWeightedCrossEntropy
from keras_convnext.training.recipes.objective import ClassCounts

WEIGHTS = (0.5, 20.0, 0.0, 3.0, 1.0, 0.1, 7.0)
RECIPE = recipes.small_data.replace(drop_path_rate=0.0, image_size=8)

NUMBERS = {"loss": "huber", "label_smoothing": 0.0}


def one_hot():
    _, logits = sample("labels")
    classes = np.array([1, 0, 2, 6, 1])
    return np.eye(7, dtype="float32")[classes], logits


def test_weighted_softmax_is_pytorchs():
    labels, logits = one_hot()
    weights = torch.tensor(WEIGHTS)
    mixed = 0.7 * labels + 0.3 * labels[::-1]

    def without_smoothing(x, y):
        # Of distributions its mean is one over images.
        return F.cross_entropy(x, y, weights)

    for y in (labels, mixed):
        loss = recipes.SoftTargetCrossEntropy(class_weights=WEIGHTS)
        expected = of_torch(without_smoothing, y, logits)
        assert_same(value_and_gradient(loss, y, logits), expected)

    def smoothed(x, y):
        # PyTorch's own weights would weigh what is spread, too.
        of_class = [
            F.cross_entropy(
                x,
                y * 0 + torch.eye(7)[c],
                label_smoothing=0.2,
                reduction="none",
            )
            for c in range(7)
        ]
        return (torch.stack(of_class, 1) * weights * y).sum(1).mean()

    loss = recipes.SoftTargetCrossEntropy(0.2, class_weights=WEIGHTS)
    for y in (labels, mixed):
        expected = of_torch(smoothed, y, logits)
        assert_same(value_and_gradient(loss, y, logits), expected)
    numbers = labels.argmax(-1).astype("int32")
    assert float(loss(numbers, logits)) == pytest.approx(
        float(loss(labels, logits)), rel=1e-6
    )


@pytest.mark.parametrize("kind", ["labels", "none", "mixed", "sure"])
def test_weights_of_many_labels_are_pytorchs(kind):
    labels, logits = sample(kind)
    theirs = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(WEIGHTS))
    smooth = 0.9 * labels + np.float32(0.05)
    for y, smoothing in ((labels, 0.0), (smooth, 0.1)):
        expected = of_torch(theirs, y, logits)
        loss = PositiveWeightedCrossEntropy(WEIGHTS, smoothing)
        assert_same(value_and_gradient(loss, labels, logits), expected)


def test_weighted_losses_are_saved_with_their_weights():
    for loss in (
        recipes.SoftTargetCrossEntropy(0.1, class_weights=WEIGHTS),
        PositiveWeightedCrossEntropy(WEIGHTS, 0.1),
    ):
        copy = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(loss)
        )
        assert copy.get_config() == loss.get_config()
        assert copy.class_weights == list(WEIGHTS)


def small(classes=3):
    return ConvNeXt(
        (1,),
        (4,),
        patch_size=4,
        input_shape=(8, 8, 3),
        classes=classes,
        classifier_activation=None,
        name="small",
    )


def source_of(labels, classes=("cat", "dog", "fox")):
    images = np.zeros((len(labels), 8, 8, 3), "uint8")
    return Arrays(images, np.asarray(labels), classes)


RARE = source_of([0] * 12 + [1] * 3 + [2])


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_a_recipe_weighs_the_classes_of_its_data(mixup):
    recipe = RECIPE.replace(mixup_alpha=mixup, class_weight_exponent=1.0)
    assert recipe.smooths_in_loss  # which then weighs none of it
    model = recipe.compile(small(), 2, data=RARE)
    expected = compute_class_weight(
        "balanced", classes=np.arange(3), y=RARE.labels
    )
    np.testing.assert_allclose(
        model.loss.class_weights, expected, rtol=1e-12, atol=0
    )
    assert model.loss.label_smoothing == recipe.label_smoothing
    given = RECIPE.replace(class_weights={"fox": 9.0, "cat": 0.5})
    assert given.for_model("convnext_tiny").class_weights["fox"] == 9
    assert "9 (fox), 0.5 (cat)" in str(given)
    model = given.compile(small(), 2, data=RARE)
    assert model.loss.class_weights == [0.5, 1.0, 9.0]
    many = recipes.multi_label.replace(
        drop_path_rate=0.0, class_weight_exponent=0.5
    )
    tags = source_of([[1, 0, 0]] * 8 + [[1, 1, 1]] * 2)
    model = many.compile(small(), 2, data=tags)
    assert model.loss.class_weights == pytest.approx([0.1**0.5, 2.0, 2.0])


@long_where_compiled
def test_fit_learns_with_weights_what_keras_does_with_its_own():
    """Keras weighs images by the class number, of which it takes no mean."""
    recipe = RECIPE.replace(label_smoothing=0.0, warmup_epochs=0.5, epochs=2)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (16, 8, 8, 3)).astype("float32")
    weights = {"cat": 0.5, "dog": 2.0, "fox": 6.0}
    ends = []
    for ours in (True, False):
        keras.utils.set_random_seed(1)
        model = small()
        changes = {"class_weights": weights} if ours else {}
        recipe.replace(**changes).compile(model, 2, data=RARE)
        options = {} if ours else {"class_weight": dict(enumerate((0.5, 2, 6)))}
        model.fit(
            *(images, RARE.labels),
            batch_size=8,
            epochs=2,
            verbose=0,
            **options,
        )
        ends.append(model.get_weights())
    for found, expected in zip(*ends):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.once
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"loss": "focal", "class_weight_exponent": 1}, "'focal' weighs every"),
        (
            {"loss": "asymmetric", "class_weights": {"cat": 2}},
            "take loss='binary', or draw .* `class_sampling_exponent`",
        ),
        (
            {**NUMBERS, "class_weight_exponent": 0.5},
            "'huber' is for numbers .* `class_weights` out$",
        ),
        (
            {**NUMBERS, "class_sampling_exponent": 0.5},
            "`class_sampling_exponent` must be 0 with loss='huber'",
        ),
        ({"class_weights": {}}, "must be a dict from names .*={}"),
        ({"class_weights": [1, 2]}, r"must be a dict from names .*\[1, 2\]"),
        ({"class_weights": {0: 1.0}}, "must be a dict from names"),
        ({"class_weights": {"cat": -1.0}}, "Each of `class_weights` must be"),
        (
            {"class_weights": {"cat": 2}, "class_weight_exponent": 1},
            "Leave one of them out",
        ),
    ],
)
def test_weights_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RECIPE.replace(**changes)


@pytest.mark.parametrize(
    "weights, options, message",
    [
        ({"cat": 2}, {}, "no `data`. .*pass `data=source` to"),
        ({"cat": 2}, {"loss": "mse", "data": RARE}, "a loss of your own"),
        ({"cta": 2}, {"data": RARE}, "name classes of the data.* 'cta', and 3"),
        (
            dict.fromkeys(RARE.classes, 0),
            {"data": RARE},
            "some class to learn.*all 3 classes",
        ),
        (
            {"cat": 2},
            {"data": source_of([0, 1], ("cat", "dog"))},
            "2 classes for 'small' with 3 outputs",
        ),
    ],
)
def test_weights_must_fit_the_data(weights, options, message):
    recipe = RECIPE.replace(class_weights=weights)
    with pytest.raises(ValueError, match=message):
        recipe.compile(small(), 2, **options)


def confusions():
    """Labels, logits and what is odd about them."""
    generator = np.random.default_rng(0)
    for classes in (2, 5, 12):
        labels = generator.integers(0, classes, 60)
        yield labels, generator.normal(size=(60, classes)), "random"
    ties = np.zeros((9, 4))
    yield generator.integers(0, 4, 9), ties, "all scores alike"
    logits = generator.normal(size=(30, 5))
    yield generator.integers(0, 3, 30), logits, "classes without images"
    logits[:, 1:] -= 9
    yield generator.integers(1, 5, 30), logits, "one answer, never right"
    yield np.array([2]), logits[:1], "one image"
    yield np.array([0]), logits[:1], "one image, which is right"


@pytest.mark.parametrize("case", [*confusions()], ids=lambda x: x[2])
def test_scores_are_those_of_scikit_learn(case):
    labels, logits, _ = case
    best = logits.argmax(-1)
    counter = ClassCounts(logits.shape[1])
    half = len(labels) // 2
    soft = 0.8 * np.eye(logits.shape[1])[labels[half:]] + 0.01
    for y, x in ((labels[:half], logits[:half]), (soft, logits[half:])):
        if len(x):
            counter.update_state(y.astype("float32"), x.astype("float32"))
    # What fills up a batch is of no class.
    counter.update_state(np.array([logits.shape[1]]), logits[:1])
    assert counter.result() == {}
    found = scores_of(*map(keras.ops.convert_to_numpy, counter.variables))
    with warnings.catch_warnings():  # of classes that are predicted alone
        warnings.simplefilter("ignore")
        expected = {
            "balanced_accuracy": metrics.balanced_accuracy_score(labels, best),
            "f1_macro": metrics.f1_score(labels, best, average="macro"),
        }
    assert found == pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.once
def test_without_images_there_is_no_score():
    scores = scores_of(*np.zeros((3, 4)))
    assert all(np.isnan(x) for x in scores.values())


def printed(table):
    from rich.console import Console

    console = Console(width=100, file=io.StringIO())
    console.print(table)
    lines = console.file.getvalue().splitlines()
    return [re.split(r" *[│┃] *", x)[1:-1] for x in lines if x[0] in "│┃"]


@pytest.mark.once
def test_the_table_counts_every_class():
    rows = printed(class_table(RARE, source_of([2, 0, 0]), RECIPE))
    assert rows == [
        ["class", "images", "held out"],
        ["cat", "12", "2"],
        ["dog", "3", "0"],
        ["fox", "1", "1"],
    ]
    recipe = RECIPE.replace(
        class_weight_exponent=1.0, class_sampling_exponent=1.0
    )
    rows = printed(class_table(RARE, None, recipe))
    assert rows[0] == ["class", "images", "weight", "drawn per epoch"]
    assert rows[3] == ["fox", "1", "5.33", "5"]
    tags = source_of([[0, 0, 0], [0, 1, 1], [0, 1, 0]])
    recipe = recipes.multi_label.replace(class_sampling_exponent=1.0)
    rows = printed(class_table(tags, tags, recipe))
    assert rows[1:] == [
        ["dog", "2", "2", "2"],
        ["fox", "1", "1", "2"],
        ["cat", "0", "0", "0"],
        ["(no label)", "1", "1", ""],
    ]


@pytest.mark.once
def test_of_many_classes_the_most_and_the_least_are_shown():
    counts = np.arange(30, 0, -1)
    names = [f"c{x}" for x in range(30)]
    many = source_of(np.repeat(range(30), counts), names)
    recipe = RECIPE.replace(class_weight_exponent=1.0)
    rows = printed(class_table(many, None, recipe))[1:]
    assert len(rows) == 20
    assert [x[0] for x in rows[8:13]] == ["c8", "c9", "… 11 more", "c21", "c22"]
    assert rows[10][1] == str(counts[10:21].sum())
    weights = 465 / 30 / counts[[10, 20]]
    assert rows[10][2] == f"{weights[0]:.3g} to {weights[1]:.3g}"
    assert sum(int(x[1]) for x in rows) == len(many)
    few = source_of(np.repeat(range(20), 2), names[:20])
    rows = printed(class_table(few, None, RECIPE))[1:]
    assert [x[0] for x in rows] == names[:20]
