"""Temperatures beside PyTorch's minimum, in models and in what they become."""

import functools
import json

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import long_where_compiled
from conftest import predict
from PIL import Image
from scipy import optimize
from sklearn import metrics
from sklearn.model_selection import StratifiedGroupKFold
from table_classifier import TableClassifier
from table_classifier import named
from test_evaluation import colored_arrays

import keras_convnext
from keras_convnext import evaluation
from keras_convnext import recipes
from keras_convnext.cli import calibrating
from keras_convnext.data import Arrays
from keras_convnext.evaluation import temperature
from keras_convnext.evaluation.calibrating import network_of
from keras_convnext.facts.labels import sigmoid
from keras_convnext.facts.labels import softmax
from keras_convnext.models.temperature import divide_logits

NAMES = ("ant", "bee", "cat", "dog")
TRUE = 2.5


def drawn_softmax(logits, seed=0):
    """Labels as often right as the scores at a temperature of `TRUE` say."""
    draws = np.random.default_rng(seed).random((len(logits), 1))
    below = np.cumsum(softmax(logits / TRUE), axis=1) < draws
    return np.minimum(below.sum(axis=1), logits.shape[1] - 1)


def drawn_sigmoid(logits, seed=0):
    draws = np.random.default_rng(seed).random(logits.shape)
    return (draws < sigmoid(logits / TRUE)).astype("uint8")


def random_logits(images=400):
    values = 4 * np.random.default_rng(1).normal(size=(images, 4))
    return values.astype("float32")


def scores_of(kind, logits):
    if kind == "softmax":
        return temperature.Softmax(logits, drawn_softmax(logits))
    return temperature.Sigmoids(logits, drawn_sigmoid(logits))


def torchs_temperature(kind, logits, rows=slice(None)):
    """The minimum that L-BFGS finds, as in Guo et al.'s own code."""
    import torch
    from torch.nn import functional as F

    values = torch.from_numpy(logits.astype("float64"))
    inverse = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [inverse],
        max_iter=200,
        tolerance_grad=1e-14,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def step():
        optimizer.zero_grad()
        if kind == "softmax":
            labels = torch.from_numpy(drawn_softmax(logits))[rows]
            loss = F.cross_entropy(inverse * values[rows], labels)
        else:
            labels = torch.from_numpy(drawn_sigmoid(logits).astype("float64"))
            loss = F.binary_cross_entropy_with_logits(inverse * values, labels)
        loss.backward()
        return loss

    optimizer.step(step)
    return 1 / inverse.item()


@pytest.mark.once
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_a_temperature_is_the_minimum_that_torch_finds(kind, monkeypatch):
    monkeypatch.setattr(temperature, "AT_ONCE", 300)  # part by part
    logits = random_logits()
    halves = np.arange(400) % 2
    found = temperature.calibration_of(scores_of(kind, logits), halves)
    expected = torchs_temperature(kind, logits)
    assert found.temperature == pytest.approx(expected, rel=1e-6)
    assert found.temperature == pytest.approx(TRUE, rel=0.15)
    assert found.images == 400
    for name in ("cross_entropy", "brier", "ece"):
        assert found.after[name] < found.before[name]


@pytest.mark.once
def test_each_half_is_measured_at_the_temperature_of_the_other():
    logits = random_logits().astype("float64")
    labels = drawn_softmax(logits)
    folds = np.random.default_rng(2).integers(0, 2, 400)
    found = temperature.calibration_of(
        temperature.Softmax(logits, labels), folds
    )
    scores, halves = np.empty(logits.shape), []
    for fitted, other in ((folds == 0, folds == 1), (folds == 1, folds == 0)):
        best = optimize.minimize_scalar(
            lambda log, rows: metrics.log_loss(
                labels[rows], softmax(logits[rows] / np.exp(log))
            ),
            bounds=(-3, 3),
            args=(fitted,),
            options={"xatol": 1e-10},
        )
        halves.append(np.exp(best.x))
        scores[other] = softmax(logits[other] / halves[-1])
    assert found.halves == pytest.approx(halves, rel=1e-6)
    assert abs(halves[0] - halves[1]) > 1e-3
    assert found.after["cross_entropy"] == pytest.approx(
        metrics.log_loss(labels, scores), rel=1e-6
    )
    assert found.after["brier"] == pytest.approx(
        metrics.brier_score_loss(labels, scores, scale_by_half=False), rel=1e-6
    )
    assert found.before["cross_entropy"] == pytest.approx(
        metrics.log_loss(labels, softmax(logits)), rel=1e-12
    )


@pytest.mark.once
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_without_mistakes_there_is_no_best_temperature(kind):
    labels = np.arange(60) % 4
    logits = 3 * np.eye(4)[labels]
    if kind == "softmax":
        right = temperature.Softmax(logits, labels)
        wrong = temperature.Softmax(logits, (labels + 1) % 4)
    else:
        right = temperature.Sigmoids(logits - 1, np.eye(4)[labels])
        wrong = temperature.Sigmoids(logits - 1, 1 - np.eye(4)[labels])
    halves = np.arange(60) // 30
    with pytest.raises(ValueError, match="no mistake among all 60 images"):
        temperature.calibration_of(right, halves)
    right._logits[0] = -right._logits[0]
    with pytest.raises(ValueError, match="among the 30 images of a half"):
        temperature.calibration_of(right, halves)
    with pytest.raises(ValueError, match="more often than by chance"):
        temperature.calibration_of(wrong, halves)


@pytest.mark.once
@pytest.mark.parametrize(
    "labels, message",
    [
        (np.arange(49) % 2, "at least 50 are needed.*Received: 49"),
        (np.zeros(60, int), "one class alone"),
        (np.arange(60), "no class with two images"),
    ],
)
def test_images_that_cannot_tell_are_refused(labels, message):
    images = np.zeros((len(labels), 8, 8, 3), "uint8")
    with pytest.raises(ValueError, match=message):
        temperature.check_source(Arrays(images, labels, range(60)))


@pytest.mark.once
def test_exported_files_are_refused_with_what_to_do():
    artifact = TableClassifier(np.eye(2), named("a", "b"))
    source = colored_arrays([0, 1], "ab")
    with pytest.raises(ValueError, match="`.keras` file, and export it again"):
        evaluation.calibrate(artifact, source)
    with pytest.raises(ValueError, match="Expected a Keras model"):
        evaluation.calibrate("model.keras", source)


# Models


def pictures(count=120):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, 8, 8, 3), dtype="uint8")


def new_model(activation="softmax"):
    keras.utils.set_random_seed(3)
    return keras_convnext.ConvNeXt(
        (1,),
        (8,),
        patch_size=2,
        input_shape=(8, 8, 3),
        classes=list(NAMES),
        classifier_activation=activation,
        head_init_scale=150.0,
    )


def logits_of(model):
    """Logits of a model that ends in an activation."""
    bare = keras.Model(model.input, model.layers[-1].input)
    return predict(bare, pictures()).astype("float64")


@pytest.fixture(scope="module")
def calibrated():
    """A model before and after, what was measured, and the images."""
    model = new_model()
    before = logits_of(model)
    source = Arrays(pictures(), drawn_softmax(before), NAMES)
    source.groups = np.arange(120, dtype="int32") // 3
    result = evaluation.calibrate(model, source, verbose=False)
    return model, before, result, source


def test_a_models_logits_are_divided_and_its_best_class_stays(calibrated):
    model, before, result, source = calibrated
    divisor = result.calibration.temperature
    assert divisor == pytest.approx(
        torchs_temperature("softmax", before.astype("float32")), rel=1e-4
    )
    after = logits_of(model)
    np.testing.assert_allclose(after, before / divisor, rtol=1e-4, atol=1e-5)
    assert (after.argmax(1) == before.argmax(1)).all()
    assert model.info.temperature == divisor
    folds = StratifiedGroupKFold(2, shuffle=True, random_state=0)
    halves = [
        torchs_temperature("softmax", before.astype("float32"), rows)
        for rows, _ in folds.split(before, source.labels, source.groups)
    ]
    assert sorted(result.calibration.halves) == pytest.approx(
        sorted(halves), rel=1e-4
    )
    # What it was.
    losses = metrics.log_loss(source.labels, softmax(before))
    assert result.cross_entropy == pytest.approx(losses, rel=1e-5)
    again = evaluation.evaluate(model, source, verbose=False)
    assert (again.accuracy, again.temperature) == (result.accuracy, divisor)
    losses = metrics.log_loss(source.labels, softmax(before / divisor))
    assert again.cross_entropy == pytest.approx(losses, rel=1e-5)
    values = result.as_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["calibration"]["temperature"] == divisor


def test_what_is_printed_tells_both(calibrated, capsys):
    _, _, result, _ = calibrated
    result.print()
    printed = capsys.readouterr().out
    found = result.calibration
    for text in (
        f"divided by {found.temperature:.4g}, fitted on all 120 images",
        "each half at the other's temperature",
        "Brier score",
        f"{found.after['ece']:.2%}",
    ):
        assert text in printed


@pytest.mark.parametrize(
    "file",
    [
        "m.keras",
        pytest.param("m.onnx", marks=LONG_WHERE_COMPILED),
        pytest.param("m.tflite", marks=pytest.mark.long),
        pytest.param("saved_model", marks=pytest.mark.long),
        pytest.param("m.xml", marks=pytest.mark.long),
        pytest.param("m.pt2", marks=pytest.mark.long),
    ],
)
def test_files_and_exports_have_the_temperature(file, calibrated, tmp_path):
    model, before, result, source = calibrated
    if file == "m.keras":
        model.save(tmp_path / file)
    else:
        kind = None if "." in file else file
        keras_convnext.export(model, tmp_path / file, kind, verify=False)
    artifact = keras_convnext.open_artifact(tmp_path / file)
    divisor = result.calibration.temperature
    assert artifact.metadata["temperature"] == pytest.approx(divisor)
    np.testing.assert_allclose(
        artifact.predict(source.images),
        softmax(before / divisor),
        rtol=1e-3,
        atol=1e-5,
    )
    if file == "m.keras":
        assert network_of(artifact).info.temperature == divisor
    else:
        with pytest.raises(ValueError, match="which was exported"):
            network_of(artifact)


def test_many_labels_keep_what_reaches_their_thresholds():
    model = recipes.with_sigmoid(new_model("sigmoid"), [0.3, 0.5, 0.8, 1.0])
    before = logits_of(model)
    source = Arrays(pictures(), drawn_sigmoid(before), NAMES)
    result = evaluation.calibrate(model, source, verbose=False)
    divisor = result.calibration.temperature
    assert divisor == pytest.approx(
        torchs_temperature("sigmoid", before.astype("float32")), rel=1e-4
    )
    np.testing.assert_allclose(
        predict(model, source.images),
        sigmoid(before / divisor),
        rtol=1e-4,
        atol=1e-5,
    )
    expected = [sigmoid(np.log(3 / 7) / divisor), 0.5]
    assert model.info.thresholds[:2] == pytest.approx(expected)
    assert model.info.thresholds[3] == 1
    again = evaluation.evaluate(model, source, verbose=False)
    assert again.at_thresholds == pytest.approx(result.at_thresholds)
    assert again.figures["map_micro"] == pytest.approx(
        result.figures["map_micro"]
    )
    assert again.brier < result.brier


def test_what_lora_adds_is_divided_too():
    model = new_model()
    dense = model.layers[-2]
    dense.enable_lora(2)
    dense.lora_kernel_b.assign(np.ones((2, 4)))
    before = logits_of(model)
    divide_logits(model, 2.0)
    divide_logits(model, 2.0)
    np.testing.assert_allclose(
        logits_of(model), before / 4, rtol=1e-4, atol=1e-5
    )
    assert model.info.temperature == 4


@long_where_compiled
@pytest.mark.parametrize("kind", ["quantized", "features"])
def test_other_models_are_refused(kind):
    model, message = (
        new_model(),
        "quantized to int8. Calibrate the model from before",
    )
    if kind == "quantized":
        model.quantize("int8")
    else:
        model = keras.Model(model.input, model.layers[-3].output)
        message = "whose last weights are those of a `Dense`"
    with pytest.raises(ValueError, match=message):
        evaluation.calibrate(model, Arrays(pictures(), np.arange(120) % 4))


# The command


@pytest.mark.once
def test_scores_that_are_no_probabilities_are_not_drawn(tmp_path):
    artifact = TableClassifier(np.eye(2), named("a", "b"), outputs=["scores"])
    source = colored_arrays([0, 1], "ab")
    result = evaluation.evaluate(artifact, source, verbose=False)
    with pytest.raises(ValueError, match="`reliability` draws.*'known'"):
        calibrating.draw(result, tmp_path / "r.png")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def run(run_command):
    return functools.partial(run_command, "evaluate")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A saved model, and images as it sees them."""
    folder = tmp_path_factory.mktemp("calibration")
    model = new_model()
    labels = drawn_softmax(logits_of(model))
    np.savez(
        folder / "x.npz", images=pictures(), labels=labels, classes=list(NAMES)
    )
    model.save(folder / "m.keras")
    return folder


def test_a_command_writes_model_and_picture(run, files, tmp_path):
    data = ("--data", files / "x.npz")
    options = (
        *("--model", files / "m.keras", "--calibrate", tmp_path / "c.keras"),
        *("--reliability", tmp_path / "r.png", "--json"),
    )
    status, printed, said = run(*data, *options)
    assert status == 0, said
    values = json.loads(printed)
    found = values["calibration"]
    assert found["after"]["cross_entropy"] < values["cross_entropy"]
    assert Image.open(tmp_path / "r.png").size[0] > 300
    written = keras.saving.load_model(tmp_path / "c.keras")
    assert written.info.temperature == pytest.approx(found["temperature"])
    status, _, said = run(*data, *options)
    assert status == 2 and "--force" in said
    status, printed, _ = run(*data, "--model", tmp_path / "c.keras")
    assert f"at a temperature of {found['temperature']:.4g}" in printed


@pytest.mark.parametrize(
    "options, message",
    [
        (("--calibrate", "c.h5"), "`--calibrate` must be a file that ends"),
        (("--reliability", "r.txt"), "`--reliability` must be a file that"),
        (("--tta", "flip"), "Leave out `--tta`"),
        (("--rule", "imagenet"), "Leave out `--rule`"),
    ],
)
def test_bad_options_end_before_the_work(
    run, files, tmp_path, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    given = ("--data", files / "x.npz", "--model", "missing.keras")
    status, printed, said = run(*given, "--calibrate", "c.keras", *options)
    assert (status, printed) == (2, "")
    assert message in said
    assert not list(tmp_path.iterdir())


@long_where_compiled
def test_exported_files_are_measured_and_then_refused(run, files, tmp_path):
    model = keras.saving.load_model(files / "m.keras")
    keras_convnext.export(model, tmp_path / "m.onnx", verify=False)
    status, printed, said = run(
        *("--data", files / "x.npz", "--model", tmp_path / "m.onnx"),
        *("--calibrate", tmp_path / "c.keras"),
    )
    assert status == 2
    assert "Brier score" in printed
    assert "Calibrate the `.keras` file, and export it again" in said
    assert not (tmp_path / "c.keras").exists()
