"""Exported UperNets: they answer as transformers does, and run in `segment`."""

import json

import keras
import numpy as np
import pytest
import torch
from conftest import LONG_WHERE_COMPILED
from conftest import random_images
from conftest import short_on
from exported import RUN
from exported import photographs
from families import FAMILIES
from families import SMALL
from onnx import helper
from onnxruntime import InferenceSession
from peers import peer_logits
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F
from upernet_peers import peer_of

import keras_convnext
from keras_convnext import open_artifact
from keras_convnext import segmentation
from keras_convnext.artifacts import onnx_graph
from keras_convnext.models.construction import build
from keras_convnext.tasks.segmentation import UperNet
from keras_convnext.tasks.segmentation import resampling

pytestmark = LONG_WHERE_COMPILED

BACKEND = keras.backend.backend()
SIZE = (64, 96)


def written_layer(layer, *shapes):
    """A session of one layer, whose inputs have known ranks alone."""
    g = onnx_graph.Graph(reserved=("y", "0", "1"))
    names = [str(number) for number in range(len(shapes))]
    given = names if len(names) > 1 else names[0]
    g.add("Identity", onnx_graph.write_layer(g, layer, given), output="y")
    value = helper.make_tensor_value_info
    inputs = [value(name, 1, [None] * 4) for name in names]
    graph = helper.make_graph(
        g.nodes, "g", inputs, [value("y", 1, None)], g.initializers
    )
    opsets = [helper.make_opsetid("", onnx_graph.OPSET)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return InferenceSession(proto.SerializeToString())


@pytest.mark.once
def test_grids_in_onnx_are_those_of_torch():
    """One graph for all sizes, smaller, larger and those that divide."""
    resize = written_layer(resampling.BilinearResize(), 4, 4)
    pool = written_layer(resampling.GridAveragePooling(3), 4)
    for size, goal in (((2, 3), (5, 7)), ((7, 10), (6, 6)), ((9, 4), (4, 9))):
        x = random_images((2, *size, 5))
        maps = torch.from_numpy(x).permute(0, 3, 1, 2)
        like = np.zeros((1, *goal, 1), "float32")
        for found, expected in (
            (
                resize.run(None, {"0": x, "1": like})[0],
                F.interpolate(maps, goal, mode="bilinear"),
            ),
            (pool.run(None, {"0": x})[0], F.adaptive_avg_pool2d(maps, 3)),
        ):
            expected = expected.permute(0, 2, 3, 1).numpy()
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


@pytest.fixture(scope="module")
def peer():
    return peer_of(FAMILIES["v1"])


@pytest.fixture(scope="module")
def model(peer, tmp_path_factory):
    """Both heads, with the peer's weights."""
    path = tmp_path_factory.mktemp("peer") / "model.safetensors"
    save_file(peer.state_dict(), path)
    backbone = build(FAMILIES["v1"], include_top=False, weights=None)
    return UperNet(backbone, weights=path)


FORMATS = [
    pytest.param("onnx", ".onnx", None, "dynamic"),
    pytest.param("onnx", ".onnx", "float16", SIZE, marks=pytest.mark.long),
    pytest.param("openvino", ".xml", None, "dynamic", marks=pytest.mark.long),
    pytest.param("tflite", ".tflite", None, SIZE, marks=pytest.mark.long),
    pytest.param("saved_model", "", None, "dynamic", marks=pytest.mark.long),
]


@pytest.mark.parametrize("format, ending, quantization, size", FORMATS)
def test_files_answer_as_transformers_does(
    peer, model, format, ending, quantization, size, record_property, tmp_path
):
    path = tmp_path / f"m{ending}"
    report = keras_convnext.export(
        model,
        path,
        format,
        quantization=quantization,
        image_size=size,
        verbose=False,
    )
    assert report.agreement > (0.99 if quantization else 0.9999)
    images = photographs(*SIZE).astype("float32")
    run = RUN.get(format)
    found = run(path, images) if run else open_artifact(path).run(images)
    assert list(found) == ["decode"]
    expected = peer_logits(peer, images)
    expected = expected.transpose(0, 2, 3, 1)
    assert expected.std(axis=(1, 2)).min() > 0.05
    scale = max(1, np.abs(expected).max())
    bound = (1e-2 if quantization else 1e-4) * scale
    difference = np.abs(found["decode"] - expected).max()
    record_property("largest difference", f"{difference:.1e}")
    assert difference <= bound


def small(**options):
    keras.utils.set_random_seed(0)
    backbone = keras_convnext.ConvNeXt(
        **{**SMALL, **options}, include_top=False, layer_scale_init_value=1.0
    )
    return UperNet(backbone, ["sky", "sea"], channels=8, crop=64)


def test_segment_takes_exported_files(run_command, tmp_path):
    """In every way that it looks at an image; and the command tells alike."""
    pixels = random_images((64, 100, 3)).astype("uint8")
    photo = tmp_path / "photo.png"
    Image.fromarray(pixels).save(photo)
    model = small()
    model.save(tmp_path / "m.keras")
    keras_convnext.export(
        model, tmp_path / "m.onnx", image_size="dynamic", verify=False
    )
    artifact = open_artifact(tmp_path / "m.onnx")
    for mode, options in (
        ("slide", {"crop": 48}),
        ("whole", {"scales": (0.75, 1), "flip": True}),
    ):
        found, expected = (
            segmentation.class_probabilities(x, pixels, mode, **options)
            for x in (artifact, model)
        )
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        assert np.ptp(expected) > 1e-2
    printed = []
    for name in ("m.keras", "m.onnx"):
        status, text, errors = run_command(
            *("segment", photo, "--model", tmp_path / name, "--json"),
            *("--output", tmp_path / "out.png", "--force"),
        )
        assert status == 0, errors
        printed.append(json.loads(text))
    of_model, of_file = (x.pop("classes") for x in printed)
    assert printed[0] == printed[1]
    assert [x["class"] for x in of_file] == [x["class"] for x in of_model]
    for ours, theirs in zip(of_file, of_model):
        assert ours["share"] == pytest.approx(theirs["share"], abs=1e-3)


def test_files_of_one_size_and_classifiers_are_told(tmp_path):
    pixels = random_images((64, 100, 3)).astype("uint8")
    keras_convnext.export(
        small(input_shape=(64, 64, 3)), tmp_path / "m.onnx", verify=False
    )
    artifact = open_artifact(tmp_path / "m.onnx")
    assert segmentation.segment(artifact, pixels).shape == (64, 100)
    with pytest.raises(ValueError, match="m.onnx' takes images of 64x64 pix"):
        segmentation.segment(artifact, pixels, crop=32)
    classifier = keras_convnext.ConvNeXt((1,), (8,), input_shape=(32, 32, 3))
    keras_convnext.export(classifier, tmp_path / "c.onnx", verify=False)
    with pytest.raises(ValueError, match=r"Expected a segmenter .*c\.onnx'"):
        segmentation.segment(open_artifact(tmp_path / "c.onnx"), pixels)


@short_on("torch")
def test_training_is_left_out(tmp_path):
    """The auxiliary head and its weights."""
    import onnx

    keras_convnext.export(small(), tmp_path / "m.onnx", verify=False)
    names = {x.name for x in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert any("decode_fusion" in name for name in names)
    assert not any("auxiliary" in name for name in names)
