"""Detectors as ONNX, OpenVINO and SavedModel: they find what the model does."""

import functools
import tempfile
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import short_on
from detector_files import DETECTORS
from detector_files import file_of
from detector_files import small
from mmdet_reference import answers
from mmdet_reference import formula
from onnx import helper

import keras_convnext
from keras_convnext import detection
from keras_convnext.artifacts import detection_rows
from keras_convnext.artifacts import onnx_graph
from keras_convnext.layers import forms
from keras_convnext.tasks.detection import layers

SHORT_ON_TORCH = short_on("torch")
# Two kinds, the larger one later on backends that compile.
KINDS_AND_TIME = [
    "mask_rcnn",
    pytest.param("cascade", marks=LONG_WHERE_COMPILED),
]


@functools.cache
def loaded(kind, **options):
    """With the weights of mmdetection's answers."""
    with tempfile.TemporaryDirectory() as folder:
        path = file_of(kind, Path(folder))
        return small(kind, path, proposals=formula.PROPOSALS, **options)


@pytest.fixture
def session(tmp_path):
    """Exports a detector to ONNX, and opens it."""

    def of(model, **options):
        path = tmp_path / "model.onnx"
        keras_convnext.export(model, path, verify=False, **options)
        return onnxruntime.InferenceSession(path)

    return of


def run(session, images):
    names = [output.name for output in session.get_outputs()]
    results = session.run(names, {"image": images.astype("float32")})
    return dict(zip(names, results))


def first(outputs):
    return {name: x[0] for name, x in outputs.items()}


@pytest.mark.parametrize("kind", KINDS_AND_TIME)
def test_onnx_answers_as_mmdetection_does_at_any_size(kind, session):
    """An image that needs no canvas but its own, and one that gets it."""
    theirs, opened = answers.load(kind), session(loaded(kind))
    for index, name in ((0, "found_0"), (1, "found_alone")):
        ours = first(run(opened, formula.images()[index][None]))
        # Boxes are in pixels of the image that went in.
        size = np.array(formula.SIZES[index][::-1] * 2)
        original = np.array(formula.ORIGINAL_SIZES[index][::-1] * 2)
        boxes = theirs[f"{name}/boxes"] * size / original
        count = len(boxes)
        for values, expected, atol in (
            (ours["boxes"], boxes, 1e-3),
            (ours["scores"], theirs[f"{name}/scores"], 1e-4),
            (ours["classes"], theirs[f"{name}/classes"], 0),
        ):
            np.testing.assert_allclose(
                values[:count], expected, rtol=0, atol=atol
            )
        assert (ours["classes"][count:] == -1).all()
    maps = answers.probabilities(theirs["found_0/maps"])
    ours = first(run(opened, formula.images()[0][None]))
    count = len(theirs["found_0/boxes"])
    np.testing.assert_allclose(
        ours["masks"][:count][:: answers.STEP], maps, rtol=0, atol=1e-4
    )


@pytest.mark.once
def test_every_layer_of_detectors_is_written():
    kinds = {
        kind
        for kind in vars(layers).values()
        if isinstance(kind, type) and kind.__module__ == layers.__name__
    }
    kinds.remove(layers.BoxLayer)
    written = {x for x in forms.kinds() if x.__module__ == layers.__name__}
    assert written == kinds


@SHORT_ON_TORCH
def test_onnx_aligns_regions_of_all_levels():
    """Small models find nothing that is large enough for three of them."""
    trunk, theirs = answers.load("trunk"), answers.load("mask_rcnn")
    maps = [trunk[f"map_{level}"] for level in range(4)]
    layer = layers.RoIAlign(7)
    g = onnx_graph.Graph(reserved=("y",))
    names = [g.constant(x) for x in maps]
    boxes = g.constant(np.float32(formula.ROIS))
    g.add(
        "Identity", onnx_graph.write_layer(g, layer, names, boxes), output="y"
    )
    output = helper.make_tensor_value_info("y", 1, None)
    graph = helper.make_graph(g.nodes, "regions", [], [output], g.initializers)
    opsets = [helper.make_opsetid("", onnx_graph.OPSET)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    opened = onnxruntime.InferenceSession(proto.SerializeToString())
    (found,) = opened.run(["y"], {})
    np.testing.assert_allclose(found, theirs["pooled"], rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_images_of_a_batch_do_not_touch_each_other(session):
    opened = session(loaded("mask_rcnn"))
    images = np.stack([formula.image(seed, 70, 100) for seed in (5, 6, 7)])
    together = run(opened, images)
    for index, image in enumerate(images):
        alone = run(opened, image[None])
        for name, values in first(alone).items():
            np.testing.assert_allclose(
                together[name][index], values, rtol=1e-4, atol=1e-3
            )


@SHORT_ON_TORCH
def test_nothing_found_is_zeros(session):
    opened = session(loaded("mask_rcnn", score_threshold=0.9999))
    found = run(opened, formula.images()[0][None])
    assert (found.pop("classes") == -1).all()
    assert not any(x.any() for x in found.values())


IMAGES = np.stack([formula.image(seed, 64, 96) for seed in (5, 6)])


@SHORT_ON_TORCH
def test_exports_are_verified(tmp_path):
    report = keras_convnext.export(
        loaded("mask_rcnn"),
        tmp_path / "model.onnx",
        verification_data=IMAGES,
        verbose=False,
    )
    assert 0 < report.difference <= report.bound < 0.02
    assert report.agreement is None and report.images == 2
    assert report.operations["NonMaxSuppression"] == 6
    assert report.operations["RoiAlign"] == 8


@pytest.mark.long
@pytest.mark.parametrize(
    "format, options",
    [
        ("onnx", {"image_size": (64, 96), "input_dtype": "uint8"}),
        ("onnx", {"data_format": "channels_first"}),
        ("openvino", {"image_size": (64, 96)}),
    ],
)
def test_exports_with_options_are_verified(format, options, tmp_path):
    ending = {"onnx": ".onnx", "openvino": ".xml"}[format]
    path = tmp_path / f"model{ending}"
    report = keras_convnext.export(loaded("mask_rcnn"), path, **options)
    assert 0 < report.difference <= report.bound


@pytest.mark.long
@pytest.mark.parametrize("kind", DETECTORS)
def test_saved_models_are_verified(kind, tmp_path):
    path = tmp_path / "model"
    report = keras_convnext.export(loaded(kind), path, "saved_model")
    assert 0 < report.difference <= report.bound


@pytest.mark.long
def test_mixed_precision_is_exported_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = small("mask_rcnn")
    keras.config.set_dtype_policy("float32")
    report = keras_convnext.export(model, tmp_path / "model.onnx")
    assert 0 < report.difference <= report.bound


@SHORT_ON_TORCH
def test_artifacts_know_their_classes(tmp_path):
    backbone = keras_convnext.ConvNeXt(
        depths=(1, 1, 1, 1), dims=(8,) * 4, weights=None, include_top=False
    )
    model = detection.MaskRCNN(backbone, ["cat", "dog"], channels=8, units=8)
    path = tmp_path / "model.onnx"
    keras_convnext.export(model, path, verify=False)
    artifact = keras_convnext.open_artifact(path)
    assert artifact.metadata["classes"] == [["0", "cat"], ["1", "dog"]]
    assert artifact.metadata["size"] == [None, None]
    with pytest.raises(ValueError, match="Expected a model with its classifie"):
        artifact.predict(np.zeros((1, 64, 64, 3)))


@pytest.mark.parametrize(
    "name, options",
    [
        ("model.tflite", {}),
        ("model.pt2", {}),
        ("model.onnx", {"quantization": "int8"}),
    ],
)
def test_what_detectors_are_not_exported_to(name, options, tmp_path):
    with pytest.raises(ValueError, match="in float32. Received: the detector"):
        keras_convnext.export(loaded("mask_rcnn"), tmp_path / name, **options)


@pytest.mark.once
def test_rows_change_places_for_equal_scores_only():
    outputs = {
        "boxes": np.float32([[[0] * 4, [9] * 4, [5] * 4]]),
        "scores": np.float32([[0.9, 0.9, 0.5]]),
        "classes": np.int32([[1, 1, 2]]),
    }
    swapped = {name: x[:, [1, 0, 2]] for name, x in outputs.items()}
    ordered = detection_rows.in_order(outputs, swapped)
    for name, values in outputs.items():
        np.testing.assert_array_equal(ordered[name], values)
    # Another score is another row: it stays where it is, and shows.
    apart = {**outputs, "scores": np.float32([[0.9, 0.8, 0.5]])}
    ordered = detection_rows.in_order(apart, swapped)
    assert abs(ordered["scores"] - apart["scores"]).max() > 0.05
