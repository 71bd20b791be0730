"""A model for inference computes the same with less."""

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import predict
from conftest import random_images

import keras_convnext
from keras_convnext import create_model
from keras_convnext import export
from keras_convnext import optimize_for_inference
from keras_convnext import rematerialized
from keras_convnext.layers import ImageNormalization
from keras_convnext.layers import LayerScale
from keras_convnext.models.inspection import all_layers
from keras_convnext.models.rematerialization import Rematerialized

pytestmark = LONG_WHERE_COMPILED


def randomized(model, seed=0):
    """Layer scale and GRN too; from their start they would hide errors."""
    generator = np.random.default_rng(seed)
    model.set_weights(
        [
            weight + 0.1 * generator.standard_normal(weight.shape)
            for weight in model.get_weights()
        ]
    )
    return model


def check_equal(model, fast, images):
    expected, found = predict(model, images), predict(fast, images)
    assert expected.std() > 1e-3
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)


def count(model, kind):
    return sum(isinstance(layer, kind) for layer in all_layers(model))


SMALL = {"depths": (1, 2), "dims": (16, 24), "input_shape": (32, 32, 3)}


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "options, normalizations",
    [
        ({}, 0),
        ({"grn": True, "layer_scale_init_value": 0.0}, 0),
        # Padded: zeros are no pixels.
        ({"stem": "overlap"}, 1),
        ({"stem": "overlap_act"}, 1),
        ({"norm": "rms_norm"}, 0),
        ({"patch_size": 16, "stem_norm": False}, 0),
        ({"include_preprocessing": False}, 0),
        ({"include_top": False}, 0),
    ],
)
def test_outputs_stay(options, normalizations):
    model = randomized(
        keras_convnext.ConvNeXt(
            **SMALL,
            classes=5,
            classifier_activation=None,
            drop_path_rate=0.2,
            dropout_rate=0.2,
            **options,
        )
    )
    fast = optimize_for_inference(model)
    images = random_images((2, 32, 32, 3))
    if options.get("include_preprocessing") is False:
        images /= 255
    check_equal(model, fast, images)
    assert count(fast, LayerScale) == count(fast, keras.layers.Dropout) == 0
    assert count(fast, ImageNormalization) == normalizations
    assert type(fast) is type(model)
    assert fast.preprocessing == model.preprocessing


def test_the_model_itself_stays(tmp_path):
    model = randomized(keras_convnext.ConvNeXt(**SMALL, classes=5))
    images = random_images((2, 32, 32, 3))
    before, expected = model.get_weights(), predict(model, images)
    nodes = len(model.get_config()["layers"])
    fast = optimize_for_inference(model)
    fast.set_weights([0 * weight for weight in fast.get_weights()])
    for weight, old in zip(model.get_weights(), before):
        np.testing.assert_array_equal(weight, old)
    np.testing.assert_array_equal(predict(model, images), expected)
    assert len(model.get_config()["layers"]) == nodes


def test_it_saves_and_loads(tmp_path):
    model = randomized(keras_convnext.ConvNeXt(**SMALL, classes=5))
    fast = optimize_for_inference(model)
    fast.save(tmp_path / "fast.keras")
    loaded = keras.saving.load_model(tmp_path / "fast.keras")
    images = random_images((2, 32, 32, 3))
    np.testing.assert_array_equal(
        predict(loaded, images), predict(fast, images)
    )


def test_half_precision_keeps_its_normalization():
    model = randomized(
        keras_convnext.ConvNeXt(**SMALL, classes=5, dtype="mixed_bfloat16")
    )
    fast = optimize_for_inference(model)
    assert count(fast, ImageNormalization) == 1
    assert count(fast, LayerScale) == 0
    images = random_images((2, 32, 32, 3))
    np.testing.assert_allclose(
        predict(fast, images), predict(model, images), atol=2e-2
    )


@pytest.mark.every_backend
def test_float64_stays_exact(float64):
    model = randomized(
        keras_convnext.ConvNeXt(
            **SMALL, classes=5, dtype="float64", classifier_activation=None
        )
    )
    images = random_images((2, 32, 32, 3))
    np.testing.assert_allclose(
        predict(optimize_for_inference(model), images),
        predict(model, images),
        atol=1e-12,
    )


def test_nested_backbones_and_layouts():
    backbone = randomized(
        keras_convnext.ConvNeXt(
            **{**SMALL, "input_shape": (3, 32, 32)},
            include_top=False,
            pooling="avg",
            data_format="channels_first",
            layer_prefix="own_",
        )
    )
    image = keras.Input((3, 32, 32))
    head = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(3)])
    model = keras.Sequential([image, backbone, head])
    fast = optimize_for_inference(model)
    check_equal(model, fast, random_images((2, 3, 32, 32)))
    assert count(fast, LayerScale) == count(fast, ImageNormalization) == 0


@pytest.fixture(scope="module")
def towers():
    """Two ConvNeXts of the same layers' names, the first called twice."""
    a, b = (
        randomized(
            keras_convnext.ConvNeXt(
                **SMALL, classes=5, classifier_activation=None, name=name
            ),
            seed,
        )
        for seed, name in enumerate("ab")
    )
    image = keras.Input((32, 32, 3))
    inner = keras.Sequential([a, keras.layers.Dense(5)])
    return keras.Model(
        image, keras.layers.Add()([a(image), b(image), inner(image)])
    )


def test_nested_models_keep_their_own_weights(towers):
    fast = optimize_for_inference(towers)
    check_equal(towers, fast, random_images((2, 32, 32, 3)))
    assert count(fast, LayerScale) == count(fast, ImageNormalization) == 0
    (inner,) = (x for x in fast.layers if x.name.startswith("sequential"))
    assert inner.get_layer("a") is fast.get_layer("a")


def test_nested_models_are_exported(towers, tmp_path):
    report = export(towers, tmp_path / "m.onnx", verbose=False)
    assert report.difference <= report.bound


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_rematerialized_blocks_are_unfolded(dtype, tmp_path):
    model = randomized(
        keras_convnext.ConvNeXt(
            **SMALL, classes=5, classifier_activation=None, dtype=dtype
        )
    )
    lean = rematerialized(model)
    fast = optimize_for_inference(lean)
    images = random_images((2, 32, 32, 3))
    atol = 1e-5 if dtype == "float32" else 2e-2
    np.testing.assert_allclose(
        predict(fast, images), predict(model, images), atol=atol
    )
    assert not any(isinstance(x, Rematerialized) for x in fast.layers)
    assert count(fast, LayerScale) == 0
    report = export(lean, tmp_path / "m.onnx", verbose=False)
    assert report.difference <= report.bound


def test_the_normalization_may_stay():
    model = create_model("test_convnext2", weights=None)
    fast = optimize_for_inference(model, fold_normalization=False)
    assert count(fast, ImageNormalization) == 1
    assert count(fast, LayerScale) == 0


def test_other_models_are_refused():
    class Own(keras.Model):
        pass

    with pytest.raises(ValueError, match="Received: Own"):
        optimize_for_inference(Own())
