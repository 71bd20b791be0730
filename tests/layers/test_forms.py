"""Each kind of layer computes the same in all its forms.

To add a kind of layer, add its row to `SAMPLES`.
"""

import keras
import numpy as np
import onnxruntime
import pytest
from conftest import random_images
from keras import layers

from keras_convnext import layers as ours
from keras_convnext.artifacts import metadata
from keras_convnext.artifacts.exportable import Exportable
from keras_convnext.artifacts.onnx import save
from keras_convnext.artifacts.onnx import to_onnx
from keras_convnext.layers import forms
from keras_convnext.layers import norms
from keras_convnext.layers import plain
from keras_convnext.models.model import ModelCard

SHAPE = (8, 8, 4)
TWICE = (plain.Add, layers.Add, layers.Concatenate)
# Arguments of a layer of each kind.
SAMPLES = {
    ModelCard: {},
    layers.Activation: {"activation": "gelu"},
    layers.Add: {},
    layers.BatchNormalization: {},
    layers.Concatenate: {},
    layers.Conv2D: {"filters": 3, "kernel_size": 2, "strides": 2},
    layers.Conv2DTranspose: {"filters": 3, "kernel_size": 2, "strides": 2},
    layers.Dense: {"units": 3},
    layers.Dropout: {"rate": 0.5},
    layers.Flatten: {},
    layers.GlobalAveragePooling2D: {},
    layers.GlobalMaxPooling2D: {},
    layers.LayerNormalization: {"axis": 3},  # the last, as Keras 3.16 has it
    layers.MaxPooling2D: {"pool_size": 3, "strides": 2},
    layers.Permute: {"dims": (3, 1, 2)},
    layers.ReLU: {},
    layers.Reshape: {"target_shape": (-1, 2)},
    layers.Rescaling: {"scale": 0.5, "offset": -1.0},
    layers.UpSampling2D: {"size": (2, 3)},
    layers.ZeroPadding2D: {},
    norms.LayerNormalization: {},
    norms.RMSNormalization: {},
    ours.DepthwiseConv2D: {"kernel_size": 3, "dilation_rate": 2},
    ours.GlobalResponseNormalization: {},
    ours.ImageNormalization: {"mean": [0.4] * 4, "std": [0.2] * 4},
    ours.LayerScale: {},
    ours.SimpleNormalization: {},
    ours.TargetUnits: {"mean": [40.0] * 4, "std": [13.0] * 4},
    plain.Add: {},
    plain.Conv2D: {"filters": 3, "kernel_size": 3, "padding": "same"},
    plain.Conv2DTranspose: {"filters": 3, "kernel_size": 2, "strides": 2},
    plain.Dense: {"units": 3},
    plain.GlobalAveragePooling2D: {},
    plain.RowBatchNormalization: {},
}


def sample(kind):
    """A layer with random weights, its input, and its output."""
    image = keras.Input(SHAPE)
    layer = kind(**SAMPLES[kind])
    given = [image, image] if kind in TWICE else image
    model = keras.Model(image, layer(given))
    generator = np.random.default_rng(0)
    for weight in layer.weights:
        if weight.name != "seed_generator_state":
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
    images = random_images((2, *SHAPE)) / 255
    x = keras.ops.convert_to_tensor(images)
    expected = keras.ops.convert_to_numpy(model(images, training=False))
    return model, layer, [x, x] if kind in TWICE else x, expected


def check(found, expected):
    found = keras.ops.convert_to_numpy(found)
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)


def test_every_kind_has_a_sample():
    # Those of tasks: test_detection_export.py, test_segmentation_export.py.
    own = {kind for kind in forms.kinds() if ".tasks." not in kind.__module__}
    assert set(SAMPLES) == own


@pytest.mark.parametrize("kind", SAMPLES)
def test_variables_have_their_names(kind):
    _, layer, _, _ = sample(kind)
    names = [x.name for x in layer.weights if "seed" not in x.name]
    assert names == list(forms.of(layer).variables)


@pytest.mark.parametrize("name", ["torch", "torch_into", "tensorflow"])
@pytest.mark.parametrize("kind", SAMPLES)
def test_forms_compute_what_the_layer_does(kind, name):
    _, layer, x, expected = sample(kind)
    form = getattr(forms.of(layer), name)
    if form is None or keras.backend.backend() != name.partition("_")[0]:
        pytest.skip("none, or of another backend")
    if name == "torch_into":
        x = x.clone()
        import torch

        with torch.no_grad():
            found = form(layer, x)
        assert found.data_ptr() == x.data_ptr()
    else:
        found = form(layer, x)
    check(found, expected)


@pytest.mark.parametrize("kind", SAMPLES)
def test_onnx_computes_what_the_layer_does(kind, tmp_path):
    model, layer, x, expected = sample(kind)
    if forms.of(layer).onnx is None:
        pytest.skip("is not written")
    exportable = Exportable.of(model, "onnx", metadata.of_model(model))
    save(to_onnx(exportable), tmp_path / "layer.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "layer.onnx")
    images = x[0] if kind in TWICE else x
    images = keras.ops.convert_to_numpy(images)
    found, *_ = session.run(None, {"image": images})
    check(found, expected)
