"""UperNets against transformers' and mmseg's, weights randomized."""

import functools
import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from conftest import LONG_WHERE_COMPILED
from conftest import long_where_compiled
from conftest import random_images
from families import FAMILIES
from families import SMALL
from peers import peer_logits
from peers import renamed_state
from peers import timm_peer
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import confusion_matrix
from torch.nn import functional as F
from upernet_peers import CLASSES
from upernet_peers import peer_of

from keras_convnext import ConvNeXt
from keras_convnext import Variant
from keras_convnext import create_model
from keras_convnext import segmentation
from keras_convnext._util import limits
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD
from keras_convnext.models.construction import build
from keras_convnext.models.profiling import without_numbers
from keras_convnext.tasks.segmentation import UperNet
from keras_convnext.tasks.segmentation import inference
from keras_convnext.tasks.segmentation import resampling
from keras_convnext.weights import hub
from keras_convnext.weights import layouts

pytestmark = LONG_WHERE_COMPILED

BACKEND = keras.backend.backend()


# The official repository cannot be installed: its names, from transformers'.
MMSEG_NAMES = (
    (r"^backbone\.embeddings\.patch_embeddings\.", "downsample_layers.0.0."),
    (r"^backbone\.embeddings\.layernorm\.", "downsample_layers.0.1."),
    (
        r"^backbone\.encoder\.stages\.(\d)\.downsampling_layer\.",
        r"downsample_layers.\1.",
    ),
    (r"^backbone\.encoder\.stages\.(\d)\.layers\.", r"stages.\1."),
    (r"^(stages.*)\.layer_scale_parameter$", r"\1.gamma"),
    (r"^(stages\.\d+\.\d+)\.layernorm\.", r"\1.norm."),
    (r"^backbone\.hidden_states_norms\.stage1\.", "norm0."),
    (r"^backbone\.hidden_states_norms\.stage2\.", "norm1."),
    (r"^backbone\.hidden_states_norms\.stage3\.", "norm2."),
    (r"^backbone\.hidden_states_norms\.stage4\.", "norm3."),
    (r"^(downsample_layers|stages|norm\d)\b", r"backbone.\1"),
    (r"\.batch_norm\.", ".bn."),
    (r"^(decode|auxiliary)_head\.classifier\.", r"\1_head.conv_seg."),
)


def mmseg_state(peer):
    return renamed_state(peer, MMSEG_NAMES)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Returns a function from a family to its variant, peer and files."""
    made = {}

    def make(name="v1"):
        if name not in made:
            variant = FAMILIES[name]
            peer = peer_of(variant)
            folder = tmp_path_factory.mktemp(name)
            save_file(peer.state_dict(), folder / "model.safetensors")
            content = {"meta": {"epoch": 1}, "state_dict": mmseg_state(peer)}
            torch.save(content, folder / "upernet.pth")
            made[name] = variant, peer, folder
        return made[name]

    return make


def backbone_of(variant, **options):
    return build(variant, include_top=False, weights=None, **options)


def ours(saved, name="v1", file="model.safetensors", **options):
    variant, _, folder = saved(name)
    return UperNet(backbone_of(variant), weights=folder / file, **options)


def small(classes=3, **options):
    """A segmenter with random weights that depend on the seed alone."""
    keras.utils.set_random_seed(0)
    backbone = ConvNeXt(
        **SMALL, include_top=False, layer_scale_init_value=1.0, **options
    )
    return UperNet(backbone, classes, channels=8, crop=64)


def computed(model, images):
    """Both outputs; on JAX compiled at once, which takes a quarter of the
    time of compiling every operation."""
    if BACKEND == "jax":
        return model.predict_on_batch(images)
    outputs = model(images, training=False)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)


def assert_same_weights(found, expected):
    for one, other in zip(found.weights, expected.weights, strict=True):
        if "seed" not in one.path:
            np.testing.assert_array_equal(*map(np.asarray, (one, other)))


def expected_logits(peer, images):
    return peer_logits(peer, images).transpose(0, 2, 3, 1)


def assert_agree(found, expected):
    assert found.shape == expected.shape
    # Constant logits would agree as well.
    assert expected.std(axis=(1, 2)).min() > 0.05
    tolerance = 1e-4 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


# Other grids


SIZES = [
    ((2, 3), (5, 7)),
    ((7, 10), (6, 6)),
    ((9, 4), (4, 9)),
    ((1, 5), (3, 1)),
]


@pytest.mark.every_backend
@pytest.mark.parametrize("size, goal", SIZES)
def test_resizing_and_pooling_are_those_of_torch(size, goal):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
    # In float32 PyTorch rounds the positions, and differs by 1e-6.
    given = torch.from_numpy(x.transpose(0, 3, 1, 2)).double()
    for function, expected in (
        (resampling.resized, F.interpolate(given, goal, mode="bilinear")),
        (resampling.pooled, F.adaptive_avg_pool2d(given, goal)),
    ):
        found = function(keras.ops.convert_to_tensor(x), *goal)
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(found),
            expected.permute(0, 2, 3, 1).numpy(),
            atol=1e-6,
        )


def test_resizing_keeps_float64(float64):
    x = np.random.default_rng(0).normal(size=(1, 5, 6, 2))
    given = torch.from_numpy(x.transpose(0, 3, 1, 2))
    expected = F.interpolate(given, (12, 7), mode="bilinear")
    found = resampling.resized(keras.ops.convert_to_tensor(x, "float64"), 12, 7)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(found),
        expected.permute(0, 2, 3, 1).numpy(),
        atol=1e-14,
    )


# Weights and logits


@pytest.mark.parametrize(
    "name, file, size",
    [
        ("v1", "upernet.pth", (250, 330)),
        ("v2", "model.safetensors", (75, 101)),
    ],
)
def test_logits_equal_transformers(saved, name, file, size):
    """Maps that grids of 6, 3 and 2 do not divide, and smaller ones."""
    _, peer, _ = saved(name)
    images = random_images((1, *size, 3))
    found = computed(ours(saved, name, file), images)
    assert_agree(found["decode"], expected_logits(peer, images))
    with torch.no_grad():
        maps = peer.backbone(normalized(images)).feature_maps
        helping = F.interpolate(
            peer.auxiliary_head(maps), size, mode="bilinear"
        )
    assert_agree(found["auxiliary"], helping.permute(0, 2, 3, 1).numpy())


def test_official_and_transformers_files_are_the_same(saved):
    model = ours(saved, file="upernet.pth")
    assert_same_weights(model, ours(saved))
    without = ours(saved, file="upernet.pth", auxiliary=False)
    assert not [x for x in without.layers if "auxiliary" in x.name]
    for layer in without.layers:
        for one, other in zip(
            layer.get_weights(), model.get_layer(layer.name).get_weights()
        ):
            if "dropout" not in layer.name:
                np.testing.assert_array_equal(one, other)


def normalized(images):
    values = (images / 255 - IMAGENET_MEAN) / IMAGENET_STD
    return torch.from_numpy(values.transpose(0, 3, 1, 2).astype("float32"))


def test_the_names_of_the_official_files(saved):
    """Some of them spelled out, as mmseg 0.11 has them, with their shapes."""
    state = mmseg_state(saved()[1])
    known = {pair.theirs for pair in layouts.pairs("mmseg", FAMILIES["v1"])}
    counters = {name for name in state if name.endswith("_tracked")}
    assert len(counters) == 13
    assert state.keys() - known == counters
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name, shape in {
        "backbone.downsample_layers.0.0.weight": (8, 3, 4, 4),
        "backbone.stages.2.1.gamma": (24,),
        "backbone.norm3.bias": (32,),
        "decode_head.psp_modules.3.1.conv.weight": (16, 32, 1, 1),
        "decode_head.psp_modules.0.1.bn.running_var": (16,),
        "decode_head.bottleneck.conv.weight": (16, 32 + 4 * 16, 3, 3),
        "decode_head.lateral_convs.2.conv.weight": (16, 24, 1, 1),
        "decode_head.fpn_convs.0.bn.num_batches_tracked": (),
        "decode_head.fpn_bottleneck.conv.weight": (16, 64, 3, 3),
        "decode_head.conv_seg.bias": (7,),
        "auxiliary_head.convs.0.conv.weight": (8, 24, 3, 3),
        "auxiliary_head.conv_seg.weight": (7, 8, 1, 1),
    }.items():
        assert shapes[name] == shape


def test_weights_of_our_own_and_prefixes(saved, tmp_path):
    model = ours(saved)
    model.save_weights(tmp_path / "own.weights.h5")
    again = UperNet(
        backbone_of(FAMILIES["v1"], layer_prefix="left_"),
        weights=str(tmp_path / "own.weights.h5"),
    )
    assert again.get_layer("left_decode_fusion_conv")
    assert_same_weights(again, model)


def test_another_number_of_classes_starts_fresh_classifiers(saved):
    with pytest.warns(UserWarning, match="has 7 classes, not 4"):
        model = ours(saved, classes=4)
    assert model.output["decode"].shape[-1] == 4
    kernel, bias = model.get_layer("decode_classifier").get_weights()
    assert kernel.std() == pytest.approx(0.01, rel=0.4)
    assert not bias.any()
    np.testing.assert_array_equal(
        model.get_layer("decode_fusion_conv").get_weights()[0],
        ours(saved).get_layer("decode_fusion_conv").get_weights()[0],
    )


@pytest.mark.parametrize("how", ["missing", "unexpected", "mis-shaped"])
def test_every_tensor_is_used_once_or_named(saved, how, tmp_path):
    state = mmseg_state(saved()[1])
    if how == "missing":
        del state["decode_head.fpn_convs.1.bn.running_mean"]
        message = "1 missing .decode_fpn_1_norm/moving_mean"
    elif how == "unexpected":
        state["decode_head.surprise.weight"] = torch.zeros(3)
        message = "1 unexpected .decode_head.surprise.weight"
    else:
        state["auxiliary_head.convs.0.bn.bias"] = torch.zeros(9)
        message = r"auxiliary_norm/beta: file \(9,\) of \w+, model \(8,\)"
    save_file(state, tmp_path / "damaged.safetensors")
    backbone = backbone_of(FAMILIES["v1"])
    before = backbone.get_weights()[0]
    with pytest.raises(ValueError, match=message):
        UperNet(backbone, weights=tmp_path / "damaged.safetensors")
    np.testing.assert_array_equal(backbone.get_weights()[0], before)


def test_files_without_a_head_are_told_from_segmenters(saved, tmp_path):
    save_file(
        timm_peer(FAMILIES["v1"]).state_dict(), tmp_path / "c.safetensors"
    )
    with pytest.raises(ValueError, match="without that head"):
        UperNet(backbone_of(FAMILIES["v1"]), weights=tmp_path / "c.safetensors")
    # The other way round: a segmenter where a backbone is asked for.
    model, _, folder = saved()
    for file in ("upernet.pth", "model.safetensors"):
        with pytest.warns(UserWarning, match="decode_head") as warned:
            backbone = build(
                FAMILIES["v1"], include_top=False, weights=folder / file
            )
        assert len(warned) == 1
        for name in ("stem_conv", "stage_2_block_1_project"):
            for one, other in zip(
                backbone.get_layer(name).get_weights(),
                ours(saved).get_layer(name).get_weights(),
            ):
                np.testing.assert_array_equal(one, other)


TOTALS = {
    "convnext_tiny": 60_242_636,
    "convnext_small": 81_877_196,
    "convnext_base": 122_102_956,
    "convnext_large": 234_994_796,
    "convnext_xlarge": 391_140_396,
}


@pytest.mark.parametrize(
    "name", TOTALS if BACKEND == "torch" else ["convnext_tiny"]
)
def test_parameters_are_those_published(name):
    with without_numbers():
        model = UperNet(create_model(name, weights=None, include_top=False))
        count = sum(np.prod(w.shape) for w in model.trainable_weights)
    assert count == TOTALS[name]


def test_the_published_files(monkeypatch):
    rows = {Path(c.url).name: c for c in segmentation.CHECKPOINTS}
    assert len(rows) == 6
    tiny = rows["upernet_convnext_tiny_1k_512x512.pth"]
    assert (tiny.image_size, tiny.miou, tiny.miou_multi_scale) == (
        512,
        46.0,
        46.7,
    )
    large = rows["upernet_convnext_xlarge_22k_640x640.pth"]
    assert large.name == "convnext_xlarge.fb_in22k_ade20k_640"
    assert (large.image_size, large.miou) == (640, 53.6)
    assert large.miou_multi_scale == 54.0
    assert {c.license for c in rows.values()} == {"mit"}


def test_tags_fetch_the_official_file(saved, monkeypatch, tmp_path):
    _, _, folder = saved()
    addresses = []

    def download(address, path, _):
        addresses.append(address)
        shutil.copy(folder / "upernet.pth", path)

    monkeypatch.setattr(hub.downloading, "download", download)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    row = segmentation.CHECKPOINTS[0]
    renamed = Variant("convnext_tiny", **SMALL)
    for _ in range(2):  # the second time from the cache
        model = UperNet(backbone_of(renamed), weights="ade20k")
    assert addresses == [
        "https://dl.fbaipublicfiles.com/convnext/ade20k/"
        "upernet_convnext_tiny_1k_512x512.pth"
    ]
    assert (model.info.weights, model.info.license) == (row.tag, "mit")
    assert model.info.preprocessing.image_size == (512, 512)
    assert_same_weights(model, ours(saved))
    with pytest.raises(ValueError, match="Did you mean fb_in1k_ade20k_512"):
        UperNet(backbone_of(renamed), weights="fb_in1k_ade20k_51")
    with pytest.raises(
        ValueError, match=r"no published.*UperNet on.*only for.*convnext_base"
    ):
        UperNet(backbone_of(FAMILIES["v1"]), weights="ade20k")


def test_what_cannot_carry_an_upernet():
    isotropic = backbone_of(FAMILIES["isotropic"])
    with pytest.raises(ValueError, match=r"some of \('P4',\)"):
        UperNet(isotropic)
    with pytest.raises(ValueError, match="Received: <Sequential"):
        UperNet(keras.Sequential([keras.Input((64, 64, 3))]))
    first = backbone_of(FAMILIES["v1"], data_format="channels_first")
    with pytest.raises(ValueError, match="channels_last"):
        UperNet(first)
    for options, message in (
        ({"classes": 0}, "`classes` must be a positive int"),
        ({"classes": []}, "`classes` must be a positive int"),
        ({"channels": 1}, "`channels` must be an int of at least 2"),
        ({"crop": 16}, "`crop` must be an int of at least 32"),
        ({"dropout_rate": 1.0}, "`dropout_rate`"),
        ({"weights": "nothing.pth"}, "path of an existing file"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            UperNet(backbone_of(FAMILIES["v1"]), **options)
        assert "Received: " in str(error.value)


@pytest.mark.every_backend
def test_logits_of_mixed_policies_are_float32():
    model = small(dtype="mixed_bfloat16")
    assert model.get_layer("decode_fusion_conv").compute_dtype == "bfloat16"
    assert {x.dtype for x in model.outputs} == {"float32"}


# Training


def masks_of(shape, classes=CLASSES):
    generator = np.random.default_rng(0)
    masks = generator.integers(0, classes, shape)
    masks[generator.random(shape) < 0.3] = 255
    return masks.astype("int32")


@pytest.mark.every_backend
def test_loss_and_gradients_are_those_of_transformers(saved, monkeypatch):
    """A step of SGD in training mode: batch statistics, both heads, 255."""
    peer = peer_of(saved()[0]).train()
    images, masks = random_images((2, 64, 96, 3)), masks_of((2, 64, 96))
    images[1] /= 4
    loss = peer(normalized(images), labels=torch.from_numpy(masks).long()).loss
    loss.backward()
    model = ours(saved, dropout_rate=0.0)
    monkeypatch.setattr(
        *(segmentation.SegmentationRecipe, "optimizer"),
        lambda recipe, model: keras.optimizers.SGD(1.0),
    )
    recipe = segmentation.ade20k.replace(drop_path_rate=0.0, learning_rate=1e-4)
    recipe.compile(model)

    names = {
        "stem_conv": "backbone.embeddings.patch_embeddings",
        "decode_psp_3_conv": "decode_head.psp_modules.3.1.conv",
        "decode_lateral_1_conv": "decode_head.lateral_convs.1.conv",
        "auxiliary_conv": "auxiliary_head.convs.0.conv",
    }
    before = {x: model.get_layer(x).get_weights()[0] for x in names}
    values = model.train_on_batch(images, masks, return_dict=True)
    assert values["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert set(values) == {
        *("loss", "decode_loss", "auxiliary_loss", "decode_mean_iou")
    }
    for name, there in names.items():
        step = before[name] - model.get_layer(name).get_weights()[0]
        gradient = peer.get_submodule(there).weight.grad
        gradient = gradient.permute(2, 3, 1, 0).numpy()
        assert np.abs(gradient).max() > 1e-3
        np.testing.assert_allclose(
            step, gradient, rtol=0, atol=1e-3 * np.abs(gradient).max()
        )
    mean = model.get_layer("decode_fusion_norm").get_weights()[2]
    there = peer.decode_head.fpn_bottleneck.batch_norm.running_mean.numpy()
    np.testing.assert_allclose(mean, there, atol=1e-3)


def test_masks_without_any_label_cost_nothing():
    loss = segmentation.pixel_cross_entropy()
    logits = np.random.default_rng(0).normal(size=(1, 4, 4, 3))
    assert float(loss(np.full((1, 4, 4), 255), logits)) == 0


@pytest.mark.parametrize("label", [-1, 3, 9])
def test_labels_that_are_no_class_do_not_pass_silently(label):
    metric = segmentation.mean_iou(3)
    logits = np.eye(3, dtype="float32")[None, None]
    metric.update_state(np.array([[[0, 1, 255]]]), logits)
    assert np.isfinite(float(metric.result()))
    metric.update_state(np.array([[[0, 1, label]]]), logits)
    assert np.isnan(float(metric.result()))


def test_batch_norms_are_those_of_torch():
    theirs = torch.nn.BatchNorm2d(1)
    kinds = keras.layers.BatchNormalization
    norms = [x for x in small().layers if isinstance(x, kinds)]
    assert len(norms) == 13
    for norm in norms:
        assert norm.momentum == pytest.approx(1 - theirs.momentum)
        assert norm.epsilon == theirs.eps


def test_mean_iou_equals_scikit_learn():
    generator = np.random.default_rng(0)
    metric = segmentation.mean_iou(CLASSES)
    truth, guesses = [], []
    for _ in range(3):
        masks = masks_of((2, 9, 11), classes=CLASSES - 1)  # one is not there
        logits = generator.normal(size=(2, 9, 11, CLASSES)).astype("float32")
        logits[..., -1] = -9  # and never predicted
        metric.update_state(masks, logits)
        truth.append(masks[masks != 255])
        guesses.append(logits.argmax(-1)[masks != 255])
    matrix = confusion_matrix(np.concatenate(truth), np.concatenate(guesses))
    right = np.diag(matrix)
    ious = right / (matrix.sum(0) + matrix.sum(1) - right)
    assert len(ious) == CLASSES - 1
    assert float(metric.result()) == pytest.approx(ious.mean(), abs=1e-6)


def test_the_schedule_is_that_of_torch():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-4)
    scheduler = torch.optim.lr_scheduler.ChainedScheduler(
        [
            torch.optim.lr_scheduler.PolynomialLR(optimizer, 100, power=1.0),
            torch.optim.lr_scheduler.LinearLR(optimizer, 1e-6, 1.0, 15),
        ]
    )
    recipe = segmentation.ade20k.replace(
        learning_rate=1e-4, steps=100, warmup_steps=15
    )
    schedule = recipe.schedule()
    for step in range(100):
        expected = optimizer.param_groups[0]["lr"]
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)
        optimizer.step()
        scheduler.step()
    assert float(schedule(100)) == float(schedule(1000)) == 0
    again = segmentation.WarmupPoly.from_config(schedule.get_config())
    assert float(again(7)) == float(schedule(7))
    with pytest.raises(ValueError, match="Received: warmup_steps=10"):
        segmentation.WarmupPoly(1e-4, 10, 10)


def test_the_recipe_is_the_published_one():
    tiny = segmentation.ade20k.for_model("convnext_tiny")
    large = segmentation.ade20k.for_model("convnext_xlarge")
    assert (tiny.learning_rate, large.learning_rate) == (1e-4, 8e-5)
    assert segmentation.ade20k.for_model("convnext_small").drop_path_rate == 0.3
    assert (tiny.steps, tiny.warmup_steps, tiny.batch_size) == (
        160000,
        1500,
        16,
    )
    with pytest.raises(ValueError, match="Pick a value yourself"):
        segmentation.ade20k.for_model("convnext_atto")
    with pytest.raises(ValueError, match="Did you mean steps"):
        segmentation.ade20k.replace(step=3)


@pytest.mark.parametrize(
    "blocks, factors",
    [
        (9, (0.47830, 0.53144, 0.59049, 0.65610, 0.72900)),
        (27, (0.25419, 0.28243, 0.31381, 0.34868, 0.38742)),
    ],
)
def test_learning_rates_decay_stage_wise(blocks, factors):
    with without_numbers():
        backbone = ConvNeXt((1, 1, blocks, 1), SMALL["dims"], include_top=False)
        model = UperNet(backbone, 2, channels=4)
    optimizer = segmentation.ade20k.replace(
        learning_rate=1e-4, drop_path_rate=0.0, global_clipnorm=2.0
    ).optimizer(model)
    assert optimizer.global_clipnorm == 2.0
    names = ["stem_conv", *(f"stage_{s}_block_0_project" for s in range(4))]
    kernels = [model.get_layer(name).kernel for name in names]
    assert [optimizer.scale_of(x) for x in kernels] == pytest.approx(
        factors, abs=1e-5
    )
    down = model.get_layer("stage_3_downsample_conv").kernel
    assert optimizer.scale_of(down) == pytest.approx(factors[0], abs=1e-5)
    for name in ("norm3", "decode_fusion_conv", "auxiliary_norm"):
        assert optimizer.scale_of(model.get_layer(name).weights[0]) == 1
    decayed = {
        v.path for v in model.trainable_variables if optimizer.decay_of(v)
    }
    assert decayed == {
        v.path for v in model.trainable_variables if len(v.shape) > 1
    }


def test_gradients_of_half_precision_are_scaled():
    recipe = segmentation.ade20k.replace(drop_path_rate=0.0, learning_rate=1e-4)
    scaled = []
    for dtype in ("mixed_float16", "mixed_bfloat16"):
        backbone = ConvNeXt(**SMALL, include_top=False, dtype=dtype)
        model = recipe.compile(UperNet(backbone, 2, channels=4))
        kind = keras.optimizers.LossScaleOptimizer
        scaled.append(isinstance(model.optimizer, kind))
    assert scaled == [True, False]


def test_fit_learns_and_the_model_returns_whole(tmp_path):
    """Left and right are told apart, from masks in part 255."""
    keras.utils.set_random_seed(0)
    recipe = segmentation.ade20k.replace(
        steps=30, warmup_steps=2, learning_rate=2e-2, drop_path_rate=0.1
    )
    backbone = ConvNeXt(
        **SMALL,
        include_top=False,
        layer_scale_init_value=1.0,
        drop_path_rate=0.1,
    )
    model = UperNet(
        *(backbone, ["left", "right"]), channels=8, crop=64, auxiliary=False
    )
    with pytest.raises(ValueError, match=r"recipe.replace\(drop_path_rate=0.1"):
        recipe.replace(drop_path_rate=0.2).compile(model)
    with pytest.raises(ValueError, match="Expected a segmenter"):
        recipe.compile(backbone)
    recipe.compile(model)
    images = random_images((60, 64, 64, 3)) / 4
    masks = np.zeros((60, 64, 64), "int32")
    masks[:, :, 32:] = 1
    images[:, :, 32:, 0] += 150
    masks[:, :8] = 255
    history = model.fit(
        images, masks, batch_size=4, epochs=2, verbose=0
    ).history
    assert set(history) == {"loss", "mean_iou"}
    assert history["loss"][1] < history["loss"][0] / 2
    assert history["mean_iou"][1] > 0.9
    model.save(tmp_path / "sides.keras")
    again = keras.saving.load_model(tmp_path / "sides.keras")
    assert_same_weights(again, model)
    assert isinstance(again, segmentation.SegmentationModel)
    assert again.info.class_names == ("left", "right")
    assert again.info.preprocessing.image_size == (64, 64)
    assert again.variant == model.variant


# Whole images


def interpolated(x, size):
    """NHWC to another size, by torch."""
    x = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    x = F.interpolate(x, size, mode="bilinear", align_corners=False)
    return x.permute(0, 2, 3, 1).numpy()


def softmax(x):
    return torch.from_numpy(x).softmax(-1).numpy()


def test_sizes_are_those_of_mmcv():
    """Worked out by hand: the short side is 512, the long at most 2048."""
    for size, scale, expected in (
        ((683, 1024), 1.0, (512, 768)),
        ((683, 1024), 0.5, (256, 384)),
        ((1024, 683), 1.75, (1343, 896)),
        ((100, 1000), 1.0, (205, 2048)),
        ((512, 512), 1.25, (640, 640)),
    ):
        assert inference.scaled_size(size, 512, scale) == expected


def test_windows_cover_every_pixel():
    assert inference.windows((512, 683), 512, 341) == [
        (0, 0, 512, 512),
        (0, 171, 512, 683),
    ]
    for size in ((512, 512), (513, 1300), (700, 2048), (300, 900)):
        covered = np.zeros(size)
        for top, left, bottom, right in inference.windows(size, 512, 341):
            assert (bottom - top, right - left) == (min(size[0], 512), 512)
            covered[top:bottom, left:right] += 1
        assert covered.min() == 1


def test_sliding_windows_equal_a_plain_loop(saved):
    """The image at 1.5 times the crop, slid in both directions."""
    _, peer, _ = saved()
    image = random_images((1, 64, 150, 3)).astype("uint8")
    crop, stride, height, width = 64, 42, 96, 225
    view = interpolated(image.astype("float32"), (height, width))
    total = np.zeros((1, height, width, CLASSES))
    counts = np.zeros((1, height, width, 1))
    tops = [0, 32]
    lefts = [0, 42, 84, 126, 161]
    for top in tops:
        for left in lefts:
            rows, columns = slice(top, top + crop), slice(left, left + crop)
            window = view[:, rows, columns]
            total[:, rows, columns] += expected_logits(peer, window)
            counts[:, rows, columns] += 1
    expected = softmax(interpolated(total / counts, (64, 150)))[0]
    found = segmentation.class_probabilities(
        ours(saved, auxiliary=False),
        *(image[0], "slide", 1.5),
        crop=crop,
        stride=stride,
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)


@long_where_compiled
def test_several_scales_and_mirrored_images_are_averaged(saved):
    _, peer, _ = saved()
    image = random_images((1, 60, 80, 3)).astype("uint8")
    sizes = {0.75: (48, 64), 1.25: (80, 107)}
    total = 0
    for size in sizes.values():
        view = interpolated(image.astype("float32"), size)
        for step in (1, -1):
            turned = np.ascontiguousarray(view[:, :, ::step])
            logits = expected_logits(peer, turned)
            logits = np.ascontiguousarray(logits[:, :, ::step])
            total = total + softmax(interpolated(logits, (60, 80)))
    model = ours(saved)
    arguments = (image[0], "whole", tuple(sizes), True)
    found = segmentation.class_probabilities(model, *arguments, crop=64)
    np.testing.assert_allclose(found, total[0] / 4, atol=1e-4)
    labels = segmentation.segment(model, *arguments, crop=64)
    assert labels.dtype == "int32"
    np.testing.assert_array_equal(labels, found.argmax(-1))


@pytest.mark.parametrize("size, goal", [((5, 4), (17, 9)), ((17, 9), (5, 4))])
def test_rows_of_a_resized_map_are_those_of_the_whole(size, goal):
    x = random_images((1, *size, 2)) / 255
    whole = resampling.resized(x, *goal)
    for start in range(goal[0]):
        rows = slice(start, start + 1)
        part = resampling.resized(x, *goal, rows)
        np.testing.assert_allclose(part, whole[:, rows], atol=1e-6)


@pytest.mark.skipif(BACKEND == "jax", reason="NumPy's, and slow to compile")
def test_strips_of_an_image_are_the_whole(saved, monkeypatch):
    model = ours(saved)
    image = random_images((61, 45, 3)).astype("uint8")
    whole = segmentation.class_probabilities(model, image, crop=64)
    # Seven rows at a time, and five at last.
    monkeypatch.setattr(inference, "STRIP_ELEMENTS", 7 * 45 * CLASSES)
    strips = segmentation.class_probabilities(model, image, crop=64)
    np.testing.assert_allclose(strips, whole, atol=1e-5)
    labels = segmentation.segment(model, image, crop=64)
    np.testing.assert_array_equal(labels, strips.argmax(-1))


def test_images_that_cannot_be_segmented(tmp_path):
    model = small()
    image = np.zeros((64, 64, 3), "uint8")
    fixed = small(input_shape=(64, 64, 3))
    (tmp_path / "broken.jpg").write_text("no image")
    for arguments, options, message in (
        ((ConvNeXt(**SMALL), image), {}, "Expected a segmenter"),
        ((model, image, "tiles"), {}, "`mode` must be one of"),
        ((model, image, "whole", ()), {}, "`scales` must"),
        ((model, image, "whole", (-1,)), {}, "`scales` must"),
        ((model, image, "whole", (float("inf"),)), {}, "`scales` must"),
        ((model, image, "whole", (1e200,)), {}, "`scales` must"),
        ((model, image), {"stride": 65}, "`stride` must be at most `crop`"),
        ((model, image), {"crop": 0}, "`crop` must be a positive int"),
        ((model, image, "whole", (0.25,)), {}, "at least 32 pixels"),
        ((model, np.zeros((2, 90, 3), "uint8")), {}, "at least 32 pixels"),
        ((fixed, image, "whole", (2,)), {}, "takes images of 64x64"),
        ((model, image / 255), {}, "uint8 array"),
        ((model, tmp_path / "broken.jpg"), {}, "which is not an image"),
        ((model, "missing.jpg"), {}, "which does not exist"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            segmentation.segment(*arguments, **options)
        assert "Received: " in str(error.value)


@pytest.mark.parametrize("options", [{"scales": (1, 1e6)}, {"crop": 10**8}])
def test_sizes_that_no_memory_holds_are_refused(options):
    with pytest.raises(ValueError, match=rf"pixels, .*{limits.VARIABLE}"):
        segmentation.segment(small(), np.zeros((64, 64, 3), "uint8"), **options)


def test_the_probabilities_of_a_large_image_are_limited(monkeypatch):
    monkeypatch.setenv(limits.VARIABLE, "1MiB")
    image = np.zeros((400, 400, 3), "uint8")
    model = small()
    options = {"crop": 64, "mode": "whole"}
    for call, scales in (
        (segmentation.class_probabilities, (1,)),
        (segmentation.segment, (1, 1.5)),
    ):
        with pytest.raises(ValueError, match=r"shape \(400, 400, 3\) for an"):
            call(model, image, scales=scales, **options)
    assert segmentation.segment(model, image, **options).shape == (400, 400)


# Pictures and the command


def test_colors_are_laid_over_the_image(tmp_path):
    colors = segmentation.palette(255)
    assert len({tuple(color) for color in colors}) == 255
    assert colors[:4].tolist() == [
        *([128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128])
    ]
    image = np.full((2, 2, 3), 200, "uint8")
    labels = np.array([[0, 1], [2, 255]])
    segmentation.write_overlay(tmp_path / "out.png", image, labels, 3, 0.25)
    with Image.open(tmp_path / "out.png") as picture:
        found = np.asarray(picture).astype(int)
    expected = 0.75 * 200 + 0.25 * colors[[0, 1, 2]].astype(float)
    np.testing.assert_allclose(found.reshape(4, 3)[:3], expected, atol=0.5)
    assert found[1, 1].tolist() == [200] * 3
    assert [x.name for x in tmp_path.iterdir()] == ["out.png"]
    for labels, opacity in ((np.zeros((3, 2)), 0.5), (np.zeros((2, 2)), 2)):
        with pytest.raises(ValueError, match="Received: "):
            segmentation.overlaid(image, labels.astype(int), 3, opacity)


@pytest.fixture
def run(run_command):
    return functools.partial(run_command, "segment")


@pytest.fixture
def photograph(tmp_path):
    pixels = random_images((64, 100, 3)).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_the_command_colors_a_photograph(run, photograph, tmp_path):
    model = small(["sky", "sea", "sand"])
    model.save(tmp_path / "mine.keras")
    output = tmp_path / "out.png"
    output.write_text("precious")
    arguments = (
        *(photograph, "--model", tmp_path / "mine.keras", "--output", output),
        *("--mode", "whole", "--scale", 1, "--flip", "--json"),
    )
    status, _, errors = run(*arguments)
    assert (status, output.read_text()) == (2, "precious")
    assert "--force" in errors
    status, printed, errors = run(*arguments, "--force")
    assert status == 0, errors
    values = json.loads(printed)
    labels = segmentation.segment(model, photograph, "whole", flip=True)
    shares = {x["class"]: x["share"] for x in values["classes"]}
    for number, name in enumerate(("sky", "sea", "sand")):
        assert shares.get(name, 0) == pytest.approx((labels == number).mean())
    assert (values["height"], values["width"]) == (64, 100)
    with Image.open(output) as picture:
        np.testing.assert_array_equal(
            np.asarray(picture), segmentation.overlaid(photograph, labels, 3)
        )


def test_the_command_takes_weights_by_file(run, photograph, tmp_path):
    backbone = create_model("test_convnext", weights=None, include_top=False)
    model = UperNet(backbone, 2, channels=4)
    model.save_weights(tmp_path / "mine.weights.h5")
    output = tmp_path / "out.png"
    status, printed, errors = run(
        *(photograph, "--model", "test_convnext", "--crop", 64),
        *("--weights", tmp_path / "mine.weights.h5", "--output", output),
    )
    assert status == 0, errors
    first, *classes = printed.splitlines()
    assert first == str(output)
    assert re.fullmatch(r" *\d+\.\d\d%  [01] \([01]\)", classes[0])
    assert output.exists()


def test_the_command_refuses_bad_input(run, photograph, tmp_path):
    output = ("--output", tmp_path / "out.png")
    ConvNeXt(**SMALL).save(tmp_path / "classifier.keras")
    for arguments, message in (
        ((photograph, "--output", tmp_path / "out.jpg"), "ends in .png,"),
        ((tmp_path / "none.jpg", *output), "does not exist"),
        ((photograph, *output, "--weights", "ade20"), "one of its tags"),
        (
            (photograph, *output, "--model", tmp_path / "classifier.keras"),
            "Expected a segmenter",
        ),
    ):
        status, _, errors = run(*arguments)
        assert status == 2
        assert message in " ".join(errors.split())
    assert not (tmp_path / "out.png").exists()


def test_masks_of_other_classes_end_fit():
    recipe = segmentation.ade20k.replace(drop_path_rate=0.0, learning_rate=1e-4)

    def segmenter(classes):
        backbone = ConvNeXt(**SMALL, include_top=False)
        return UperNet(backbone, classes, channels=4, auxiliary=False)

    with pytest.raises(ValueError, match="one output"):
        recipe.compile(segmenter(1))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    assert recipe.compile(segmenter(1), loss=loss).loss is loss
    model = recipe.compile(segmenter(2))
    images, masks = random_images((2, 64, 64, 3)), masks_of((2, 64, 64)) % 2
    masks[0, 0, 0] = 2
    with pytest.raises(ValueError, match=r"0 to 1, and 255.*Received: \[2\]"):
        model.fit(images, masks, verbose=0)
