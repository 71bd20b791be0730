"""Keras' own `export`, and what PyTorch makes of models as modules.

What works for a plain Keras model works for ours, or the error names
`keras_convnext.export`.
"""

import keras
import numpy as np
import pytest
from conftest import BACKEND
from conftest import predict
from conftest import random_images
from families import FAMILIES
from families import every_weight_matters
from keras import layers

from keras_convnext.models.construction import build

on_torch = pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's")
SMALL = {"input_shape": (64, 64, 3), "classes": 5}


def built(family="v2", **options):
    """A small model in which every weight matters."""
    return every_weight_matters(
        build(FAMILIES[family], weights=None, **{**SMALL, **options})
    )


def transfer(**options):
    head = [layers.GlobalAveragePooling2D(), layers.Dense(3)]
    backbone = built(include_top=False, **options)
    return keras.Sequential([keras.Input((64, 64, 3)), backbone, *head])


MODELS = {
    "v1": lambda: built("v1", drop_path_rate=0.5),
    "v2": built,
    "rms": lambda: built("rms"),
    "overlap_act": lambda: built("overlap_act"),
    "isotropic": lambda: built("isotropic"),
    "pooled": lambda: built(include_top=False, pooling="avg"),
    "channels_first": lambda: built(
        input_shape=(3, 64, 64), data_format="channels_first"
    ),
    "transfer": transfer,
}
QUICK = ("v1", "rms", "transfer") if BACKEND == "torch" else ("transfer",)


def images_of(model):
    images = random_images((2, 64, 64, 3))
    is_first = model.input_shape[1] == 3
    return images.transpose(0, 3, 1, 2).copy() if is_first else images


def run_onnx(path, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def run_saved_model(path, images):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)  # whose variables go with it
    return loaded.serve(images).numpy()


def run_openvino(path, images):
    import openvino

    # Some processors compute in bfloat16 otherwise.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.compile_model(path, "CPU", settings)([images])[0]


def run_litert(path, images):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path)
    (image,), (output,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )
    interpreter.resize_tensor_input(image["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(image["index"], images)
    interpreter.invoke()
    return interpreter.get_tensor(output["index"])


# What Keras exports a plain model to, with the packages that tests install.
FORMATS = {
    "torch": ("onnx", "openvino"),
    "tensorflow": ("tf_saved_model", "openvino", "litert"),
    "jax": ("tf_saved_model",),
}[BACKEND]
RUN = {
    "onnx": (".onnx", run_onnx),
    "openvino": (".xml", run_openvino),
    "tf_saved_model": ("", run_saved_model),
    "litert": (".tflite", run_litert),
}


def cells():
    for name in MODELS:
        for format in FORMATS:
            is_quick = name in QUICK and format == FORMATS[0]
            marks = [] if is_quick else [pytest.mark.long]
            yield pytest.param(name, format, marks=marks)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, format", list(cells()))
def test_keras_exports_what_the_model_computes(name, format, tmp_path):
    model = MODELS[name]()
    images = images_of(model)
    expected = predict(model, images)
    model.predict(images, verbose=0)
    ending, run = RUN[format]
    path = str(tmp_path / f"model{ending}")
    model.export(path, format=format, verbose=False)
    found = np.asarray(run(path, images))
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.skipif(BACKEND != "jax", reason="others can")
@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_openvino_reads_no_graphs_of_jax(tmp_path):
    """Of no model: its converter does not know the operation they are."""
    plain = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(Exception, match="XlaCallModule"):
        plain.export(str(tmp_path / "m.xml"), format="openvino")
    with pytest.raises(ValueError, match=r"`keras_convnext\.export\("):
        built("v1").export(tmp_path / "m.xml", format="openvino")


def test_errors_of_keras_name_our_export(tmp_path):
    model = built("v1")
    for format in ("no_such", "openvino"):
        with pytest.raises(ValueError, match=r"`keras_convnext\.export\("):
            # Keras wants another ending.
            model.export(tmp_path / "model.zip", format=format)


@on_torch
@pytest.mark.parametrize(
    "name, strict",
    [
        ("v2", False),
        pytest.param("v1", True, marks=pytest.mark.long),
        pytest.param("v2", True, marks=pytest.mark.long),
        pytest.param("rms", True, marks=pytest.mark.long),
    ],
)
def test_torch_exports_the_model_as_a_module(name, strict):
    import torch

    model = MODELS[name]().eval()
    images = torch.from_numpy(images_of(model))
    sizes = (({0: torch.export.Dim("batch")},),)
    program = torch.export.export(
        model, (images,), dynamic_shapes=sizes, strict=strict
    )
    with torch.no_grad():
        found = program.module()(images[:1]).numpy()
    expected = predict(model, images[:1].numpy())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
