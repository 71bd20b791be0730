"""Probes beside scikit-learn by hand, and the features that they are given."""

import functools
import json
import warnings

import keras
import numpy as np
import pytest
from conftest import long_where_compiled
from conftest import predict
from scipy import stats
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.model_selection import PredefinedSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import Pipeline
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.preprocessing import normalize
from table_classifier import TableClassifier
from test_evaluation import colored_arrays
from test_intervals import scipys

import keras_convnext
from keras_convnext import evaluation
from keras_convnext.cli import probe as command
from keras_convnext.data import Arrays
from keras_convnext.data import Subset
from keras_convnext.data import TargetArrays
from keras_convnext.evaluation import features
from keras_convnext.evaluation import probes
from keras_convnext.evaluation.runner import Runner
from keras_convnext.facts.variants import Variant
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.models import construction

TRAIN, TEST = 160, 40
# Exact in float32, in which features are kept.
PIXELS, LABELS = datasets.load_digits(return_X_y=True)
PIXELS, LABELS = PIXELS[: TRAIN + TEST], LABELS[: TRAIN + TEST]


def sources(labels=LABELS, groups=None):
    """Images whose features are their rows in a table."""
    source = colored_arrays(np.asarray(labels), range(10))
    source.groups = groups
    rows = np.arange(len(labels))
    return Subset(source, rows[:TRAIN]), Subset(source, rows[TRAIN:])


def probed(table=PIXELS, parts=None, **options):
    model = TableClassifier(table, outputs=["features"])
    parts = parts or sources()
    return evaluation.probe(model, *parts, verbose=False, **options)


@pytest.fixture(scope="module")
def found():
    return probed(neighbors=7)


@pytest.fixture
def quick(monkeypatch):
    """Two strengths in place of seven."""
    monkeypatch.setattr(probes, "STRENGTHS", (0.01, 1.0))


@pytest.fixture
def fits(monkeypatch):
    """The rows of each `fit` and `predict` of a pipeline, by their numbers."""
    number_of = {row.tobytes(): number for number, row in enumerate(PIXELS)}
    assert len(number_of) == len(PIXELS)
    seen = []

    def spied(name, method):
        def spy(self, vectors, *args):
            seen.append((name, {number_of[x.tobytes()] for x in vectors}))
            return method(self, vectors, *args)

        return spy

    for name in ("fit", "predict"):
        method = getattr(Pipeline, name)
        monkeypatch.setattr(Pipeline, name, spied(name, method))
    return seen


@pytest.mark.once
def test_the_linear_probe_is_scikit_learns(fits):
    linear = probed(only=["linear"]).linear
    (_, first), (_, held_out) = fits[:2]
    fold = [0 if number in held_out else -1 for number in range(TRAIN)]
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        {"logisticregression__C": probes.STRENGTHS},
        cv=PredefinedSplit(fold),
    ).fit(PIXELS[:TRAIN], LABELS[:TRAIN])
    (strength,) = search.best_params_.values()
    assert linear["strength"] == strength
    assert [x["accuracy"] for x in linear["strengths"]] == pytest.approx(
        search.cv_results_["mean_test_score"], abs=1e-12
    )
    right = search.predict(PIXELS[TRAIN:]) == LABELS[TRAIN:]
    assert linear["accuracy"] == pytest.approx(right.mean(), abs=1e-12)
    assert linear["interval"] == pytest.approx(scipys(right * 1.0), abs=1e-12)
    assert linear["converged"] and linear["held_out"] == len(held_out)
    # A fifth of each class.
    counts = np.bincount(LABELS[[*held_out]], minlength=10)
    expected = np.round(0.2 * np.bincount(LABELS[:TRAIN]))
    assert counts.tolist() == expected.tolist()
    assert first == {*range(TRAIN)} - held_out


@pytest.mark.once
def test_no_test_image_is_seen_before_the_strength_is_chosen(fits):
    found = probed(only=["linear"])
    *choosing, (fit, fitted_on), (last, measured) = fits
    assert [name for name, _ in choosing] == ["fit", "predict"] * 7
    kinds = {name: [x for y, x in choosing if y == name] for name, _ in fits}
    (held_out,) = {frozenset(x) for x in kinds["predict"]}
    (learned,) = {frozenset(x) for x in kinds["fit"]}
    assert held_out | learned == {*range(TRAIN)} and not held_out & learned
    assert (fit, fitted_on) == ("fit", {*range(TRAIN)})
    assert (last, measured) == ("predict", {*range(TRAIN, TRAIN + TEST)})
    # Other test images change the accuracy alone.
    labels = np.append(LABELS[:TRAIN], (LABELS[TRAIN:] + 1) % 10)
    fits.clear()
    other = probed(parts=sources(labels), only=["linear"])
    assert other.linear["strengths"] == found.linear["strengths"]
    assert other.linear["accuracy"] < 0.2 < 0.8 < found.linear["accuracy"]


@pytest.mark.once
def test_neighbors_vote_as_in_the_paper(found):
    known, asked = normalize(PIXELS[:TRAIN]), normalize(PIXELS[TRAIN:])
    answers = []
    for row in asked @ known.T:
        nearest = np.argsort(-row)[:7]
        votes = np.zeros(10)
        np.add.at(votes, LABELS[:TRAIN][nearest], np.exp(row[nearest] / 0.07))
        answers.append(votes.argmax())
    right = answers == LABELS[TRAIN:]
    assert found.knn["accuracy"] == pytest.approx(right.mean(), abs=1e-12)
    assert found.knn["interval"] == pytest.approx(scipys(right * 1.0))
    assert found.knn["neighbors"] == 7
    # All images where there are fewer.
    parts = Subset(sources()[0], np.arange(12)), sources()[1]
    few = probed(parts=parts, only=["knn"])
    assert few.knn["neighbors"] == 12 and few.linear is few.few_shot is None


@pytest.mark.once
def test_votes_of_the_near_weigh_more():
    """Two far neighbors of the wrong class, and a near one of the right."""
    table = np.array([[1, 0], [0, 1], [0, 1], [1, 0.3]] + [[1, 0]] * 2, float)
    parts = colored_arrays([0, 1, 1, 0, 0, 1], range(2))
    train, test = Subset(parts, [0, 1, 2]), Subset(parts, [3, 4])
    found = probed(table, (train, test), only=["knn"])
    assert found.knn["accuracy"] == 1
    plain = KNeighborsClassifier(3, metric="cosine")
    plain.fit(table[:3], [0, 1, 1])
    assert plain.predict(table[3:5]).tolist() == [1, 1]


@pytest.mark.once
def test_few_shots_are_nearest_means(found):
    known, asked = normalize(PIXELS[:TRAIN]), normalize(PIXELS[TRAIN:])
    labels = LABELS[:TRAIN]
    assert [x["images_per_class"] for x in found.few_shot] == [1, 5, 10]
    for row in found.few_shot:
        count = row["images_per_class"]
        expected = []
        for draw in range(10):
            generator = np.random.default_rng([0, count, draw])
            rows = np.concatenate(
                [
                    generator.permutation(np.flatnonzero(labels == x))[:count]
                    for x in range(10)
                ]
            )
            model = KNeighborsClassifier(1) if count == 1 else NearestCentroid()
            with warnings.catch_warnings():
                # Of pixels that are always 0, which shrink nothing here.
                warnings.simplefilter("ignore")
                model.fit(known[rows], labels[rows])
            right = model.predict(asked) == LABELS[TRAIN:]
            expected.append(right.mean())
        assert row["draws"] == pytest.approx(expected, abs=1e-12)
        assert row["accuracy"] == pytest.approx(np.mean(expected), abs=1e-12)
        interval = stats.ttest_1samp(expected, 0).confidence_interval(0.95)
        assert row["interval"] == pytest.approx(tuple(interval), abs=1e-12)
        assert row["fewer"] == []
    accuracies = [x["accuracy"] for x in found.few_shot]
    assert accuracies == sorted(accuracies) and accuracies[0] > 0.3


@pytest.mark.once
def test_the_same_seed_gives_the_same(found):
    again = {**probed(neighbors=7).as_dict(), "seconds": found.seconds}
    assert again == found.as_dict()
    other = probed(only=["few_shot"], seed=1, shots=[5])
    assert other.few_shot[0]["draws"] != found.few_shot[1]["draws"]
    # Whatever else is asked for.
    alone = probed(only=["few_shot"], shots=[5])
    assert alone.few_shot[0] == found.few_shot[1]
    single = probed(only=["few_shot"], shots=[5], draws=1)
    assert single.few_shot[0]["interval"] is None
    assert single.few_shot[0]["draws"] == found.few_shot[1]["draws"][:1]


@pytest.mark.once
def test_fits_that_do_not_converge_say_so(monkeypatch, capsys):
    monkeypatch.setattr(probes, "ITERATIONS", 16)
    monkeypatch.setattr(probes, "STRENGTHS", (1e-9, 0.1))
    found = probed(only=["linear"])
    assert [x["converged"] for x in found.linear["strengths"]] == [True, False]
    assert found.linear["strength"] == 0.1 and not found.linear["converged"]
    said = capsys.readouterr().err
    assert "C = 0.1 did not converge in 16 iterations" in said
    assert "compared as they were: those of C = 0.1\n" in said
    found.print()
    assert "linear, C = 0.1, not converged" in capsys.readouterr().out


@pytest.mark.once
def test_groups_stay_whole_and_are_drawn_together(fits, quick):
    groups = np.arange(TRAIN + TEST) // 10
    found = probed(parts=sources(groups=groups), only=["linear"])
    (_, fitted_on), (_, held_out) = fits[:2]
    assert not {x // 10 for x in fitted_on} & {x // 10 for x in held_out}
    assert found.bootstrap["method"].endswith("over groups")
    plain = probed(only=["linear"])
    assert plain.bootstrap["method"].endswith("over images")


@pytest.mark.once
def test_classes_with_few_images_are_told(capsys):
    """Of the nine there are four images, and of all others one."""
    numbers = [*np.unique(LABELS, return_index=True)[1]]
    numbers += [*np.flatnonzero(LABELS == 9)[1:4]]
    train, test = sources()
    found = probed(parts=(Subset(train, numbers), test), shots=[1, 3])
    assert [len(x["fewer"]) for x in found.few_shot] == [0, 9]
    said = capsys.readouterr().err
    assert "fewer than 3 images all are taken, those of '0'" in said
    alone = (Subset(train, numbers[:10]), test)
    found = probed(parts=alone, only=["linear"])
    assert found.linear["strength"] == 1 and found.linear["strengths"] == []
    said = capsys.readouterr().err
    assert "No class can spare an image to choose a strength on" in said


@pytest.mark.once
def test_what_has_no_classes_or_no_features_is_refused():
    images = np.zeros((4, 4, 4, 3), "uint8")
    many = Arrays(images, [[1, 0], [0, 1], [1, 1], [0, 0]])
    numbers = TargetArrays(images, np.arange(4.0))
    for source, word in ((many, "many labels"), (numbers, "numbers")):
        with pytest.raises(ValueError, match=f"with {word}. Train a model on"):
            probed(parts=(source, None))
    with pytest.raises(ValueError, match="must have the same classes"):
        probed(parts=(sources()[0], Arrays(images, [0, 1, 0, 1])))
    with pytest.raises(ValueError, match="Every class needs images"):
        probed(parts=(Subset(sources()[0], [0, 1, 2]), sources()[1]))
    with pytest.raises(ValueError, match="Export it again with `features="):
        evaluation.probe(TableClassifier(PIXELS), *sources())
    maps = PIXELS.reshape(-1, 8, 8, 1)
    with pytest.raises(ValueError, match=r"shape \(8, 8, 1\) from 'known'"):
        probed(maps)
    with pytest.raises(ValueError, match="`only` must be one of"):
        probed(only=["fewshot"])
    with pytest.raises(ValueError, match="Each of `shots` must be a positive"):
        probed(shots=[5, 0])
    with pytest.raises(ValueError, match="must be finite. Received: NaN"):
        probed(np.where(np.arange(200)[:, None] == 7, np.nan, PIXELS))


# Features.


def digits(count=24):
    source = keras_convnext.data.splits.open_data("digits")
    return Subset(source, np.arange(count))


def variant(head="pool_norm", hidden=None):
    return Variant(
        *("tiny", (1,), (6,), (3,)),
        patch_size=2,
        head=head,
        head_hidden_size=hidden,
    )


def tiny(head="pool_norm", hidden=None, **options):
    """A model with random numbers in place of the norms' ones and zeros."""
    model = construction.build(
        variant(head, hidden),
        **{"weights": None, "input_shape": (8, 8, 1), **options},
        mean=0.3,
        std=0.35,
    )
    generator = np.random.default_rng(0)
    for layer in model.layers:
        values = [generator.normal(size=x.shape) for x in layer.weights]
        layer.set_weights(values)
    return model


def features_of(model, source, size=(8, 8)):
    artifact = features.artifact_of_features(model)
    preprocessing = artifact.preprocessing.at_size(size)
    runner = Runner(artifact, preprocessing, batch_size=10)
    return features.computed(runner, source, "features", False).vectors


@pytest.mark.parametrize(
    "head, hidden", [("pool_norm", None), ("norm_pool", 5), ("pool_norm", 5)]
)
def test_features_are_the_classifiers_input(head, hidden):
    """Of models with it, pooled ones, and maps of the same weights."""
    source = digits()
    whole = tiny(head, hidden, classes=3)
    bare = {"include_top": False}
    models = [whole]
    for pooling in ("avg", None):
        models.append(tiny(head, hidden, pooling=pooling, **bare))
        for layer in models[-1].layers:
            layer.set_weights(whole.get_layer(layer.name).get_weights())
    expected = predict(
        keras.Model(whole.input, whole.get_layer("head_classifier").input),
        np.stack([source.read(x) for x in range(24)]),
    )
    for model in models:
        layers = len(model.layers)
        vectors = features_of(model, source)
        assert vectors.dtype == "float32"
        np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-5)
        # The model stays as it was.
        assert len(model.layers) == layers
        assert predict(model, np.zeros((1, 8, 8, 1))).shape[0] == 1


def test_maps_of_any_size_and_layout_are_pooled():
    shape = (None, None, 3)
    options = {"input_shape": shape, "data_format": "channels_last"}
    model = tiny_rgb(**options)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), "uint8")
    source = Arrays(images, [0, 1, 0, 1])
    first = tiny_rgb(input_shape=shape[::-1], data_format="channels_first")
    first.set_weights(model.get_weights())
    expected = predict(model, images.astype("float32")).mean(axis=(1, 2))
    for same in (model, first):
        vectors = features_of(same, source)
        np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-5)


def tiny_rgb(**options):
    return construction.build(
        variant("norm_pool"), weights=None, include_top=False, **options
    )


def test_pixels_tell_digits_better_than_a_random_encoder():
    """And that better than chance: the same images are seen in order."""
    images = keras.Input((8, 8, 1))
    pixels = keras.Model(images, keras.layers.Flatten()(images))
    model = keras_convnext.ConvNeXt(
        *((1, 1), (8, 16)),
        **{"patch_size": 2, "input_shape": (8, 8, 1), "include_top": False},
        **{"mean": 0.3, "std": 0.35, "weights": None},
    )
    as_it_is = Preprocessing((8, 8), mean=(0.0,), std=(1.0,))
    source = keras_convnext.data.splits.open_data("digits")
    train, test = Subset(source, range(300)), Subset(source, range(300, 400))
    of = functools.partial(evaluation.probe, only=["knn"], verbose=False)
    best = of(pixels, train, test, preprocessing=as_it_is)
    random = of(model, train, test)
    known, asked = (
        np.stack([x.read(i).ravel() for i in range(len(x))]) / np.float32(255)
        for x in (train, test)
    )
    by_hand = KNeighborsClassifier(
        20, metric="cosine", weights=lambda x: np.exp((1 - x) / 0.07)
    ).fit(known.astype("float64"), train.labels)
    score = by_hand.score(asked.astype("float64"), test.labels)
    assert best.knn["accuracy"] == pytest.approx(score, abs=1e-12)
    assert best.features == 64 and random.features == 16
    assert 0.15 < random.knn["accuracy"] < best.knn["accuracy"] - 0.2


def test_models_without_one_vector_are_refused():
    images = keras.Input((8, 8, 1))
    maps = keras.layers.Conv2D(2, 1)(images)
    both = [maps, keras.layers.Flatten()(images)]
    logits = keras.layers.Dense(3)(both[1])
    for outputs in (maps, both, logits):
        with pytest.raises(ValueError, match="Pass its part up to the feat"):
            features.artifact_of_features(keras.Model(images, outputs))
    with pytest.raises(ValueError, match="Pass `preprocessing=`"):
        evaluation.probe(keras.Model(images, both[1]), "digits")


# The command.


@pytest.fixture
def run(run_command):
    return functools.partial(run_command, "probe")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, and digits with and without an own part to measure on."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("probe")
    tiny(include_top=False).save(folder / "encoder.keras")
    source = digits(80)
    images = np.stack([source.read(x) for x in range(80)])
    np.savez(folder / "all.npz", images=images, labels=source.labels)
    return folder


@long_where_compiled
def test_figures_are_printed_and_written(run, folder, tmp_path):
    file = tmp_path / "probe.json"
    arguments = (
        *("--data", folder / "all.npz", "--model", folder / "encoder.keras"),
        *("--output", file, "--validation-split", 0.25, "--seed", 3),
        *("--shots", 2, "--shots", 3, "--draws", 4, "--neighbors", 5),
        *("--only", "knn", "--only", "few_shot", "--batch-size", 16),
    )
    status, printed, _ = run(*arguments, "--json")
    values = json.loads(printed)
    assert status == 0 and json.loads(file.read_text()) == values
    train, test = keras_convnext.data.open_splits(
        folder / "all.npz", None, 0.25, 3
    )
    expected = evaluation.probe(
        keras.saving.load_model(folder / "encoder.keras"),
        *(train, test),
        **{"only": ("knn", "few_shot"), "shots": (2, 3), "draws": 4},
        **{"neighbors": 5, "seed": 3, "verbose": False},
    )
    others = {"seconds": values["seconds"], "file": values["file"]}
    assert values == {**expected.as_dict(), **others}
    assert values["file"] == str(folder / "encoder.keras")
    assert values["linear"] is None and values["seconds"] > 0
    status, _, said = run(*arguments)
    assert status == 2 and "pass --force" in said
    status, printed, _ = run(*arguments, "--force")
    for text in (
        f"{len(train)} training and {len(test)} test images of 10 classes",
        "6 features each",
        "5 nearest neighbors",
        "3 images per class, 4 draws",
        f"{expected.knn['accuracy']:.2%}",
    ):
        assert text in printed


@pytest.mark.once
def test_a_name_is_a_model_without_its_classifier(monkeypatch):
    def load(*args, **options):
        return args, options

    monkeypatch.setattr(command, "load_model", load)
    assert command._features_of("convnextv2_atto", "fcmae", False) == (
        ("convnextv2_atto", "fcmae"),
        {"include_top": False, "pooling": "avg"},
    )
    with pytest.raises(ValueError, match="The file must exist"):
        command._features_of("none.onnx", "none", False)


LISTED = "path,label,part,patient\n" + "".join(
    f"{i}.png,{'ab'[i % 2]},{x},{i // 2}\n"
    for i, x in enumerate(4 * ["train"] + 4 * ["val"] + 4 * ["test"])
)


@pytest.mark.once
def test_a_split_of_a_list_is_measured_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").write_text(LISTED)
    for number in range(12):
        (tmp_path / f"{number}.png").touch()
    columns = dict.fromkeys(
        ("path_column", "label_column", "split_column", "group_column")
    )
    columns.update(split_column="part", group_column="patient")
    opened = functools.partial(command._opened, "list.csv")
    for split, first in ((None, 4), ("test", 8), ("Val", 4)):
        train, test = opened(None, 0.1, 0, split, columns)
        assert [train.filename(i) for i in range(4)] == [
            f"{i}.png" for i in range(4)
        ]
        assert test.filename(0) == f"{first}.png" and len(test) == 4
        assert test.groups is not None
    for arguments, message in (
        ((None, 0.1, 0, "train"), "Expected a split to learn from"),
        ((None, 0.1, 0, "dev"), "`split` must be one of"),
        (("other.csv", 0.1, 0, "test"), "Leave one of them out"),
    ):
        with pytest.raises(ValueError, match=message):
            opened(*arguments, columns)
    with pytest.raises(ValueError, match="`split` is for lists"):
        command._opened("digits", None, 0.1, 0, "test", dict.fromkeys(columns))


@pytest.mark.once
@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--data", "digits", "--only", "all"), "`--only` must be one of"),
        (("--data", "digits", "--output", "no/x.json"), "in a folder that"),
        (("--data", "digits", "--split", "test"), "`--split` is for lists"),
        (("--data", "objects.json"), "Arrange the images in a folder for"),
    ],
)
def test_bad_options_end_before_the_model(
    arguments, message, run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    coco = {"images": [], "annotations": [], "categories": []}
    (tmp_path / "objects.json").write_text(json.dumps(coco))
    monkeypatch.setattr(
        command, "_features_of", lambda *_: TableClassifier(PIXELS)
    )
    status, printed, said = run(*arguments)
    assert (status, printed) == (2, "") and message in said
