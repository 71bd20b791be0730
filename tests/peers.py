"""The same models in PyTorch, by other people, with randomized weights."""

import contextlib
import functools
import re
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD
from keras_convnext.weights import layouts
from keras_convnext.weights import loading


@functools.cache
def import_timm():
    """timm imports torchvision; here without its compiled operators.

    They need a torch of the same build, and where TensorFlow was loaded before
    them they end the process. Two declarations are enough for the import.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        with contextlib.suppress(RuntimeError):  # the benchmark declared it
            library.define(f"{name}{schema}")
    import_timm.library = library  # dropped schemas are undeclared again
    with mock.patch.object(torch.ops, "load_library", side_effect=OSError):
        import timm

    return timm


def timm_peer(variant, classes=11):
    import_timm()
    from timm.models.convnext import ConvNeXt

    model = ConvNeXt(
        num_classes=classes,
        depths=variant.depths,
        dims=variant.dims,
        kernel_sizes=variant.kernel_sizes,
        ls_init_value=variant.layer_scale_init_value or None,
        stem_type=variant.stem,
        patch_size=variant.patch_size,
        head_norm_first=variant.head == "norm_pool",
        head_hidden_size=variant.head_hidden_size,
        act_layer=variant.activation,
        norm_layer=variant.norm.replace("_", ""),
        norm_eps=variant.epsilon,
        use_grn=variant.grn,
        # timm applies norms other than LayerNorm to convolutions only.
        conv_mlp=variant.norm != "layer_norm",
    )
    return randomize(model)


def transformers_peer(variant, classes=11):
    import_timm()
    from transformers import ConvNextConfig
    from transformers import ConvNextForImageClassification
    from transformers import ConvNextV2Config
    from transformers import ConvNextV2ForImageClassification

    sizes = {
        "hidden_sizes": list(variant.dims),
        "depths": list(variant.depths),
        "num_labels": classes,
    }
    if variant.grn:
        model = ConvNextV2ForImageClassification(ConvNextV2Config(**sizes))
        model.convnextv2.layernorm.eps = variant.epsilon
    else:
        # Its last normalization alone has an epsilon of 1e-12.
        model = ConvNextForImageClassification(ConvNextConfig(**sizes))
        model.convnext.layernorm.eps = variant.epsilon
    return randomize(model)


class IsotropicPeer(nn.Module):
    """Isotropic ConvNeXt written from its published description alone."""

    def __init__(self, variant, classes=11):
        super().__init__()
        (dim,) = variant.dims
        self.stem = nn.Conv2d(3, dim, 16, 16)
        self.blocks = nn.ModuleList(
            IsotropicBlock(dim, variant.layer_scale_init_value)
            for _ in range(variant.depths[0])
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x.mean((2, 3))))


class IsotropicBlock(nn.Module):
    def __init__(self, dim, layer_scale):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.ones(dim)) if layer_scale else None

    def forward(self, x):
        branch = self.dwconv(x).permute(0, 2, 3, 1)
        branch = self.pwconv2(F.gelu(self.pwconv1(self.norm(branch))))
        if self.gamma is not None:
            branch = self.gamma * branch
        return x + branch.permute(0, 3, 1, 2)


def isotropic_peer(variant, classes=11):
    return randomize(IsotropicPeer(variant, classes))


PEERS = {
    "timm": timm_peer,
    "transformers": transformers_peer,
    "official_isotropic": isotropic_peer,
}


def randomize(model, seed=0):
    """Weights under which no part of the model is invisible.

    Layer scale and GRN matter as much as the rest. The stem is small, so that
    the epsilon of the normalization behind it decides the outcome.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1 and "grn" not in name:
                fan_in = parameter[0].numel()
                parameter.copy_(noise / fan_in**0.5)
            elif name.endswith("bias") or name.endswith("beta"):
                parameter.copy_(0.1 * noise)
            else:
                parameter.copy_(0.6 + 0.3 * noise)
        for name, parameter in model.named_parameters():
            if name.startswith(("stem.0", "convnext.embeddings.patch")):
                parameter.mul_(0.003)
            if "embeddings.patch" in name and "v2" in name:
                parameter.mul_(0.003)
    return model.eval()


def peer_logits(model, images, dtype=torch.float32):
    """Logits of a PyTorch model for NHWC images of 0–255."""
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    normalized = (images.astype("float64") / 255 - mean) / std
    x = torch.from_numpy(normalized).permute(0, 3, 1, 2).to(dtype)
    with torch.no_grad():
        outputs = model.to(dtype)(x)
    logits = getattr(outputs, "logits", outputs)
    return logits.numpy()


def load_peer(model, peer, layout):
    """Copies a PyTorch model's weights into one of ours, by name."""
    state = {
        name: tensor.detach().numpy()
        for name, tensor in peer.state_dict().items()
    }
    assert layouts.places(state)[0].layout == layout
    loading.assign(model, in_our_names(state, model.variant), layout)
    return model


def in_our_names(arrays, variant):
    """All arrays of a model by our names, its layout recognized."""
    place = layouts.places(arrays)[0]
    converted = layouts.from_layout(arrays, place, variant)
    return {**converted.tensors, **converted.beside}


OFFICIAL_NAMES = (
    (r"^stem\.0\.", "downsample_layers.0.0."),
    (r"^stem\.1\.", "downsample_layers.0.1."),
    (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
    (r"^stages\.(\d)\.blocks\.", r"stages.\1."),
    (r"\.conv_dw\.", ".dwconv."),
    (r"\.mlp\.fc", ".pwconv"),
    (r"\.mlp\.grn\.weight$", ".grn.gamma"),
    (r"\.mlp\.grn\.bias$", ".grn.beta"),
    (r"^head\.norm\.", "norm."),
    (r"^head\.fc\.", "head."),
)


def official_state(peer):
    return {
        name: tensor.reshape(1, 1, 1, -1) if ".grn." in name else tensor
        for name, tensor in renamed_state(peer, OFFICIAL_NAMES).items()
    }


MMPRETRAIN_NAMES = (
    (r"^stem\.(\d)\.", r"backbone.downsample_layers.0.\1."),
    (r"^stages\.(\d)\.downsample\.", r"backbone.downsample_layers.\1."),
    (r"^stages\.(\d)\.blocks\.", r"backbone.stages.\1."),
    (r"\.conv_dw\.", ".depthwise_conv."),
    (r"\.mlp\.fc", ".pointwise_conv"),
    (r"\.mlp\.grn\.weight$", ".grn.gamma"),
    (r"\.mlp\.grn\.bias$", ".grn.beta"),
    (r"^head\.norm\.", "backbone.norm3."),
)


def renamed_state(peer, names):
    """The tensors of a peer under the names that `names` turns them into."""
    state = {}
    for name, tensor in peer.state_dict().items():
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        state[name] = tensor
    # Alphabetical, as the V2 files are: nothing may go by position.
    return dict(sorted(state.items()))


def assert_logits_agree(ours, theirs, bound=1e-4):
    assert ours.shape == theirs.shape
    # Logits of an untouched model would agree by being all alike.
    assert np.ptp(theirs) > 0.1
    difference = np.abs(ours - theirs).max()
    assert difference <= bound * max(1, np.abs(theirs).max())
