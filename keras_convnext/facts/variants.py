"""What exists: one frozen record per ConvNeXt architecture. Data, no logic.

To add an architecture, add one `Variant` to `_RECORDS`; the builder,
`list_models`, the model zoo and the tests read this table.
"""

import fnmatch
from dataclasses import dataclass
from typing import Any

from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import Positive

MIT = "mit"
APACHE = "apache-2.0"
CC_BY_NC = "cc-by-nc-4.0"


@dataclass(frozen=True)
class Variant:
    """The topology of one ConvNeXt, independent of input size and classes.

    Attributes:
        name: timm's model name, or `convnext_isotropic_*`.
        depths: number of blocks per stage.
        dims: width (channels) per stage.
        kernel_sizes: depthwise kernel size per stage, odd.
        stem: `"patch"` (one `patch_size` convolution of that stride),
            `"overlap"` (two 3×3 convolutions of stride 2), `"overlap_tiered"`
            (the first of half width) or `"overlap_act"` (an activation
            between them).
        patch_size: side of the patch stem in pixels.
        stem_norm: whether a normalization follows the stem.
        norm: `"layer_norm"`, `"rms_norm"` or `"simple_norm"`.
        epsilon: added to the variance in every normalization.
        activation: `"gelu"` is the exact erf form.
        grn: global response normalization in the blocks (ConvNeXt V2).
        layer_scale_init_value: initial layer scale; 0 means no layer scale.
        head: `"pool_norm"` (pool, then normalize) or `"norm_pool"`.
        head_hidden_size: width of a hidden GELU layer before the classifier.
        image_size: default height and width in pixels.
        license: SPDX-like id of the license of the published weights.
    """

    name: str
    depths: tuple
    dims: tuple
    kernel_sizes: tuple = (7, 7, 7, 7)
    stem: str = "patch"
    patch_size: Count = 4
    stem_norm: bool = True
    norm: str = "layer_norm"
    epsilon: Positive = 1e-6
    activation: str = "gelu"
    grn: bool = False
    layer_scale_init_value: NotNegative = 1e-6
    head: str = "pool_norm"
    head_hidden_size: Count | None = None
    image_size: Count = 224
    license: str = APACHE


ATTO = ((2, 2, 6, 2), (40, 80, 160, 320))
FEMTO = ((2, 2, 6, 2), (48, 96, 192, 384))
PICO = ((2, 2, 6, 2), (64, 128, 256, 512))
NANO = ((2, 2, 8, 2), (80, 160, 320, 640))
TINY = ((3, 3, 9, 3), (96, 192, 384, 768))
SMALL = ((3, 3, 27, 3), (96, 192, 384, 768))
BASE = ((3, 3, 27, 3), (128, 256, 512, 1024))
LARGE = ((3, 3, 27, 3), (192, 384, 768, 1536))
XLARGE = ((3, 3, 27, 3), (256, 512, 1024, 2048))
XXLARGE = ((3, 4, 30, 3), (384, 768, 1536, 3072))
HUGE = ((3, 3, 27, 3), (352, 704, 1408, 2816))
ZEPTO = ((2, 2, 4, 2), (32, 64, 128, 256))
TEST = ((1, 2, 4, 2), (24, 32, 48, 64))
TEST_FLAT = ((1, 1, 1, 1), (32, 64, 96, 128))

# V2 replaces layer scale by global response normalization.
NO_LAYER_SCALE: dict[str, Any] = {"layer_scale_init_value": 0.0}
V2: dict[str, Any] = {"grn": True, **NO_LAYER_SCALE}
# One stage at stride 16, no normalization behind the stem.
ISOTROPIC: dict[str, Any] = {
    "kernel_sizes": (7,),
    "patch_size": 16,
    "stem_norm": False,
    "license": MIT,
}
# timm's for tests.
SMALL_IMAGES: dict[str, Any] = {"epsilon": 1e-5, "image_size": 160}

_RECORDS = (
    # ConvNeXt V1, arXiv:2201.03545; Atto to Nano and XXLarge are timm's.
    Variant("convnext_atto", *ATTO),
    Variant("convnext_femto", *FEMTO),
    Variant("convnext_pico", *PICO),
    Variant("convnext_nano", *NANO),
    Variant("convnext_tiny", *TINY, license=MIT),
    Variant("convnext_small", *SMALL, license=MIT),
    Variant("convnext_base", *BASE, license=MIT),
    Variant("convnext_large", *LARGE, license=MIT),
    Variant("convnext_xlarge", *XLARGE, license=MIT),
    Variant("convnext_xxlarge", *XXLARGE, epsilon=1e-5, image_size=256),
    # timm's relatives.
    Variant("convnext_tiny_hnf", *TINY, head="norm_pool"),
    Variant(
        "convnext_large_mlp", *LARGE, head_hidden_size=1536, image_size=256
    ),
    Variant("convnext_atto_ols", *ATTO, stem="overlap_tiered"),
    Variant("convnext_femto_ols", *FEMTO, stem="overlap_tiered"),
    Variant("convnext_pico_ols", *PICO, stem="overlap_tiered"),
    Variant("convnext_nano_ols", *NANO, stem="overlap"),
    Variant("convnext_atto_rms", *ATTO, norm="rms_norm"),
    # Named rms upstream, yet they divide by the unbiased standard deviation.
    Variant("convnext_zepto_rms", *ZEPTO, norm="simple_norm"),
    Variant(
        "convnext_zepto_rms_ols",
        *ZEPTO,
        norm="simple_norm",
        stem="overlap_act",
    ),
    Variant("test_convnext", *TEST, **SMALL_IMAGES, activation="gelu_tanh"),
    Variant(
        "test_convnext2", *TEST_FLAT, **SMALL_IMAGES, activation="gelu_tanh"
    ),
    Variant(
        "test_convnext3",
        *TEST_FLAT,
        **SMALL_IMAGES,
        activation="silu",
        kernel_sizes=(7, 5, 5, 3),
    ),
    # ConvNeXt V2, arXiv:2301.00808; Small is timm's, without weights.
    Variant("convnextv2_atto", *ATTO, **V2, license=CC_BY_NC),
    Variant("convnextv2_femto", *FEMTO, **V2, license=CC_BY_NC),
    Variant("convnextv2_pico", *PICO, **V2, license=CC_BY_NC),
    Variant("convnextv2_nano", *NANO, **V2, license=CC_BY_NC),
    Variant("convnextv2_tiny", *TINY, **V2, license=CC_BY_NC),
    Variant("convnextv2_small", *SMALL, **V2),
    Variant("convnextv2_base", *BASE, **V2, license=CC_BY_NC),
    Variant("convnextv2_large", *LARGE, **V2, license=CC_BY_NC),
    Variant("convnextv2_huge", *HUGE, **V2, license=CC_BY_NC),
    # Isotropic ConvNeXt, arXiv:2201.03545 §3.3: only Large has layer scale.
    Variant(
        "convnext_isotropic_small", (18,), (384,), **ISOTROPIC, **NO_LAYER_SCALE
    ),
    Variant(
        "convnext_isotropic_base", (18,), (768,), **ISOTROPIC, **NO_LAYER_SCALE
    ),
    Variant("convnext_isotropic_large", (36,), (1024,), **ISOTROPIC),
)

VARIANTS = {record.name: record for record in _RECORDS}
# Messages name this in the place of all of them.
LISTED_BY = "`keras_convnext.list_models()`"


def list_models(pattern: str = "*") -> list[str]:
    """Names of all variants that match a shell-style pattern.

    Examples:
        >>> keras_convnext.list_models("convnextv2_*o")
        ['convnextv2_atto', 'convnextv2_femto', 'convnextv2_pico', 'convnextv2_nano']
    """  # noqa: E501
    return fnmatch.filter(VARIANTS, pattern)
