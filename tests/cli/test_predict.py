"""`keras-convnext predict`, from the arguments to the exit status."""

import json
import re

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from PIL import Image
from sklearn import datasets

import keras_convnext
from keras_convnext import recipes
from keras_convnext._util.progress import progress
from keras_convnext.data import ImageFolder
from keras_convnext.facts.labels import label_set
from keras_convnext.images import views
from keras_convnext.images.folders import SUFFIXES
from keras_convnext.images.preprocessing import load_image_for

pytestmark = LONG_WHERE_COMPILED

NAMES = ["ant", "bee", "cat", "dog", "elk"]
PHOTOGRAPHS = datasets.load_sample_images().images


@pytest.fixture
def run(predict_command):
    return predict_command


@pytest.fixture
def run_json(run):
    def run_json(*arguments):
        status, printed, _ = run(*arguments, "--json")
        assert status == 0
        return json.loads(printed)

    return run_json


@pytest.fixture
def photos(tmp_path):
    """Five images in a folder and one below it, and what is no image."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    names = ("a.png", "b.PNG", "c.jpg", "more/a.webp", "more/b.Jpeg")
    for index, name in enumerate(names):
        pixels = np.roll(PHOTOGRAPHS[index % 2], 60 * index, axis=1)
        Image.fromarray(pixels[:, : 300 + 50 * index]).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def tiny(class_names=NAMES, **arguments):
    arguments = {"classes": 5, "input_shape": (32, 32, 3), **arguments}
    model = keras_convnext.ConvNeXt(
        (1,), (8,), patch_size=4, weights=None, head_init_scale=50, **arguments
    )
    if class_names:
        model.class_names = class_names
    return model


def save(model, path):
    model.save(path)
    return path


@pytest.fixture
def saved(tmp_path):
    return save(tiny(), tmp_path / "tiny.keras")


def scores_of(model, path):
    image = load_image_for(model.preprocessing, path)
    return keras.ops.convert_to_numpy(model(image[None], training=False))[0]


def scores_in(result):
    return [entry["score"] for entry in result["predictions"]]


@pytest.mark.every_backend
def test_files_get_their_best_classes_and_scores(run, photos, tmp_path):
    model = tiny()
    file = save(model, tmp_path / "tiny.keras")
    paths = [photos / "c.jpg", photos / "a.png"]
    status, printed, errors = run(*paths, "--model", file, "--top", 2)
    assert (status, errors) == (0, "")
    lines = printed.splitlines()
    assert [lines[0], lines[3]] == [str(path) for path in paths]
    for path, block in zip(paths, (lines[1:3], lines[4:6])):
        scores = scores_of(model, path)
        best = np.argsort(-scores)[:2]
        for line, index in zip(block, best):
            score, name, identifier = line.split()
            assert float(score) == pytest.approx(scores[index], abs=1e-4)
            assert (name, identifier) == (NAMES[index], f"({index})")


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_json_and_any_batch_size_say_the_same(
    run_json, photos, saved, batch_size
):
    model = keras.saving.load_model(saved)
    results = run_json(photos, "--model", saved, "--batch-size", batch_size)
    assert len(results) == 5
    for result in results:
        scores = scores_of(model, result["image"])
        order = np.argsort(-scores)
        assert result["predictions"] == [
            {
                "class": NAMES[index],
                "id": str(index),
                "score": pytest.approx(scores[index], abs=1e-5),
            }
            for index in order
        ]


def test_folders_and_patterns_are_sorted_and_without_repeats(
    run_json, photos, saved
):
    def images(*arguments):
        results = run_json(*arguments, "--model", saved)
        return [result["image"] for result in results]

    names = ("a.png", "b.PNG", "c.jpg", "more/a.webp", "more/b.Jpeg")
    everything = [str(photos / name) for name in names]
    assert images(photos) == everything
    assert images(photos / "[ac].*") == [everything[0], everything[2]]
    assert images(photos / "m*") == everything[3:]
    assert images(photos / "**" / "a.*") == [everything[0], everything[3]]
    assert images(everything[2], photos)[:2] == [everything[2], everything[0]]
    assert len(images(everything[2], photos)) == 5
    odd = photos / "odd[1].png"
    odd.write_bytes((photos / "a.png").read_bytes())
    assert images(odd) == [str(odd)]


def test_folders_hold_the_same_images_for_all(run, saved, tmp_path):
    """What Pillow reads of these; others are told of, once."""
    image = Image.fromarray(PHOTOGRAPHS[0][:40, :40])
    for name in ("ant", "bee"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for ending in SUFFIXES:
            image.save(tmp_path / "data" / name / f"a{ending}")
        for ending in (".heic", ".heic", ".txt"):
            (tmp_path / "data" / name / f"{name}{ending}").touch()
    told = r"4 files? ignored in .*data.*: \.heic, \.txt"
    with pytest.warns(UserWarning, match=told) as warned:
        source = ImageFolder(tmp_path / "data")
    assert len(warned) == 1
    assert len(source) == 2 * len(SUFFIXES) and source.ignored == 4
    status, printed, said = run(tmp_path / "data", "--model", saved, "--json")
    assert status == 0 and len(json.loads(printed)) == len(source)
    (line,) = said.splitlines()
    assert re.match(f"warning: {told}", line)


def test_bad_images_are_reported_and_the_rest_go_on(run, photos, saved):
    broken, missing = photos / "b.PNG", photos / "z.png"
    broken.write_bytes(broken.read_bytes()[:1000])
    arguments = (photos, missing, "--model", saved, "--batch-size", 2)
    status, printed, errors = run(*arguments)
    assert status == 1
    assert [x for x in printed.splitlines() if x[0] != " "] == [
        str(photos / name)
        for name in ("a.png", "c.jpg", "more/a.webp", "more/b.Jpeg")
    ]
    ignored, first, second = errors.splitlines()
    assert ignored.startswith("warning: 1 file ignored")
    assert str(broken) in first
    assert str(missing) in second and "does not exist" in second

    status, printed, _ = run(*arguments, "--json")
    assert status == 1
    results = json.loads(printed)
    failed = {x["image"]: x["error"] for x in results if "error" in x}
    assert list(failed) == [str(broken), str(missing)]
    assert str(broken) in failed[str(broken)]
    assert sum("predictions" in x for x in results) == 4
    model = keras.saving.load_model(saved)
    for result in results:
        if "predictions" in result:
            best = scores_of(model, result["image"]).max()
            assert scores_in(result)[0] == pytest.approx(best, abs=1e-5)


def test_a_whole_batch_of_bad_images_fails_alone(run, tmp_path, saved):
    status, printed, errors = run(
        *(tmp_path / name for name in "ab"), "--model", saved
    )
    assert (status, printed) == (1, "")
    assert len(errors.splitlines()) == 2


def test_nothing_to_do_is_a_usage_error(run, tmp_path):
    (tmp_path / "empty").mkdir()
    for argument in (tmp_path / "empty", tmp_path / "*.png"):
        # The model does not exist: images are looked for first.
        status, printed, errors = run(argument, "--model", "no.keras")
        assert (status, printed) == (2, "")
        assert f"Received: {str(argument)!r}" in errors
    assert run()[0] == 2


@pytest.mark.parametrize(
    "name, message",
    [
        ("convnext_tiiny", "Did you mean convnext_tiny"),
        ("missing.keras", "missing.keras"),
    ],
)
def test_unknown_models_are_usage_errors(run, photos, name, message):
    status, printed, errors = run(photos, "--model", name)
    assert (status, printed) == (2, "")
    assert message in errors and "Traceback" not in errors


@pytest.mark.parametrize(
    "option", [("--top", 0), ("--batch-size", 0), ("--top", "many")]
)
def test_bad_options_are_usage_errors(run, photos, saved, option):
    assert run(photos, "--model", saved, *option)[0] == 2


@pytest.mark.parametrize("kind", ["features", "vectors", "gray", "other"])
def test_models_of_another_kind_are_usage_errors(run, photos, tmp_path, kind):
    if kind == "other":
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    else:
        arguments = {
            "features": {"include_top": False},
            "vectors": {"include_top": False, "pooling": "avg"},
            "gray": {"input_shape": (8, 8, 1), "mean": 0.5, "std": 0.5},
        }
        model = tiny(class_names=None, **arguments[kind])
    file = save(model, tmp_path / "other.keras")
    status, _, errors = run(photos, "--model", file)
    assert status == 2
    assert "classifies RGB images. Received" in errors
    assert "other.keras" in errors


def test_models_that_differ_in_form_alone_agree(run_json, photos, tmp_path):
    plain = tiny()
    expected = run_json(
        photos, "--model", save(plain, tmp_path / "plain.keras")
    )
    scores = [score for result in expected for score in scores_in(result)]
    assert np.ptp(scores) > 0.1
    for arguments in (
        {"classifier_activation": None},
        {"include_preprocessing": False},
        {"data_format": "channels_first", "input_shape": (3, 32, 32)},
        {"layer_prefix": "left_", "classifier_activation": None},
    ):
        model = tiny(**arguments)
        model.set_weights(plain.get_weights())
        file = save(model, tmp_path / "other.keras")
        for result, other in zip(expected, run_json(photos, "--model", file)):
            assert scores_in(other) == pytest.approx(
                scores_in(result), abs=1e-5
            )


def test_without_names_the_label_set_or_the_index_is_used(
    run_json, photos, tmp_path
):
    image = photos / "a.png"
    for classes in (1000, 7):
        model = tiny(class_names=None, classes=classes)
        file = save(model, tmp_path / "nameless.keras")
        (result,) = run_json(image, "--model", file, "--top", 10)
        best = np.argsort(-scores_of(model, image))[:10]
        labels = [
            label_set(1000)[i] if classes == 1000 else (str(i), str(i))
            for i in best
        ]
        assert [(x["id"], x["class"]) for x in result["predictions"]] == labels


def test_photographs_are_turned_upright_unless_told_otherwise(
    run_json, tmp_path, saved
):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, pixels, options in (
        ("turned.png", PHOTOGRAPHS[0], {"exif": exif}),
        ("upright.png", np.rot90(PHOTOGRAPHS[0], -1), {}),
        ("lying.png", PHOTOGRAPHS[0], {}),
    ):
        image = Image.fromarray(np.ascontiguousarray(pixels))
        image.save(tmp_path / name, **options)

    def scores(name, *options):
        return scores_in(
            run_json(tmp_path / name, "--model", saved, *options)[0]
        )

    assert scores("turned.png") == scores("upright.png")
    assert scores("turned.png", "--exif") == scores("upright.png")
    assert scores("turned.png", "--no-exif") == scores("lying.png")
    assert scores("lying.png") != scores("upright.png")


@pytest.mark.parametrize("tta", ["flip", "five-crop"])
def test_scores_may_be_means_over_views(tta, run, run_json, photos, saved):
    model = keras.saving.load_model(saved)
    images = photos / "c.jpg", photos / "a.png"
    options = ("--model", saved, "--tta", tta, "--top", 5)
    results = run_json(*images, *options)
    for result in results:
        batch = views.of_image(tta, model.preprocessing, result["image"])
        scores = keras.ops.convert_to_numpy(model(batch)).mean(axis=0)
        found = {int(x["id"]): x["score"] for x in result["predictions"]}
        expected = dict(enumerate(scores.tolist()))
        assert found == pytest.approx(expected, abs=1e-5)
    status, _, errors = run(*images, "--model", saved, "--tta", "ten")
    assert status == 2 and "`tta` must be one of" in errors


def test_models_by_name_get_the_weights_asked_for(run, photos, monkeypatch):
    asked = []

    def create_model(name, weights):
        asked.append((name, weights))
        return tiny()

    monkeypatch.setattr(keras_convnext, "create_model", create_model)
    assert run(photos)[0] == 0
    status, _, errors = run(
        photos, "--model", "convnext_atto", "--weights", "w.keras"
    )
    assert status == 0 and "random" not in errors
    status, printed, errors = run(photos, "--weights", "none", "--json")
    assert status == 0
    assert len(json.loads(printed)) == 5
    assert "weights are random" in errors
    assert asked == [
        ("convnext_tiny", "imagenet"),
        ("convnext_atto", "w.keras"),
        ("convnext_tiny", None),
    ]


def test_a_terminal_shows_progress_beside_the_output(
    run, photos, saved, monkeypatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")
    status, printed, errors = run(photos, "--model", saved, "--json")
    assert status == 0
    assert len(json.loads(printed)) == 5
    assert "predicting" in errors


@pytest.mark.parametrize("verbose", [True, False])
def test_progress_is_left_out_if_asked(verbose, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("working", 2, verbose=verbose) as advance:
        advance()
    assert ("working" in capsys.readouterr().err) is verbose


def test_help_has_examples(run):
    printed = " ".join(run("--help")[1].split())
    assert "keras-convnext predict cat.jpg photos" in printed
    assert "--no-exif" in printed


@pytest.mark.every_backend
def test_many_labels_are_those_that_reach_their_thresholds(
    run, run_json, photos, tmp_path
):
    model = tiny(classifier_activation="sigmoid")
    paths = [photos / "c.jpg", photos / "a.png"]
    scores = [scores_of(model, path) for path in paths]
    # So that one image has two labels, and the other perhaps none.
    least = np.full(5, 1.0)
    best = np.argsort(-scores[0])[[0, 3]]
    least[best] = scores[0][best] - 1e-4
    recipes.with_sigmoid(model, least.tolist())
    file = save(model, tmp_path / "tags.keras")
    results = run_json(*paths, "--model", file)
    for result, row in zip(results, scores):
        order = [x for x in np.argsort(-row) if row[x] >= least[x]]
        found = [entry["class"] for entry in result["predictions"]]
        assert found == [NAMES[x] for x in order]
    assert scores_in(results[0]) == pytest.approx(scores[0][best], abs=1e-5)
    assert (
        len(run_json(paths[0], "--model", file, "--top", 1)[0]["predictions"])
        == 1
    )
    assert (
        len(
            run_json(paths[0], "--model", file, "--threshold", 0)[0][
                "predictions"
            ]
        )
        == 5
    )
    status, printed, _ = run(paths[0], "--model", file, "--threshold", 1)
    assert (status, "no label reaches" in printed) == (0, True)


def test_thresholds_are_for_many_labels(run, photos, saved):
    status, _, errors = run(photos, "--model", saved, "--threshold", 0.5)
    assert status == 2 and "models of many labels" in errors, errors
