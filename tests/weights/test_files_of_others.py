"""Checkpoints as people have them: wrapped, prefixed, shared out, and those of
other tasks. Expected are the arrays of the same model in a plain file."""

import argparse
import datetime
import json
import os
import pathlib
import re
import sys
import types
from collections import OrderedDict
from collections import defaultdict

import keras
import numpy as np
import pytest
import torch
from conftest import LONG_WHERE_COMPILED
from families import FAMILIES
from peers import MMPRETRAIN_NAMES
from peers import OFFICIAL_NAMES
from peers import import_timm
from peers import in_our_names
from peers import randomize
from peers import renamed_state
from peers import timm_peer
from safetensors.torch import load_file
from safetensors.torch import save_file
from torch import nn

import keras_convnext
from keras_convnext import Variant
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD
from keras_convnext.models.construction import build
from keras_convnext.models.conversion import convert_weights
from keras_convnext.weights import loading

LONG = pytest.mark.long
V1, V2 = FAMILIES["v1"], FAMILIES["v2"]
once = pytest.mark.once
pytestmark = LONG_WHERE_COMPILED


@pytest.fixture(scope="module")
def state():
    return timm_peer(V1, 5).state_dict()


@pytest.fixture(scope="module")
def expected(state):
    return loading.Source("", ours(V1, state), None, None)


def ours(variant, state):
    arrays = {name: x.numpy() for name, x in state.items()}
    return in_our_names(arrays, variant)


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


def saved(content, tmp_path, name="c.pth"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


def check(path, expected, variant=V1, heads=True, beside=()):
    """All arrays of a file are found, and nothing else."""
    source = loading.find(variant, path)
    wanted = {
        name: x
        for name, x in expected.tensors.items()
        if heads or not name.startswith("head_")
    }
    assert source.tensors.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(source.tensors[name], array)
    assert source.beside.keys() == set(beside)
    return source


class Options(dict):
    """What only the script that defines it can read."""


WRAPPERS = {
    "net": lambda x: {"net": x, "acc": 91.0},
    "weights": lambda x: {"weights": x},
    "model_ema_alone": lambda x: {"model_ema": x, "epoch": 3},
    "state_dict_ema": lambda x: {"arch": "a", "state_dict_ema": x},
    "optimizer_beside": lambda x: {
        "loss": torch.tensor(0.3),
        "model_state_dict": x,
        "optimizer_state_dict": {"state": {0: {"exp_avg": x["stem.0.bias"]}}},
    },
    "nested": lambda x: {"model": {"state_dict": OrderedDict(x)}},
    "in_a_list": lambda x: {"models": [x]},
    "numpy_arrays": lambda x: {"params": {k: v.numpy() for k, v in x.items()}},
    "lightning": lambda x: {
        "state_dict": {
            **prefixed(x, "net."),
            "criterion.weight": torch.ones(5),
            "normalizer.mean": torch.tensor(IMAGENET_MEAN),
            "normalizer.std": torch.tensor(IMAGENET_STD).reshape(1, 3, 1, 1),
        },
        "hyper_parameters": defaultdict(list, lr=[1.0]),
    },
    "averaged": lambda x: {
        **prefixed(x, "module."),
        "n_averaged": torch.tensor(5),
    },
    "profiled": lambda x: {
        **x,
        **{
            f"{name.rpartition('.')[0]}.{count}": torch.zeros(1).double()
            for name in x
            for count in ("total_ops", "total_params")
        },
    },
    "counted": lambda x: {**x, "stages.0.seen": torch.tensor(3)},
    "blocks_wrapped": lambda x: {
        name.replace("blocks.0.", "blocks.0._checkpoint_wrapped_module."): v
        for name, v in x.items()
    },
    "stages_compiled": lambda x: {
        name.replace("stages.1.", "stages.1._orig_mod."): v
        for name, v in x.items()
    },
    **{
        f"prefix {prefix}": lambda x, prefix=prefix: prefixed(x, prefix)
        for prefix in (
            *("encoder.", "backbone.", "1.", "module.", "_orig_mod.", "model."),
            *("module._orig_mod.", "student.backbone.model.", "a.0.b."),
        )
    },
    "head_outside": lambda x: {
        name if name.startswith("head.fc") else f"m.body.{name}": v
        for name, v in x.items()
    },
    "notes": lambda x: {
        "state_dict": x,
        "args": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("a")),
        "best": np.float64(91.2),
        "classes": np.array(["a", "b"]),
        "history": [np.float32(1), np.int64(3), np.arange(9.0), np.bool_(1)],
        "when": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
        "took": datetime.timedelta(hours=1),
        "random": np.random.RandomState(0).get_state(),
        "some": {1, 2},
    },
}


@once
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", WRAPPERS)
def test_the_only_model_of_a_file_is_found(
    kind, legacy, state, expected, tmp_path
):
    path = tmp_path / "c.pth"
    torch.save(
        WRAPPERS[kind](state),
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    check(path, expected)


SEVERAL = {
    "nested": lambda a, b: {"student": a, "teacher": b},
    "flat": lambda a, b: {
        "state_dict": {
            **prefixed(a, "student.net."),
            **prefixed(b, "teacher.net."),
        }
    },
    "one_within": lambda a, b: {**a, **prefixed(b, "teacher.")},
}


@once
@pytest.mark.parametrize("kind", SEVERAL)
def test_of_several_models_one_is_chosen_by_name(
    kind, state, expected, tmp_path
):
    other = {name: x + 1 for name, x in state.items()}
    path = saved(SEVERAL[kind](other, state), tmp_path)
    teacher = "state_dict.teacher" if kind == "flat" else "teacher"
    if kind == "one_within":
        with pytest.warns(UserWarning, match="'teacher'"):
            source = loading.find(V1, path)
        bias = source.tensors["stem_conv/bias"]
        np.testing.assert_array_equal(bias, other["stem.0.bias"])
    else:
        with pytest.raises(ValueError, match="student.*teacher") as error:
            loading.find(V1, path)
        assert f"c.pth#{teacher}" in str(error.value)
    check(f"{path}#{teacher}", expected)
    with pytest.raises(ValueError, match="#teecher.*teacher"):
        loading.find(V1, f"{path}#teecher")


@once
def test_the_plain_one_is_taken_before_its_average(state, expected, tmp_path):
    other = {name: x + 1 for name, x in state.items()}
    for names in (("model", "model_ema"), ("state_dict", "state_dict_ema")):
        path = saved(dict(zip(names, (state, other))), tmp_path)
        with pytest.warns(UserWarning, match=f"{names[0]}.*c.pth#{names[1]}"):
            check(path, expected)


@once
def test_of_a_teacher_and_a_student_the_one_that_fits(
    state, expected, tmp_path, recwarn
):
    larger = timm_peer(Variant("l", (1, 1, 3, 1), V1.dims), 5).state_dict()
    path = saved({"teacher": larger, "student": state}, tmp_path)
    check(path, expected)
    assert not recwarn


@once
def test_unknown_objects_are_refused_with_a_remedy(state, tmp_path):
    path = saved({"model": state, "config": Options(lr=1)}, tmp_path)
    with pytest.raises(ValueError, match=r"Options.*state_dict\(\), path"):
        loading.find(V1, path)
    path = saved(timm_peer(V1), tmp_path)
    with pytest.raises(ValueError, match=r"ConvNeXt.*state_dict\(\), path"):
        loading.find(V1, path)


class Runs:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@once
@pytest.mark.parametrize("where", ["beside", "in a note", "as an array"])
def test_code_beside_good_weights_does_not_run(where, state, tmp_path):
    mark = tmp_path / "ran"
    code = Runs(os.mkdir, (str(mark),))
    if where == "in a note":
        code = argparse.Namespace(lr=code)
    elif where == "as an array":
        code = np.array([code], dtype=object)
    path = saved({"model": state, "x": code}, tmp_path)
    with pytest.raises(ValueError, match=r"mkdir.*nothing of it was run"):
        loading.find(V1, path)
    assert not mark.exists()


class HistoryBuffer:
    """As mmengine's, which keeps methods of its own."""

    def __init__(self):
        self.history, self.statistics = np.arange(3.0), {"mean": self.mean}

    def mean(self):
        return self.history.mean()


@once
def test_runs_of_mmengine_hold_their_curves(
    state, expected, tmp_path, monkeypatch
):
    name = "mmengine.logging.history_buffer"
    module = types.ModuleType(name)
    module.HistoryBuffer = HistoryBuffer
    monkeypatch.setitem(sys.modules, "mmengine", types.ModuleType("mmengine"))
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(HistoryBuffer, "__module__", name)
    hub = {"log_scalars": {"train/loss": HistoryBuffer()}}
    path = saved({"state_dict": state, "message_hub": hub}, tmp_path)
    check(path, expected)


@pytest.mark.every_backend
@pytest.mark.parametrize("scale", [1, 255])
def test_another_normalization_in_the_file_is_told(
    scale, state, tmp_path, recwarn
):
    own, other = (torch.tensor(x) for x in (IMAGENET_MEAN, (0.5, 0.5, 0.5)))
    state = prefixed(state, "net.")
    options = {"classes": 5, "include_top": True}

    def built(saved_mean, **more):
        content = {
            **state,
            "normalizer.mean": saved_mean.reshape(3, 1, 1) * scale,
        }
        return build(V1, weights=saved(content, tmp_path), **options, **more)

    built(own)
    built(other, include_preprocessing=False)
    built(other, mean=(0.5, 0.5, 0.5), std=IMAGENET_STD)
    assert not recwarn
    with pytest.warns(UserWarning, match=r"mean=\(0.5, 0.5, 0.5\) \(the model"):
        built(other)


@once
def test_quantized_pytorch_files_say_so(state, tmp_path):
    weight = torch.quantize_per_tensor(
        state["stem.0.weight"], 0.1, 0, torch.qint8
    )
    path = saved({**state, "stem.0.weight": weight}, tmp_path)
    with pytest.raises(ValueError, match="quantized"):
        loading.find(V1, path)


# Heads


def two_layers(state):
    deep = {k: v for k, v in state.items() if not k.startswith("head.fc")}
    for layer, shape in (("0", (16, 32)), ("3", (5, 16))):
        deep[f"head.fc.{layer}.weight"] = torch.zeros(shape)
        deep[f"head.fc.{layer}.bias"] = torch.zeros(shape[0])
    return deep


HEADS = {
    "two_layers": two_layers,
    "convolution": lambda x: {**x, "head.fc.weight": torch.zeros(5, 32, 3, 3)},
    "wider": lambda x: {**x, "head.fc.weight": torch.zeros(5, 64)},
    "hidden": lambda x: {
        **x,
        "head.pre_logits.fc.weight": torch.zeros(16, 32),
        "head.pre_logits.fc.bias": torch.zeros(16),
        "head.fc.weight": torch.zeros(5, 16),
    },
    "normalized": lambda x: {
        **{k: v for k, v in x.items() if k != "head.fc.weight"},
        "head.fc.weight_g": torch.ones(5, 1),
        "head.fc.weight_v": torch.ones(5, 32),
    },
}


@pytest.mark.parametrize("head", HEADS)
def test_heads_of_other_shapes_are_left_out(head, state, expected, tmp_path):
    path = saved(HEADS[head](state), tmp_path)
    with pytest.raises(ValueError, match="include_top=False|do not fit"):
        small(path)
    with pytest.warns(UserWarning, match="[Ll]eft out|left out") as warned:
        model = small(path, classes=5)
    assert len(warned) == 1
    assert "random weights" in str(warned[0].message)
    same_backbone(model, expected)
    assert model.get_layer("head_classifier").kernel.numpy().std() > 0.01
    same_backbone(small(path, include_top=False, pooling="avg"), expected)


def small(path, **options):
    options = {"input_shape": (32, 32, 3), **options}
    return build(V1, weights=path, **options)


def same_backbone(model, expected):
    found = {
        f"{layer.name}/{variable.name}": np.asarray(variable)
        for layer in model.layers
        for variable in layer.weights
        if layer.name.startswith(("stem", "stage"))
    }
    assert len(found) > 20
    for name, array in found.items():
        wanted = expected.tensors[name].astype("float32")
        np.testing.assert_array_equal(array, wanted)


@once
def test_heads_without_bias(state, expected, tmp_path):
    headless = {k: v for k, v in state.items() if k != "head.fc.bias"}
    source = loading.find(V1, saved(headless, tmp_path))
    assert source.classes == 5
    assert not source.tensors["head_classifier/bias"].any()


def test_unknown_parts_do_not_pass_silently(state, tmp_path):
    path = saved({**state, "neck.weight": torch.ones(32, 32)}, tmp_path)
    with pytest.raises(ValueError, match=r"include_top=False.*neck \(1\)"):
        small(path)
    with pytest.warns(UserWarning, match=r"Left out.*: neck \(1\)"):
        small(path, include_top=False)
    path = saved({**state, "stages.0.blocks.0.se": torch.ones(8)}, tmp_path)
    for options in ({}, {"include_top": False}, {"classes": 5}):
        with pytest.raises(ValueError, match="1 unexpected .stages.0.blocks"):
            small(path, **options)


# Several files


def shared_out(state, folder, kind, **index):
    names = sorted(state)
    half = len(names) // 2
    stem, extension = kind
    places = {}
    for number, part in enumerate((names[:half], names[half:]), start=1):
        name = f"{stem}-0000{number}-of-00002.{extension}"
        tensors = {x: state[x].clone() for x in part}
        save = save_file if extension == "safetensors" else torch.save
        save(tensors, folder / name)
        places |= dict.fromkeys(part, name)
    path = folder / f"{stem}.{extension}.index.json"
    path.write_text(json.dumps({"weight_map": {**places, **index}}, indent=1))
    return path


KINDS = [("model", "safetensors"), ("pytorch_model", "bin")]


@once
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_shared_out_among_files(kind, state, expected, tmp_path):
    path = shared_out(state, tmp_path, kind)
    check(path, expected)
    check(tmp_path, expected)
    shard = next(tmp_path.glob("*00001*"))
    with pytest.raises(ValueError, match=r"part of a model.*index\.json"):
        loading.find(V1, shard)


@once
@pytest.mark.parametrize(
    "name, message",
    [
        ("../secret.safetensors", "not beside it"),
        ("/etc/secret.safetensors", "not beside it"),
        ("..\\secret.safetensors", "not beside it"),
        ("missing.safetensors", "is not there"),
        (7, "not beside it"),
        (["a.weights.h5"], "save_weights"),
    ],
)
def test_an_index_reaches_no_other_files(name, message, state, tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    save_file(dict(state), tmp_path / "secret.safetensors")
    path = shared_out(state, folder, KINDS[0], **{"stem.0.bias": name})
    with pytest.raises(ValueError, match=message):
        loading.find(V1, path)


@once
@pytest.mark.parametrize(
    "content", ["{}", '{"weight_map": {}}', "{", '{"a": 1']
)
def test_an_index_that_is_none_is_refused(content, tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"index\.json"):
        loading.find(V1, path)


@once
def test_an_index_and_its_files_agree(state, expected, tmp_path):
    first = "model-00001-of-00002.safetensors"
    path = shared_out(state, tmp_path, KINDS[0], more=first)
    with pytest.raises(ValueError, match="'more' is in none"):
        loading.find(V1, path)
    path = shared_out(state, tmp_path, KINDS[0])
    second = tmp_path / "model-00002-of-00002.safetensors"
    name = next(iter(load_file(tmp_path / first)))
    save_file({**load_file(second), name: state[name].clone()}, second)
    with pytest.raises(ValueError, match="in two of its files"):
        loading.find(V1, path)


@once
def test_folders(state, expected, tmp_path):
    with pytest.raises(ValueError, match="with none"):
        loading.find(V1, tmp_path)
    (tmp_path / "config.json").write_text("{}")
    save_file(dict(state), tmp_path / "best.safetensors")
    check(tmp_path, expected)
    save_file(dict(state), tmp_path / "last.safetensors")
    with pytest.raises(ValueError, match="best.safetensors.*last.safetensors"):
        loading.find(V1, tmp_path)
    save_file(dict(state), tmp_path / "model.safetensors")
    check(tmp_path, expected)


@once
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["c.pth", "c.safetensors"])
def test_half_precision_is_kept_as_it_is(dtype, name, state, tmp_path):
    half = {name: nn.Parameter(x.to(dtype)) for name, x in state.items()}
    if name == "c.pth":
        torch.save({"model": half}, tmp_path / name)
    else:
        save_file({k: x.data for k, x in half.items()}, tmp_path / name)
    source = loading.find(V1, tmp_path / name)
    kernel = source.tensors["head_classifier/kernel"]
    exact = half["head.fc.weight"].detach().float().numpy().T
    np.testing.assert_array_equal(kernel.astype("float32"), exact)


# Other tasks, other wrappers


def norms(prefix, start=0):
    return {
        f"{prefix}{stage + start}.{name}": torch.ones(width)
        for stage, width in enumerate(V1.dims)
        for name in ("weight", "bias")
    }


def detector(state, names):
    """As mmdet saves one: the backbone without its head, and other parts."""
    backbone = {
        name.removeprefix("backbone."): x
        for name, x in renamed(state, names).items()
        if not re.match(r"(backbone\.norm3|norm|head)\.", name)
    }
    return {
        "meta": {"CLASSES": ("a", "b"), "epoch": 36},
        "state_dict": {
            **prefixed(backbone, "backbone."),
            **norms("backbone.norm"),
            "neck.lateral_convs.0.conv.weight": torch.ones(9, 8, 1, 1),
            "rpn_head.rpn_cls.bias": torch.ones(3),
            "roi_head.bbox_head.0.shared_convs.0.bn.num_batches_tracked": (
                torch.tensor(7)
            ),
        },
    }


def renamed(state, names):
    for pattern, replacement in names:
        state = {re.sub(pattern, replacement, k): x for k, x in state.items()}
    return state


@pytest.mark.parametrize("names", [OFFICIAL_NAMES, MMPRETRAIN_NAMES])
def test_detectors(names, state, expected, tmp_path):
    path = saved(detector(state, names), tmp_path)
    with pytest.warns(UserWarning) as warned:
        model = small(path, include_top=False)
    assert len(warned) == 1
    message = str(warned[0].message)
    for part in ("c.pth", "backbone.norm* (8)", "neck (1)", "rpn_head (1)"):
        assert part in message
    same_backbone(model, expected)
    with pytest.raises(ValueError, match="no classifier.*include_top=False"):
        small(path)


@once
def test_detectors_are_converted_to_their_backbones(tmp_path):
    variant = keras_convnext.VARIANTS["test_convnext"]
    peer = timm_peer(variant, 5)
    path = saved(detector(peer.state_dict(), OFFICIAL_NAMES), tmp_path)
    with pytest.warns(UserWarning, match=r"neck \(1\)") as warned:
        name = convert_weights(path, tmp_path / "b.safetensors", "timm")
    assert (name, len(warned)) == ("test_convnext", 1)
    found = load_file(tmp_path / "b.safetensors")
    for key, tensor in peer.state_dict().items():
        if not key.startswith("head"):
            assert torch.equal(found.pop(key), tensor), key
    assert not found


@once
def test_one_of_several_models_is_converted(tmp_path):
    peer = timm_peer(keras_convnext.VARIANTS["test_convnext"], 5)
    state = peer.state_dict()
    other = {name: x + 1 for name, x in state.items()}
    path = saved({"student": other, "teacher": state}, tmp_path)
    target = tmp_path / "b.safetensors"
    convert_weights(f"{path}#teacher", target, "timm")
    found = load_file(target)
    assert all(torch.equal(found[key], x) for key, x in state.items())


@once
@pytest.mark.parametrize("name", ["v1", "v2"])
def test_backbones_of_transformers(name, tmp_path):
    import_timm()
    import transformers

    variant = FAMILIES[name]
    kind = "ConvNextV2" if variant.grn else "ConvNext"
    config = getattr(transformers, f"{kind}Config")(
        hidden_sizes=list(variant.dims),
        depths=list(variant.depths),
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    peer = randomize(getattr(transformers, f"{kind}Backbone")(config))
    peer.save_pretrained(tmp_path)
    source = loading.find(variant, tmp_path)
    assert len(source.beside) == 8
    assert all(x.startswith("hidden_states_norms.") for x in source.beside)
    theirs = peer.state_dict()["encoder.stages.2.layers.1.pwconv2.weight"]
    np.testing.assert_array_equal(
        source.tensors["stage_2_block_1_project/kernel"], theirs.numpy().T
    )
    assert len(source.tensors) == len(peer.state_dict()) - 8


@once
def test_features_of_timm(state, expected, tmp_path):
    """`features_only=True` flattens the outermost modules."""
    flat = {
        re.sub(r"^(stem|stages)\.", r"\1_", name): x
        for name, x in state.items()
        if not name.startswith("head")
    }
    path = saved(prefixed(flat, "encoder.model."), tmp_path)
    check(path, expected, heads=False)


@once
def test_torchvision_bodies(tmp_path, expected, state):
    """As `IntermediateLayerGetter` names them, and a `Sequential` of parts."""
    source = tmp_path / "timm.safetensors"
    variant = keras_convnext.VARIANTS["test_convnext"]
    save_file(timm_peer(variant, 5).state_dict(), source)
    convert_weights(source, tmp_path / "tv.pth", "torchvision")
    theirs = torch.load(tmp_path / "tv.pth")
    plain = loading.find(variant, source)
    for prefix in ("backbone.body.", "0."):
        body = {
            name.replace("features.", prefix): x for name, x in theirs.items()
        }
        check(saved(body, tmp_path), plain, variant)


@once
@pytest.mark.parametrize("name", ["v1", "v2"])
@pytest.mark.parametrize("part", ["whole", "backbone", "bare backbone"])
def test_mmpretrain_files_and_their_parts(name, part, tmp_path):
    variant = FAMILIES[name]
    peer = timm_peer(variant, 5)
    state = renamed_state(peer, MMPRETRAIN_NAMES)
    plain = loading.Source("", ours(variant, peer.state_dict()), None, None)
    tensors = dict(plain.tensors)
    if part != "whole":
        state = {k: v for k, v in state.items() if "head" not in k}
        for variable in ("kernel", "bias"):
            del tensors[f"head_classifier/{variable}"]
    if part == "bare backbone":
        state = {k.removeprefix("backbone."): v for k, v in state.items()}
    path = saved({"meta": {}, "state_dict": state}, tmp_path)
    check(path, loading.Source("", tensors, None, None), variant)


@once
@pytest.mark.parametrize("name", ["test_convnext", "convnextv2_atto"])
def test_mmpretrain_files_are_written(name, tmp_path):
    """With the names, and the shapes, that its own models have."""
    variant = keras_convnext.VARIANTS[name]
    peer = timm_peer(variant, 5)
    save_file(peer.state_dict(), tmp_path / "timm.safetensors")
    target = tmp_path / "mm.pth"
    convert_weights(tmp_path / "timm.safetensors", target, "mmpretrain", name)
    found = torch.load(target)
    theirs = renamed_state(peer, MMPRETRAIN_NAMES)
    assert found.keys() == theirs.keys()
    for key, tensor in theirs.items():
        if "pointwise" in key:  # linear there, whatever they are in timm
            tensor = tensor[..., 0, 0] if tensor.ndim == 4 else tensor
        assert torch.equal(found[key], tensor), key


# Keras


def transfer(backbone, kind):
    pool, dense = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)
    if kind == "sequential_of_one":
        return keras.Sequential([keras.Input((32, 32, 3)), backbone])
    if kind == "sequential":
        layers = [keras.Input((32, 32, 3)), backbone, pool, dense]
        return keras.Sequential(layers)
    if kind == "flat":
        return keras.Model(backbone.input, dense(pool(backbone.output)))
    if kind == "nested":
        inner = keras.Sequential([keras.Input((32, 32, 3)), backbone, pool])
        return keras.Sequential([inner, dense])

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.backbone, self.pool, self.top = backbone, pool, dense

        def call(self, x):
            return self.top(self.pool(self.backbone(x)))

    model = Subclassed()
    model(np.zeros((1, 32, 32, 3), "float32"))
    return model


def random_backbone(**options):
    model = build(
        V1,
        weights=None,
        include_top=False,
        input_shape=(32, 32, 3),
        **options,
    )
    spread(model)
    return model


def spread(model):
    generator = np.random.default_rng(0)
    model.set_weights(
        [
            generator.normal(0, 0.1, x.shape) if x.dtype != "uint32" else x
            for x in model.get_weights()
        ]
    )


def save_as(model, path):
    save = model.save_weights if "weights" in path.name else model.save
    save(path)


def transfer_files():
    """Every kind in each format; in fewer where each takes a compilation."""
    for kind in ("sequential", "flat", "nested", "subclass"):
        for name in ("m.keras", "m.weights.h5", "m.h5"):
            is_quick = name == "m.keras" and kind != "subclass"
            marks = (
                pytest.mark.every_backend if is_quick else LONG_WHERE_COMPILED
            )
            yield pytest.param(kind, name, marks=marks)


@pytest.mark.parametrize("kind, name", list(transfer_files()))
def test_backbones_of_transfer_models(kind, name, tmp_path):
    backbone = random_backbone(drop_path_rate=0.1)
    save_as(transfer(backbone, kind), tmp_path / name)
    with pytest.warns(UserWarning, match=r"Left out.*: dense\S* \(2\)"):
        model = build(
            V1,
            weights=tmp_path / name,
            include_top=False,
            input_shape=(32, 32, 3),
        )
    for layer in model.layers:
        theirs = backbone.get_layer(layer.name).get_weights()
        for x, y in zip(layer.get_weights(), theirs, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5", "m.h5"])
def test_two_towers_in_one_file(name, tmp_path):
    towers = [random_backbone(name=x, pooling="avg") for x in ("left", "right")]
    for weight in towers[1].weights:
        weight.assign(weight + 1)
    images = [keras.Input((32, 32, 3)) for _ in towers]
    outputs = [tower(x) for tower, x in zip(towers, images)]
    model = keras.Model(images, keras.layers.Concatenate()(outputs))
    save_as(model, tmp_path / name)
    with pytest.raises(ValueError, match="'left', 'right'"):
        loading.find(V1, tmp_path / name)
    for tower in towers:
        path = f"{tmp_path / name}#{tower.name}"
        source = loading.find(V1, path)
        bias = np.asarray(tower.get_layer("stem_conv").bias)
        np.testing.assert_array_equal(source.tensors["stem_conv/bias"], bias)


@pytest.mark.parametrize(
    "name",
    [
        "m.keras",
        pytest.param("m.weights.h5", marks=LONG),
        pytest.param("m.h5", marks=LONG),
    ],
)
def test_transfer_models_on_keras_applications(name, tmp_path):
    theirs = keras.applications.ConvNeXtTiny(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    spread(theirs)
    save_as(transfer(theirs, "sequential"), tmp_path / name)
    variant = keras_convnext.VARIANTS["convnext_tiny"]
    source = loading.find(variant, tmp_path / name)
    assert [x.split("/")[0] for x in source.beside][0].startswith("dense")
    assert len(source.beside) == 2
    layer = theirs.get_layer(f"{theirs.name}_stage_3_block_2_pointwise_conv_2")
    np.testing.assert_array_equal(
        source.tensors["stage_3_block_2_project/kernel"],
        np.asarray(layer.kernel),
    )
    assert "head_norm/gamma" in source.tensors


def test_quantized_transfer_models_say_so(tmp_path):
    variant = Variant("one", (1,), (4,), kernel_sizes=(7,))
    backbone = build(
        variant, weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    model = transfer(backbone, "sequential")
    model.quantize("int8", type_check=False)
    model.save(tmp_path / "int8.keras")
    message = r"quantize.*int8\.keras.*stage_0_block_0.*before `quantize`"
    with pytest.raises(ValueError, match=message):
        loading.find(variant, tmp_path / "int8.keras")


@pytest.mark.parametrize(
    "wrapped",
    [pytest.param(False, marks=pytest.mark.every_backend), True],
)
def test_whole_models_in_the_old_format(wrapped, tmp_path):
    """`.h5`, which Keras still writes and reads."""
    model = build(V1, weights=None, classes=3, input_shape=(32, 32, 3))
    spread(model)
    whole = transfer(model, "sequential_of_one") if wrapped else model
    whole.save(tmp_path / "old.h5")
    again = keras.models.load_model(tmp_path / "old.h5")
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3))
    np.testing.assert_allclose(
        again.predict(images, verbose=0),
        whole.predict(images, verbose=0),
        rtol=1e-6,
        atol=1e-6,
    )
    if not wrapped:
        assert again.info == model.info
