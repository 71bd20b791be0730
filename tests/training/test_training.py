"""One training step where other implementations break."""

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import predict
from conftest import random_images

from keras_convnext import ConvNeXt


def fit(model, batch=16):
    labels = np.arange(batch) % 3
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model.fit(random_images((batch, 32, 32, 3)), labels, verbose=0)


def small(**options):
    """Few blocks: each of them is compiled in every test."""
    return ConvNeXt(
        (1, 1), (8, 16), input_shape=(32, 32, 3), classes=3, **options
    )


def assert_trained_and_finite(model, before):
    after = model.get_weights()
    assert all(np.isfinite(weight).all() for weight in after)
    changed = [not np.array_equal(a, b) for a, b in zip(after, before)]
    assert sum(changed) > len(changed) * 0.9


@pytest.mark.parametrize(
    "dtype, grn",
    [
        # Thirty steps of it equal PyTorch's in `test_trajectory`.
        *(
            pytest.param("float32", grn, marks=LONG_WHERE_COMPILED)
            for grn in (False, True)
        ),
        ("mixed_float16", True),
        pytest.param("mixed_float16", False, marks=LONG_WHERE_COMPILED),
        ("mixed_bfloat16", False),
        pytest.param("mixed_bfloat16", True, marks=LONG_WHERE_COMPILED),
    ],
)
def test_drop_path_trains_in_every_precision(dtype, grn):
    model = small(
        drop_path_rate=0.3,
        dtype=dtype,
        grn=grn,
        layer_scale_init_value=0 if grn else 1.0,
    )
    before = model.get_weights()
    history = fit(model)
    assert np.isfinite(history.history["loss"]).all()
    assert_trained_and_finite(model, before)


def test_a_channel_of_zeros_leaves_grn_finite():
    model = small(grn=True, layer_scale_init_value=0)
    for layer in model.layers:
        if layer.name.endswith("_expand"):
            kernel, bias = layer.get_weights()
            bias[:2] = -100  # GELU of it is exactly zero
            layer.set_weights([kernel, bias])
        if layer.name.endswith("_grn"):
            layer.set_weights([w + 0.5 for w in layer.get_weights()])
    expand = keras.Model(
        model.input, model.get_layer("stage_0_block_0_activation").output
    )
    activations = predict(expand, random_images((4, 32, 32, 3)))
    assert not activations[..., :2].any()
    before = model.get_weights()
    fit(model)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert any(
        not np.array_equal(a, b) for a, b in zip(model.get_weights(), before)
    )


def test_drop_path_drops_whole_samples_and_scales_the_rest():
    model = ConvNeXt(
        (2,),
        (4,),
        patch_size=8,
        input_shape=(32, 32, 3),
        include_top=False,
        drop_path_rate=0.5,
        layer_scale_init_value=1.0,
    )
    inside = keras.Model(
        model.input,
        [
            model.get_layer("stage_0_block_1_layer_scale").output,
            model.get_layer("stage_0_block_1_drop_path").output,
        ],
    )
    images = np.repeat(random_images((1, 32, 32, 3)), 64, axis=0)
    branch, dropped = (
        keras.ops.convert_to_numpy(x) for x in inside(images, training=True)
    )
    kept = np.array([sample.any() for sample in dropped])
    assert 16 < kept.sum() < 48
    np.testing.assert_allclose(dropped[kept], 2 * branch[kept], rtol=1e-5)
    branch, dropped = (
        keras.ops.convert_to_numpy(x) for x in inside(images, training=False)
    )
    assert np.array_equal(branch, dropped)


def test_freezing_by_prefix_trains_the_rest_only():
    model = small()
    for layer in model.layers:
        layer.trainable = not layer.name.startswith(("stem", "stage_0"))
    before = {x.name: x.get_weights() for x in model.layers}
    fit(model)
    for layer in model.layers:
        same = all(
            np.array_equal(a, b)
            for a, b in zip(before[layer.name], layer.get_weights())
        )
        assert same or layer.trainable, layer.name
    assert not np.array_equal(
        before["head_classifier"][0],
        model.get_layer("head_classifier").get_weights()[0],
    )
