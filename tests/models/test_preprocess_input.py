import keras
import numpy as np
import pytest
from conftest import predict
from conftest import random_images
from families import SMALL

import keras_convnext
from keras_convnext import preprocess_input

IMAGES = random_images((2, 4, 6, 3))
IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CLIP = (
    np.array([0.48145466, 0.4578275, 0.40821073]),
    np.array([0.26862954, 0.26130258, 0.27577711]),
)
HALF = np.full(3, 0.5), np.full(3, 0.5)


def test_it_is_the_identity_as_in_keras_applications():
    assert preprocess_input(IMAGES) is IMAGES


@pytest.mark.parametrize(
    "weights, expected",
    [
        ("imagenet", IMAGENET),
        ("fb_in22k_ft_in1k_384", IMAGENET),
        ("clip_laion2b", CLIP),
        ("convnext_xxlarge.imagenet", CLIP),
        ("test_convnext.r160_in1k", HALF),
    ],
)
def test_weights_bring_their_normalization(weights, expected):
    mean, std = expected
    normalized = (IMAGES / 255 - mean) / std
    whole = IMAGES.astype("uint8")
    for images in (IMAGES, whole, keras.ops.convert_to_tensor(IMAGES)):
        result = preprocess_input(images, weights=weights)
        result = keras.ops.convert_to_numpy(result)
        assert result.dtype == "float32"
        np.testing.assert_allclose(result, normalized, atol=1e-6)
    result = preprocess_input(
        IMAGES.transpose(0, 3, 1, 2), "channels_first", weights
    )
    np.testing.assert_allclose(
        result, normalized.transpose(0, 3, 1, 2), atol=1e-6
    )


def test_it_stands_in_for_a_models_own_preprocessing():
    images = random_images((1, 64, 64, 3))
    options = {"input_shape": (64, 64, 3), "classes": 3}
    inside = keras_convnext.ConvNeXt(**SMALL, **options)
    outside = keras_convnext.ConvNeXt(
        **SMALL, **options, include_preprocessing=False
    )
    outside.set_weights(inside.get_weights())
    np.testing.assert_allclose(
        predict(outside, preprocess_input(images, weights=inside)),
        predict(inside, images),
        atol=1e-5,
    )


@pytest.mark.parametrize("weights", ["fb_in1kk", "convnext_tiny.nothing"])
def test_unknown_weights_are_named(weights):
    with pytest.raises(ValueError, match="Received: weights="):
        preprocess_input(IMAGES, weights=weights)


def test_channels_must_fit():
    with pytest.raises(ValueError, match="3 channels"):
        preprocess_input(IMAGES[..., :1], weights="imagenet")


def test_a_model_around_one_will_do():
    inside = keras_convnext.ConvNeXt(
        **SMALL, input_shape=(64, 64, 3), mean=0.25, std=0.5
    )
    around = keras.Sequential([inside])
    expected = (IMAGES / 255 - 0.25) / 0.5
    for model in (inside, around):
        result = preprocess_input(IMAGES, weights=model)
        np.testing.assert_allclose(result, expected, atol=1e-6)
    for other in (keras.Sequential([keras.layers.Dense(2)]), 5):
        with pytest.raises(ValueError, match="holds a ConvNeXt.*Received: "):
            preprocess_input(IMAGES, weights=other)
