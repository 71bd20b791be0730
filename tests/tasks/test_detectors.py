"""Detectors: their weights against mmdet's names, shapes and layers."""

import math
import shutil

import keras
import numpy as np
import pytest
import torch
from conftest import LONG_WHERE_COMPILED
from detector_files import BLOCKS
from detector_files import DETECTORS
from detector_files import WIDTHS
from detector_files import backbone
from detector_files import file_of
from detector_files import shapes
from detector_files import small
from detector_files import weights
from families import FAMILIES
from mmdet_reference import answers
from peers import timm_peer
from safetensors.numpy import load_file
from safetensors.numpy import save_file
from torch.nn import functional as F

from keras_convnext import VARIANTS
from keras_convnext import convert_weights
from keras_convnext import create_model
from keras_convnext import detection
from keras_convnext import profile
from keras_convnext.facts import coco
from keras_convnext.models.construction import build
from keras_convnext.models.graph_execution import GraphExecution
from keras_convnext.models.profiling import without_numbers
from keras_convnext.weights import hub

pytestmark = LONG_WHERE_COMPILED

BACKEND = keras.backend.backend()
TINY = {"depths": (3, 3, 9, 3), "dims": (96, 192, 384, 768)}


def without_counters(tensors):
    return {k: x for k, x in tensors.items() if "num_batches" not in k}


def assert_same_weights(found, expected):
    for one, other in zip(found.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(*map(np.asarray, (one, other)))


# Layout


@pytest.mark.once
@pytest.mark.parametrize("detector", DETECTORS)
def test_the_names_of_the_official_files(detector):
    for own, names in enumerate(BLOCKS):
        theirs = answers.shapes(detector, own)
        assert list(shapes(detector, **TINY, names=names).items()) == list(
            theirs.items()
        )


# Of the paper: parameters, and GFLOPs at 1280x800, which are multiply-adds;
# table 3, whose figures the official repository rounds.
PUBLISHED = {
    ("mask_rcnn", "convnext_tiny"): (48_095_376, 262),
    ("cascade", "convnext_tiny"): (85_930_578, 741),
    ("cascade", "convnext_small"): (107_565_138, 827),
    ("cascade", "convnext_base"): (145_800_242, 964),
    ("cascade", "convnext_large"): (254_710_770, 1354),
    ("cascade", "convnext_xlarge"): (406_875_058, 1898),
}


@pytest.mark.skipif(BACKEND != "torch", reason="models without memory")
@pytest.mark.parametrize(
    "detector, name",
    [
        pytest.param(*key, marks=[] if "tiny" in key[1] else [pytest.mark.long])
        for key in PUBLISHED
    ],
)
def test_costs_are_those_published(detector, name):
    parameters, flops = PUBLISHED[detector, name]
    with without_numbers():
        model = DETECTORS[detector](
            create_model(name, weights=None, include_top=False)
        )
        found = profile(model, (800, 1280, 3))
    count = sum(math.prod(w.shape) for w in model.trainable_weights)
    assert count == parameters
    assert found.macs / 1e9 == pytest.approx(flops, rel=2e-3)


@pytest.mark.parametrize(
    "detector, names",
    [("mask_rcnn", "mmpretrain"), ("cascade", "official")],
)
def test_files_of_mmdet_load_and_come_back(detector, names, tmp_path):
    """Every number at its place: the way back gives the file again."""
    content = {
        "meta": {"epoch": 36, "CLASSES": ("a", "b")},
        "state_dict": {
            k: torch.from_numpy(np.array(x))
            for k, x in weights(detector, names).items()
        },
        "optimizer": {"param_groups": [{"lr": 1e-4}]},
    }
    torch.save(content, tmp_path / "theirs.pth")
    model = small(detector, tmp_path / "theirs.pth")
    assert (model.classes, model.info.weights) == (5, "theirs.pth")
    model.save(tmp_path / "ours.keras")
    for to, expected in zip(("official_mmdet", "mmdet"), BLOCKS):
        target = tmp_path / f"{to}.pth"
        convert_weights(tmp_path / "ours.keras", target, to)
        found = torch.load(target)["state_dict"]
        wanted = without_counters(weights(detector, expected))
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            np.testing.assert_array_equal(found[name].numpy(), array)


@pytest.mark.once
def test_files_are_converted_between_releases_of_mmdet(tmp_path):
    """The published architectures are recognized."""
    variant = VARIANTS["test_convnext"]
    sizes = {"depths": variant.depths, "dims": variant.dims, **WIDTHS}
    path = file_of("cascade", tmp_path, **sizes)
    target = tmp_path / "mmdet.safetensors"
    assert convert_weights(path, target, "mmdet") == "test_convnext"
    found, tensors = load_file(target), load_file(path)
    renamed = shapes("cascade", **sizes, names="mmpretrain")
    assert found.keys() == without_counters(renamed).keys()
    for name, key in zip(renamed, shapes("cascade", **sizes)):
        if name in found:
            np.testing.assert_array_equal(found[name], tensors[key])
    del tensors["roi_head.mask_head.2.upsample.bias"]
    save_file(tensors, tmp_path / "damaged.safetensors")
    with pytest.raises(ValueError, match="missing mask_2_upsample/bias"):
        convert_weights(
            tmp_path / "damaged.safetensors", target, "mmdet", overwrite=True
        )


def test_layers_compute_what_those_of_torch_do(tmp_path):
    """Behind RoIAlign channels come last here, and first there."""
    model = small("mask_rcnn", file_of("mask_rcnn", tmp_path))
    theirs = {k: torch.from_numpy(x) for k, x in weights("mask_rcnn").items()}
    x = np.random.default_rng(0).normal(size=(3, 7, 7, 16)).astype("float32")
    given = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    head = "roi_head.bbox_head.shared_fcs.0"
    expected = F.linear(
        given.flatten(1), theirs[f"{head}.weight"], theirs[f"{head}.bias"]
    ).relu()
    found = model.get_layer("box_fc_0")(x.reshape(3, -1))
    assert_close(found, expected)
    head = "roi_head.mask_head.upsample"
    expected = F.conv_transpose2d(
        given, theirs[f"{head}.weight"], theirs[f"{head}.bias"], stride=2
    ).relu()
    found = model.get_layer("mask_upsample")(x)
    assert_close(found, expected.permute(0, 2, 3, 1))


def assert_close(found, expected):
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(found),
        expected.numpy(),
        rtol=1e-4,
        atol=1e-5,
    )


def test_weights_of_our_own_and_prefixes(tmp_path):
    detector = "cascade"
    model = small(detector, file_of(detector, tmp_path))
    model.save_weights(tmp_path / "own.weights.h5")
    again = detection.CascadeMaskRCNN(
        backbone(layer_prefix="left_"),
        weights=str(tmp_path / "own.weights.h5"),
    )
    assert again.get_layer("left_box_1_conv_3_norm")
    assert (again.prefix, again.stages) == ("left_", ("_0", "_1", "_2"))
    assert_same_weights(again, model)


def test_another_number_of_classes_starts_fresh_heads(tmp_path):
    path = file_of("mask_rcnn", tmp_path)
    with pytest.warns(UserWarning, match="has 5 classes, not 2") as warned:
        model = small("mask_rcnn", path, classes=["cat", "dog"])
    assert len(warned) == 1
    assert (model.classes, model.info.class_names) == (2, ("cat", "dog"))
    for name, deviation in (
        ("box_classifier", 0.01),
        ("box_deltas", 0.001),
        ("mask_classifier", 1.0),
    ):
        kernel, bias = model.get_layer(name).get_weights()
        assert kernel.std() == pytest.approx(deviation, rel=0.3)
        assert not bias.any()
    np.testing.assert_array_equal(
        model.get_layer("rpn_conv").get_weights()[0],
        small("mask_rcnn", path).get_layer("rpn_conv").get_weights()[0],
    )


@pytest.mark.parametrize("how", ["missing", "unexpected", "mis-shaped"])
def test_every_tensor_is_used_once_or_named(how, tmp_path):
    tensors = dict(weights("cascade"))
    if how == "missing":
        del tensors["roi_head.bbox_head.1.shared_convs.2.bn.running_mean"]
        message = "1 missing .box_1_conv_2_norm/moving_mean"
    elif how == "unexpected":
        tensors["roi_head.surprise.weight"] = np.zeros(3, "float32")
        message = "1 unexpected .roi_head.surprise.weight"
    else:
        tensors["neck.fpn_convs.3.conv.bias"] = np.zeros(9, "float32")
        message = r"fpn_output_3/bias: file \(9,\) of \w+, model \(16,\)"
    save_file(tensors, tmp_path / "damaged.safetensors")
    model = backbone()
    before = model.get_weights()[0]
    with pytest.raises(ValueError, match=message):
        detection.CascadeMaskRCNN(
            model, weights=tmp_path / "damaged.safetensors"
        )
    np.testing.assert_array_equal(model.get_weights()[0], before)


def test_files_of_something_else_are_told(tmp_path):
    peer = timm_peer(FAMILIES["v1"]).state_dict()
    save_file(
        {k: x.numpy() for k, x in peer.items()}, tmp_path / "c.safetensors"
    )
    with pytest.raises(ValueError, match="without these heads"):
        small("mask_rcnn", tmp_path / "c.safetensors")
    path = file_of("cascade", tmp_path)
    with pytest.raises(ValueError, match="those of a Cascade Mask R-CNN"):
        small("mask_rcnn", path)
    # The other way round: a detector where a backbone is asked for.
    with pytest.warns(UserWarning, match="rpn_head") as warned:
        plain = build(FAMILIES["v1"], include_top=False, weights=path)
    assert len(warned) == 1
    model = small("cascade", path)
    for name in ("stem_conv", "stage_2_block_1_project"):
        for one, other in zip(
            plain.get_layer(name).get_weights(),
            model.get_layer(name).get_weights(),
        ):
            np.testing.assert_array_equal(one, other)


@pytest.mark.once
def test_the_published_files():
    rows = {c.name: c for c in detection.CHECKPOINTS}
    assert len(rows) == 10
    official = [c for c in rows.values() if "fbaipublicfiles" in c.url]
    assert len(official) == 7
    assert {c.license for c in official} == {"mit"}
    assert {c.image_size for c in rows.values()} == {800}
    found = {
        name: (c.box_ap, c.mask_ap)
        for name, c in rows.items()
        if "convnext_base" in name or "coco_mask" in name
    }
    assert found == {
        "convnext_tiny.fb_in1k_coco_mask": (46.2, 41.7),
        "convnext_tiny.mm_in1k_coco_mask": (46.2, 41.7),
        "convnext_base.fb_in1k_coco_cascade": (52.7, 45.6),
        "convnext_base.fb_in22k_coco_cascade": (54.0, 46.9),
    }


@pytest.mark.parametrize(
    "detector, model, tag, file",
    [
        (
            "mask_rcnn",
            "convnext_tiny",
            "fb_in1k_coco_mask",
            "mask_rcnn_convnext_tiny_1k_3x.pth",
        ),
        (
            "cascade",
            "convnext_xlarge",
            "fb_in22k_coco_cascade",
            "cascade_mask_rcnn_convnext_xlarge_22k_3x.pth",
        ),
    ],
)
def test_tags_fetch_the_official_file(
    detector, model, tag, file, monkeypatch, tmp_path
):
    path = file_of(detector, tmp_path)
    addresses = []

    def download(address, target, _):
        addresses.append(address)
        shutil.copy(path, target)

    monkeypatch.setattr(hub.downloading, "download", download)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    found = DETECTORS[detector](backbone(name=model), weights="coco")
    assert addresses == [f"https://dl.fbaipublicfiles.com/convnext/coco/{file}"]
    assert (found.info.weights, found.info.license) == (tag, "mit")
    assert found.info.preprocessing.image_size == (800, 1333)
    assert_same_weights(found, small(detector, path))


def test_names_of_tags_are_guessed():
    tiny = backbone(name="convnext_tiny")
    with pytest.raises(ValueError, match="Did you mean fb_in1k_coco_mask"):
        detection.MaskRCNN(tiny, weights="fb_in1k_coco_mas")
    base = backbone(name="convnext_base")
    with pytest.raises(ValueError, match="no published.*a Mask R-CNN on"):
        detection.MaskRCNN(base, weights="coco")


def test_names_of_classes(tmp_path):
    """COCO's where a file of mmdet has 80; those of our own files."""
    model = small("mask_rcnn", classes=["a", "b", "c"])
    model.save(tmp_path / "own.keras")
    again = small("mask_rcnn", tmp_path / "own.keras")
    assert again.info.class_names == ("a", "b", "c")
    assert coco.NAMES[:2] == ("person", "bicycle")
    assert (coco.CATEGORIES[11], coco.CATEGORY_IDS[-1]) == (
        (13, "stop sign"),
        90,
    )
    assert len(set(coco.NAMES)) == len(set(coco.CATEGORY_IDS)) == 80


def test_what_cannot_carry_a_detector():
    isotropic = build(FAMILIES["isotropic"], include_top=False, weights=None)
    for model, message in (
        (isotropic, r"some of \('P4',\)"),
        (keras.Sequential([keras.Input((64, 64, 3))]), "Received: <Sequential"),
        (backbone(data_format="channels_first"), "channels_last"),
        (backbone(output_stride=16), "without `output_stride`"),
    ):
        with pytest.raises(ValueError, match=message):
            detection.MaskRCNN(model)
    for options, message in (
        ({"short_side": 16}, "`short_side` must be an int of at least 32"),
        ({"classes": 0}, "`classes` must be a positive int"),
        ({"proposals": 0}, "`proposals` must be"),
        ({"score_threshold": 1.5}, "`score_threshold` must be"),
    ):
        with pytest.raises(ValueError, match=message):
            small("mask_rcnn", **options)


@pytest.mark.skipif(BACKEND != "torch", reason="others run a graph")
def test_what_a_detector_has_read_is_forgotten(monkeypatch):
    """Through Keras' own ways to call it, which pass masks on."""
    model = small("mask_rcnn", proposals=5, detections=2)
    sizes = np.full((1, 2), 64, "int32")
    x = {
        "images": np.zeros((1, 64, 64, 3), "float32"),
        "image_sizes": sizes,
        "original_sizes": sizes,
    }
    calls, run = [], GraphExecution.__call__

    def noted(self, inputs):
        calls.append(inputs)
        return run(self, inputs)

    monkeypatch.setattr(GraphExecution, "__call__", noted)
    model(x, training=False)
    model.predict_on_batch(x)
    model.predict(x, verbose=0)
    assert len(calls) == 3
