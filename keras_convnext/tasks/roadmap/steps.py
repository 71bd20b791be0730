"""The steps from ResNet to ConvNeXt, and what the paper measured. Data.

Source: V1 paper (arXiv:2201.03545 v2), section 2 and tables 10 and 11:
ImageNet-1k top-1 in percent and multiply-adds (10⁹) at 224 pixels.
"""

import itertools
from dataclasses import dataclass
from dataclasses import field


@dataclass(frozen=True)
class Design:
    """What a network on the way is built of.

    Attributes:
        stage_ratio: `"resnet"` or `"swin"`: blocks per stage.
        stem: `"resnet"` (7×7, stride 2, and pooling) or `"patch"`.
        width: `"resnet"`, `"grouped"` or `"wide"`: channels of the stages.
        depthwise: whether the spatial convolution is depthwise.
        inverted: whether a block is wide inside and narrow outside.
        depthwise_first: whether the depthwise convolution comes first.
        kernel_size: of the spatial convolution.
        activation: `"relu"` or `"gelu"`.
        few_activations: one in a block, in place of one behind each
            convolution.
        few_norms: one in a block, in place of one behind each convolution.
        norm: `"batch_norm"` or `"layer_norm"`.
        separate_downsampling: normalization and convolution between stages,
            in place of a stride in their first block.
    """

    stage_ratio: str = "resnet"
    stem: str = "resnet"
    width: str = "resnet"
    depthwise: bool = False
    inverted: bool = False
    depthwise_first: bool = False
    kernel_size: int = 3
    activation: str = "relu"
    few_activations: bool = False
    few_norms: bool = False
    norm: str = "batch_norm"
    separate_downsampling: bool = False


@dataclass(frozen=True)
class Step:
    """One change on the way.

    Attributes:
        name: how `build` finds it.
        title: as the paper's figure 2 calls it.
        change: fields of `Design` that differ from the step before.
        accuracy: top-1 in percent by regime, as published.
        gflops: multiply-adds in 10⁹ by regime, as published.
        kept: whether the next step builds upon it.
    """

    name: str
    title: str
    change: dict = field(hash=False)
    accuracy: dict = field(hash=False)
    gflops: dict = field(hash=False)
    kept: bool


@dataclass(frozen=True)
class Regime:
    """Depths, widths and image size for which the steps are built.

    Attributes:
        depths: blocks per stage by `Design.stage_ratio`.
        widths: channels of the first stage by `Design.width`: those inside of
            a bottleneck, and later those outside of an inverted one. Every
            further stage doubles them.
        image_size: side of the images in pixels.
    """

    depths: dict = field(hash=False)
    widths: dict = field(hash=False)
    image_size: int = 224


REGIMES = {
    # ResNet-50 to ConvNeXt-T.
    "tiny": Regime(
        {"resnet": (3, 4, 6, 3), "swin": (3, 3, 9, 3)},
        {"resnet": 64, "grouped": 64, "wide": 96},
    ),
    # ResNet-200 to ConvNeXt-B; its width grows with the stage ratio too.
    "base": Regime(
        {"resnet": (3, 24, 36, 3), "swin": (3, 3, 27, 3)},
        {"resnet": 64, "grouped": 84, "wide": 128},
    ),
    # Ours, to be trained within minutes on images of 32 pixels.
    "small": Regime(
        {"resnet": (1, 1, 1, 1), "swin": (1, 1, 2, 1)},
        {"resnet": 16, "grouped": 16, "wide": 24},
        image_size=32,
    ),
}

CHANGES = {
    "resnet": {},
    "recipe": {},
    "stage_ratio": {"stage_ratio": "swin", "width": "grouped"},
    "patchify_stem": {"stem": "patch"},
    "depthwise_conv": {"depthwise": True},
    "increase_width": {"width": "wide"},
    "inverted_bottleneck": {"inverted": True},
    "move_depthwise_up": {"depthwise_first": True},
    "kernel_5": {"kernel_size": 5},
    "kernel_7": {"kernel_size": 7},
    "kernel_9": {"kernel_size": 9},
    "kernel_11": {"kernel_size": 11},
    "gelu": {"activation": "gelu"},
    "fewer_activations": {"few_activations": True},
    "fewer_norms": {"few_norms": True},
    "layer_norm": {"norm": "layer_norm"},
    "separate_downsampling": {"separate_downsampling": True},
}
NOT_KEPT = ("kernel_9", "kernel_11")

# Top-1 and GFLOPs of the tiny regime, then of the base regime. For "BN to LN"
# the paper prints the next step's GFLOPs in the tiny regime; a LayerNorm adds
# none.
TABLE = """
resnet                 76.13  4.09  78.20 15.01  ResNet, original recipe
recipe                 78.82  4.09  81.14 15.01  enhanced recipe
stage_ratio            79.36  4.53  81.33 14.52  stage ratio
patchify_stem          79.51  4.42  81.59 14.38  patchify stem
depthwise_conv         78.28  2.35  80.54  7.23  depthwise convolution
increase_width         80.50  5.27  81.85 16.76  increase width
inverted_bottleneck    80.64  4.64  82.64 15.68  inverting dimensions
move_depthwise_up      79.92  4.07  82.04 14.63  move up depthwise convolution
kernel_5               80.35  4.10  82.32 14.70  kernel size 5
kernel_7               80.57  4.15  82.30 14.81  kernel size 7
kernel_9               80.57  4.21  82.27 14.95  kernel size 9
kernel_11              80.47  4.29  82.18 15.13  kernel size 11
gelu                   80.62  4.15  82.19 14.81  ReLU to GELU
fewer_activations      81.27  4.15  82.71 14.81  fewer activations
fewer_norms            81.41  4.15  83.17 14.81  fewer norms
layer_norm             81.47  4.46  83.35 14.81  BN to LN
separate_downsampling  81.97  4.49  83.60 15.35  separate downsampling: ConvNeXt
"""


def _step(row):
    name, *numbers, title = row.split(maxsplit=5)
    tiny, tiny_gflops, base, base_gflops = map(float, numbers)
    return Step(
        name,
        title,
        change=CHANGES[name],
        accuracy={"tiny": tiny, "base": base},
        gflops={"tiny": tiny_gflops, "base": base_gflops},
        kept=name not in NOT_KEPT,
    )


STEPS = {step.name: step for step in map(_step, TABLE.strip().splitlines())}


def design_of(step):
    """The `Design` after all steps that were kept, and this one."""
    before = itertools.takewhile(lambda x: x.name != step, STEPS.values())
    values = {}
    for other in [*(x for x in before if x.kept), STEPS[step]]:
        values |= other.change
    return Design(**values)
