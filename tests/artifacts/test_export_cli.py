"""What artifacts know, how `predict` runs them, and how errors end."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from exported import PHOTOGRAPHS
from exported import metadata_of
from exported import pair
from PIL import Image
from typer.testing import CliRunner

import keras_convnext
from keras_convnext import roadmap
from keras_convnext._util import requirements
from keras_convnext.artifacts import exporting
from keras_convnext.artifacts import handover
from keras_convnext.artifacts import metadata
from keras_convnext.artifacts import open_artifact
from keras_convnext.artifacts import options
from keras_convnext.artifacts import real_images
from keras_convnext.artifacts import verification
from keras_convnext.artifacts.exportable import Exportable
from keras_convnext.cli import app
from keras_convnext.images.preprocessing import Preprocessing

pytestmark = LONG_WHERE_COMPILED

NAMES = [f"kind {index}" for index in range(11)]


@pytest.fixture(scope="module")
def model():
    model, _ = pair("v1")
    model.class_names = NAMES
    return model


def export(model, path, *arguments, **options):
    return keras_convnext.export(
        model, path, *arguments, **{"verbose": False, **options}
    )


def invoke(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(PHOTOGRAPHS[1]).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="takes TensorFlow; files are tried in `test_export`",
)
def test_predict_runs_saved_models(predict_command, model, photo, tmp_path):  # noqa: F811
    export(model, tmp_path / "m", "saved_model", verify=False)
    assert metadata_of(tmp_path / "m")["classes"][3] == ["3", "kind 3"]
    status, printed, _ = predict_command(
        photo, "--model", tmp_path / "m", "--json"
    )
    assert status == 0
    scores = open_artifact(tmp_path / "m").predict(
        keras_convnext.load_image_for(model.preprocessing, photo)[None]
    )[0]
    for entry in json.loads(printed)[0]["predictions"]:
        assert entry["class"] == NAMES[int(entry["id"])]
        expected = scores[int(entry["id"])]
        assert entry["score"] == pytest.approx(expected, abs=1e-6)


def test_imagenet_names_and_logits_alone_are_enough(tmp_path):
    model = keras_convnext.ConvNeXt(
        (1,),
        (8,),
        input_shape=(32, 32, 3),
        classifier_activation=None,
        include_preprocessing=False,
        data_format=None,
        head_init_scale=30,
    )
    export(model, tmp_path / "m.onnx", data_format="channels_first")
    artifact = open_artifact(tmp_path / "m.onnx")
    assert artifact.metadata["classes"][2] == [
        "n01484850",
        "great_white_shark",
    ]
    images = np.stack([x[:32, :32] for x in PHOTOGRAPHS])
    mean, std = model.preprocessing.mean, model.preprocessing.std
    logits = keras.ops.convert_to_numpy(model((images / 255 - mean) / std))
    scores = artifact.predict(images)
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(
        np.log(scores / scores[:, :1]), logits - logits[:, :1], atol=1e-4
    )


def own_loss(labels, scores):
    return keras.ops.mean(scores - labels)


def test_artifacts_of_another_size_know_it(tmp_path):
    model, _ = pair("v1", input_shape=(None, None, 3))
    path = tmp_path / "m.onnx"
    export(model, path, image_size=(96, 64), verify=False)
    assert metadata_of(path)["preprocessing"]["image_size"] == [96, 64]


def test_keras_files_are_opened_without_their_training(tmp_path):
    model = small(classes=3, head_init_scale=30)
    model.compile("sgd", own_loss)
    model.save(tmp_path / "m.keras")
    artifact = open_artifact(tmp_path / "m.keras")
    images = np.stack([x[:32, :32] for x in PHOTOGRAPHS])
    expected = keras.ops.convert_to_numpy(model(images))
    np.testing.assert_allclose(artifact.predict(images), expected, atol=1e-5)


def test_predicting_without_a_classifier_is_refused(tmp_path):
    model = small(include_top=False, pooling="avg")
    model.save(tmp_path / "m.keras")
    artifact = open_artifact(tmp_path / "m.keras")
    images = np.stack([x[:32, :32] for x in PHOTOGRAPHS])
    with pytest.raises(ValueError, match=r"outputs \['features'\]\. `run`"):
        artifact.predict(images)


def test_files_of_others_are_refused(predict_command, photo, tmp_path):  # noqa: F811
    import onnx

    node = onnx.helper.make_node("Identity", ["image"], ["scores"])
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node], "g", [value("image", 1, [1])], [value("scores", 1, [1])]
    )
    proto = onnx.helper.make_model(
        graph,
        ir_version=9,
        opset_imports=[onnx.helper.make_opsetid("", 20)],
    )
    onnx.save(proto, tmp_path / "theirs.onnx")
    status, _, errors = predict_command(
        photo, "--model", tmp_path / "theirs.onnx"
    )
    assert status == 2
    assert "Expected a file that `keras-convnext export` wrote" in errors
    for path in (tmp_path, tmp_path / "none.onnx", tmp_path / "m.h5"):
        with pytest.raises(ValueError, match="Received: .*" + path.name):
            open_artifact(path)


def test_the_command_measures_and_says_so(model, tmp_path):
    model.save(tmp_path / "m.keras")
    arguments = (tmp_path / "m.keras", "--output", tmp_path / "m.onnx")
    result = invoke(*arguments, "--image-size", "64x96", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["difference"] <= report["bound"] <= 1e-3
    assert report["agreement"] == 1 and report["images"] == 2
    assert report["size_bytes"] == (tmp_path / "m.onnx").stat().st_size
    assert report["latency_ms"] > 0
    assert open_artifact(tmp_path / "m.onnx").metadata["size"] == [64, 96]
    assert isinstance(invoke(*arguments).exception, ValueError)
    result = invoke(*arguments, "--force", "--no-verify")
    assert result.exit_code == 0
    assert "LayerNormalization" in result.stdout


def test_help_has_examples():
    printed = " ".join(invoke("--help").output.split())
    assert "keras-convnext export mine.keras --output mine.onnx" in printed


def test_errors_are_one_line_and_status_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "keras_convnext", "export", "convnext_atto"]
        + ["--weights", "none", "--output", tmp_path / "m.foo"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and "m.foo" in done.stderr


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("m.foo", {}, "must end in one of"),
        ("m.onnx", {"format": "onx"}, "Did you mean onnx"),
        ("m.tflite", {"format": "onnx"}, "must end in '.onnx'"),
        ("none/m.onnx", {}, "folder to write to must exist"),
        ("there.onnx", {}, "overwrite=True"),
        ("folder", {"format": "saved_model"}, "overwrite=True"),
        (
            "folder",
            {"format": "saved_model", "overwrite": True},
            "Remove it yourself",
        ),
        ("m.onnx", {"quantization": "dynamic"}, "must be one of .*int8"),
        ("m.tflite", {"quantization": "int8"}, "representative_data"),
        ("m.onnx", {"representative_data": "x"}, "calibrates"),
        (
            "m.onnx",
            {
                "quantization": "int8",
                "representative_data": np.zeros((2, 32, 32, 3)),
            },
            r"shape \(n, 64, 64, 3\).*Received: shape \(2, 32, 32, 3\)",
        ),
        (
            "m.tflite",
            {"quantization": "int8", "image_size": "dynamic"},
            "at one size",
        ),
        ("m.onnx", {"image_size": 8}, "at least 32 pixels"),
        ("m.onnx", {"image_size": "big"}, "'dynamic', or an int"),
        ("m.onnx", {"data_format": "NCHW"}, "channels_first"),
        ("m.onnx", {"input_dtype": "int8"}, "uint8"),
        ("m.tflite", {"batch_size": "any"}, "dynamic"),
    ],
)
def test_bad_arguments_end_before_any_work(
    model, name, options, message, monkeypatch, tmp_path
):
    # Nor is the model copied.
    monkeypatch.setattr(exporting, "Exportable", None)
    (tmp_path / "there.onnx").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("mine")
    with pytest.raises(ValueError, match=message) as error:
        export(model, tmp_path / name, **options)
    assert "Received: " in str(error.value)
    assert sorted(x.name for x in tmp_path.rglob("*")) == [
        "file",
        "folder",
        "there.onnx",
    ]


@pytest.mark.parametrize(
    "name, neighbor", [("m.xml", "m.bin"), ("m.onnx", "m.onnx.data")]
)
def test_neighbors_stay(model, name, neighbor, monkeypatch, tmp_path):
    """OpenVINO's weights lie beside the file, as those of large ONNX files."""

    def write(exportable, path, images):
        path.write_text("new")
        path.with_name(neighbor).write_text("weights")

    monkeypatch.setattr(handover, "write_here", write)
    monkeypatch.setattr(exporting, "check_packages", lambda *_: None)
    monkeypatch.setattr(verification, "describe", described)
    (tmp_path / neighbor).write_text("mine")
    with pytest.raises(ValueError, match=f"overwrite=True.*{neighbor}'"):
        export(model, tmp_path / name, verify=False)
    assert [x.read_text() for x in tmp_path.iterdir()] == ["mine"]
    export(model, tmp_path / name, verify=False, overwrite=True)
    assert (tmp_path / name).read_text() == "new"
    assert (tmp_path / neighbor).read_text() == "weights"
    (tmp_path / neighbor).unlink()
    (tmp_path / neighbor).mkdir()
    with pytest.raises(ValueError, match=f"{neighbor}'. Remove it yourself"):
        export(model, tmp_path / name, verify=False, overwrite=True)
    assert (tmp_path / name).read_text() == "new"


def described(path, exportable):
    return verification.Report(path, exportable.format, None, 0)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
@pytest.mark.parametrize(
    "make, options, message",
    [
        (Subclassed, {}, "Functional.*Received: Subclassed"),
        (lambda: "convnext_tiny", {}, "Functional.*Received: str"),
        (
            lambda: keras.Sequential(
                [keras.Input((3,)), keras.layers.Dense(2)]
            ),
            {},
            "one input, a batch of images",
        ),
        (
            lambda: keras.Sequential(
                [
                    small(include_top=False, pooling="avg"),
                    keras.layers.Dense(2),
                ]
            ),
            {"features": True},
            "takes a model with its classifier",
        ),
        (
            lambda: small(include_preprocessing=False),
            {"input_dtype": "uint8"},
            "normalize",
        ),
        (lambda: quantized(small()), {}, "from before `quantize`"),
    ],
)
def test_bad_models_end_before_any_work(
    make, options, message, monkeypatch, tmp_path
):
    monkeypatch.setattr(exporting, "_write_and_compare", None)
    with pytest.raises(ValueError, match=message):
        export(make(), tmp_path / "m.onnx", **options)
    assert not list(tmp_path.iterdir())


def small(**options):
    return keras_convnext.ConvNeXt(
        (1,), (8,), input_shape=(32, 32, 3), **options
    )


def quantized(model):
    model.quantize("int8")
    return model


def test_tflite_says_its_limit_before_work(model, monkeypatch, tmp_path):
    small = options.LIMITS["tflite"]._replace(bytes=1000)
    monkeypatch.setitem(options.LIMITS, "tflite", small)
    with pytest.raises(ValueError, match="hold at most 2 GB.*'onnx'"):
        export(model, tmp_path / "m.tflite")


def test_models_without_a_variant_take_any_size():
    model = roadmap.build("patchify_stem", "small", classes=3)
    asked = (model, "torch", 48, None, "float32", None, False)
    assert options.checked(*asked)["size"] == [48, 48]


def test_folders_that_are_not_writable(model, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OSError, match="writable.*Received.*m.onnx"):
        export(model, tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "name, module, extra",
    [
        ("m.onnx", "onnx", "export"),
        ("m.onnx", "onnxruntime", "export"),
        ("m.tflite", "ai_edge_litert", "export"),
        ("m.tflite", "tensorflow", "export,tensorflow"),
    ],
)
def test_missing_packages_name_their_extra(
    model, name, module, extra, monkeypatch, tmp_path
):
    find = requirements.importlib.util.find_spec
    monkeypatch.setattr(
        requirements.importlib.util,
        "find_spec",
        lambda x: None if x == module else find(x),
    )
    message = rf'pip install "keras-convnext\[{extra}\]"'
    with pytest.raises(ImportError, match=message):
        export(model, tmp_path / name)


def test_artifacts_that_differ_are_kept_and_reported(
    model, monkeypatch, tmp_path
):
    from keras_convnext.layers import activations
    from keras_convnext.layers import forms

    export(model, tmp_path / "m.onnx")
    good = (tmp_path / "m.onnx").read_bytes()
    monkeypatch.setitem(
        forms.ACTIVATIONS,
        activations.gelu,
        lambda g, x: g.add("Gelu", x, approximate="tanh"),
    )
    with pytest.raises(ValueError, match="differ by up to .* kept in") as error:
        export(model, tmp_path / "m.onnx", overwrite=True)
    assert (tmp_path / "m.onnx").read_bytes() == good
    (kept,) = tmp_path.glob("unverified_*/m.onnx")
    assert str(kept.parent) in str(error.value)
    export(model, tmp_path / "m.onnx", overwrite=True, verify=False)
    assert (tmp_path / "m.onnx").read_bytes() == kept.read_bytes()


def test_nan_is_a_difference(model, monkeypatch, tmp_path):
    from keras_convnext.layers import activations
    from keras_convnext.layers import forms

    monkeypatch.setitem(
        forms.ACTIVATIONS,
        activations.gelu,
        lambda g, x: g.add("Log", g.add("Neg", g.add("Mul", x, x))),
    )
    with pytest.raises(ValueError, match="differ by up to"):
        export(model, tmp_path / "m.onnx")


def test_int8_tells_the_largest_difference_of_all_batches():
    report = verification.Report(Path("m.onnx"), "onnx", "int8", 0, images=2)
    logits = np.array([[1.0, 2.0, 4.0]])
    batches = [{"scores": logits, "logits": logits}] * 2
    outputs = [batches[0], {"scores": logits, "logits": logits + 0.5}]
    compared = verification.compared(report, batches, outputs, None)
    assert (compared.difference, compared.bound) == (0.5, None)
    assert (compared.agreement, compared.problem) == (1.0, "")


def test_failures_leave_nothing_behind(model, monkeypatch, tmp_path):
    def fail(*arguments):
        arguments[1].write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(handover, "write_here", fail)
    with pytest.raises(OSError, match="no space left"):
        export(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_errors_of_the_other_process_come_back(model, tmp_path):
    """Whatever the backend: this one starts itself."""
    backend = keras.backend.backend()
    exportable = Exportable.of(model, "onnx", metadata.of_model(model))
    with pytest.raises(OSError, match="none"):
        path = tmp_path / "none" / "m.onnx"
        handover.write(backend, exportable, path, None)


def test_the_other_process_leaves_the_gpu_to_this_one():
    assert handover.environment("jax")["CUDA_VISIBLE_DEVICES"] == ""


def test_images_to_calibrate_on_are_taken_evenly(monkeypatch, tmp_path):
    """Folders are often sorted by class."""
    monkeypatch.setattr(real_images, "FOLDER_IMAGES", 2)
    for gray in range(4):
        pixels = np.full((32, 32, 3), gray, "uint8")
        Image.fromarray(pixels).save(tmp_path / f"{gray}.png")
    known = {
        "preprocessing": Preprocessing((32, 32)),
        "normalizes": True,
        "quantization": "int8",
        "size": [32, 32],
        "channels": 3,
        "data_format": "channels_last",
        "input_dtype": "float32",
    }
    found = real_images.to_calibrate(tmp_path, known)
    assert found.shape == (2, 32, 32, 3)
    assert found[:, 0, 0, 0].tolist() == [0, 2]


def test_many_images_are_compared_in_batches(model, monkeypatch, tmp_path):
    monkeypatch.setattr(real_images, "BATCH", 3)
    given, run = [], verification.run_here

    def run_here(path, inputs):
        given.extend(len(batch) for batch in inputs)
        return run(path, inputs)

    monkeypatch.setattr(verification, "run_here", run_here)
    images = np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3))
    report = export(model, tmp_path / "m.onnx", verification_data=images)
    assert given == [3, 3, 1]
    assert report.images == 7
    assert report.difference <= report.bound


def test_the_batch_tool_resumes_and_reports(capsys, tmp_path):
    path = Path(__file__).parents[2] / "conversion" / "export_variants.py"
    spec = importlib.util.spec_from_file_location("export_variants", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    arguments = ["test_convnext", "--kinds", "onnx", "--output", str(tmp_path)]
    assert tool.main(arguments) == 0
    assert "[1/1] test_convnext.none.onnx: equal" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    entry = manifest["test_convnext.none.onnx"]
    assert entry["difference"] <= entry["bound"]
    assert "| equal |" in (tmp_path / "manifest.md").read_text()
    assert tool.main(arguments) == 0
    assert "done before" in capsys.readouterr().out
    (tmp_path / "test_convnext.none.onnx").unlink()
    assert tool.main([*arguments, "--measure-only"]) == 0
    assert not (tmp_path / "test_convnext.none.onnx").exists()
    assert tool.main(arguments) == 0
    assert "done before" in capsys.readouterr().out
