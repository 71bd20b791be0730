"""`keras-convnext evaluate`, from the arguments to the exit status."""

import functools
import json

import keras
import pytest
from conftest import LONG_WHERE_COMPILED
from table_classifier import write

import keras_convnext
from keras_convnext.evaluation import evaluate

pytestmark = LONG_WHERE_COMPILED


@pytest.fixture
def run(run_command):
    return functools.partial(run_command, "evaluate")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model of the gray digits."""
    keras.utils.set_random_seed(0)
    model = keras_convnext.ConvNeXt(
        *((1,), (8,)),
        patch_size=1,
        input_shape=(8, 8, 1),
        mean=0.3,
        std=0.35,
        classes=10,
        head_init_scale=50,
        name="digits",
    )
    path = tmp_path_factory.mktemp("models") / "digits.keras"
    model.save(path)
    return path


def tiny(**arguments):
    model = keras_convnext.ConvNeXt(
        *((1,), (8,)), **{"input_shape": (32, 32, 3), "classes": 2, **arguments}
    )
    model.class_names = ["ant", "bee"]
    return model


@pytest.fixture
def photos(tmp_path):
    for number in range(6):
        name = ("ant", "bee")[number % 2]
        write(tmp_path / "photos" / name / f"{number}.png", 40 * number)
    return tmp_path / "photos"


@pytest.mark.every_backend
def test_the_figures_are_printed(run, saved):
    status, printed, _ = run("--data", "digits", "--model", saved)
    expected = evaluate(keras.saving.load_model(saved), "digits")
    assert status == 0
    for text in (
        "359 images of 10 classes",
        f"{expected.top1:.2%}",
        f"{expected.accuracy['top5']:.2%}",
        f"{expected.cross_entropy:.4f}",
        "most confused",
    ):
        assert text in printed


def test_json_has_everything(run, saved, tmp_path):
    file = tmp_path / "result.json"
    status, printed, _ = run(
        *("--data", "digits", "--model", saved, "--json", "--output", file)
    )
    values = json.loads(printed)
    assert status == 0
    assert json.loads(file.read_text()) == values
    assert list(tmp_path.iterdir()) == [file]
    expected = evaluate(keras.saving.load_model(saved), "digits").as_dict()
    assert values.pop("seconds") > 0 and expected.pop("seconds") > 0
    assert values.pop("cross_entropy") == pytest.approx(
        expected.pop("cross_entropy"), abs=1e-5
    )
    assert values.pop("file") == str(saved) and expected.pop("file") is None
    assert values == expected


def test_a_file_is_not_replaced_unasked(run, saved, tmp_path):
    file = tmp_path / "result.json"
    file.write_text("precious")
    arguments = ("--data", "digits", "--model", saved, "--output", file)
    status, printed, errors = run(*arguments)
    assert (status, printed) == (2, "")
    assert "--force" in errors
    assert file.read_text() == "precious"
    assert run(*arguments, "--force")[0] == 0
    assert json.loads(file.read_text())["images"] == 359
    # Before the work: the model is not there.
    missing = ("--output", tmp_path / "none" / "x.json", "--model", "no.keras")
    status, _, errors = run("--data", "digits", *missing)
    assert status == 2
    assert "`--output` must be a file in a folder that exists" in errors


def test_groups_of_a_list_are_drawn_together(run, photos, tmp_path):
    tiny().save(tmp_path / "tiny.keras")
    rows = [
        f"{path.parent.name}/{path.name},{path.parent.name},{number // 2}"
        for number, path in enumerate(sorted(photos.glob("*/*.png")))
    ]
    text = "\n".join(["path,label,patient", *rows])
    (photos / "list.csv").write_text(text)
    arguments = (
        *("--data", photos / "list.csv", "--model", tmp_path / "tiny.keras"),
        "--json",
    )
    methods = [
        json.loads(run(*arguments, *more)[1])["bootstrap"]["method"]
        for more in ((), ("--group-column", "patient"))
    ]
    assert [x.split()[-1] for x in methods] == ["images", "groups"]


def test_options_reach_the_evaluation(run, photos, tmp_path):
    tiny(input_shape=(None, None, 3)).save(tmp_path / "any.keras")
    arguments = ("--data", photos, "--model", tmp_path / "any.keras", "--json")
    values = json.loads(run(*arguments)[1])
    assert values["preprocessing"]["image_size"] == [224, 224]
    assert values["applies_exif"]
    values = json.loads(
        run(
            *(*arguments, "--image-size", 40, "--crop-pct", 0.5),
            *("--crop-mode", "border", "--interpolation", "bilinear"),
            *("--no-exif", "--batch-size", 4),
        )[1]
    )
    assert values["images"] == 6
    assert not values["applies_exif"]
    assert values["preprocessing"] == {
        "image_size": [40, 40],
        "crop_pct": 0.5,
        "crop_mode": "border",
        "interpolation": "bilinear",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }


def test_a_saved_model_is_measured_at_another_size(
    run, photos, tmp_path, monkeypatch
):
    model = tiny(input_shape=(32, 32, 3))
    model.save(tmp_path / "own.keras")
    # The same weights in a model that was built for the size.
    larger = tiny(input_shape=(48, 48, 3))
    larger.set_weights(model.get_weights())
    expected = evaluate(larger, photos, verbose=False)
    arguments = ("--data", photos, "--model", tmp_path / "own.keras")
    status, printed, _ = run(*arguments, "--image-size", 48, "--json")
    assert status == 0
    found = json.loads(printed)
    assert found["preprocessing"] == expected.as_dict()["preprocessing"]
    assert found["cross_entropy"] == pytest.approx(
        expected.cross_entropy, rel=1e-5
    )
    assert found["file"] == str(tmp_path / "own.keras")
    # A folder that is called like the model is not where it came from.
    monkeypatch.chdir(tmp_path)
    (tmp_path / model.name).mkdir()
    in_python = evaluate(model, photos, image_size=48, verbose=False)
    assert in_python.preprocessing == expected.preprocessing
    assert in_python.file is None
    status, _, errors = run(*arguments, "--image-size", 3)
    assert status == 2 and "`--image-size` must be at least" in errors


def test_an_official_crop_is_that_of_the_size(run, photos, tmp_path):
    model = tiny(input_shape=(32, 32, 3))
    result = evaluate(model, photos, image_size=384, verbose=False)
    crop = result.preprocessing.crop_pct, result.preprocessing.crop_mode
    assert crop == (1.0, "squash")


def test_a_file_is_what_was_measured(run, photos, tmp_path):
    tiny(input_shape=(32, 32, 3)).save(tmp_path / "best.keras")
    printed = run("--data", photos, "--model", tmp_path / "best.keras")[1]
    assert printed.replace("\n", "").startswith(f"{tmp_path}/best.keras: ")
    assert "weights" not in printed


def test_models_by_name_are_built_for_the_size(run, photos, monkeypatch):
    asked = []

    def create_model(name, weights, **arguments):
        asked.append((name, weights, arguments))
        return tiny(**arguments)

    monkeypatch.setattr(keras_convnext, "create_model", create_model)
    assert run("--data", photos)[0] == 0
    status, printed, errors = run(
        *("--data", photos, "--model", "convnext_atto", "--weights", "none"),
        *("--image-size", 48, "--json"),
    )
    assert status == 0
    assert "weights are random" in errors
    assert json.loads(printed)["preprocessing"]["image_size"] == [48, 48]
    built_for = {"input_shape": (48, 48, 3), "data_format": "channels_last"}
    assert asked == [
        ("convnext_tiny", "imagenet", {}),
        ("convnext_atto", None, built_for),
    ]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--rule", "imagnet"), "Did you mean imagenet"),
        (("--rule", "imagenet"), "has 1000 classes"),
        (("--rule", "real"), "real.json"),
        (("--tta", "flip", "--rule", "c"), "Leave `--tta` out"),
        (("--tta", "flipped"), "`--tta` must be one of"),
        (("--rule", "c"), "75 of 75 missing"),
        (("--all-classes",), "`--all-classes` is of another rule"),
        (("--image-size", 3), "`--image-size` must be at least 4"),
        (("--crop-pct", 2), "`--crop-pct` must be"),
        (("--model", "missing.keras"), "missing.keras"),
        (("--model", "convnext_tiiny"), "Did you mean convnext_tiny"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_ends_with_its_message(
    run, photos, tmp_path, arguments, message
):
    tiny().save(tmp_path / "tiny.keras")
    given = ("--data", photos, "--model", tmp_path / "tiny.keras")
    status, printed, errors = run(*given, *arguments)
    assert (status, printed) == (2, "")
    assert message in errors
    assert "Traceback" not in errors


def test_unknown_classes_are_an_error(run, photos, tmp_path):
    model = tiny(classes=2)
    model.class_names = ["ant", "wasp"]
    model.save(tmp_path / "tiny.keras")
    status, _, errors = run(
        "--data", photos, "--model", tmp_path / "tiny.keras"
    )
    assert status == 2
    assert "'bee'" in errors and "'wasp'" in errors


@pytest.mark.parametrize("kind", ["features", "other"])
def test_models_of_another_kind_are_an_error(run, photos, tmp_path, kind):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    if kind == "features":
        model = keras_convnext.ConvNeXt(
            (1,), (8,), input_shape=(32, 32, 3), include_top=False
        )
    model.save(tmp_path / "other.keras")
    status, _, errors = run(
        "--data", photos, "--model", tmp_path / "other.keras"
    )
    assert status == 2
    assert "classifies images. Received" in errors


def test_bad_images_are_named_and_the_rest_count(run, photos, tmp_path):
    (photos / "ant" / "0.png").write_bytes(b"no image")
    tiny().save(tmp_path / "tiny.keras")
    status, printed, said = run(
        *("--data", photos, "--model", tmp_path / "tiny.keras", "--json")
    )
    (line,) = said.splitlines()
    assert line.startswith("warning: Skipped") and "0.png" in line
    values = json.loads(printed)
    assert status == 0
    assert (values["images"], len(values["unreadable"])) == (5, 1)


def test_a_terminal_shows_progress_beside_the_output(run, saved, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    arguments = ("--data", "digits", "--model", saved, "--json")
    status, printed, errors = run(*arguments)
    assert status == 0
    assert json.loads(printed)["images"] == 359
    assert "evaluating" in errors and "images/s" in errors


def test_help_has_examples(run):
    printed = " ".join(run("--help")[1].split())
    assert "keras-convnext evaluate --data photos" in printed
    assert "--rule real --labels" in printed
