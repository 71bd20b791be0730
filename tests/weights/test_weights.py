"""Files of other packages, through the public `weights=` and back again."""

import os
import re
import stat
import sys
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
import torch
from conftest import LONG_WHERE_COMPILED
from conftest import predict
from conftest import random_images
from families import FAMILIES
from peers import MMPRETRAIN_NAMES
from peers import assert_logits_agree
from peers import import_timm
from peers import isotropic_peer
from peers import official_state
from peers import peer_logits
from peers import randomize
from peers import renamed_state
from peers import timm_peer
from peers import transformers_peer
from safetensors.torch import save_file
from torch import nn

import keras_convnext
from keras_convnext import VARIANTS
from keras_convnext import Variant
from keras_convnext.models.construction import build
from keras_convnext.models.conversion import convert_weights

pytestmark = LONG_WHERE_COMPILED

SIZE = 64


def load(variant, path, **options):
    options = {"classifier_activation": None, **options}
    options.setdefault("input_shape", (SIZE, SIZE, 3))
    return build(variant, weights=path, **options)


def check(variant, path, peer, **options):
    images = random_images((2, SIZE, SIZE, 3))
    model = load(variant, path, **options)
    assert_logits_agree(predict(model, images), peer_logits(peer, images))
    return model


# The official repositories cannot be installed: their names, spelled out here
# a second time, from timm's.
@pytest.mark.every_backend
@pytest.mark.parametrize("name", ["v1", "v2"])
@pytest.mark.parametrize("legacy", [False, True])
def test_official_files(name, legacy, tmp_path):
    peer = timm_peer(FAMILIES[name])
    path = tmp_path / "weights.pth"
    torch.save(
        {"model": official_state(peer)},
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    check(FAMILIES[name], path, peer)


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_mmpretrain_files(name, tmp_path):
    peer = timm_peer(FAMILIES[name])
    path = tmp_path / "weights.pth"
    state = renamed_state(peer, MMPRETRAIN_NAMES)
    torch.save({"meta": {"epoch": 300}, "state_dict": state}, path)
    check(FAMILIES[name], path, peer)


@pytest.mark.parametrize("name", ["isotropic", "isotropic_layer_scale"])
def test_official_isotropic_files(name, tmp_path):
    peer = isotropic_peer(FAMILIES[name])
    path = tmp_path / "weights.pth"
    torch.save({"model": peer.state_dict()}, path)
    check(FAMILIES[name], path, peer)


def test_training_checkpoints_hold_more_than_weights(tmp_path):
    from argparse import Namespace

    peer = timm_peer(FAMILIES["v1"])
    path = tmp_path / "checkpoint-best.pth"
    torch.save(
        {
            "model": official_state(peer),
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
            "epoch": 3,
            "args": Namespace(lr=0.1, model="convnext_tiny"),
        },
        path,
    )
    check(FAMILIES["v1"], path, peer)


def test_pickles_that_run_code_are_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    path = tmp_path / "weights.pth"
    torch.save({"model": Payload()}, path)
    with pytest.raises(ValueError, match="weights.pth"):
        load(FAMILIES["v1"], path)
    assert not (tmp_path / "owned").exists()


def sparse_state(state):
    """An official V2 state as masked pre-training saves it."""
    sparse = {
        "mask_token": torch.zeros(1, 512, 1, 1),
        "proj.weight": torch.zeros(512, 32, 1, 1),
        "pred.bias": torch.zeros(3072),
        "decoder.0.dwconv.weight": torch.zeros(512, 1, 7, 7),
    }
    for name, tensor in state.items():
        if name.startswith(("norm.", "head.")):
            continue
        stem = name.startswith("downsample_layers.0")
        if "grn" in name:
            tensor = tensor.reshape(1, -1)
        elif tensor.ndim == 4 and not stem:
            # (out, in, h, w) -> (w·h, in, out) or (w·h, C).
            tensor = tensor.permute(3, 2, 1, 0).flatten(0, 1)
            if "dwconv" in name:
                tensor = tensor[:, 0]
            name = name.replace("weight", "kernel")
        elif tensor.ndim == 1 and re.search(r"dwconv|_layers\.\d\.1", name):
            tensor = tensor if stem else tensor[None]
        if not stem:
            name = re.sub(r"(\.norm|_layers\.\d\.0)\.", r"\1.ln.", name)
            name = re.sub(r"(pwconv\d)\.", r"\1.linear.", name)
        sparse[f"encoder.{name}"] = tensor
    return sparse


@pytest.mark.parametrize("sparse", [False, True])
def test_masked_pre_training_brings_no_classifier(sparse, tmp_path):
    variant = FAMILIES["v2"]
    peer = timm_peer(variant)
    nn.init.ones_(peer.head.norm.weight)
    nn.init.zeros_(peer.head.norm.bias)
    state = official_state(peer)
    state = {
        k: v for k, v in state.items() if not k.startswith(("norm.", "head."))
    }
    path = tmp_path / "weights.pt"
    torch.save({"model": sparse_state(state) if sparse else state}, path)
    with pytest.raises(ValueError, match="have no classifier"):
        load(variant, path)
    assert load(variant, path, classes=4).output_shape == (None, 4)
    peer.reset_classifier(0)
    check(variant, path, peer, include_top=False, pooling="avg")


@pytest.mark.once
def test_masked_pre_training_is_written(tmp_path):
    """Raw checkpoints, of which the official code reads the released names."""
    peer = timm_peer(VARIANTS["convnextv2_atto"])
    state = official_state(peer)
    torch.save({"model": state}, tmp_path / "official.pt")
    target = tmp_path / "raw.pt"
    with pytest.warns(UserWarning, match="no place for a classifier"):
        convert_weights(tmp_path / "official.pt", target, "fcmae")
    written = torch.load(target)["model"]
    expected = {
        name: tensor
        for name, tensor in sparse_state(state).items()
        if name.startswith("encoder.")
    }
    assert written.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(written[name], tensor), name
    back = tmp_path / "back.pt"
    convert_weights(target, back, "official")
    released = torch.load(back)["model"]
    assert state.keys() - released.keys() == {
        *("norm.weight", "norm.bias", "head.weight", "head.bias")
    }
    for name, tensor in released.items():
        assert torch.equal(state[name], tensor), name


TIMM = [name for name in FAMILIES if "isotropic" not in name]


@pytest.mark.parametrize("name", TIMM)
def test_timm_files(name, tmp_path):
    peer = timm_peer(FAMILIES[name])
    path = tmp_path / "model.safetensors"
    save_file(peer.state_dict(), path)
    check(FAMILIES[name], path, peer)


def test_half_precision_files(tmp_path):
    peer = timm_peer(FAMILIES["v1"])
    path = tmp_path / "model.safetensors"
    for dtype in (torch.float16, torch.bfloat16):
        peer = peer.to(dtype)
        save_file(peer.state_dict(), path)
        check(FAMILIES["v1"], path, peer.to(torch.float32))
        torch.save(peer.to(dtype).state_dict(), tmp_path / "model.bin")
        check(FAMILIES["v1"], tmp_path / "model.bin", peer.to(torch.float32))


@pytest.mark.every_backend
def test_half_precision_goes_back_to_torch(tmp_path):
    variant = VARIANTS["test_convnext"]
    peer = timm_peer(variant, 5).to(torch.bfloat16)
    source, target = tmp_path / "theirs.safetensors", tmp_path / "ours.pth"
    save_file(peer.state_dict(), source)
    convert_weights(source, target, "timm", variant.name)
    state = torch.load(target, weights_only=True)
    assert state.keys() == peer.state_dict().keys()
    for name, tensor in peer.state_dict().items():
        assert state[name].dtype == torch.bfloat16
        assert torch.equal(state[name], tensor)


@pytest.mark.parametrize("trick", ["external", "link", "virtual", "huge"])
def test_hdf5_files_that_reach_beyond_themselves_are_refused(trick, tmp_path):
    path, other = tmp_path / "m.weights.h5", tmp_path / "secret"
    model = keras_convnext.create_model("test_convnext", weights=None)
    model.save_weights(path)
    found = []
    with h5py.File(path, "r+") as file:
        file.visit(lambda name: found.append(name))
        name = next(x for x in found if x.endswith("vars/0"))
        shape, dtype = file[name].shape, file[name].dtype
        del file[name]
        if trick == "external":
            other.write_bytes(b"x" * 10_000)
            where = [(str(other), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset(name, shape, dtype, external=where)
        elif trick == "link":
            with h5py.File(other, "w") as target:
                target["secret"] = np.ones(shape, dtype)
            file[name] = h5py.ExternalLink(str(other), "secret")
        elif trick == "virtual":
            layout = h5py.VirtualLayout(shape, dtype)
            layout[...] = h5py.VirtualSource(str(other), "secret", shape)
            file.create_virtual_dataset(name, layout)
        else:
            file.create_dataset(name, (10**6, 10**6), dtype, chunks=(10, 10))
    message = "of memory" if trick == "huge" else "another file"
    with pytest.raises(ValueError, match=message):
        keras_convnext.create_model("test_convnext", weights=path)


@pytest.mark.parametrize("mlp", [False, True])
def test_clip_towers_output_their_projection(mlp, tmp_path):
    variant = FAMILIES["head_mlp" if mlp else "v1"]
    peer = timm_peer(variant)
    nn.init.zeros_(peer.head.fc.bias)
    state = {
        "logit_scale": torch.ones(()),
        "transformer.resblocks.0.ln_1.weight": torch.ones(8),
    }
    for name, tensor in peer.state_dict().items():
        if name.startswith("head.pre_logits.fc."):
            name = f"visual.head.mlp.fc1.{name.split('.')[-1]}"
        elif name == "head.fc.weight":
            name = f"visual.head.{'mlp.fc2' if mlp else 'proj'}.weight"
        elif name == "head.fc.bias":
            continue
        else:
            name = f"visual.trunk.{name}"
        state[name] = tensor
    path = tmp_path / "open_clip.safetensors"
    save_file(state, path)
    check(variant, path, peer)


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_transformers_files(name, tmp_path):
    peer = transformers_peer(FAMILIES[name])
    peer.save_pretrained(tmp_path)
    model = check(FAMILIES[name], tmp_path / "model.safetensors", peer)
    # The bare body holds the same but for the classifier.
    body = peer.convnextv2 if FAMILIES[name].grn else peer.convnext
    body.save_pretrained(tmp_path / "body")
    features = load(
        FAMILIES[name],
        tmp_path / "body" / "model.safetensors",
        include_top=False,
        pooling="avg",
    )
    images = random_images((2, SIZE, SIZE, 3))
    inner = keras.Model(model.input, model.get_layer("head_norm").output)
    np.testing.assert_allclose(
        predict(features, images), predict(inner, images), atol=1e-5
    )


def test_dinov3_files(tmp_path):
    import_timm()
    from transformers import DINOv3ConvNextConfig
    from transformers import DINOv3ConvNextModel

    variant = FAMILIES["v1"]
    config = DINOv3ConvNextConfig(
        hidden_sizes=list(variant.dims), depths=list(variant.depths)
    )
    peer = randomize(DINOv3ConvNextModel(config))
    peer.save_pretrained(tmp_path)
    model = load(
        variant,
        tmp_path / "model.safetensors",
        include_top=False,
        pooling="avg",
    )

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = peer

        def forward(self, x):
            return self.model(x).pooler_output

    images = random_images((2, SIZE, SIZE, 3))
    assert_logits_agree(predict(model, images), peer_logits(Pooled(), images))


def torchvision_peer(variant, classes=11):
    import_timm()
    from torchvision.models.convnext import CNBlockConfig
    from torchvision.models.convnext import ConvNeXt

    dims = (*variant.dims, None)
    blocks = [
        CNBlockConfig(dims[i], dims[i + 1], depth)
        for i, depth in enumerate(variant.depths)
    ]
    return randomize(ConvNeXt(blocks, num_classes=classes))


def test_torchvision_files(tmp_path):
    peer = torchvision_peer(FAMILIES["v1"])
    torch.save(peer.state_dict(), tmp_path / "convnext_tiny-983f1562.pth")
    check(FAMILIES["v1"], tmp_path / "convnext_tiny-983f1562.pth", peer)


@pytest.mark.parametrize("file", ["m.h5", "m.weights.h5", "notop.weights.h5"])
def test_keras_applications_files(file, tmp_path):
    """The one size that it builds quickly, on the images of its own."""
    top = "notop" not in file
    theirs = keras.applications.ConvNeXtTiny(
        weights=None,
        classes=5,
        include_top=top,
        pooling=None if top else "avg",
        classifier_activation=None,
        input_shape=(32, 32, 3),
        name="anything",
    )
    generator = np.random.default_rng(0)
    for layer in theirs.layers:
        weights = layer.get_weights()
        if weights and "prestem" not in layer.name:
            layer.set_weights(
                [w + generator.normal(0, 0.1, w.shape) for w in weights]
            )
    path = tmp_path / file
    (theirs.save if file == "m.h5" else theirs.save_weights)(path)
    ours = keras_convnext.ConvNeXtTiny(
        weights=str(path),
        include_top=top,
        pooling=None if top else "avg",
        classifier_activation=None,
        input_shape=(32, 32, 3),
    )
    images = random_images((1, 32, 32, 3))
    assert_logits_agree(predict(ours, images), predict(theirs, images))


# Options


def saved_timm(tmp_path, name="v1", classes=11):
    peer = timm_peer(FAMILIES[name], classes)
    path = tmp_path / "model.safetensors"
    save_file(peer.state_dict(), path)
    return peer, path


def test_another_number_of_classes_starts_a_fresh_classifier(tmp_path):
    peer, path = saved_timm(tmp_path)
    with pytest.warns(UserWarning, match="11 classes, not 4") as warned:
        model = load(FAMILIES["v1"], path, classes=4)
    assert len(warned) == 1
    assert model.output_shape == (None, 4)
    kernel, bias = model.get_layer("head_classifier").get_weights()
    assert kernel.std() == pytest.approx(0.02, rel=0.3)
    assert not bias.any()
    inner = keras.Model(model.input, model.get_layer("head_norm").output)
    peer.reset_classifier(0)
    images = random_images((2, SIZE, SIZE, 3))
    assert_logits_agree(predict(inner, images), peer_logits(peer, images))


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
@pytest.mark.parametrize("name", ["v1", "overlap"])
def test_other_channels_adapt_the_stem_as_timm_does(name, channels, tmp_path):
    import_timm()
    from timm.models._manipulate import adapt_input_conv

    peer, path = saved_timm(tmp_path, name)
    model = load(
        FAMILIES[name],
        path,
        input_shape=(SIZE, SIZE, channels),
        include_preprocessing=False,
    )
    stem = "stem_conv" if name == "v1" else "stem_conv_0"
    kernel = model.get_layer(stem).get_weights()[0]
    expected = adapt_input_conv(channels, peer.stem[0].weight.detach())
    np.testing.assert_allclose(
        kernel.transpose(3, 2, 0, 1), expected.numpy(), rtol=1e-6
    )


def test_any_input_size(tmp_path):
    peer, path = saved_timm(tmp_path)
    model = load(FAMILIES["v1"], path, input_shape=(None, None, 3))
    images = random_images((1, 96, 64, 3))
    assert_logits_agree(predict(model, images), peer_logits(peer, images))


def damaged(state, how):
    state = dict(state)
    if how == "missing":
        del state["stages.2.blocks.1.conv_dw.bias"]
    elif how == "unexpected":
        state["stages.2.blocks.1.surprise"] = torch.zeros(3)
    else:
        state["stages.3.downsample.1.bias"] = torch.zeros(31)
    return state


@pytest.mark.parametrize(
    "how, named",
    [
        ("missing", "1 missing .stage_2_block_1_depthwise/bias"),
        ("unexpected", "1 unexpected .stages.2.blocks.1.surprise"),
        (
            "mis-shaped",
            r"downsample_conv/bias: file \(31,\) of \w+, model \(32,\)",
        ),
    ],
)
def test_every_tensor_is_used_once_or_named(how, named, tmp_path):
    peer = timm_peer(FAMILIES["v1"])
    path = tmp_path / "model.safetensors"
    save_file(damaged(peer.state_dict(), how), path)
    with pytest.raises(ValueError, match=named):
        load(FAMILIES["v1"], path)


def test_without_torch_the_error_says_what_to_do(tmp_path, monkeypatch):
    if keras.backend.backend() == "torch":
        pytest.skip("torch is there")
    peer = timm_peer(FAMILIES["v1"])
    for name, advice in (
        ("mine.pth", "keras-convnext convert .*mine.pth"),
        ("convnext_iso_small_1k_224_ema.pth", "keras-convnext convert"),
        ("convnext_tiny_22k_224.pth", "weights='fb_in22k'` of convnext_tiny"),
    ):
        path = tmp_path / name
        torch.save({"model": official_state(peer)}, path)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "torch", None)
            with pytest.raises(ImportError, match=advice):
                load(FAMILIES["v1"], path)


# Conversion


def convertible(name, peer, tmp_path):
    path = tmp_path / f"{name}.safetensors"
    save_file(peer.state_dict(), path)
    return path


# Small enough to convert in a blink, and a row of the table.
TABLE_CASES = {
    "test_convnext": ("official", "timm", "transformers", "torchvision"),
    "test_convnext3": ("timm", "official"),
    "convnextv2_atto": ("official", "timm", "transformers"),
    "convnext_atto_ols": ("timm",),
    "convnext_zepto_rms_ols": ("timm",),
}


@pytest.mark.parametrize(
    "name, to",
    [(name, to) for name, targets in TABLE_CASES.items() for to in targets],
)
def test_round_trips_are_bit_exact(name, to, tmp_path):
    peer = timm_peer(VARIANTS[name], 7)
    if "atto" in name or "zepto" in name:
        state = {
            key: value[..., None, None]
            if "mlp.fc" in key and value.ndim == 2
            else value
            for key, value in peer.state_dict().items()
        }
    else:
        state = peer.state_dict()
    source = tmp_path / "source.safetensors"
    save_file(state, source)
    there = tmp_path / "there.safetensors"
    back = tmp_path / "back.safetensors"
    assert keras_convnext.convert_weights(source, there, to) == name
    keras_convnext.convert_weights(there, back, "timm", model=name)
    from safetensors.torch import load_file

    again = load_file(back)
    assert again.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(again[key], value), key


def test_files_for_pytorch_load_strictly_where_they_came_from(tmp_path):
    variant = VARIANTS["test_convnext"]
    source = timm_peer(variant, 7)
    path = convertible("source", source, tmp_path)
    images = random_images((1, 160, 160, 3))
    expected = peer_logits(source, images)

    keras_convnext.convert_weights(path, tmp_path / "o.pth", "official")
    official = torch.load(tmp_path / "o.pth", weights_only=True)
    assert list(official) == ["model"]
    import_timm()
    from timm.models.convnext import checkpoint_filter_fn

    again = timm_peer(variant, 7)
    randomize(again, seed=1)
    again.load_state_dict(checkpoint_filter_fn(official, again))
    np.testing.assert_array_equal(peer_logits(again, images), expected)

    keras_convnext.convert_weights(path, tmp_path / "v.pth", "torchvision")
    vision = torchvision_peer(variant, 7)
    vision.load_state_dict(torch.load(tmp_path / "v.pth", weights_only=True))
    keras_convnext.convert_weights(
        path, tmp_path / "t.safetensors", "transformers"
    )
    from safetensors.torch import load_file

    transformers = transformers_peer(variant, 7)
    transformers.load_state_dict(load_file(tmp_path / "t.safetensors"))


@pytest.mark.every_backend
def test_a_fine_tuned_model_goes_back_to_pytorch(tmp_path):
    variant = Variant("mine", (1, 1, 2, 1), (8, 16, 24, 32))
    model = load(variant, None, classes=3)
    model.class_names = ["a", "b", "c"]
    model.save(tmp_path / "mine.keras")
    keras_convnext.convert_weights(
        tmp_path / "mine.keras", tmp_path / "mine.pth", "timm"
    )
    peer = timm_peer(variant, 3)
    peer.load_state_dict(torch.load(tmp_path / "mine.pth", weights_only=True))
    images = random_images((1, 64, 64, 3))
    np.testing.assert_allclose(
        predict(model, images), peer_logits(peer, images), atol=1e-5
    )


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5", "m.safetensors"])
def test_files_may_be_read_by_whom_the_user_lets(name, umask, tmp_path):
    peer = timm_peer(VARIANTS["test_convnext"], 7)
    path = convertible("source", peer, tmp_path)
    before = os.umask(umask)
    try:
        keras_convnext.convert_weights(path, tmp_path / name)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("channels, normalizes", [(3, 0), (1, 0), (1, 1)])
def test_a_keras_file_becomes_the_same_model(channels, normalizes, tmp_path):
    shape = (SIZE, SIZE, channels)
    model = build(
        Variant("mine", (1, 1, 2, 1), (8, 16, 24, 32)),
        weights=None,
        classes=2,
        classifier_activation=None,
        input_shape=shape,
        include_preprocessing=bool(normalizes),
        **({"mean": 0.3, "std": 0.4} if normalizes else {}),
    )
    randomize_keras(model)
    model.update_info(class_names=("a", "b"), license="mine", weights="own")
    paths = tmp_path / "mine.keras", tmp_path / "again.keras"
    model.save(paths[0])
    keras_convnext.convert_weights(*paths)
    again = keras.saving.load_model(paths[1])
    assert again.info == model.info
    images = random_images((1, *shape)) / 100
    np.testing.assert_array_equal(
        predict(again, images), predict(model, images)
    )


def randomize_keras(model):
    generator = np.random.default_rng(0)
    model.set_weights(
        [generator.normal(size=x.shape, scale=0.1) for x in model.get_weights()]
    )


def test_conversion_to_keras_keeps_what_the_file_knows(tmp_path):
    peer = timm_peer(VARIANTS["test_convnext"], 7)
    path = convertible("source", peer, tmp_path)
    for name in ("m.keras", "m.weights.h5"):
        keras_convnext.convert_weights(path, tmp_path / name)
        model = keras_convnext.create_model(
            "test_convnext",
            weights=tmp_path / name,
            classifier_activation=None,
        )
        images = random_images((1, 160, 160, 3))
        assert_logits_agree(predict(model, images), peer_logits(peer, images))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"to": "pytorch"}, "`to` must be one of"),
        ({"to": "timm", "target": "x.keras"}, "must end in one of"),
        ({"target": "source.safetensors"}, "exists"),
        ({"target": "no/folder/x.safetensors"}, "folder must exist"),
        ({"model": "convnext_tiny"}, "does not hold 'convnext_tiny'"),
        ({"model": "convnext_tinny"}, "Did you mean"),
    ],
)
def test_conversions_that_cannot_be_leave_nothing(options, message, tmp_path):
    peer = timm_peer(VARIANTS["test_convnext"], 7)
    path = convertible("source", peer, tmp_path)
    before = path.read_bytes()
    options = {"target": "x.safetensors", **options}
    target = tmp_path / options.pop("target")
    with pytest.raises(ValueError, match=message):
        keras_convnext.convert_weights(path, target, **options)
    assert [x.name for x in tmp_path.iterdir()] == ["source.safetensors"]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "variant",
    [
        FAMILIES["v1"],
        replace(VARIANTS["test_convnext2"], kernel_sizes=(5, 5, 5, 5)),
    ],
    ids=["widths", "kernels"],
)
def test_unknown_architectures_ask_for_a_name(variant, tmp_path):
    path = convertible("source", timm_peer(variant), tmp_path)
    with pytest.raises(ValueError, match="Give its `model` name"):
        keras_convnext.convert_weights(path, tmp_path / "x.safetensors")
