"""Published models, opened by those who will open them."""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
import peers
import pytest
import torch
from conftest import long_where_compiled
from conftest import predict
from exported import PHOTOGRAPHS
from families import FAMILIES
from families import every_weight_matters
from PIL import Image

import keras_convnext
from keras_convnext import recipes
from keras_convnext._util.writing import UNFINISHED
from keras_convnext.models.construction import build
from keras_convnext.publishing import comparing
from keras_convnext.publishing import layouts
from keras_convnext.publishing import opening
from keras_convnext.publishing import targets
from keras_convnext.publishing import timm_layout
from keras_convnext.publishing import transformers_layout
from keras_convnext.publishing.subject import Subject

NAMES = ["a cat", "a dog | a wolf", "a <b>", "d", "e"]
SIZE = 64


def new_model(name="test_convnext", activation="softmax", size=SIZE):
    """With narrow stages; `test_convnext` is one that timm has."""
    variant = FAMILIES.get(name) or keras_convnext.VARIANTS[name]
    model = build(
        variant,
        weights=None,
        classes=len(NAMES),
        input_shape=(size, size, 3),
        classifier_activation=activation,
    )
    every_weight_matters(model)
    model.class_names = NAMES
    return model


def publish(model, to, *arguments, **options):
    return keras_convnext.publish(
        model, to, *arguments, **{"verbose": False, **options}
    )


def logits_of(model):
    """Ours of the two photographs, and their normalized pixels as a tensor."""
    images = np.stack([model.preprocessing(x) for x in PHOTOGRAPHS])
    before = keras.Model(model.inputs, model.layers[-1].input)
    mean, std = (
        np.array(x) for x in (model.preprocessing.mean, model.preprocessing.std)
    )
    pixels = ((images / 255 - mean) / std).transpose(0, 3, 1, 2)
    return predict(before, images), torch.from_numpy(pixels.astype("float32"))


def assert_agree(theirs, ours):
    assert np.ptp(ours) > 0.1
    bound = 1e-4 * max(1, np.abs(ours).max())
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=bound)


@long_where_compiled
def test_timm_loads_it_as_the_model(tmp_path):
    model = new_model()
    publish(model, tmp_path / "out", "timm", verify=False)
    timm = peers.import_timm()
    from timm.data import create_transform
    from timm.data import resolve_model_data_config

    theirs = timm.create_model(f"local-dir:{tmp_path}/out", pretrained=True)
    ours, pixels = logits_of(model)
    with torch.inference_mode():
        assert_agree(theirs.eval()(pixels).numpy(), ours)
    assert theirs.pretrained_cfg["label_names"] == NAMES
    config = resolve_model_data_config(theirs)
    transform = create_transform(**config, normalize=False)
    for image in PHOTOGRAPHS:
        read = transform(Image.fromarray(image)).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(read, model.preprocessing(image))
    assert tuple(config["mean"]) == model.preprocessing.mean
    assert tuple(config["std"]) == model.preprocessing.std


@long_where_compiled
@pytest.mark.parametrize(
    "name, activation",
    [("v1", "softmax"), ("v1", "sigmoid"), ("v2", "softmax")],
)
def test_transformers_runs_it_in_a_pipeline(name, activation, tmp_path):
    model = new_model(name, activation)
    publish(model, tmp_path / "out", "transformers", verify=False)
    peers.import_timm()
    from transformers import pipeline

    folder = str(tmp_path / "out")
    classify = pipeline("image-classification", folder, device="cpu")
    ours, pixels = logits_of(model)
    with torch.inference_mode():
        assert_agree(classify.model(pixels).logits.numpy(), ours)
    for image, row in zip(PHOTOGRAPHS, ours):
        found = classify(Image.fromarray(image), top_k=5)
        scores = {x["label"]: x["score"] for x in found}
        assert found[0]["label"] == NAMES[row.argmax()]
        # Their pixels are not quite ours.
        expected = predict(model, model.preprocessing(image)[None])[0]
        np.testing.assert_allclose(
            [scores[x] for x in NAMES], expected, rtol=0, atol=1e-3
        )


def test_keras_loads_it_with_all_it_knows(tmp_path):
    model = new_model("v1")
    model.compile("adam", "categorical_crossentropy")
    (report,) = publish(model, tmp_path / "out")
    assert (report.difference, report.images) == (0, 2)
    loaded = keras.saving.load_model(tmp_path / "out")
    assert loaded.info == model.info
    images = np.stack([model.preprocessing(x) for x in PHOTOGRAPHS])
    np.testing.assert_array_equal(
        predict(loaded, images), predict(model, images)
    )
    assert not loaded.compiled


@long_where_compiled
def test_numbers_keep_their_units_for_keras(tmp_path):
    model = regressor()
    (report,) = publish(model, tmp_path / "out")
    assert report.difference == 0
    assert "predicts 5 numbers" in (tmp_path / "out" / "README.md").read_text()


@long_where_compiled
def test_several_layouts_are_opened_by_their_libraries(tmp_path, run_command):
    """In processes of their own, by the command; their cards' code runs."""
    new_model("convnextv2_atto").save(tmp_path / "mine.keras")
    code, printed, _ = run_command(
        *("publish", tmp_path / "mine.keras", "--to", tmp_path / "out"),
        *("--layout", "timm", "--layout", "transformers", "--json"),
    )
    assert code == 0
    reports = json.loads(printed)
    assert [x["layout"] for x in reports] == ["timm", "transformers"]
    for report in reports:
        assert 0 < report["difference"] <= report["bound"]
        assert report["opened_by"].startswith(report["layout"])
        assert sorted(report["files"]) == sorted(
            x.name for x in Path(report["place"]).iterdir()
        )
    assert reports[0]["pixels"] == 0
    assert reports[1]["agreement"] == 1
    assert [x.name for x in tmp_path.glob(f"{UNFINISHED}*")] == []


@long_where_compiled
@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_the_code_on_the_card_runs(layout, tmp_path, monkeypatch):
    model = new_model("test_convnext" if layout == "timm" else "v1")
    publish(model, tmp_path / "out", layout, verify=False)
    monkeypatch.chdir(tmp_path / "out")
    Image.fromarray(PHOTOGRAPHS[0]).save("photograph.jpg")
    peers.import_timm()
    card = Path("README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) == 3
    exec(code, {})


WRONG = {
    "logits": ("logits", lambda x: x + 1e-2, "outputs differ by up to 1.0e-02"),
    "nan": ("logits", lambda x: x * np.nan, "outputs differ by up to nan"),
    "pixels": (
        "pixels",
        lambda x: [y + 0.1 for y in x],
        "pixels differ by .* levels of 255",
    ),
    "size": ("pixels", lambda x: [y[:, 1:] for y in x], "pixels differ by inf"),
    "names": ("names", lambda x: x[::-1], "classes have other names"),
    "best": ("best", lambda x: [x[0], "none"], "the same class in 50% of 2"),
}


@pytest.fixture(scope="module")
def opened():
    """A model, and what transformers made of it: of torch alone."""
    peers.import_timm()
    model, results = new_model("v1"), []
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:

        def open_here(jobs):
            results.extend(opening.OPENED_BY[name](*x) for name, *x in jobs)
            return results

        patch.setattr(opening, "import_torchvision", peers.import_timm)
        patch.setattr(comparing, "_in_other_process", open_here)
        (report,) = publish(model, Path(folder) / "out", "transformers")
    assert 0 < report.difference <= report.bound
    assert (report.agreement, report.aside) == (1, 0)
    return model, results[0]


@long_where_compiled
@pytest.mark.parametrize("case", WRONG)
def test_what_another_library_computes_otherwise_is_not_published(
    case, opened, tmp_path, monkeypatch
):
    key, change, said = WRONG[case]
    model, result = opened
    wrong = [{**result, key: change(result[key])}]
    monkeypatch.setattr(comparing, "_in_other_process", lambda _: wrong)
    (tmp_path / "out").mkdir()
    for name in targets.ALWAYS:
        (tmp_path / "out" / name).write_text("before")
    with pytest.raises(ValueError, match=said):
        publish(model, tmp_path / "out", "transformers", overwrite=True)
    assert (tmp_path / "out" / "README.md").read_text() == "before"
    assert [x.name for x in tmp_path.iterdir()] == ["out"]


REFUSED = {
    "custom": ("v1", "timm", "timm builds the architectures"),
    "isotropic": ("isotropic", "timm", "layout='keras'"),
    "head": ("head_norm_first", "transformers", "head='norm_pool'"),
    "epsilon": ("v1_epsilon", "transformers", "epsilon=1e-05"),
    "kernels": ("silu", "transformers", r"kernel_sizes=\(7, 5, 5, 3\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_library_does_not_have_is_refused(case, tmp_path):
    name, layout, said = REFUSED[case]
    with pytest.raises(ValueError, match=said):
        publish(new_model(name), tmp_path / "out", layout)
    assert not list(tmp_path.iterdir())


def changed(**fields):
    model = new_model("v1")
    model.update_info(preprocessing=replace(model.preprocessing, **fields))
    return model


def regressor(name="v1"):
    linear = new_model(name, None)
    return recipes.with_units(linear, np.arange(15.0).reshape(3, 5))


def headless():
    return build(FAMILIES["v1"], weights=None, include_top=False)


OTHERS = {
    "squash": (
        lambda: changed(crop_mode="squash"),
        "crop_mode='squash' and crop_pct=0.875 at 64 pixels",
    ),
    "gray": (
        lambda: build(
            FAMILIES["v1"], weights=None, classes=5, input_shape=(64, 64, 1)
        ),
        "1 channels",
    ),
    "relu": (lambda: new_model("v1", "relu"), "a softmax or a sigmoid"),
    "headless": (headless, "with its classifier"),
    "numbers": (regressor, "logits can be taken"),
    "another": (
        lambda: keras.Sequential([keras.Input((8, 8, 3))]),
        "Received: Sequential",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_a_pipeline_cannot_say_is_refused(case, tmp_path):
    make, said = OTHERS[case]
    with pytest.raises(ValueError, match=said):
        publish(make(), tmp_path / "out", "transformers")
    assert not list(tmp_path.iterdir())


SIZES = [(64, 0.875), (64, 0.95), (224, 0.95), (288, 1.0), (384, 1.0)]


@pytest.mark.once
@pytest.mark.parametrize("size, crop_pct", SIZES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_their_processor_reads_images_as_it_is_told(
    size, crop_pct, interpolation
):
    """But for a pixel where the crop is odd."""
    peers.import_timm()
    from transformers import ConvNextImageProcessor

    mode = "squash" if size >= 384 else "center"
    mean, std = (0.5, 0.4, 0.3), (1 / 255,) * 3
    ours = keras_convnext.Preprocessing(
        (size, size), crop_pct, mode, interpolation, mean, std
    )
    assert not transformers_layout._not_expressed(ours)
    processor = ConvNextImageProcessor(**transformers_layout.processor_of(ours))
    for image in PHOTOGRAPHS:
        theirs = processor(Image.fromarray(image), return_tensors="np")
        (read,) = theirs["pixel_values"]
        expected = (
            ours(image).transpose(2, 0, 1) - 255 * np.array(mean)[:, None, None]
        )
        aside, pixels = comparing._apart(expected, read, 1)
        assert pixels < 0.05
        is_odd = (int(size / crop_pct) - size) % 2
        assert aside <= 1 and (is_odd or mode == "center" or aside == 0)


MODES = [
    ((384, 384), 1.0, "squash", "bicubic"),
    ((48, 80), 0.9, "border", "bilinear"),
    ((64, 64), 0.95, "center", "bicubic"),
]


@pytest.mark.parametrize("fields", MODES, ids=str)
def test_timms_transform_follows_every_preprocessing(fields):
    peers.import_timm()
    from timm.data import create_transform
    from timm.data import resolve_data_config

    ours = keras_convnext.Preprocessing(*fields)
    model = new_model()
    model.update_info(preprocessing=ours)
    subject = Subject(model, {**Subject.of(model).metadata})
    subject.metadata["preprocessing"] = ours
    config = timm_layout.config_of(subject)["pretrained_cfg"]
    settings = resolve_data_config(pretrained_cfg=config)
    transform = create_transform(**settings, normalize=False)
    for image in PHOTOGRAPHS:
        read = transform(Image.fromarray(image)).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(read, ours(image))


@pytest.mark.once
def test_without_a_library_the_error_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "is_installed", lambda name: name != "timm")
    with pytest.raises(ImportError, match=r'pip install "keras-convnext\[pub'):
        publish(None, tmp_path / "out", "timm")


@pytest.mark.once
def test_a_library_that_fails_is_named(tmp_path):
    folder = tmp_path / "nothing"
    with pytest.raises(ValueError, match="timm must open what is published"):
        comparing._in_other_process([("no library", folder), ("timm", folder)])


def test_only_what_was_published_is_replaced(tmp_path, monkeypatch):
    model = new_model()

    def go(**options):
        return publish(model, tmp_path / "out", verify=False, **options)

    (tmp_path / "out").mkdir()
    go()
    with pytest.raises(ValueError, match="pass `overwrite=True`"):
        go()
    card = (tmp_path / "out" / "README.md").read_bytes()
    replaced = targets.os.replace

    def fail(source, target):
        if Path(source).name == "published":
            raise OSError(28, "No space left on device")
        replaced(source, target)

    monkeypatch.setattr(targets.os, "replace", fail)
    with pytest.raises(OSError, match="could not be written"):
        go(overwrite=True)
    monkeypatch.undo()
    assert (tmp_path / "out" / "README.md").read_bytes() == card
    go(overwrite=True, layout=["keras", "timm"])
    assert sorted(x.name for x in (tmp_path / "out").iterdir()) == [
        *("keras", "timm")
    ]
    go(overwrite=True)
    (tmp_path / "out" / "config.json").unlink()
    with pytest.raises(ValueError, match="Only a folder with a published"):
        go(overwrite=True)
    assert [x.name for x in tmp_path.iterdir()] == ["out"]
