"""The table of variants against published counts, and its public lookup."""

import inspect

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import predict
from conftest import random_images
from peers import import_timm

import keras_convnext
from keras_convnext import VARIANTS
from keras_convnext.models.construction import build
from keras_convnext.weights import layouts
from keras_convnext.weights import registry

# Parameters with 1000 classes, without classifier, and number of tensors,
# computed with the official PyTorch code and timm 1.0.29.
COUNTS = {
    "convnext_atto": (3_695_520, 3_374_520, 128),
    "convnext_femto": (5_217_784, 4_832_784, 128),
    "convnext_pico": (9_045_672, 8_532_672, 128),
    "convnext_nano": (15_593_560, 14_952_560, 146),
    "convnext_tiny": (28_589_128, 27_820_128, 182),
    "convnext_small": (50_223_688, 49_454_688, 344),
    "convnext_base": (88_591_464, 87_566_464, 344),
    "convnext_large": (197_767_336, 196_230_336, 344),
    "convnext_xlarge": (350_196_968, 348_147_968, 344),
    "convnext_xxlarge": (846_471_016, 843_398_016, 380),
    "convnext_tiny_hnf": (28_589_128, 27_820_128, 182),
    "convnext_large_mlp": (200_128_168, 198_591_168, 346),
    "convnext_atto_ols": (3_702_912, 3_381_912, 130),
    "convnext_femto_ols": (5_226_520, 4_841_520, 130),
    "convnext_pico_ols": (9_061_928, 8_548_928, 130),
    "convnext_nano_ols": (15_649_560, 15_008_560, 148),
    "convnext_atto_rms": (3_693_040, 3_372_040, 111),
    "convnext_zepto_rms": (2_155_656, 1_898_656, 95),
    "convnext_zepto_rms_ols": (2_164_232, 1_907_232, 97),
    "test_convnext": (272_128, 207_128, 101),
    "test_convnext2": (477_800, 348_800, 56),
    "test_convnext3": (468_840, 339_840, 56),
    "convnextv2_atto": (3_708_400, 3_387_400, 140),
    "convnextv2_femto": (5_233_240, 4_848_240, 140),
    "convnextv2_pico": (9_066_280, 8_553_280, 140),
    "convnextv2_nano": (15_623_800, 14_982_800, 160),
    "convnextv2_tiny": (28_635_496, 27_866_496, 200),
    "convnextv2_small": (50_318_440, 49_549_440, 380),
    "convnextv2_base": (88_717_800, 87_692_800, 380),
    "convnextv2_large": (197_956_840, 196_419_840, 380),
    "convnextv2_huge": (660_289_640, 657_472_640, 380),
    "convnext_isotropic_small": (22_308_712, 21_923_712, 150),
    "convnext_isotropic_base": (87_083_752, 86_314_752, 150),
    "convnext_isotropic_large": (305_942_504, 304_917_504, 330),
}
COUNTS_22K = {
    "convnext_tiny": 44_615_857,
    "convnext_small": 66_250_417,
    "convnext_base": 109_953_489,
    "convnext_large": 229_799_953,
    "convnext_xlarge": 392_900_177,
}
# Sizes without a published 22k count: the classifier is a layer like others.
FOR_22K = [*COUNTS_22K, "convnextv2_huge", "convnext_isotropic_small"]

CONSTRUCTORS = {
    f"ConvNeXt{prefix}{size}": f"convnext{infix}_{size.lower()}"
    for prefix, infix, sizes in (
        ("", "", "Atto Femto Pico Nano Tiny Small Base Large XLarge XXLarge"),
        ("V2", "v2", "Atto Femto Pico Nano Tiny Small Base Large Huge"),
        ("Isotropic", "_isotropic", "Small Base Large"),
    )
    for size in sizes.split()
}

needs_meta = pytest.mark.skipif(
    keras.backend.backend() != "torch",
    reason="torch alone builds models without allocating them",
)


def test_every_variant_has_a_published_count():
    assert COUNTS.keys() == VARIANTS.keys()


def long_if_deep(names, limit):
    """Building a block takes as long as any other."""
    return [
        pytest.param(
            name,
            marks=[pytest.mark.long]
            if sum(VARIANTS[name].depths) > limit
            else [],
        )
        for name in names
    ]


@needs_meta
@pytest.mark.parametrize("name", long_if_deep(VARIANTS, 18))
def test_parameter_counts(name):
    with_top, _, tensors = COUNTS[name]
    with keras.device("meta"):
        model = build(VARIANTS[name], weights=None)
    assert model.count_params() == with_top
    assert len(model.trainable_variables) == tensors


def test_counts_follow_from_depths_and_widths():
    """Of those that are built in long proofs alone, too."""
    for name, variant in VARIANTS.items():
        is_plain = variant.stem == "patch" and variant.norm == "layer_norm"
        if is_plain and not variant.head_hidden_size:
            assert computed_count(variant) == COUNTS[name][1], name


def computed_count(variant):
    """Parameters without a classifier."""
    widths = variant.dims
    count = (3 * variant.patch_size**2 + 1) * widths[0] + 2 * widths[-1]
    count += 2 * widths[0] if variant.stem_norm else 0
    for before, width in zip(widths, widths[1:]):
        count += 2 * before + (4 * before + 1) * width
    of_each = zip(variant.depths, widths, variant.kernel_sizes)
    for depth, width, side in of_each:
        per_channel = side**2 + 8 + 8 * width
        per_channel += 8 if variant.grn else 0
        per_channel += 1 if variant.layer_scale_init_value else 0
        count += depth * per_channel * width
    return count


@needs_meta
@pytest.mark.parametrize("name", long_if_deep(VARIANTS, 12))
def test_parameter_counts_without_the_top(name):
    with keras.device("meta"):
        features = build(VARIANTS[name], weights=None, include_top=False)
    assert features.count_params() == COUNTS[name][1]


@needs_meta
@pytest.mark.parametrize("name", long_if_deep(FOR_22K, 18))
def test_parameter_counts_at_21841_classes(name):
    with keras.device("meta"):
        model = build(VARIANTS[name], weights=None, classes=21_841)
    dim = VARIANTS[name].dims[-1]
    computed = COUNTS[name][1] + (dim + 1) * 21_841
    assert model.count_params() == COUNTS_22K.get(name, computed)


@pytest.mark.parametrize(
    "name",
    [
        "test_convnext",
        pytest.param("test_convnext3", marks=LONG_WHERE_COMPILED),
    ],
)
def test_a_small_variant_counts_and_runs_on_every_backend(name):
    model = keras_convnext.create_model(name, weights=None)
    assert model.count_params() == COUNTS[name][0]
    probabilities = predict(model, random_images((1, 160, 160, 3)))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.once
@pytest.mark.parametrize("function, name", CONSTRUCTORS.items())
def test_named_constructors_build_their_variant(function, name):
    constructor = getattr(keras_convnext, function)
    closure = inspect.getclosurevars(constructor)
    assert closure.nonlocals["variant"] == VARIANTS[name]
    assert closure.globals["build"] is build
    parameters = inspect.signature(constructor).parameters
    assert parameters["name"].default == name
    assert constructor.__name__ == function
    assert f"`{name}`" in constructor.__doc__


# One of each kind that counts of parameters do not tell apart.
OF_TIMM = [
    *("convnext_nano", "convnext_tiny", "convnext_xxlarge"),
    *("convnext_tiny_hnf", "convnext_atto_ols", "convnext_nano_ols"),
    *("convnext_atto_rms", "convnext_zepto_rms_ols", "convnextv2_atto"),
    *("test_convnext", "test_convnext2", "test_convnext3"),
]


@needs_meta
@pytest.mark.parametrize("name", OF_TIMM)
def test_what_counts_do_not_tell_is_as_in_timm(name):
    import torch

    variant = VARIANTS[name]
    with torch.device("meta"):
        theirs = import_timm().create_model(name)
    modules = list(theirs.modules())
    epsilons = {x.eps for x in modules if "Norm2d" in type(x).__name__}
    assert epsilons == {variant.epsilon}
    blocks = [x for x in modules if hasattr(x, "mlp")]
    activations = {type(x.mlp.act).__name__.lower() for x in blocks}
    assert activations == {variant.activation.replace("_", "")}
    # Names say where the last norm is, and axes what is a convolution.
    pairs = {x.theirs: x for x in layouts.pairs("timm", variant)}
    for key, value in theirs.state_dict().items():
        written = pairs[key].way_out
        if key.endswith(("fc1.weight", "fc2.weight")):
            assert written(np.zeros((2, 2))).ndim == value.ndim


def test_what_all_weights_restrict_the_variant_restricts():
    free = set(registry.FREE_LICENSES)
    for name, variant in VARIANTS.items():
        own = {x.license for x in registry.matching(name) if x.model == name}
        if own:
            assert (variant.license in free) == bool(own & free), name


def test_list_models_filters_by_pattern():
    assert keras_convnext.list_models() == list(VARIANTS)
    assert keras_convnext.list_models("convnext_isotropic_*") == [
        "convnext_isotropic_small",
        "convnext_isotropic_base",
        "convnext_isotropic_large",
    ]


def test_unknown_names_raise_with_the_nearest_matches():
    with pytest.raises(ValueError, match="Did you mean convnext_tiny"):
        keras_convnext.create_model("convnext_tinny", weights=None)


def test_a_tag_in_the_name_chooses_the_weights(monkeypatch):
    from keras_convnext.models import applications

    def build(variant, include_top=True, weights="imagenet", classes=None):
        return variant.name, include_top, weights, classes

    monkeypatch.setattr(applications, "build", build)
    create = keras_convnext.create_model
    tagged = create("convnext_tiny.fb_in22k", False, classes=3)
    assert tagged == ("convnext_tiny", False, "fb_in22k", 3)
    assert create("convnext_tiny")[2] == "imagenet"
    with pytest.raises(ValueError, match="pass no `weights`.*Received: name"):
        create("convnext_tiny.fb_in1k", weights=None)
    with pytest.raises(ValueError, match="Did you mean convnext_tiny"):
        create("convnext_tinny.fb_in1k")


def test_every_listed_name_has_a_model():
    for name in keras_convnext.list_weights("*"):
        model, _, tag = name.partition(".")
        assert model in keras_convnext.VARIANTS and tag
