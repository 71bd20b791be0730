"""Thirty steps of masked pre-training beside a loop in PyTorch.

The loop uses nothing of ours: timm's model with masks put on by hooks, timm's
block as decoder, `torch.optim.AdamW` in the official groups, the official
schedule and loss.
"""

import math

import keras
import numpy as np
import torch
from conftest import long_where_compiled
from conftest import random_images
from peers import import_timm
from peers import in_our_names
from peers import load_peer
from peers import randomize
from peers import timm_peer
from torch import nn

from keras_convnext import ConvNeXt
from keras_convnext import Variant
from keras_convnext import pretraining
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD

STEPS, EPOCHS, BATCH, SIZE, WIDTH = 30, 3, 4, 32, 12
PATCH, GRID, VISIBLE = 8, 4, 6
PEAK = 1e-3
VARIANT = Variant(
    "v2",
    (1, 1, 2, 1),
    (4, 8, 12, 16),
    patch_size=1,
    grn=True,
    layer_scale_init_value=0.0,
)


class Official(nn.Module):
    """The dense formulation: masks before and after depthwise convolutions."""

    def __init__(self):
        super().__init__()
        import_timm()
        from timm.models.convnext import ConvNeXtBlock

        self.encoder = timm_peer(VARIANT)
        self.proj = nn.Linear(VARIANT.dims[-1], WIDTH)
        self.mask_token = nn.Parameter(torch.zeros(1, WIDTH, 1, 1))
        self.decoder = ConvNeXtBlock(
            WIDTH,
            WIDTH,
            ls_init_value=None,
            use_grn=True,
            conv_mlp=False,
        )
        self.pred = nn.Linear(WIDTH, PATCH * PATCH * 3)
        randomize(self)
        self.encoder.stem.register_forward_hook(
            lambda module, inputs, x: x * self.seen(x.shape[2], (0, 3, 1, 2))
        )
        for stage in self.encoder.stages:
            for block in stage.blocks:
                block.conv_dw.register_forward_pre_hook(self.before)
                block.conv_dw.register_forward_hook(
                    lambda module, inputs, x: (
                        x * self.seen(x.shape[2], (0, 3, 1, 2))
                    )
                )
                # The statistics are of visible positions.
                block.mlp.grn.register_forward_pre_hook(
                    lambda module, inputs: (
                        inputs[0] * self.seen(inputs[0].shape[1], (0, 1, 2, 3))
                    )
                )

    def before(self, module, inputs):
        (x,) = inputs
        return x * self.seen(x.shape[2], (0, 3, 1, 2))

    def seen(self, side, axes):
        scale = side // GRID
        mask = 1 - self.mask.reshape(-1, GRID, GRID, 1)
        mask = mask.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        return mask.permute(*axes)

    def forward(self, images, mask):
        self.mask = mask
        x = self.encoder.stem(images)
        for stage in self.encoder.stages:
            x = stage(x)
        x = self.proj(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        hidden = mask.reshape(-1, 1, GRID, GRID)
        x = x * (1 - hidden) + self.mask_token * hidden
        x = self.pred(self.decoder(x).permute(0, 2, 3, 1)).flatten(1, 2)
        target = images.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)
        target = target.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
        mean = target.mean(-1, keepdim=True)
        variance = target.var(-1, keepdim=True)
        target = (target - mean) / (variance + 1e-6) ** 0.5
        loss = ((x - target) ** 2).mean(-1)
        return (loss * mask).sum() / mask.sum()


def train_official(model, images, visible):
    groups = {0.05: [], 0.0: []}
    for name, parameter in model.named_parameters():
        if name.startswith(("encoder.head", "encoder.norm")):
            continue
        # In the official code, GRN's parameters have several axes.
        is_vector = parameter.ndim == 1 and ".grn." not in name
        is_bias = name.endswith(".bias") and ".grn." not in name
        groups[0.0 if is_vector or is_bias else 0.05].append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": x, "weight_decay": decay} for decay, x in groups.items()],
        betas=(0.9, 0.95),
    )
    mean, std = (
        torch.tensor(x, dtype=torch.float64)
        for x in (IMAGENET_MEAN, IMAGENET_STD)
    )
    losses = []
    for step in range(STEPS):
        epoch = step / (STEPS // EPOCHS)
        rate = PEAK * epoch
        if epoch >= 1:
            done = (epoch - 1) / (EPOCHS - 1)
            rate = PEAK * 0.5 * (1.0 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = torch.from_numpy(images[step]).double() / 255
        x = ((x - mean) / std).permute(0, 3, 1, 2)
        mask = torch.ones(BATCH, GRID * GRID, dtype=torch.float64)
        mask.scatter_(1, torch.from_numpy(visible[step]).long(), 0.0)
        loss = model(x, mask)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


DECODER = {
    "proj.weight": "embedding/kernel",
    "proj.bias": "embedding/bias",
    "mask_token": "mask_token/token",
    "pred.weight": "prediction/kernel",
    "pred.bias": "prediction/bias",
    "decoder.conv_dw.weight": "stage_0_block_0_depthwise/kernel",
    "decoder.conv_dw.bias": "stage_0_block_0_depthwise/bias",
    "decoder.norm.weight": "stage_0_block_0_norm/gamma",
    "decoder.norm.bias": "stage_0_block_0_norm/beta",
    "decoder.mlp.fc1.weight": "stage_0_block_0_expand/kernel",
    "decoder.mlp.fc1.bias": "stage_0_block_0_expand/bias",
    "decoder.mlp.grn.weight": "stage_0_block_0_grn/gamma",
    "decoder.mlp.grn.bias": "stage_0_block_0_grn/beta",
    "decoder.mlp.fc2.weight": "stage_0_block_0_project/kernel",
    "decoder.mlp.fc2.bias": "stage_0_block_0_project/bias",
}


def in_our_shapes(model):
    """All weights of the official model by our names."""
    state = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    start = "encoder."
    inner = {
        k.removeprefix(start): x
        for k, x in state.items()
        if k.startswith(start)
    }
    found = in_our_names(inner, VARIANT)
    for theirs, ours in DECODER.items():
        x = state[theirs]
        if ours.endswith("token"):
            x = x.reshape(-1)
        elif "conv_dw" in theirs and x.ndim == 4:
            x = x.transpose(2, 3, 0, 1)
        elif x.ndim == 2:
            x = x.T
        found[f"decoder_{ours}"] = x
    return found


def new_model():
    encoder = ConvNeXt(
        VARIANT.depths, VARIANT.dims, **V2_OPTIONS, classes=11, dtype="float64"
    )
    return encoder, RECIPE.on(encoder)


V2_OPTIONS = {
    "patch_size": VARIANT.patch_size,
    "grn": True,
    "layer_scale_init_value": 0.0,
    "input_shape": (SIZE, SIZE, 3),
}
RECIPE = pretraining.v2_pretrain.replace(
    epochs=EPOCHS,
    warmup_epochs=1,
    batch_size=BATCH,
    learning_rate=PEAK,
    image_size=SIZE,
    decoder_width=WIDTH,
)


@long_where_compiled
def test_thirty_steps_equal_pytorch(float64, record_property):
    keras.config.set_floatx("float64")  # of learning rates
    try:
        check(record_property)
    finally:
        keras.config.set_floatx("float32")


def check(record_property):
    torch.manual_seed(0)
    peer = Official()
    encoder, model = new_model()
    load_peer(encoder, peer.encoder, "timm")
    start = in_our_shapes(peer)
    for variable in model.weights:
        if variable.path in start:
            variable.assign(start[variable.path])
    images = random_images((STEPS, BATCH, SIZE, SIZE, 3))
    visible = np.stack(
        [
            pretraining.visible_patches(GRID**2, VISIBLE, 0, i)
            for i in range(STEPS * BATCH)
        ]
    ).reshape(STEPS, BATCH, VISIBLE)
    losses = train_official(peer.double(), images, visible)
    RECIPE.compile(model, STEPS // EPOCHS)
    found = model.fit(
        {
            "images": images.reshape(-1, SIZE, SIZE, 3),
            "visible": visible.reshape(-1, VISIBLE),
        },
        batch_size=BATCH,
        shuffle=False,
        verbose=0,
    )
    mean = np.mean(losses)
    np.testing.assert_allclose(found.history["loss"], [mean], rtol=0, atol=1e-5)
    assert losses[-1] < losses[0]
    expected, differences = in_our_shapes(peer), {}
    for variable in model.weights:
        ours = keras.ops.convert_to_numpy(variable)
        theirs = expected[variable.path]
        assert np.abs(theirs - start[variable.path]).max() > 1e-6
        differences[variable.path] = np.abs(ours - theirs).max()
    record_property("weights", f"{max(differences.values()):.1e}")
    assert max(differences.values()) <= 1e-6, differences
