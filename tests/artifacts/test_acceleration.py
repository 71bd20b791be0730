"""`accelerate`: every engine equals the model, or is not taken."""

import json
import tempfile
import types

import keras
import numpy as np
import pytest
from conftest import BACKEND
from conftest import COMPILES
from conftest import long_where_compiled
from conftest import short_on
from exported import PHOTOGRAPHS
from exported import pair
from exported import photographs
from families import every_weight_matters
from peers import peer_logits
from PIL import Image

import keras_convnext
from keras_convnext import accelerate
from keras_convnext.artifacts.acceleration import choices
from keras_convnext.artifacts.acceleration import engines
from keras_convnext.artifacts.acceleration import racing
from keras_convnext.artifacts.acceleration.engines import Engine
from keras_convnext.artifacts.acceleration.prepared import Plan
from keras_convnext.artifacts.acceleration.prepared import Prepared

# The others are the model's own forms, which are compiled for each batch.
FILES = ("onnxruntime", "openvino")
EXACT = 1e-4


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    """A cache of the test's own, and a folder for files that must not stay."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(racing, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(racing, "BLOCK_SECONDS", 0.0)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def small(**options):
    """A model of 5 classes, in which a fault of any part would show."""
    options = {"input_shape": (32, 32, 3), "classes": 5, **options}
    return every_weight_matters(
        keras_convnext.ConvNeXt((1,), (8,), patch_size=4, **options)
    )


def images_for(model, count=3):
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(0).uniform(0, 255, shape).astype("float32")


def outputs_of(model, images):
    outputs = model.predict_on_batch(images)
    return keras.tree.map_structure(np.asarray, outputs)


def assert_same(ours, theirs):
    keras.tree.assert_same_structure(ours, theirs)
    for a, b in zip(keras.tree.flatten(ours), keras.tree.flatten(theirs)):
        bound = EXACT * max(1, np.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=0, atol=bound)


@pytest.mark.parametrize(
    "name", ["v2", pytest.param("overlap_act", marks=pytest.mark.long)]
)
def test_engines_equal_the_peer(name, tmp_path):
    model, peer = pair(name)
    own = () if COMPILES else ("keras", "optimized")
    check_engines((*own, *FILES), model, peer, tmp_path)


@pytest.mark.long
@pytest.mark.skipif(BACKEND != "torch", reason="Inductor is PyTorch's")
def test_inductor_equals_the_peer(tmp_path):
    model, peer = pair("v1")
    check_engines(["inductor"], model, peer, tmp_path)


def check_engines(names, model, peer, folder):
    prepared = Prepared(Plan(model, None, None, None, threads=1), folder)
    images = photographs().astype("float32")
    theirs = peer_logits(peer, photographs())
    for name in names:
        run = engines.ENGINES[name].open(prepared, None)
        ours = np.asarray(run(images)["logits"])
        bound = EXACT * max(1, np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound)
        more = np.asarray(run(np.concatenate([images] * 2))["logits"])
        np.testing.assert_allclose(more[2:], ours, rtol=0, atol=bound)


def test_every_structure_of_outputs(tmp_path):
    """Several outputs, any size, channels first, and a last batch that is not
    full."""
    body = small(include_top=False, input_shape=(None, None, 3))
    maps = [body.get_layer("stem_conv").output, body.output]
    models = {
        "dict": keras.Model(body.input, {"b": maps[0], "a": maps[1]}),
        "list": keras.Model(body.input, maps),
        "array": small(input_shape=(3, 32, 32), data_format="channels_first"),
    }
    for kind, model in models.items():
        shape = (32, 48, 3) if kind != "array" else (3, 32, 32)
        images = np.random.default_rng(0).uniform(0, 255, (5, *shape))
        fast = accelerate(model, "onnxruntime", verbose=False)
        assert_same(fast(images[:2]), outputs_of(model, images[:2]))
        predicted = fast.predict(images.astype("uint8"), batch_size=3)
        expected = outputs_of(model, images.astype("uint8"))
        assert_same(predicted, expected)
        assert [x[0] for x in fast.engines] == [2]  # 3 are about as many
    assert not [*(tmp_path / "temporary").iterdir()]


def faked(monkeypatch, **fakes):
    """Engines in the place of all but the model: functions of its outputs."""

    def opener(change):
        def open_fake(prepared, _):
            known = {}

            def run(images):
                key = images.tobytes()
                if key not in known:
                    known[key] = change(dict(prepared.expected(images)))
                return known[key]

            return run

        return open_fake

    table = {"keras": engines.ENGINES["keras"]}
    table |= {name: Engine(opener(x)) for name, x in fakes.items()}
    monkeypatch.setattr(engines, "ENGINES", table)


def wrong(outputs):
    """Softmax hides what all logits have in common."""
    return {**outputs, "logits": outputs["logits"] + 0.05}


def fails(outputs):
    raise RuntimeError("no such operation")


def same(outputs):
    return outputs


def test_wrong_and_failing_engines_are_out(monkeypatch, capsys):
    model = small()
    faked(monkeypatch, wrong=wrong, failing=fails, right=same)
    images = images_for(model)
    fast = accelerate(model)
    assert_same(fast(images), outputs_of(model, images))
    assert fast.engines == {images.shape: "right"}
    table = capsys.readouterr().err
    rows = {
        line.split("│")[1].strip(): line
        for line in table.splitlines()
        if "│" in line
    }
    assert "outputs differ by up to 5.0e-02" in rows["wrong"]
    assert "RuntimeError: no such operation" in rows["failing"]
    assert "chosen" in rows["right"] and "chosen" not in rows["keras"]

    with pytest.raises(ValueError, match="engine='wrong', whose outputs diff"):
        accelerate(model, "wrong", verbose=False)(images)
    faked(monkeypatch, wrong=wrong)
    fast = accelerate(model, cache=False, verbose=False)
    fast(images)
    assert fast.engines == {images.shape: "keras"}


@long_where_compiled
def test_choices_are_kept_for_the_same_weights(monkeypatch, capsys, tmp_path):
    model = small()
    images = images_for(model)
    faked(monkeypatch, right=same)
    races = []
    race = racing.race

    def counted(*args, **kwargs):
        races.append(1)
        return race(*args, **kwargs)

    monkeypatch.setattr(racing, "race", counted)
    accelerate(model)(images)
    (file,) = choices.cache_folder().glob("engines/*.json")
    assert json.loads(file.read_text())["engine"] == "right"
    fast = accelerate(model)
    fast(images[:2])  # another race: from 2 to 3 images
    assert fast.engines == {(2, 32, 32, 3): "right"} and len(races) == 1
    assert "right, as a race on" in capsys.readouterr().err

    file.write_text("{")
    accelerate(model, verbose=False)(images)
    assert len(races) == 2
    faked(monkeypatch, right=fails)
    fast = accelerate(model, verbose=False)
    fast(images)
    assert len(races) == 3 and fast.engines == {images.shape: "keras"}

    model.weights[-1].assign(model.weights[-1] + 1)
    with pytest.raises(ValueError, match="others. Call `keras_convnext.acc"):
        fast(images)
    fast = accelerate(model, verbose=False)
    assert_same(fast(images), outputs_of(model, images))
    assert len(races) == 4  # other weights have a file of their own
    accelerate(model, cache=False, verbose=False)(images)
    assert len(races) == 5


@pytest.mark.once
def test_a_race_by_a_clock_that_is_known():
    now, calls = [0.0], dict.fromkeys("abcd", 0)

    def entrant(name, seconds, problem=""):
        def run(images):
            calls[name] += 1
            now[0] += seconds

        report = types.SimpleNamespace(difference=0.5, problem=problem)

        def enter():
            now[0] += 10
            return run, None, report

        return enter

    entrants = {
        "a": entrant("a", 1.0),
        "b": entrant("b", 0.5),
        "c": entrant("c", 0.6),
        "d": entrant("d", 0.1, "is another model"),
        "e": lambda: 1 / 0,
        "f": entrant("a", 5.0),
    }
    rows, best = racing.race(entrants, None, lambda: now[0], verbose=False)
    assert best.row.engine == "b"
    assert [x.seconds for x in rows] == pytest.approx(
        [1.0, 0.5, 0.6, None, None, 5.0], abs=1e-6
    )
    assert [x.ready_seconds for x in rows] == [10, 10, 10, 10, None, 10]
    assert rows[3].note == "is another model" and calls["d"] == 0
    assert rows[4].note == "ZeroDivisionError: division by zero"


@long_where_compiled
def test_half_precision_is_run_in_float32():
    model = small(dtype="mixed_bfloat16")
    keras.config.set_dtype_policy("float32")
    exact = small()
    images = images_for(exact)
    expected = outputs_of(exact, images)
    assert np.abs(outputs_of(model, images) - expected).max() > 3 * EXACT
    fast = accelerate(model, "onnxruntime", verbose=False)
    assert_same(fast(images), expected)


@short_on("torch")
def test_int8_and_bfloat16_only_if_asked(capsys):
    model = small()
    images = images_for(model, 8)
    expected = outputs_of(model, images)
    fast = accelerate(
        model,
        "onnxruntime",
        quantization="int8",
        representative_data=images,
        verbose=False,
    )
    difference = np.abs(fast(images) - expected).max()
    assert 1e-4 < difference < 0.2
    fast = accelerate(model, "openvino", quantization="bfloat16")
    np.testing.assert_allclose(fast(images), expected, rtol=0, atol=0.05)
    with pytest.raises(ValueError, match="calibrates `quantization='int8'`"):
        accelerate(model, representative_data=images)
    with pytest.raises(ValueError, match="`representative_data` must be"):
        accelerate(model, quantization="int8")


@pytest.mark.parametrize(
    "arguments, kind, message",
    [
        ({"engine": "openvin"}, ValueError, "Did you mean openvino"),
        ({"quantization": "int4"}, ValueError, "`quantization` must be one of"),
        (
            {"engine": "openvino"},
            ImportError,
            r"keras-convnext\[export,openvino\]",
        ),
        ({"threads": 0}, ValueError, "`threads` must be"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    arguments, kind, message, monkeypatch
):
    monkeypatch.setattr(engines, "is_installed", lambda name: False)
    with pytest.raises(kind, match=message):
        accelerate(None, **arguments)


def test_models_that_cannot_be_read_are_refused():
    class Own(keras.Model):
        pass

    with pytest.raises(ValueError, match="Expected a Functional `keras.Model`"):
        accelerate(Own())
    model = small()
    fast = accelerate(model, "keras", verbose=False)
    for images in (np.zeros((2, 16, 16, 3)), np.zeros((0, 32, 32, 3)), 5):
        with pytest.raises(ValueError, match=r"\(None, 32, 32, 3\)"):
            fast(images)
    if BACKEND != "torch":
        with pytest.raises(ValueError, match="Set KERAS_BACKEND to torch"):
            accelerate(model, "inductor")


@long_where_compiled
def test_without_engines_the_model_runs(monkeypatch, capsys):
    monkeypatch.setattr(engines, "is_installed", lambda name: name == "torch")
    monkeypatch.setattr(engines.shutil, "which", lambda name: None)
    monkeypatch.setattr(racing, "HOPELESS", 0.0)  # the first to come wins
    model = small()
    images = images_for(model)
    fast = accelerate(model)
    assert_same(fast(images), outputs_of(model, images))
    assert fast.engines == {images.shape: "keras"}
    table = capsys.readouterr().err
    assert 'pip install "keras-convnext[export,openvino]"' in table
    assert ("takes a C++ compiler" in table) == (BACKEND == "torch")


@short_on("torch")
def test_commands_take_an_engine(run_command, tmp_path):
    model = small()
    model.class_names = list("abcde")
    path = tmp_path / "model.keras"
    model.save(path)
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        image = Image.fromarray(PHOTOGRAPHS[name == "b"])
        image.save(tmp_path / "photos" / name / "0.png")

    def printed(*arguments):
        status, out, _ = run_command(*arguments, "--model", path, "--json")
        assert status == 0
        return json.loads(out)

    photos = tmp_path / "photos"
    ours = printed("predict", photos, "--engine", "onnxruntime")
    theirs = printed("predict", photos)
    assert [x["image"] for x in ours] == [x["image"] for x in theirs]
    for a, b in zip(ours, theirs):
        for one, other in zip(a["predictions"], b["predictions"]):
            assert one["class"] == other["class"]
            assert one["score"] == pytest.approx(other["score"], abs=EXACT)
    evaluate = ("evaluate", "--data", photos, "--image-size", 64)
    ours = printed(*evaluate, "--engine", "openvino")
    theirs = printed(*evaluate)
    assert ours["cross_entropy"] == pytest.approx(
        theirs["cross_entropy"], abs=1e-3
    )

    exported = tmp_path / "model.onnx"
    keras_convnext.export(model, exported, verbose=False)
    status, _, error = run_command(
        "predict", photos, "--model", exported, "--engine", "auto"
    )
    assert status == 2 and "`--engine` is for models by name" in error


@pytest.mark.once
def test_what_compiles_for_minutes_runs_where_nothing_else_does(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    monkeypatch.setattr(engines.shutil, "which", lambda name: name)
    installed = {"torch", "onnx", "onnxruntime"}
    monkeypatch.setattr(engines, "is_installed", installed.__contains__)
    assert "inductor" not in engines.entrants()
    assert engines.obstacle("inductor") is None
    installed.remove("onnx")
    assert "inductor" in engines.entrants()
