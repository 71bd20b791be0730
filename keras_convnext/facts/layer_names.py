"""The grammar of layer names: how one is built, and how it is taken apart.

A name is the prefix of a tower, a place in it and a part:
`left_stage_2_block_7_norm` is `left_`, stage 2, block 7 and `norm`. Outside of
stages the part says the place as well: `stem_conv`, `head_norm`. Old files are
loaded by these names, so that none of them may ever change.
"""

import re
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from enum import StrEnum
from typing import Self

STEM, HEAD = "stem", "head"


class Part(StrEnum):
    """What a layer is: the end of its name."""

    IMAGE = "image"
    CARD = "card"
    TO_CHANNELS_LAST = "to_channels_last"
    NORMALIZATION = "normalization"
    STEM_CONV = "stem_conv"
    STEM_CONV_0 = "stem_conv_0"
    STEM_CONV_1 = "stem_conv_1"
    STEM_ACTIVATION = "stem_activation"
    STEM_NORM = "stem_norm"
    DOWNSAMPLE_NORM = "downsample_norm"
    DOWNSAMPLE_CONV = "downsample_conv"
    DEPTHWISE = "depthwise"
    NORM = "norm"
    EXPAND = "expand"
    ACTIVATION = "activation"
    GRN = "grn"
    PROJECT = "project"
    LAYER_SCALE = "layer_scale"
    DROP_PATH = "drop_path"
    ADD = "add"
    REMATERIALIZED = "rematerialized"
    HEAD_POOL = "head_pool"
    HEAD_NORM = "head_norm"
    HEAD_HIDDEN = "head_hidden"
    HEAD_HIDDEN_ACTIVATION = "head_hidden_activation"
    HEAD_DROPOUT = "head_dropout"
    HEAD_CLASSIFIER = "head_classifier"
    HEAD_ACTIVATION = "head_activation"
    HEAD_UNITS = "head_units"
    TO_CHANNELS_FIRST = "to_channels_first"
    # In the steps of the roadmap alone.
    STEM_POOL = "stem_pool"
    SPATIAL = "spatial"
    SHORTCUT = "shortcut"
    # Before a convolution, behind its name.
    PAD = "pad"


# In the order in which they compute.
BLOCK_PARTS = (
    Part.DEPTHWISE,
    Part.NORM,
    Part.EXPAND,
    Part.ACTIVATION,
    Part.GRN,
    Part.PROJECT,
    Part.LAYER_SCALE,
    Part.DROP_PATH,
    Part.ADD,
)
DOWNSAMPLE_PARTS = (Part.DOWNSAMPLE_NORM, Part.DOWNSAMPLE_CONV)
# Files without a classifier may lack all of these.
HEAD_WITH_WEIGHTS = (Part.HEAD_NORM, Part.HEAD_HIDDEN, Part.HEAD_CLASSIFIER)

# Only numbers that are written in one way: a name comes back as it was.
_NUMBER = "(?:0|[1-9][0-9]*)"
_WHOLE = (
    rf"{Part.IMAGE}|{Part.CARD}|{Part.NORMALIZATION}|norm{_NUMBER}|"
    rf"{Part.TO_CHANNELS_LAST}|{Part.TO_CHANNELS_FIRST}"
)
# The last place counts: a prefix may be `stem_`.
_NAME = re.compile(
    rf"(?P<prefix>.*)(?:stage_(?P<stage>{_NUMBER})_"
    rf"(?:block_(?P<block>{_NUMBER})_|(?=downsample_)))?"
    rf"(?P<part>(?(stage).+|(?:(?:{STEM}|{HEAD})_.+|{_WHOLE})))"
)


@dataclass(frozen=True)
class LayerName:
    """The name of a layer, taken apart; `str` of it is the name.

    Attributes:
        prefix: the `layer_prefix` of the model.
        stage: int, from 0, or `None` outside of stages.
        block: int, from 0, or `None` outside of blocks.
        part: a `Part`, or text that begins with one; `""` where none is
            chosen yet, and in names that are not of this grammar.

    Examples:
        >>> from keras_convnext.facts.layer_names import LayerName
        >>> str(LayerName("left_", 2, 7).of("norm"))
        'left_stage_2_block_7_norm'
    """

    prefix: str = ""
    stage: int | None = None
    block: int | None = None
    part: str = ""

    def __str__(self):
        stage = "" if self.stage is None else f"stage_{self.stage}_"
        block = "" if self.block is None else f"block_{self.block}_"
        return f"{self.prefix}{stage}{block}{self.part}"

    def of(self, part: str) -> Self:
        """The name of another part in the same place."""
        return replace(self, part=part)

    def beside(self, part: str) -> Self:
        """The name of what belongs to this layer, as its `pad`."""
        return self.of(f"{self.part}_{part}")

    @property
    def scope(self) -> str:
        """`"stem"`, `"stage_0"` …, `"head"`, or `""` elsewhere."""
        if self.stage is not None:
            return f"stage_{self.stage}"
        word = self.part.partition("_")[0]
        return word if word in (STEM, HEAD) else ""


def parse(name: str) -> LayerName:
    """Takes a name apart.

    Args:
        name: of any layer.

    Returns:
        The `LayerName` whose `str` is `name`. A name that is not of this
        grammar is all prefix, without a part.

    Examples:
        >>> from keras_convnext.facts import layer_names
        >>> layer_names.parse("left_stage_3_downsample_conv")
        LayerName(prefix='left_', stage=3, block=None, part='downsample_conv')
    """
    match = _NAME.fullmatch(name)
    if not match:
        return LayerName(name)
    stage, block = (
        None if match[kind] is None else int(match[kind])
        for kind in ("stage", "block")
    )
    return LayerName(match["prefix"], stage, block, match["part"])


def scope_of(name: str) -> str:
    """The `scope` of a layer in a model of any kind.

    A word that only ends like one, `ecosystem_conv`, is none.
    """
    parsed = parse(name)
    is_word = parsed.prefix == "" or parsed.prefix.endswith("_")
    return parsed.scope if is_word else ""


def names_of(part: str, depths: Sequence[int]) -> Iterator[LayerName]:
    """The names of a part in all places of a model that can have it.

    Args:
        part: a `Part`, or another name, which there is once.
        depths: number of blocks of each stage.
    """
    if part in BLOCK_PARTS:
        for stage, depth in enumerate(depths):
            for block in range(depth):
                yield LayerName("", stage, block, part)
    elif part in DOWNSAMPLE_PARTS:
        for stage in range(1, len(depths)):
            yield LayerName("", stage, None, part)
    else:
        yield LayerName(part=part)


def block_pattern(part: str) -> str:
    """A regular expression for a part in all blocks of all towers."""
    return rf".*stage_\d+_block_\d+_{part}"


def level_norm(stage: int) -> str:
    """The part that normalizes the map of a stage in a feature pyramid."""
    return f"norm{stage}"
