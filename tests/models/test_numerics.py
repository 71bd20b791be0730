"""Logits against PyTorch models by other people, weights randomized."""

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import predict
from conftest import random_images
from families import FAMILIES
from peers import PEERS
from peers import assert_logits_agree
from peers import load_peer
from peers import peer_logits
from peers import timm_peer
from safetensors.torch import save_file

from keras_convnext import VARIANTS
from keras_convnext.models.construction import build

CASES = [
    *[("timm", name) for name in FAMILIES if "isotropic" not in name],
    ("transformers", "v1"),
    ("transformers", "v2"),
    ("official_isotropic", "isotropic"),
    ("official_isotropic", "isotropic_layer_scale"),
]
# Compiled anew in this precision.
FLOAT64 = [("timm", "v1"), ("timm", "v2")]


def pair(layout, variant, classes=11, **options):
    peer = PEERS[layout](variant, classes)
    model = build(
        variant,
        weights=None,
        classes=classes,
        classifier_activation=None,
        **options,
    )
    return load_peer(model, peer, layout), peer


@pytest.mark.parametrize("layout, name", CASES)
def test_logits_equal_the_peers(layout, name):
    images = random_images((2, 64, 96, 3))
    model, peer = pair(layout, FAMILIES[name], input_shape=(64, 96, 3))
    assert_logits_agree(predict(model, images), peer_logits(peer, images))


@pytest.mark.parametrize(
    "layout, name",
    [
        pytest.param(
            *case, marks=() if case in FLOAT64 else LONG_WHERE_COMPILED
        )
        for case in CASES
    ],
)
def test_float64_leaves_no_room_for_approximations(layout, name, float64):
    import torch

    images = random_images((2, 64, 64, 3))
    model, peer = pair(
        layout, FAMILIES[name], input_shape=(64, 64, 3), dtype="float64"
    )
    ours = predict(model, images)
    assert ours.dtype == "float64"
    theirs = peer_logits(peer, images, torch.float64)
    # TensorFlow's own erf GELU is exact to 5e-9; float32 anywhere costs
    # 2e-7 and more.
    assert_logits_agree(ours, theirs, bound=3e-9)


@pytest.mark.parametrize(
    "size", [(33, 47), pytest.param((63, 64), marks=LONG_WHERE_COMPILED)]
)
def test_odd_sizes_are_floored_as_in_pytorch(size):
    images = random_images((1, *size, 3))
    for name in ("v1", "overlap"):
        model, peer = pair("timm", FAMILIES[name], input_shape=(None, None, 3))
        assert_logits_agree(predict(model, images), peer_logits(peer, images))


@pytest.mark.skipif(
    keras.backend.backend() != "torch",
    reason="full size on one backend; on all of them in `make test-long`",
)
@pytest.mark.parametrize(
    "name", ["convnext_atto", "convnext_tiny", "convnextv2_tiny"]
)
def test_full_size_files_of_timm(name, record_property, tmp_path):
    check_full_size(name, record_property, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "convnext_atto",
        "convnext_tiny",
        "convnext_tiny_hnf",
        "convnext_nano_ols",
        "convnext_atto_rms",
        "convnext_zepto_rms_ols",
        "convnextv2_atto",
        "convnextv2_tiny",
        "test_convnext3",
    ],
)
def test_full_size_on_every_backend(name, record_property, tmp_path):
    check_full_size(name, record_property, tmp_path)


def check_full_size(name, record_property, tmp_path):
    variant = VARIANTS[name]
    images = random_images((1, variant.image_size, variant.image_size, 3))
    peer = timm_peer(variant, 1000)
    path = tmp_path / "model.safetensors"
    save_file(peer.state_dict(), path)
    model = build(variant, weights=path, classifier_activation=None)
    ours = predict(model, images)
    theirs = peer_logits(peer, images)
    record_property("largest difference", f"{np.abs(ours - theirs).max():.1e}")
    record_property("largest logit", f"{np.abs(theirs).max():.2f}")
    assert_logits_agree(ours, theirs)


@pytest.mark.parametrize("name", ["v1", "v2", "head_norm_first", "head_mlp"])
def test_features_equal_timm(name):
    import torch

    images = random_images((2, 64, 64, 3))
    variant = FAMILIES[name]
    classifier, peer = pair("timm", variant)
    vector = build(variant, weights=None, include_top=False, pooling="avg")
    for layer in vector.layers:
        layer.set_weights(classifier.get_layer(layer.name).get_weights())
    peer.reset_classifier(0)
    assert_logits_agree(predict(vector, images), peer_logits(peer, images))
    assert torch.is_grad_enabled()
