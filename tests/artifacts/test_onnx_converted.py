"""Models with layers that have no ONNX form here: tf2onnx converts them."""

import json

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import BACKEND
from conftest import short_on
from exported import outputs_of
from exported import photographs
from exported import run_onnx
from keras import layers
from onnx import helper
from typer.testing import CliRunner

import keras_convnext
from keras_convnext import accelerate
from keras_convnext import open_artifact
from keras_convnext.artifacts import handover
from keras_convnext.artifacts import onnx_converted
from keras_convnext.cli import app

pytestmark = short_on("tensorflow")


def backbone(size=None, depths=(1, 1)):
    return keras_convnext.ConvNeXt(
        depths,
        (8, 16, 24, 32)[: len(depths)],
        input_shape=(size, size, 3),
        include_top=False,
        head_init_scale=30,
    )


def with_layers_of_others():
    """A head as users write it, for images of any size."""
    body = backbone()
    x = layers.Conv2D(16, 1, activation="leaky_relu")(body.output)
    x = layers.Multiply()([layers.Conv2D(16, 1, activation="gelu")(x), x])
    x = layers.GroupNormalization(4)(x)
    x = layers.GlobalAveragePooling2D()(keras.ops.sin(x) + x)
    return keras.Model(body.input, layers.Dense(3, activation="softmax")(x))


def nested():
    """A recurrent head in a model of its own, behind channels_first."""
    body = backbone(64)
    tokens = keras.Input((64, 16))
    x = layers.MultiHeadAttention(2, 8)(tokens, tokens)
    x = layers.LSTM(6)(layers.UnitNormalization()(x))
    head = keras.Model(tokens, layers.Dense(3)(x))
    tokens = layers.Reshape((-1, 16))(body.output)
    return keras.Model(body.input, head(tokens))


def of_keras_cv(name, **options):
    keras_cv = pytest.importorskip("keras_cv", exc_type=ImportError)
    kind = keras_cv.models
    for part in name.split("."):
        kind = getattr(kind, part)
    return kind(num_classes=3, backbone=backbone(128, (1, 1, 1, 1)), **options)


MODELS = {
    "layers_of_others": with_layers_of_others,
    "nested": nested,
    "RetinaNet": lambda: of_keras_cv("RetinaNet", bounding_box_format="xyxy"),
    "YOLOV8Detector": lambda: of_keras_cv(
        "YOLOV8Detector", bounding_box_format="xyxy", fpn_depth=1
    ),
    "DeepLabV3Plus": lambda: of_keras_cv("DeepLabV3Plus"),
    "SegFormer": lambda: of_keras_cv(
        "segmentation.SegFormer", projection_filters=8
    ),
}


def test_the_command_converts_and_says_so(tmp_path):
    """For images of any size and any number, in order, with logits."""
    model = with_layers_of_others()
    model.save(tmp_path / "m.keras")
    path = tmp_path / "m.onnx"
    words = ["export", tmp_path / "m.keras", "--output", path, "--json"]
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code == 0, done.output
    assert "leaky_relu" in done.stderr and "tf2onnx converts" in done.stderr
    report = json.loads(done.stdout)
    assert report["converter"] == "tf2onnx"
    assert report["difference"] <= report["bound"]
    assert report["images"] == 4  # of two sizes
    for size in ((64, 64), (96, 160)):
        images = photographs(*size).astype("float32")
        found = run_onnx(path, images)
        assert list(found) == ["scores"]
        expected = outputs_of(model, images)
        assert np.ptp(expected, axis=0).max() > 1e-2
        np.testing.assert_allclose(found["scores"], expected, rtol=0, atol=1e-5)
    session = onnxruntime.InferenceSession(path)
    assert session.get_inputs()[0].shape[0] == "batch"
    assert session.get_outputs()[0].shape == ["batch", 3]


@pytest.mark.long
@pytest.mark.parametrize("name", MODELS)
def test_all_kinds_of_models(name, record_property, tmp_path):
    model = MODELS[name]()
    report = keras_convnext.export(model, tmp_path / "m.onnx", verbose=False)
    assert report.converter == "tf2onnx"
    assert report.difference <= report.bound
    record_property("largest difference", f"{report.difference:.1e}")
    shape = [x or 96 for x in model.input_shape[1:3]]
    images = photographs(*shape).astype("float32")
    expected = model(images, training=False)
    if not isinstance(expected, dict):
        expected = {"": expected}
    found = run_onnx(tmp_path / "m.onnx", images)
    for (key, theirs), ours in zip(expected.items(), found.values()):
        assert key in ("", *found)
        ours = found.get(key, ours)
        theirs = keras.ops.convert_to_numpy(theirs)
        scale = max(1, np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * scale)


@pytest.mark.long
@pytest.mark.parametrize(
    "name, options",
    [
        ("m.onnx", {"quantization": "float16", "input_dtype": "uint8"}),
        ("m.onnx", {"quantization": "int8_weight_only"}),
        ("m.onnx", {"data_format": "channels_first"}),
        ("m.xml", {}),
    ],
)
def test_every_precision_and_openvino(name, options, tmp_path):
    model = with_layers_of_others()
    report = keras_convnext.export(
        model, tmp_path / name, verbose=False, **options
    )
    assert report.converter == "tf2onnx"
    assert not report.problem and report.agreement == 1
    images = photographs(64, 64)
    found = open_artifact(tmp_path / name).predict(images)
    expected = outputs_of(model, images.astype("float32"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2)


def unknown(size=32):
    body = backbone(size)
    outputs = layers.UnitNormalization(name="units")(body.output)
    return keras.Model(body.input, outputs)


@pytest.mark.every_backend
@pytest.mark.parametrize("module", ["tf2onnx", "tensorflow"])
def test_without_the_converter_the_layer_is_named(
    module, monkeypatch, tmp_path
):
    monkeypatch.setattr(onnx_converted, "is_installed", lambda x: x != module)
    extras = "export" if module == "tf2onnx" else "export,tensorflow"
    with pytest.raises(
        ImportError, match=rf"'units', a UnitNormalization.*\[{extras}\]"
    ):
        keras_convnext.export(unknown(), tmp_path / "m.onnx", verbose=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.every_backend
def test_races_wait_for_no_converter(monkeypatch):
    monkeypatch.setattr(onnx_converted, "converted", None)
    fast = accelerate(unknown(), "onnxruntime", verbose=False)
    with pytest.raises(ValueError, match="'units', a UnitNormalization"):
        fast(np.zeros((1, 32, 32, 3), "float32"))


@pytest.mark.once
def test_operations_that_are_left_over_are_named():
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatrixBandPart", ["x"], ["y"])],
        "g",
        [value("x", 1, [1])],
        [value("y", 1, [1])],
    )
    opsets = [helper.make_opsetid("", onnx_converted.OPSET)]
    proto = helper.make_model(graph, opset_imports=opsets)
    with pytest.raises(ValueError, match=r"TensorFlow's \['MatrixBandPart'\]"):
        onnx_converted._check_operations(proto)
    assert not onnx.defs.has("MatrixBandPart")


@pytest.mark.every_backend
def test_classes_that_only_this_process_has_are_named(tmp_path):
    class Own(layers.Layer):
        def call(self, x):
            return x

    image = keras.Input((8, 8, 3))
    keras.Model(image, Own()(image)).save(tmp_path / "m.keras")
    message = f"another process can import.*Own.*KERAS_BACKEND={BACKEND}"
    with pytest.raises(ValueError, match=message):
        handover._loaded(tmp_path / "m.keras")
