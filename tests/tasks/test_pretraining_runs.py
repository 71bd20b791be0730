"""Pre-training from a folder to an encoder: masks, runs, command, refusals.

Killed, or on two devices, a run ends as the one that nothing disturbed.
"""

import json
import os
import signal

import docs_code
import keras
import numpy as np
import pytest
import runs
from conftest import BACKEND
from conftest import long_where_compiled
from conftest import x64
from devices import finish
from devices import start
from devices import two_devices
from PIL import Image

import keras_convnext
from keras_convnext import VARIANTS
from keras_convnext import ConvNeXt
from keras_convnext import data
from keras_convnext import pretraining
from keras_convnext.training import Checkpoints
from keras_convnext.training import callbacks
from keras_convnext.training import parameter_groups
from keras_convnext.training.optimizers import AdamW

# Two epochs of three steps, of 12 photographs.
SIZE, STEPS = 16, 6
FIELDS = {
    **{"epochs": 2, "warmup_epochs": 1, "batch_size": 4},
    **{"learning_rate": 1e-3, "image_size": SIZE, "decoder_width": 8},
}
RECIPE = pretraining.v2_pretrain.replace(**FIELDS)


def new_encoder(**options):
    keras.utils.set_random_seed(0)
    return ConvNeXt(
        **{
            **{"depths": (1, 1), "dims": (4, 6), "patch_size": 2},
            **{"grn": True, "layer_scale_init_value": 0.0, "classes": 2},
            **{"include_top": False, "name": "small", **options},
        }
    )


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Twelve in a folder, of which some are in folders below."""
    folder = tmp_path_factory.mktemp("photographs") / "images"
    runs.write_photographs(folder, ((3, 3), (3, 3)))
    for number, path in enumerate(sorted(folder.glob("train/china/*"))):
        path.rename(folder / f"flat_{number}.jpg")
    (folder / "train/china").rmdir()
    (folder / "train").rename(folder / "some")
    (folder / "val").rename(folder / "others")
    return folder


def masked_loader(source, **options):
    return pretraining.MaskedLoader(
        source,
        RECIPE.train_pipeline(),
        **{"epochs": 2, "patches": 16, "count": 6, "loader": "python"},
        **options,
    )


# --- masks and data ----------------------------------------------------------


@pytest.mark.once
def test_every_patch_is_seen_as_often():
    drawn = [pretraining.visible_patches(16, 6, 3, i) for i in range(4000)]
    assert {len(set(x.tolist())) for x in drawn} == {6}
    assert all((np.diff(x) > 0).all() and x.dtype == "int32" for x in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=16)
    # Six standard deviations of a binomial.
    bound = 6 * np.sqrt(4000 * 6 / 16 * 10 / 16)
    np.testing.assert_allclose(counts, 1500, rtol=0, atol=bound)
    again = pretraining.visible_patches(16, 6, 3, 17)
    np.testing.assert_array_equal(again, drawn[17])
    others = [pretraining.visible_patches(16, 6, 4, i) for i in range(9)]
    assert not np.array_equal(others, drawn[:9])


@pytest.mark.once
def test_masks_follow_from_seed_and_step(photographs):
    """However many processes there are, and wherever a run goes on."""
    source = data.open_images(photographs)
    batches = list(masked_loader(source).batches())
    assert len(batches) == STEPS
    for step, (inputs,) in enumerate(batches):
        assert inputs["images"].shape == (4, SIZE, SIZE, 3)
        expected = [
            pretraining.visible_patches(16, 6, 0, 4 * step + i)
            for i in range(4)
        ]
        np.testing.assert_array_equal(inputs["visible"], expected)
    (later,) = next(iter(masked_loader(source).batches(first_step=4)))
    for name, x in batches[4][0].items():
        np.testing.assert_array_equal(later[name], x)
    for index in range(2):
        (part,) = masked_loader(
            source, process_index=index, process_count=2
        ).make(1, 1)
        for name, x in batches[4][0].items():
            half = x[2 * index : 2 * index + 2]
            np.testing.assert_array_equal(part[name], half)
    (other,) = masked_loader(source, seed=1).make(0, 0)
    assert not np.array_equal(other["visible"], batches[0][0]["visible"])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="needs TensorFlow alone")
def test_tf_data_has_the_same_batches(photographs):
    source = data.open_images(photographs)
    loaders = [
        pretraining.MaskedLoader(
            source, RECIPE.train_pipeline(), 1, 16, 6, loader=loader
        )
        for loader in ("tf", "python")
    ]
    for (one,), (other,) in zip(*(x.batches() for x in loaders)):
        np.testing.assert_array_equal(one["visible"], other["visible"])
        # Decoders differ by less than a gray level in the mean.
        difference = np.abs(
            np.asarray(one["images"], "float32") - other["images"]
        )
        assert difference.mean() < 1


@pytest.mark.once
def test_folders_need_no_order(photographs, tmp_path):
    source = data.open_images(photographs)
    assert len(source) == 12 and source.classes == ()
    names = [source.filename(i) for i in range(12)]
    assert names[0] == "flat_0.jpg"
    assert os.path.join("some", "flower", "0.jpg") in names
    for i in range(12):
        path = photographs / source.filename(i)
        assert source.read(i) == path.read_bytes()
        assert source.name(i) == str(path)
    before = source.fingerprint()
    assert data.ImageFiles(photographs).fingerprint() == before
    # Of a data set in parts, what is to be trained on.
    split = runs.write_photographs(tmp_path / "split", ((2, 3), (4, 4)))
    assert len(data.open_images(split)) == 5
    assert len(data.open_images(split / "train")) == 5
    assert len(data.open_images(split / "val")) == 8
    again = data.open_images(data.Subset(source, [3, 4]))
    assert len(again) == 2
    digits = data.open_images("digits")
    assert len(digits) == len(data.open_splits("digits")[0])
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="images in it or below it. Received"):
        data.open_images(tmp_path / "none")
    with pytest.raises(ValueError, match="which is none of them"):
        data.open_images(tmp_path / "missing")
    records = tmp_path / "records"
    data.write_records(data.ImageFolder(split / "train"), records)
    assert len(data.open_images(records)) == 5


# --- the recipe --------------------------------------------------------------


@pytest.mark.once
def test_the_figures_are_the_published_ones():
    recipe = pretraining.v2_pretrain
    figures = {
        **{"epochs": 1600, "warmup_epochs": 40, "batch_size": 4096},
        **{"weight_decay": 0.05, "beta_1": 0.9, "beta_2": 0.95},
        **{"mask_ratio": 0.6, "decoder_width": 512, "image_size": 224},
        **{"crop_scale": (0.2, 1.0), "horizontal_flip": 0.5},
        **{"minimum_learning_rate": 0.0, "warmup": "exclusive"},
    }
    assert {name: getattr(recipe, name) for name in figures} == figures
    assert recipe.learning_rate == pytest.approx(1.5e-4 * 4096 / 256)
    assert recipe.with_batch_size(256).learning_rate == pytest.approx(1.5e-4)
    pipeline = recipe.train_pipeline()
    kinds = [type(x).__name__ for x in pipeline.distortions]
    assert kinds == ["RandomFlip"] and pipeline.crop is not None
    assert pipeline.mixing is None and pipeline.erasing is None
    with pytest.raises(ValueError, match="`crop_scale` must be two numbers"):
        recipe.replace(crop_scale=(1.0, 0.2))


def test_what_has_axes_in_the_official_code_decays():
    model = RECIPE.on(new_encoder())
    optimizer = RECIPE.optimizer(model, 3)
    decayed = {
        x.path for x in model.trainable_variables if optimizer.decay_of(x)
    }
    assert decayed == {
        x.path
        for x in model.trainable_variables
        if x.path.endswith("/kernel")
        or "_grn/" in x.path
        or x.path.endswith("/token")
    }
    groups = parameter_groups(model, RECIPE)
    assert [x["weight_decay"] for x in groups] == [0.05, 0.0]
    again = AdamW.from_config({**optimizer.get_config(), "learning_rate": 1e-3})
    grn = next(x for x in model.weights if "_grn/gamma" in x.path)
    assert again.decay_of(grn) == 0.05 and AdamW().decay_of(grn) == 0.0


# --- runs --------------------------------------------------------------------


def words(folder, model, output, *more):
    options = []
    for name, value in FIELDS.items():
        options += [f"--{name.replace('_', '-')}", str(value)]
    return [
        *("pretrain", "--data", str(folder), "--model", str(model)),
        *("--output", str(output), "--deterministic", *options, *more),
    ]


@pytest.fixture(scope="module")
def end(photographs, tmp_path_factory):
    """The encoder that a run began with, and where it ended undisturbed."""
    folder = tmp_path_factory.mktemp("pretraining")
    with x64():
        new_encoder(dtype="float64").save(folder / "small.keras")
        runs.printed(
            *words(photographs, folder / "small.keras", folder / "run")
        )
        yield folder / "small.keras", folder / "run"


def end_of(output):
    step, tensors, record = Checkpoints(output / "checkpoints").latest()
    assert step == STEPS
    return tensors, record["history"]


def check_same(output, expected, atol=0.0, rtol=0.0):
    (tensors, rows), (whole, whole_rows) = end_of(output), end_of(expected)
    assert tensors.keys() == whole.keys()
    for name, values in whole.items():
        np.testing.assert_allclose(
            tensors[name], values, rtol=0, atol=atol, err_msg=name
        )
    for row, of_whole in zip(rows, whole_rows, strict=True):
        for name in row.keys() - {"images_per_second"}:
            assert row[name] == pytest.approx(of_whole[name], rel=rtol)


def test_a_run_ends_with_an_encoder(end, photographs):
    model, output = end
    names = {x.name for x in output.iterdir()}
    assert names >= {"encoder.keras", "history.csv", "run.json", "curves.png"}
    assert not names & {"last.keras", "best.keras"}
    record = json.loads((output / "run.json").read_text())
    assert record["status"] == "complete" and record["step"] == STEPS
    assert record["best"] == {} and record["metrics"]["loss"] > 0
    assert record["settings"]["recipe"]["mask_ratio"] == 0.6
    before, after = map(
        keras.saving.load_model, (model, output / "encoder.keras")
    )
    moved = [
        one.path
        for one, other in zip(before.weights, after.weights, strict=True)
        if not np.array_equal(*map(keras.ops.convert_to_numpy, (one, other)))
    ]
    rest = {x.path for x in after.weights} - set(moved)
    assert rest == {"head_norm/gamma", "head_norm/beta"}
    # Where it is evaluated nobody has to know it.
    opened = keras_convnext.open_artifact(output / "encoder.keras")
    assert opened.preprocessing.image_size == (SIZE, SIZE)
    for epoch in (1, 2):
        path = output / "reconstructions" / f"epoch_{epoch:04}.png"
        with Image.open(path) as picture:
            assert picture.size == (4 * (SIZE + 4), 4 * (SIZE + 4))


@long_where_compiled
def test_train_begins_with_the_encoder(end, tmp_path):
    """Of the same architecture; the classifier is new."""
    _, output = end
    folder = runs.write_photographs(tmp_path / "data", ((4, 4), (2, 2)))
    model = ConvNeXt(
        **{"depths": (1, 1), "dims": (4, 6), "patch_size": 2, "grn": True},
        **{"layer_scale_init_value": 0.0, "classes": 2, "name": "small"},
        weights=output / "encoder.keras",
        input_shape=(SIZE, SIZE, 3),
        classifier_activation=None,
        drop_path_rate=runs.RECIPE.drop_path_rate,
    )
    encoder = keras.saving.load_model(output / "encoder.keras")
    for layer in ("stem_conv", "stage_1_block_0_grn"):
        for one, other in zip(
            model.get_layer(layer).weights, encoder.get_layer(layer).weights
        ):
            np.testing.assert_allclose(
                *map(keras.ops.convert_to_numpy, (one, other)),
                rtol=1e-6,
                atol=0,
            )
    model.save(tmp_path / "model.keras")
    runs.printed(
        *runs.command(folder, tmp_path / "model.keras", tmp_path / "run")
    )


def test_another_size_than_that_of_pretraining_is_told(end, capsys):
    """In one line, where a classifier goes on the encoder."""
    _, output = end
    options = {
        **{"depths": (1, 1), "dims": (4, 6), "patch_size": 2, "grn": True},
        **{"layer_scale_init_value": 0.0, "weights": output / "encoder.keras"},
    }

    def told(size, **more):
        capsys.readouterr()
        ConvNeXt(**options, input_shape=(size, size, 3), **more)
        return capsys.readouterr().err

    assert told(SIZE, classes=2) == ""
    assert told(2 * SIZE, include_top=False) == ""
    (line,) = told(2 * SIZE, classes=2).splitlines()
    assert f"for images of {SIZE} pixels; the model takes {2 * SIZE}." in line
    assert line.endswith(f"pass `image_size={SIZE}` (`--image-size {SIZE}`)")


@long_where_compiled
def test_a_stopped_run_goes_on(end, photographs, tmp_path, monkeypatch):
    """Within an epoch, to the same weights and rows bit for bit."""
    model, whole = end
    after = callbacks.Checkpointing.on_train_batch_end

    def stopped(self, batch, logs=None):
        after(self, batch, logs)
        if self.run.step == 5:
            raise KeyboardInterrupt

    more = ("--checkpoint-steps", "1")
    arguments = words(photographs, model, tmp_path / "run", *more)
    with monkeypatch.context() as patched:
        patched.setattr(callbacks.Checkpointing, "on_train_batch_end", stopped)
        assert runs.invoke(*arguments).exit_code
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["status"] == "stopped" and record["step"] == 5
    runs.printed(*arguments)
    check_same(tmp_path / "run", whole)
    said = runs.refused(*arguments, "--seed", "1")
    assert "settings it began with" in said
    said = runs.refused(*arguments, "--epochs", "3")
    assert "keras-convnext pretrain --model" in said


@long_where_compiled
def test_from_a_folder_to_a_classifier(photographs, tmp_path, monkeypatch):
    """By the commands that the documentation has, of a narrow Atto."""
    docs_code.make_narrow(monkeypatch)
    monkeypatch.setitem(vars(VARIANTS["convnextv2_atto"]), "depths", (1,) * 4)
    name = ("--model", "convnextv2_atto", "--image-size", "64")
    epoch = ("--epochs", "1", "--warmup-epochs", "0", "--batch-size", "4")
    printed = runs.printed(
        *("pretrain", "--data", photographs, "--output", tmp_path / "run"),
        *(*name, *epoch, "--json"),
    )
    # Behind what is printed on stderr.
    result = json.loads(printed[printed.index("{\n") :])
    assert result["status"] == "complete"
    encoder = tmp_path / "run" / "encoder.keras"
    folder = runs.write_photographs(tmp_path / "data", ((4, 4), (2, 2)))
    said = runs.printed(
        *("train", "--data", folder, "--output", tmp_path / "classifier"),
        *(*name[:2], "--image-size", "96", *epoch, "--weights", encoder),
        # So that it stays what it began with.
        *("--learning-rate", "1e-12", "--minimum-learning-rate", "0"),
    )
    assert "written:" in said
    assert said.count("for images of 64 pixels; the model takes 96.") == 1
    trained = keras.saving.load_model(tmp_path / "classifier/last.keras")
    for layer in keras.saving.load_model(encoder).layers:
        for one, other in zip(
            layer.weights, trained.get_layer(layer.name).weights
        ):
            np.testing.assert_allclose(
                *map(keras.ops.convert_to_numpy, (other, one)),
                rtol=0,
                atol=1e-7,
            )


@pytest.mark.long
def test_a_killed_run_ends_as_the_whole_one(
    end, photographs, tmp_path, monkeypatch
):
    model, whole = end
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    more = ("--checkpoint-steps", "1")
    arguments = words(photographs, model, tmp_path / "run", *more)
    # In the midst of the checkpoint of step 5.
    process = runs.start(arguments, kill_in_save=5)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, printed
    steps = Checkpoints(tmp_path / "run" / "checkpoints").steps()
    assert steps and STEPS not in steps
    runs.printed(*arguments)
    # On TensorFlow one process rounds unlike another.
    bounds = (1e-12, 2e-6) if BACKEND == "tensorflow" else (0.0, 0.0)
    check_same(tmp_path / "run", whole, *bounds)


@pytest.mark.long
def test_two_devices_train_as_one(end, photographs, tmp_path):
    model, whole = end
    arguments = words(photographs, model, tmp_path / "run")
    if BACKEND == "jax":
        flag = "--xla_force_host_platform_device_count=2"
        flags = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
        arguments += ["--devices", "all"]
        processes = [start(arguments, XLA_FLAGS=flags)]
    else:
        processes = two_devices(arguments)
    finish(*processes, seconds=600)
    # Metrics are sums in float32.
    check_same(tmp_path / "run", whole, atol=1e-12, rtol=2e-6)
    assert (tmp_path / "run/reconstructions/epoch_0002.png").exists()


def test_a_dry_run_writes_nothing(photographs, tmp_path):
    """Of a list without labels, whose validation images are left alone."""
    new_encoder().save(tmp_path / "small.keras")
    rows = ["where,part", *(f"{x},train" for x in photographs.rglob("*.jpg"))]
    for number in range(4):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes((photographs / "flat_0.jpg").read_bytes())
        rows.append(f"{path},val")
    listed = tmp_path / "photographs.csv"
    listed.write_text("\n".join(rows))
    arguments = words(listed, tmp_path / "small.keras", tmp_path / "run")
    columns = ("--path-column", "where", "--split-column", "part")
    printed = runs.printed(*arguments, *columns, "--dry-run")
    for part in (
        "v2_pretrain: V2 on images without labels",
        f"2 epochs of 3 steps on {BACKEND}",
        "mask ratio",
        "learning rate, up to 0.001 over 6 steps",
    ):
        assert part in printed
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_is_refused(photographs, tmp_path):
    path = tmp_path / "v1.keras"
    new_encoder(grn=False).save(path)
    said = runs.refused(*words(photographs, path, tmp_path / "run"))
    assert "finds no gain" in said
    path = tmp_path / "v2.keras"
    new_encoder().save(path)
    arguments = words(photographs, path, tmp_path / "run")
    said = runs.refused(*arguments, "--dtype", "float32")
    assert "`--dtype` is for a model by name" in said
    said = runs.refused(*arguments, "--path-column", "file")
    assert "`--path-column` is for lists" in said
    said = runs.refused(*arguments, "--image-size", "18")
    assert "`--image-size` must be a multiple of 4" in said
    said = runs.refused(*arguments, "--mask-ratio", "0.99")
    assert "leave a patch visible and a patch hidden" in said
    said = runs.refused(*words(photographs, path, photographs))
    assert "output must be in another folder than the images" in said
    assert not (tmp_path / "run").exists()

    model = RECIPE.on(new_encoder())
    source = data.open_images(photographs)
    other = RECIPE.replace(mask_ratio=0.5)
    with pytest.raises(ValueError, match="visible patches 6, not 8. Build"):
        pretraining.train(model, other, source, tmp_path / "run")
