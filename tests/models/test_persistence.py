"""Models and weights survive files, clones, nesting and other backends."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import long_where_compiled
from conftest import predict
from conftest import random_images
from environment import alone
from families import FAMILIES
from families import SMALL
from peers import PEERS
from peers import load_peer
from peers import peer_logits

import keras_convnext
from keras_convnext import ConvNeXt
from keras_convnext.facts.info import ModelInfo
from keras_convnext.models.construction import build

NAMES = ("ant", "bee", "cat", "dog", "emu")
# Each backend hands its models to the next one.
NEXT_BACKEND = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}


@pytest.fixture
def model():
    model = ConvNeXt(
        **SMALL,
        input_shape=(64, 64, 3),
        classes=5,
        classifier_activation=None,
        drop_path_rate=0.1,
        mean=[0.5] * 3,
        std=[0.25] * 3,
    )
    generator = np.random.default_rng(0)
    for layer in model.layers:
        layer.set_weights(
            [
                generator.normal(0.2, 0.3, w.shape)
                if np.issubdtype(w.dtype, np.floating)
                else w
                for w in layer.get_weights()
            ]
        )
    model.class_names = NAMES
    return model


def assert_same(again, model, images):
    assert type(again) is type(model)
    assert again.info == model.info
    assert again.class_names == list(NAMES)
    assert again.preprocessing.mean == (0.5, 0.5, 0.5)
    assert again.variant.depths == SMALL["depths"]
    assert again.pyramid_level_inputs["P5"] == "stage_3_block_0_add"
    np.testing.assert_allclose(
        predict(again, images), predict(model, images), atol=1e-6
    )


def test_saved_models_return_whole(model, images, tmp_path):
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert_same(again, model, images)


def test_configs_return_whole(model, images):
    again = keras_convnext.ConvNeXtModel.from_config(model.get_config())
    again.set_weights(model.get_weights())
    assert_same(again, model, images)


@long_where_compiled
@pytest.mark.parametrize(
    "options",
    [{}, {"clone_function": lambda x: x.__class__.from_config(x.get_config())}],
)
def test_clones_return_whole(model, images, options):
    again = keras.models.clone_model(model, **options)
    again.set_weights(model.get_weights())
    assert_same(again, model, images)


@long_where_compiled
def test_models_nested_in_saved_models_return_whole(model, images, tmp_path):
    image = keras.Input((64, 64, 3))
    outer = keras.Model(image, keras.layers.Softmax()(model(image)))
    outer.save(tmp_path / "outer.keras")
    again = keras.saving.load_model(tmp_path / "outer.keras")
    assert_same(again.get_layer(model.name), model, images)
    np.testing.assert_allclose(
        predict(again, images), predict(outer, images), atol=1e-6
    )


def test_models_compiled_and_trained_return_whole(model, images, tmp_path):
    model.compile("adamw", "mse")
    model.train_on_batch(images, np.zeros((2, 5)))
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert_same(again, model, images)
    assert int(again.optimizer.iterations) == 1


@long_where_compiled
def test_an_atto_of_any_name_returns(tmp_path):
    """keras.applications picks its weights by the model's name."""
    model = keras_convnext.ConvNeXtAtto(
        weights=None, name="convnext_large", input_shape=(32, 32, 3), classes=3
    )
    images = random_images((1, 32, 32, 3))
    for extension in ("keras", "weights.h5"):
        path = tmp_path / f"m.{extension}"
        save = model.save if extension == "keras" else model.save_weights
        save(path)
        again = keras_convnext.ConvNeXtAtto(
            weights=path, name="mine", input_shape=(32, 32, 3)
        )
        assert again.output_shape == (None, 3)  # classes=None: the file's
        assert again.name == "mine"
        np.testing.assert_allclose(
            predict(again, images), predict(model, images), atol=1e-6
        )


def test_weights_of_a_prefixed_model_load_without_prefix(tmp_path):
    prefixed = ConvNeXt(**SMALL, classes=3, layer_prefix="left_")
    prefixed.save_weights(tmp_path / "m.weights.h5")
    again = ConvNeXt(**SMALL, weights=tmp_path / "m.weights.h5")
    for a, b in zip(again.get_weights(), prefixed.get_weights()):
        np.testing.assert_array_equal(a, b)


@long_where_compiled
def test_weights_load_without_the_classifier(model, images, tmp_path):
    model.save(tmp_path / "m.keras")
    features = ConvNeXt(
        **SMALL, weights=tmp_path / "m.keras", include_top=False, pooling="avg"
    )
    # The normalization inside the model belongs to its weights.
    assert features.preprocessing.mean == (0.5, 0.5, 0.5)
    assert features.class_names is None
    inner = keras.Model(model.input, model.get_layer("head_norm").output)
    np.testing.assert_allclose(
        predict(features, images), predict(inner, images), atol=1e-5
    )


def test_class_names_come_with_the_weights(model, tmp_path):
    model.save(tmp_path / "m.keras")
    again = ConvNeXt(**SMALL, weights=tmp_path / "m.keras")
    assert again.class_names == list(NAMES)
    assert again.info.weights == "m.keras"


def test_label_sets_are_those_of_their_classes(model, tmp_path):
    model.update_info(label_set="imagenet1k")
    model.save(tmp_path / "m.keras")
    again = ConvNeXt(**SMALL, weights=tmp_path / "m.keras")
    assert again.info.label_set == "imagenet1k"
    with pytest.warns(UserWarning, match="5 classes, not 7"):
        other = ConvNeXt(**SMALL, classes=7, weights=tmp_path / "m.keras")
    assert (other.info.label_set, other.class_names) == (None, None)


def test_what_a_newer_release_saved_beside_is_dropped(model):
    known = asdict(model.info)
    more = {**known, "new": 1, "variant": {**known["variant"], "newer": 2}}
    assert ModelInfo.from_config(more) == model.info


def test_class_names_must_fit(model):
    with pytest.raises(ValueError, match="one name for each output"):
        model.class_names = ["ant", "bee"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"depths": (1, 1, 3, 1)}, "9 missing .*stage_2_block_2_depthwise"),
        ({"depths": (1, 1, 1, 1)}, "9 unexpected .*stage_2_block_1"),
        ({"dims": (8, 16, 24, 40)}, "mis-shaped"),
        ({"grn": True}, "missing .*grn/beta"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(
    model, options, message, tmp_path
):
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    with pytest.raises(ValueError, match=message) as error:
        ConvNeXt(**{**SMALL, **options, "weights": path})
    assert "Received: weights=" in str(error.value)


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5"])
def test_damaged_weight_files_are_named(model, name, tmp_path):
    path = tmp_path / name
    (model.save if name == "m.keras" else model.save_weights)(path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a model"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{name}"):
            ConvNeXt(**SMALL, weights=path)


def test_weights_of_other_models_are_refused(tmp_path):
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    other.save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(
        ValueError, match=r"in one of the layouts .*m\.weights\.h5' with"
    ):
        ConvNeXt(**SMALL, weights=tmp_path / "m.weights.h5")


@long_where_compiled
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
@pytest.mark.parametrize(
    "mode", ["int8", pytest.param("int4", marks=pytest.mark.long)]
)
def test_quantization_survives(model, images, mode, tmp_path):
    expected = predict(model, images)
    model.quantize(mode)
    dense = model.get_layer("stage_0_block_0_expand")
    assert dense.dtype_policy.quantization_mode == mode
    quantized = predict(model, images)
    assert not np.array_equal(quantized, expected)
    bound = {"int8": 0.05, "int4": 0.5}[mode] * np.abs(expected).max()
    np.testing.assert_allclose(quantized, expected, atol=bound)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    dense = again.get_layer("stage_0_block_0_expand")
    assert dense.dtype_policy.quantization_mode == mode
    np.testing.assert_allclose(predict(again, images), quantized, atol=1e-5)


def test_the_next_backend_loads_the_file_and_agrees(tmp_path):
    """In a fresh process that imports nothing but keras_convnext first."""
    variant = FAMILIES["v2"]
    peer = PEERS["timm"](variant, 5)
    model = build(
        variant,
        weights=None,
        classes=5,
        classifier_activation=None,
        input_shape=(64, 64, 3),
    )
    load_peer(model, peer, "timm")
    model.class_names = NAMES
    images = random_images((2, 64, 64, 3))
    np.save(tmp_path / "images.npy", images)
    model.save(tmp_path / "m.keras")

    backend = NEXT_BACKEND[keras.backend.backend()]
    subprocess.run(
        [
            sys.executable,
            Path(__file__).parents[1] / "load_and_predict.py",
            tmp_path / "m.keras",
            tmp_path / "images.npy",
            tmp_path / "output.npz",
        ],
        env=alone(backend),
        check=True,
    )
    output = np.load(tmp_path / "output.npz")
    assert output["backend"] == backend
    assert tuple(output["class_names"]) == NAMES
    assert output["variant"] == repr(variant)
    assert output["preprocessing"] == repr(model.preprocessing)
    for expected in (predict(model, images), peer_logits(peer, images)):
        bound = 1e-4 * max(1, np.abs(expected).max())
        np.testing.assert_allclose(
            output["logits"], expected, atol=bound, rtol=0
        )
