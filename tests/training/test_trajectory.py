"""Thirty steps of `recipe.compile` and `fit` beside a loop in PyTorch.

The loop uses nothing of ours: timm's model, `torch.optim.AdamW` with the
parameter groups of the official repositories, their schedule arrays,
their moving average, soft-target cross-entropy.
"""

import copy
import math
from dataclasses import dataclass
from dataclasses import replace

import keras
import numpy as np
import pytest
import torch
from conftest import LONG_WHERE_COMPILED
from conftest import long_where_compiled
from conftest import random_images
from peers import import_timm
from peers import in_our_names
from peers import isotropic_peer
from peers import load_peer
from peers import timm_peer
from torch.nn import functional as F

from keras_convnext import ConvNeXt
from keras_convnext import Variant
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD
from keras_convnext.training.recipes import Recipe

STEPS, EPOCHS, BATCH, CLASSES, EMA_DECAY = 30, 3, 4, 5, 0.9
DIMS = (4, 8, 12, 16)


@dataclass(frozen=True)
class Case:
    """What a run trains and how; `groups` names the official rule."""

    variant: Variant
    layout: str = "timm"
    groups: str = "group"
    layer_decay: float = 0.8
    layer_scale: float | None = 1e-6
    warmup_epochs: int = 1
    warmup: str = "linspace"
    accumulation: int = 1
    global_clipnorm: float | None = None
    mixes: bool = True
    head_epochs: int = 0


TINY = Variant("v1_tiny", (3, 3, 9, 3), DIMS)
SMALL = Variant("v1_small", (3, 3, 27, 3), DIMS)
V2 = Variant("v2", (2, 2, 6, 2), DIMS, grn=True, layer_scale_init_value=0.0)
ISOTROPIC = Variant(
    "isotropic",
    (4,),
    (12,),
    kernel_sizes=(7,),
    patch_size=16,
    stem_norm=False,
)

# Each block is compiled anew: here are as few as have several groups.
V1_SHORT = Variant("v1_short", (1, 1, 6, 1), DIMS)
V2_SHORT = Variant(
    "v2_short", (1, 1, 2, 1), DIMS, grn=True, layer_scale_init_value=0.0
)

# The least that has a backbone: its step is compiled twice.
ISOTROPIC_SHORT = replace(ISOTROPIC, name="isotropic_short", depths=(1,))
HEAD_FIRST = Case(
    ISOTROPIC_SHORT,
    layout="official_isotropic",
    layer_scale=None,
    accumulation=2,
    global_clipnorm=0.5,
    mixes=False,
    head_epochs=1,
)

CASES = {
    "v1_accumulated": Case(
        V1_SHORT, layer_scale=None, warmup_epochs=0, accumulation=2, mixes=False
    ),
    "v2_single": Case(
        V2_SHORT, groups="single", warmup="exclusive", layer_decay=0.9
    ),
    "isotropic": Case(
        ISOTROPIC, layout="official_isotropic", global_clipnorm=0.5
    ),
}
LONG_CASES = {
    "tiny_accumulated": Case(
        TINY, layer_scale=None, warmup_epochs=0, accumulation=2, mixes=False
    ),
    "v2_whole_single": Case(
        V2, groups="single", warmup="exclusive", layer_decay=0.9
    ),
    "small": Case(SMALL, layer_decay=0.7),
    "tiny": Case(TINY),
    "small_accumulated": Case(SMALL, layer_scale=None, accumulation=2),
    "tiny_no_warmup": Case(TINY, warmup_epochs=0),
    "v2_group_accumulated": Case(V2, accumulation=2, layer_decay=0.6),
    "isotropic_accumulated": Case(
        ISOTROPIC,
        layout="official_isotropic",
        layer_scale=None,
        accumulation=2,
        mixes=False,
    ),
}


def peer_of(case):
    if case.layout == "official_isotropic":
        peer = isotropic_peer(case.variant, CLASSES)
    else:
        peer = timm_peer(case.variant, CLASSES)
    if case.layer_scale is not None:
        with torch.no_grad():
            for name, parameter in peer.named_parameters():
                if name.endswith(".gamma") and "block" in name:
                    parameter.fill_(case.layer_scale)
    return peer.train()


def batches(case):
    """Images of 0–255 and soft targets, micro-batch after micro-batch.

    A λ of a power of two mixes whole numbers without rounding.
    """
    count = STEPS * case.accumulation
    images = random_images((count, BATCH, 32, 32, 3))
    labels = np.random.default_rng(1).integers(0, CLASSES, (count, BATCH))
    targets = np.eye(CLASSES)[labels] * 0.9 + 0.1 / CLASSES
    if case.mixes:
        mixed = 0.25
        images = images * mixed + images[:, ::-1] * (1 - mixed)
        targets = targets * mixed + targets[:, ::-1] * (1 - mixed)
        # Keras hands over float32: both sides get what that holds.
    else:
        targets = np.eye(CLASSES)[labels]
    return images.astype("float32"), targets.astype("float32")


# --- the official side ---------------------------------------------------


def official_schedule(case):
    """Learning rates as the V1 and V2 repositories compute them."""
    peak, least = 1e-3, 1e-6
    per_epoch = STEPS // EPOCHS
    warm = case.warmup_epochs * per_epoch
    if case.warmup == "linspace":
        warmup = np.linspace(0, peak, warm)
        steps = np.arange(STEPS - warm)
        cosine = [
            least
            + 0.5 * (peak - least) * (1 + math.cos(math.pi * i / len(steps)))
            for i in steps
        ]
        return np.concatenate([warmup, cosine])
    rates = []
    for step in range(STEPS):
        epoch = step / per_epoch
        if epoch < case.warmup_epochs:
            rates.append(peak * epoch / case.warmup_epochs)
        else:
            done = (epoch - case.warmup_epochs) / (EPOCHS - case.warmup_epochs)
            rates.append(
                least + (peak - least) * 0.5 * (1.0 + math.cos(math.pi * done))
            )
    return np.array(rates)


def official_id(name, case):
    """Group of a parameter, and how many groups lie below the head."""
    depths = case.variant.depths
    parts = name.split(".")
    if case.layout == "official_isotropic":
        layers = depths[0]
        if parts[0] == "stem":
            return 0, layers
        return (int(parts[1]) + 1 if parts[0] == "blocks" else layers + 1), (
            layers
        )
    stage = int(parts[1]) if parts[0] == "stages" else None
    block = int(parts[3]) if "blocks" in parts else 0
    if case.groups == "single":
        layers = sum(depths)
        if parts[0] == "stem":
            return 1, layers
        if stage is None:
            return layers + 1, layers
        return sum(depths[:stage]) + block + 1, layers
    layers = {9: 6, 27: 12, 6: 5}[depths[2]]
    if parts[0] == "stem":
        return 0, layers
    if stage is None:
        return layers + 1, layers
    if stage < 2:
        return stage + 1, layers
    return (3 + block // 3 if stage == 2 else layers), layers


def train_official(peer, case, images, targets):
    groups = {}
    for name, parameter in peer.named_parameters():
        group, layers = official_id(name, case)
        no_decay = (
            parameter.ndim == 1
            or name.endswith(".bias")
            or (case.variant.grn and name.endswith((".gamma", ".beta")))
        )
        if "grn" in name:
            no_decay = True
        key = (group, no_decay)
        groups.setdefault(
            key,
            {
                "params": [],
                "weight_decay": 0.0 if no_decay else 0.05,
                "lr_scale": case.layer_decay ** (layers + 1 - group),
            },
        )["params"].append(parameter)
    optimizer = torch.optim.AdamW(list(groups.values()), lr=1e-3, eps=1e-8)
    average = import_timm().utils.ModelEmaV2(peer, decay=EMA_DECAY)
    mean, std = (
        torch.tensor(values, dtype=torch.float64)
        for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    for step, rate in enumerate(official_schedule(case)):
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        is_all = step >= case.head_epochs * STEPS // EPOCHS
        for name, parameter in peer.named_parameters():
            group, layers = official_id(name, case)
            parameter.requires_grad_(is_all or group > layers)
        for micro in range(case.accumulation):
            index = step * case.accumulation + micro
            x = torch.from_numpy(images[index]).double() / 255
            x = ((x - mean) / std).permute(0, 3, 1, 2)
            y = torch.from_numpy(targets[index]).double()
            dtype = next(peer.parameters()).dtype
            logits = peer(x.to(dtype))
            loss = -(y.to(dtype) * F.log_softmax(logits, -1)).sum(-1).mean()
            (loss / case.accumulation).backward()
        if case.global_clipnorm:
            torch.nn.utils.clip_grad_norm_(
                peer.parameters(), case.global_clipnorm
            )
        optimizer.step()
        optimizer.zero_grad()
        average.update(peer)
    return tuple(
        in_our_names(
            {k: v.detach().numpy() for k, v in module.state_dict().items()},
            case.variant,
        )
        for module in (peer, average.module)
    )


# --- our side --------------------------------------------------------------


def train_ours(model, case, images, targets):
    recipe = Recipe(
        "test",
        "a test",
        "none",
        epochs=EPOCHS,
        warmup_epochs=case.warmup_epochs,
        warmup=case.warmup,
        batch_size=BATCH * case.accumulation,
        gradient_accumulation_steps=case.accumulation,
        learning_rate=1e-3,
        layer_decay=case.layer_decay,
        layer_decay_groups=case.groups,
        global_clipnorm=case.global_clipnorm,
        head_epochs=case.head_epochs,
        mixup_alpha=0.8 if case.mixes else 0.0,
        cutmix_alpha=0.0,
        label_smoothing=0.1 if case.mixes else 0.0,
        ema_decay=EMA_DECAY,
    )
    per_epoch = len(images) // EPOCHS
    recipe.compile(model, steps_per_epoch=per_epoch)
    model.fit(
        (pair for pair in zip(images, targets)),
        shuffle=False,
        steps_per_epoch=per_epoch,
        epochs=EPOCHS,
        # Averages stay beside the weights.
        callbacks=recipe.replace(ema_decay=None).callbacks(),
        verbose=0,
    )
    optimizer = model.optimizer
    averages = optimizer._model_variables_moving_average
    return (
        {w.path: keras.ops.convert_to_numpy(w) for w in model.weights},
        {
            w.path: keras.ops.convert_to_numpy(average)
            for w, average in zip(optimizer._trainable_variables, averages)
        },
    )


def largest_differences(case, dtype):
    variant = case.variant
    peer = peer_of(case)
    model = ConvNeXt(
        variant.depths,
        variant.dims,
        kernel_size=variant.kernel_sizes,
        patch_size=variant.patch_size,
        stem_norm=variant.stem_norm,
        grn=variant.grn,
        layer_scale_init_value=variant.layer_scale_init_value,
        input_shape=(32, 32, 3),
        classes=CLASSES,
        classifier_activation=None,
        dtype=dtype,
    )
    load_peer(model, peer, case.layout)
    images, targets = batches(case)
    before = {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}
    # A copy: JAX may share the memory of the arrays that it was given.
    peer = copy.deepcopy(peer).to(getattr(torch, dtype))
    theirs = train_official(peer, case, images, targets)
    ours = train_ours(model, case, images, targets)
    largest = []
    for mine, expected in zip(ours, theirs):
        shared = [name for name in mine if name in expected]
        assert len(shared) == len(expected)
        largest.append(max(np.abs(mine[n] - expected[n]).max() for n in shared))
    moved = [np.abs(theirs[0][n] - before[n]).max() for n in theirs[0]]
    assert min(moved) > 1e-6, "a weight that does not move proves nothing"
    return largest


@pytest.fixture
def float64_schedules(float64):
    """Keras computes learning rates in its global float type."""
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


@pytest.mark.parametrize(
    "name",
    [
        "v1_accumulated",
        pytest.param("v2_single", marks=LONG_WHERE_COMPILED),
        pytest.param("isotropic", marks=LONG_WHERE_COMPILED),
    ],
)
def test_thirty_steps_equal_pytorch(name, float64_schedules, record_property):
    check(CASES[name], record_property)


@pytest.mark.long
@pytest.mark.parametrize("name", [*CASES, *LONG_CASES])
def test_thirty_steps_equal_pytorch_long(
    name, float64_schedules, record_property
):
    """In float32, too: reported, not bounded.

    Rounding, 1e-7 of a weight, is all that differs; where gradients cancel,
    Adam turns it into the direction of a step. Most cases stay at 1e-6, and
    V2, whose GRN reacts to it, comes to 1e-4.
    """
    case = {**CASES, **LONG_CASES}[name]
    check(case, record_property)
    keras.config.set_floatx("float32")
    weights, _ = largest_differences(case, "float32")
    record_property("weights in float32", f"{weights:.1e}")


@long_where_compiled
def test_the_head_first_equals_pytorch(float64_schedules, record_property):
    """There `requires_grad` is off in the first epoch for all but the head."""
    check(HEAD_FIRST, record_property, 5e-9)


def check(case, record_property, atol=1e-6):
    weights, averages = largest_differences(case, "float64")
    record_property("weights", f"{weights:.1e}")
    record_property("averages", f"{averages:.1e}")
    assert weights <= atol
    assert averages <= atol
