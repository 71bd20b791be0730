"""Pages of evaluations, parsed, and compared with what was measured."""

import functools
import json
import os
import re
import shlex
import shutil
import sys
from types import SimpleNamespace

import chromium
import keras
import numpy as np
import pytest
import runs
from conftest import long_where_compiled
from conftest import predict
from PIL import Image
from report_page import Page
from sklearn import metrics
from table_classifier import TableClassifier
from table_classifier import colored
from table_classifier import named
from table_classifier import write

import keras_convnext
from keras_convnext import ConvNeXt
from keras_convnext import recipes
from keras_convnext.data import Arrays
from keras_convnext.data import ImageFolder
from keras_convnext.data import TargetArrays
from keras_convnext.evaluation import write_report
from keras_convnext.evaluation import write_run_report
from keras_convnext.evaluation.pages import examples
from keras_convnext.evaluation.pages import images
from keras_convnext.evaluation.pages import markup
from keras_convnext.evaluation.pages import writing
from keras_convnext.evaluation.pages.choosing import Example
from keras_convnext.evaluation.pages.choosing import losses_of
from keras_convnext.evaluation.pages.content import Content
from keras_convnext.evaluation.run import measured
from keras_convnext.facts.labels import softmax

NAMES = ("ant", "bee", "cat")
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "&lt;b&gt;",
    "\u202egnirts",
    "a\nb\x00c\x1b[31m",
    "$x^{",
    "x" * 5000,
)


def reported(path, model, source, **options):
    """What was measured, and the page."""
    options = {"verbose": False, "examples": 3, **options}
    result = write_report(path, model, source, **options)
    return result, Page(path)


def check_harmless(page):
    """Nothing is asked for, nothing runs, and nothing else may."""
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "form", "a", "base")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert value.startswith("data:")
            assert name not in ("action", "srcset", "background", "style")
    (policy,) = (
        x["content"]
        for tag, x in page.elements
        if x.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(x.strip().split(" ", 1) for x in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert "url(" not in page.text and "@import" not in page.text


# One class for each image


@pytest.fixture(scope="module")
def case():
    """Logits of 3 classes for 60 images, and labels."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 60)
    return generator.normal(size=(60, 3)) + np.eye(3)[labels], labels


def arrays(labels, classes=NAMES):
    pictures = [colored(number) for number in range(len(labels))]
    return Arrays(np.stack(pictures), labels, classes)


@pytest.fixture(scope="module")
def told(case, tmp_path_factory):
    logits, labels = case
    path = tmp_path_factory.mktemp("report") / "r.html"
    model = TableClassifier(logits, named(*NAMES), license="mit")
    return reported(path, model, arrays(labels))


@pytest.mark.once
def test_figures_are_those_that_were_measured(told):
    result, page = told
    check_harmless(page)
    found = page.values["Figures"]
    titles = {
        "top-1": "top1",
        "balanced accuracy": "balanced_accuracy",
        "F1 (macro)": "f1_macro",
        "cross-entropy": "cross_entropy",
        "Brier score": "brier",
        "ECE": "ece",
    }
    assert {*titles} == {x for x in found if x}
    for title, key in titles.items():
        value, *interval = found[title]
        assert value == result.measured[key]
        assert tuple(interval) == result.intervals.get(key, ())
    assert page.rows["Figures"]["top-1"][0].startswith(f"{result.top1:.2%} (")
    subject = page.rows["What was evaluated"]
    assert subject["model"] == ["known"] and subject["license"] == ["mit"]
    assert subject["images"] == ["60"]
    assert "4 × 4 pixels, center 0.5" in subject["preprocessing"][0]
    classes = page.values["Classes"]
    rows = sorted(result.classes, key=lambda x: x["accuracy"])
    assert list(classes)[1:] == [x["class"] for x in rows]
    for row in rows:
        assert classes[row["class"]] == [row["images"], row["accuracy"]]
    assert keras.__version__ in page.rows["To repeat it"]["keras"]
    assert re.search(r"Written 20\d\d-\d\d-\d\dT", page.text)


@pytest.mark.once
def test_the_matrix_is_scikit_learns(case, told):
    logits, labels = case
    rows = page_rows = told[1].rows["Confusion"]
    found = [[int(x or 0) for x in page_rows[name]] for name in NAMES]
    expected = metrics.confusion_matrix(labels, logits.argmax(1))
    np.testing.assert_array_equal(found, expected)
    assert [*rows] == ["true ↓ predicted →", *NAMES]


@pytest.mark.once
def test_images_are_the_surest_mistakes_and_the_least_sure(case, told):
    logits, labels = case
    page = told[1]
    scores, answers = softmax(logits).max(1), logits.argmax(1)
    wrong = [x for x in np.argsort(-scores) if answers[x] != labels[x]]
    for title, numbers in (
        ("Most confident mistakes", wrong),
        ("Most doubtful images", np.argsort(scores)),
    ):
        expected = [
            f"image {x}\ntrue: {NAMES[labels[x]]}\npredicted: "
            f"{NAMES[answers[x]]}\nscore: {scores[x]:.1%}"
            for x in numbers[:3]
        ]
        captions = [
            re.sub(r": \n", ": ", x).strip() for x in page.captions[title]
        ]
        assert captions == expected
        # An exported model has no gradients.
        assert "No Grad-CAM: an exported model" in page.sections[title]
        for (name, image), number in zip(page.pictures[title], numbers):
            assert name == f"image {number}" and image.format == "PNG"
            np.testing.assert_array_equal(np.asarray(image), colored(number))
        assert len(page.pictures[title]) == 3
    (plot,) = page.pictures["Calibration"]
    assert plot[1].width > 300 and f"{told[0].ece:.2%}" in plot[0]


@pytest.mark.once
@pytest.mark.parametrize(
    "options",
    [{"outputs": ["scores"]}, {"classes": 60}],
    ids=["no_scores", "many_classes"],
)
def test_what_there_is_not_is_left_out(case, tmp_path, options):
    logits, labels = case
    names = [f"kind {x}" for x in range(options.get("classes", 3))]
    logits = np.pad(logits, ((0, 0), (0, len(names) - 3)))
    more = {key: x for key, x in options.items() if key == "outputs"}
    model = TableClassifier(logits, named(*names), **more)
    path = tmp_path / "r.html"
    result, page = reported(path, model, arrays(labels, names))
    if len(names) == 3:
        assert "Calibration" not in page.sections
        assert "Most doubtful images" not in page.sections
        assert len(page.captions["Most confident mistakes"]) == 3
        return
    first = result.confused[0]
    rows = page.rows["Confusion"]
    assert rows[first["true"]][-1] and "<td" not in page.text
    counts = [int(x[-1]) for x in list(rows.values())[1:]]
    assert counts == sorted(counts, reverse=True)
    assert "cannot be read" in page.sections["Confusion"]
    assert "40 more" in page.sections["Classes"]


@pytest.mark.once
def test_names_are_text_whatever_they_are(tmp_path):
    logits = np.eye(len(HOSTILE))[::-1]
    model = TableClassifier(
        logits, named(*HOSTILE), model=HOSTILE[0], license=HOSTILE[1]
    )
    source = arrays(np.arange(len(HOSTILE)), HOSTILE)
    _, page = reported(tmp_path / "r.html", model, source, examples=9)
    check_harmless(page)
    for name in HOSTILE[:5]:
        assert name in page.text
    assert r"a\nb\x00c\x1b[31m" in page.text
    assert f"{'x' * 200}…" in page.text and "x" * 201 not in page.text
    assert not any(
        "<" in x for _, attributes in page.elements for x in attributes
    )


@pytest.mark.once
def test_files_of_any_name_are_shown_and_those_unread_are_named(tmp_path):
    photos = tmp_path / "photos"
    names = ('<b>"&.png', os.fsdecode(b"\xff\xfe.png"), "n" * 240 + ".png")
    for number, name in enumerate(names):
        write(photos / NAMES[number] / name, number)
    (photos / "ant" / "<i>.png").write_text("none")
    model = TableClassifier(np.eye(3)[::-1], named(*NAMES))
    with pytest.warns(UserWarning, match="Skipped"):
        result, page = reported(tmp_path / "r.html", model, ImageFolder(photos))
    check_harmless(page)
    assert result.images == 3
    shown = " ".join(page.captions["Most doubtful images"])
    assert '<b>"&.png' in shown and r"\udcff\udcfe.png" in shown
    unread = page.rows["What was evaluated"]
    assert unread["could not be read"] == ["1"]
    assert any(
        "<i>.png" in x and "not an image" in y[0]
        for x, y in unread.items()
        if len(y) == 1
    )


@pytest.mark.once
def test_texts_are_escaped_and_html_is_not():
    found = markup.tag("p", "<&\"'>", markup.tag("i", "x"), title='"<')
    assert found == (
        '<p title="&quot;&lt;">&lt;&amp;&quot;&#x27;&gt;<i>x</i></p>'
    )
    assert markup.readable("\u2028\x85") == r"\u2028\x85"


@pytest.mark.once
def test_pictures_are_small():
    large = Image.fromarray(np.zeros((900, 1200, 3), "uint8"))
    assert images.small(large).size == (224, 168)
    heat = np.array([[0.0, 1.0]])
    pixels = np.full((1, 2, 3), 200, "uint8")
    found = np.asarray(images.over(pixels, heat))
    assert found[0, 0].tolist() == [200] * 3
    assert np.abs(found[0, 1].astype(int) - 200).max() > 10


@pytest.mark.once
def test_what_cannot_be_shown_is_said(case, tmp_path, monkeypatch):
    logits, _ = case
    photos = tmp_path / "photos"
    for number in range(3):
        write(photos / NAMES[number] / f"{number}.png", number)
    model = TableClassifier(logits, named(*NAMES))
    model.model = object()

    def refuse(*_):
        raise ValueError("a model without gradients")

    monkeypatch.setattr(images, "grad_cam", refuse)
    found = measured(model, photos, verbose=False)
    (photos / "ant" / "0.png").unlink()
    with pytest.warns(UserWarning, match="Skipped"):
        writing.write(tmp_path / "r.html", Content(found, verbose=False))
    page = Page(tmp_path / "r.html")
    title = "Most doubtful images"
    assert "No Grad-CAM: a model without gradients." in page.sections[title]
    assert "could not be read again" in page.sections[title]
    assert len(page.captions[title]) == 3 and len(page.pictures[title]) == 2


@pytest.mark.once
def test_images_of_several_parts_are_told_apart():
    source = arrays(np.arange(3))
    parts = {("fog", 1): source, ("snow", 2): source}
    several = SimpleNamespace(
        sources=[*parts.values()], truth=SimpleNamespace(parts=parts)
    )
    example = Example(1, 2, 0, [])
    assert examples.filename(several, example) == "snow/2/image 2"


# Writing


@pytest.mark.once
def test_what_cannot_be_written_is_refused_before_any_work(
    case, tmp_path, monkeypatch
):
    logits, labels = case
    model = TableClassifier(logits, named(*NAMES))
    kept = tmp_path / "kept.html"
    kept.write_text("precious")
    for path, message in (
        (kept, "The file exists: pass `overwrite=True`"),
        (tmp_path / "none" / "r.html", "in a folder that exists"),
        (tmp_path / "r.txt", r"`report` must be a file that ends in .html"),
        (tmp_path, r"`report` must be a file"),
    ):
        with pytest.raises(ValueError, match=message):
            write_report(path, model, arrays(labels))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"keras-convnext\[train\]"):
        write_report(tmp_path / "r.html", model, arrays(labels))
    assert model.seen == [] and kept.read_text() == "precious"
    monkeypatch.undo()

    def fail(*_):
        raise OSError("no page")

    monkeypatch.setattr("keras_convnext.evaluation.pages.writing.page", fail)
    with pytest.raises(OSError, match="no page"):
        reported(kept, model, arrays(labels), overwrite=True)
    assert kept.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [kept]
    monkeypatch.undo()
    reported(kept, model, arrays(labels), overwrite=True)


# Models of this package


def small_model(classes, activation="softmax", **options):
    keras.utils.set_random_seed(3)
    return ConvNeXt(
        *((1,), (8,)),
        patch_size=2,
        input_shape=(8, 8, 3),
        classes=classes,
        classifier_activation=activation,
        head_init_scale=20.0,
        **options,
    )


def pixels(count=9):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, 8, 8, 3), dtype="uint8")


def check_maps(page, title, of):
    """Beside each image is its Grad-CAM."""
    pictures = page.pictures[title]
    assert f"Beside each its Grad-CAM, of {of}" in page.sections[title]
    for (name, image), (other, heat) in zip(pictures[::2], pictures[1::2]):
        assert other == f"Grad-CAM of {name}"
        difference = np.asarray(image).astype(int) - np.asarray(heat)
        assert np.abs(difference).max() > 10
    return [name for name, _ in pictures[::2]]


@long_where_compiled
def test_many_labels_have_their_thresholds_and_worst_images(tmp_path):
    model = small_model([*NAMES], "sigmoid")
    model = recipes.with_sigmoid(model, [0.3, 0.5, 0.8])
    labels = np.random.default_rng(1).integers(0, 2, (9, 3), dtype="uint8")
    source = Arrays(pixels(), labels, NAMES)
    result, page = reported(tmp_path / "r.html", model, source)
    check_harmless(page)
    value, low, high, at_own = page.values["Figures"]["F1 (macro)"][:4]
    assert (value, (low, high)) == (
        result.figures["f1_macro"],
        result.intervals["f1_macro"],
    )
    assert at_own == result.at_thresholds["f1_macro"]
    for row in result.classes:
        keys = ("images", "average_precision", "threshold", "precision")
        found = page.values["Classes"][row["class"]]
        assert found == [row[x] for x in (*keys, "recall", "f1")]
    scores = predict(model, source.images).astype("float64")
    losses = [
        metrics.log_loss(x, y, labels=[0, 1]) for x, y in zip(labels, scores)
    ]
    np.testing.assert_allclose(
        losses_of(labels, scores), losses, rtol=1e-6, atol=0
    )
    worst = np.argsort(-np.array(losses))[:3]
    title = "Worst images"
    names = check_maps(page, title, "the label with the worst score")
    assert names == [f"image {x}" for x in worst]
    true = ", ".join(x for x, y in zip(NAMES, labels[worst[0]]) if y) or "none"
    assert f"true: \n{true}".replace("\n", "") in page.captions[title][
        0
    ].replace("\n", "")
    assert "Calibration" in page.sections and "Confusion" not in page.sections


@long_where_compiled
def test_numbers_have_a_scatter_plot_and_the_largest_errors(tmp_path):
    names = ("a<b", "price in $ of $")
    linear = small_model([*names], None)
    targets = np.random.default_rng(2).normal([5, 100], [1, 30], (9, 2))
    model = recipes.with_units(linear, targets)
    source = TargetArrays(pixels(), targets, names)
    result, page = reported(tmp_path / "r.html", model, source)
    check_harmless(page)
    assert page.values["Figures"]["RMSE"][0] == result.figures["rmse"]
    for row in result.targets:
        values = page.values["Figures"][row["target"]]
        assert values == [row[x] for x in result.figures]
    ((text, plot),) = page.pictures["Predicted against true"]
    assert "Scatter" in text and plot.width > plot.height
    rmse = [row["rmse"] for row in result.targets]
    errors = np.abs(result.predicted - result.true) / rmse
    worst = np.argsort(-errors.max(axis=1))[:3]
    title = "Largest errors"
    assert check_maps(page, title, "what makes the target with") == [
        f"image {x}" for x in worst
    ]
    first = page.captions[title][0].replace("\n", "")
    assert f"a<b, true: {result.true[worst[0], 0]:.4g}" in first


# The command


@pytest.fixture
def run(run_command):
    return functools.partial(run_command, "evaluate")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    model = small_model([*NAMES])
    labels = predict(model, pixels(60)).argmax(1)
    labels[::3] = np.arange(20) % 3  # some of them wrong
    np.savez(folder / "x.npz", images=pixels(60), labels=labels, classes=NAMES)
    model.save(folder / "m.keras")
    return folder


def test_a_command_writes_the_page_beside_its_other_outputs(
    run, files, tmp_path
):
    path = tmp_path / "r.html"
    given = ("--data", files / "x.npz", "--model", files / "m.keras")
    options = ("--report", path, "--calibrate", tmp_path / "c.keras")
    status, printed, said = run(*given, *options)
    assert status == 0, said
    page = Page(path)
    check_harmless(page)
    (command,) = page.rows["To repeat it"]["command"]
    assert f"evaluate --data {files / 'x.npz'} --model" in command
    assert len(page.captions["Most doubtful images"]) == 12
    check_maps(page, "Most confident mistakes", "the predicted class")
    after = page.values["Calibration"]["ECE"]
    assert f"{after[1]:.2%}" in printed
    status, _, said = run(*given, "--report", path)
    assert status == 2 and "pass `--force` to replace" in " ".join(said.split())


@pytest.mark.once
@pytest.mark.parametrize(
    "options, message",
    [
        (("--report", "r.txt"), "`--report` must be a file that ends in"),
        (("--report", "none/r.html"), "in a folder that exists"),
    ],
)
def test_bad_options_end_before_the_work(
    run, tmp_path, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    status, printed, said = run("--data", "d", "--model", "m.keras", *options)
    assert (status, printed) == (2, "")
    assert message in " ".join(said.split())


@long_where_compiled
def test_an_exported_file_has_images_alone(files, tmp_path):
    model = keras.saving.load_model(files / "m.keras")
    keras_convnext.export(model, tmp_path / "m.onnx", verify=False)
    artifact = keras_convnext.open_artifact(tmp_path / "m.onnx")
    result, page = reported(tmp_path / "r.html", artifact, str(files / "x.npz"))
    assert result.file == page.rows["What was evaluated"]["file"][0]
    title = "Most confident mistakes"
    assert len(page.pictures[title]) == 3
    assert "No Grad-CAM: an exported model" in page.sections[title]


@pytest.mark.once
@pytest.mark.skipif(
    not chromium.find(),
    reason="no Chromium is installed: `apt-get install chromium`",
)
def test_a_browser_shows_the_page_and_asks_nobody(case, tmp_path):
    logits, labels = case
    names = [*HOSTILE, *NAMES]
    logits = np.pad(logits, ((0, 0), (0, len(names) - 3)))
    model = TableClassifier(logits, named(*names))
    path = tmp_path / "r.html"
    result, page = reported(path, model, arrays(labels, names))
    with chromium.browser(chromium.find()) as browser:
        for width in (1200, 390):
            browser.open(path.as_uri(), width)
            text = browser.value("document.body.innerText")
            assert f"{result.top1:.2%} (" in text
            assert HOSTILE[0] in text and "Most doubtful images" in text
            wide = browser.value("document.documentElement.scrollWidth")
            assert wide == width
            drawn = "[...document.images].every(x => x.naturalWidth > 0)"
            assert browser.value(drawn)
            asked = [
                x["request"]["url"]
                for x in browser.told("Network.requestWillBeSent")
            ]
            assert path.as_uri() in asked
            assert all(
                x == path.as_uri() or x.startswith("data:") for x in asked
            )
            assert not browser.told(
                *("Log.entryAdded", "Runtime.consoleAPICalled"),
                *("Runtime.exceptionThrown", "Page.javascriptDialogOpening"),
            )
        # It would be told.
        browser.send("Page.setBypassCSP", enabled=False)
        browser.value(
            "document.body.append(new Image()); "
            "document.images[document.images.length - 1].src = "
            "'https://example.org/x.png'; 1"
        )
        browser.value("new Promise(x => setTimeout(x, 50))")
        assert "Content Security Policy" in str(browser.told("Log.entryAdded"))


# Runs


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The output folder of a run, and its data."""
    folder = tmp_path_factory.mktemp("trained")
    data = runs.write_photographs(folder / "data", ((6, 4), (5, 3)))
    runs.new_model().save(folder / "m.keras")
    options = ("--epochs", "2", "--report")
    words = runs.command(data, folder / "m.keras", folder / "run", *options)
    result = runs.invoke(*words)
    assert result.exit_code == 0, result.output
    return folder / "run", data


@long_where_compiled
def test_the_page_of_a_run_tells_its_best_model_on_held_out_images(trained):
    output, _ = trained
    page = Page(output / "report.html")
    check_harmless(page)
    summary = json.loads((output / "run.json").read_text())
    best = summary["best"]["val_accuracy"]
    assert page.values["Figures"]["top-1"][0] == pytest.approx(best)
    assert page.values["Run"]["best val_accuracy"] == [best]
    assert page.rows["Run"]["status"] == ["complete"]
    assert page.rows["Images of the run"]["china"] == ["6", "5"]
    assert page.rows["Images of the run"]["flower"] == ["4", "3"]
    assert "trained on: 10, held out: 8" in page.sections["Images of the run"]
    assert page.rows["Settings"]["recipe.epochs"] == ["2"]
    (command,) = page.rows["To repeat it"]["command"]
    assert command == shlex.join(summary["command"])
    assert len(page.pictures["Curves"]) == 1
    check_maps(page, "Most doubtful images", "the predicted class")


@long_where_compiled
def test_without_held_out_images_there_are_curves_counts_and_settings(
    trained, tmp_path
):
    output, data = trained
    for name in ("run.json", "history.csv"):
        shutil.copy(output / name, tmp_path)
    source = ImageFolder(data / "train")
    page = Page(write_run_report(tmp_path, source, verbose=False))
    check_harmless(page)
    assert [x for x in page.sections if x] == [
        *("Run", "Curves", "Images of the run", "Settings", "To repeat it")
    ]
    assert page.rows["Images of the run"]["china"] == ["6"]


@pytest.mark.once
def test_runs_without_a_page_are_told(run_command, tmp_path):
    source = arrays(np.arange(3))
    with pytest.raises(ValueError, match="the folder of a run"):
        write_run_report(tmp_path, source)
    given = ("train", "--data", "d", "--output", tmp_path, "--report")
    status, _, said = run_command(*given, "--task", "detect")
    assert status == 2 and "`--report` is for `--task` single-label" in said
