"""Layer names: the grammar, what is built by it, and that nobody else reads."""

import re
from dataclasses import replace
from pathlib import Path

import layer_name_spelling
import pytest
from conftest import LONG_WHERE_COMPILED
from families import FAMILIES

import keras_convnext
from keras_convnext import VARIANTS
from keras_convnext import feature_pyramid
from keras_convnext import profile
from keras_convnext import rematerialized
from keras_convnext.facts import layer_names
from keras_convnext.facts.layer_names import LayerName
from keras_convnext.facts.layer_names import parse
from keras_convnext.facts.layer_names import scope_of
from keras_convnext.models.construction import build
from keras_convnext.models.profiling import without_numbers
from keras_convnext.tasks import roadmap
from keras_convnext.tasks import segmentation

pytestmark = LONG_WHERE_COMPILED

PACKAGE = Path(keras_convnext.__file__).parent
# Some are words of the grammar, or do not end one.
PREFIXES = ("", "left_", "left", "system_", "stem_", "head_", "my_stage_0_")


def built(variant, **options):
    first = options.get("data_format") == "channels_first"
    shape = (3, 64, 64) if first else (64, 64, 3)
    with without_numbers():
        return build(variant, weights=None, input_shape=shape, **options)


def names_in(model):
    return [layer.name for layer in model.layers]


# --- the grammar --------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    "name, expected",
    [
        ("image", LayerName(part="image")),
        ("to_channels_first", LayerName(part="to_channels_first")),
        ("norm3", LayerName(part="norm3")),
        ("stem_conv", LayerName(part="stem_conv")),
        ("stem_conv_0_pad", LayerName(part="stem_conv_0_pad")),
        ("stage_3_downsample_norm", LayerName("", 3, None, "downsample_norm")),
        ("stage_0_block_0_grn", LayerName("", 0, 0, "grn")),
        ("stage_2_block_26_drop_path", LayerName("", 2, 26, "drop_path")),
        ("stage_10_block_0_my_own", LayerName("", 10, 0, "my_own")),
        ("head_hidden_activation", LayerName(part="head_hidden_activation")),
    ],
)
def test_names_are_taken_apart(name, expected, prefix):
    found = parse(prefix + name)
    assert found == replace(expected, prefix=prefix)
    assert str(found) == prefix + name


@pytest.mark.once
@pytest.mark.parametrize(
    "name",
    [
        "",
        "dense",
        "batch_normalization_3",
        # Only a part of names of this grammar.
        *("norm", "add", "activation", "drop_path", "project", "depthwise"),
        *("stage_0", "stage_0_block_1", "stage_0_block_1_", "stem", "head_"),
        # Another number, which would not come back.
        *(
            "stage_01_block_2_norm",
            "stage_1_block_-1_norm",
            "stage_٣_block_0_a",
        ),
        "my_stage_9_dense",
    ],
)
def test_names_of_others_have_no_part(name):
    assert parse(name) == LayerName(prefix=name)
    assert str(parse(name)) == name
    assert parse(name).scope == scope_of(name) == ""


@pytest.mark.once
@pytest.mark.parametrize(
    "name, scope",
    [
        ("stem_conv", "stem"),
        ("left_stem_norm", "stem"),
        ("stage_2_downsample_conv", "stage_2"),
        ("left_stage_11_block_0_add", "stage_11"),
        ("head_pool", "head"),
        ("stem_stage_0_block_0_add", "stage_0"),
        ("head_norm0", ""),
        ("card", ""),
        ("ecosystem_conv", ""),
        ("forehead_dense", ""),
    ],
)
def test_scopes_are_told_by_whole_words(name, scope):
    assert scope_of(name) == scope


@pytest.mark.once
def test_names_change_their_part_and_nothing_else():
    scale = parse("left_stage_2_block_7_layer_scale")
    assert str(scale.of("project")) == "left_stage_2_block_7_project"
    assert str(parse("left_stem_conv").beside("pad")) == "left_stem_conv_pad"


@pytest.mark.once
def test_all_places_of_a_part_are_named():
    def of(part):
        return [str(x) for x in layer_names.names_of(part, (2, 1))]

    assert of("grn") == [
        "stage_0_block_0_grn",
        "stage_0_block_1_grn",
        "stage_1_block_0_grn",
    ]
    assert of("downsample_norm") == ["stage_1_downsample_norm"]
    assert of("head_norm") == ["head_norm"]
    assert of("decode_fusion_conv") == ["decode_fusion_conv"]


@pytest.mark.once
def test_a_pattern_finds_one_part_in_all_blocks():
    found = re.compile(layer_names.block_pattern("expand")).fullmatch
    expand, project = (
        [
            f"{x}{y}"
            for x in ("", "left_")
            for y in layer_names.names_of(z, (2, 12))
        ]
        for z in ("expand", "project")
    )
    assert all(map(found, expand))
    assert not any(map(found, project))


# --- models -------------------------------------------------------------------

OVERLAP = ("stem_conv_0_pad", "stem_conv_0", "stem_conv_1_pad", "stem_conv_1")
STEMS = {
    "patch": ("stem_conv",),
    "overlap": OVERLAP,
    "overlap_tiered": OVERLAP,
    "overlap_act": (*OVERLAP[:2], "stem_activation", *OVERLAP[2:]),
}


def expected_inside(variant, prefix):
    """Stem and stages of a model with drop path, as its variant says."""
    stem = [*STEMS[variant.stem], *["stem_norm"] * variant.stem_norm]
    yield from (LayerName(prefix, part=part) for part in stem)
    parts = ["depthwise", "norm", "expand", "activation"]
    parts += ["grn"] * variant.grn + ["project"]
    parts += ["layer_scale"] * bool(variant.layer_scale_init_value)
    parts += ["drop_path", "add"]
    for stage, depth in enumerate(variant.depths):
        for part in ("downsample_norm", "downsample_conv") if stage else ():
            yield LayerName(prefix, stage, None, part)
        for block in range(depth):
            for part in parts:
                # The rate of the first is 0.
                if (stage, block, part) != (0, 0, "drop_path"):
                    yield LayerName(prefix, stage, block, part)


def check_names(names, variant, prefix, before, behind):
    parsed = [parse(name) for name in names]
    assert [str(x) for x in parsed] == names
    assert parsed == [
        *(LayerName(prefix, part=part) for part in before),
        *expected_inside(variant, prefix),
        *(LayerName(prefix, part=part) for part in behind),
    ]


def hidden(variant):
    has_one = bool(variant.head_hidden_size)
    return ["head_hidden", "head_hidden_activation"] * has_one


@pytest.mark.parametrize("prefix", ["", "stem_"])
@pytest.mark.parametrize("family", FAMILIES)
def test_classifiers_of_every_family(family, prefix):
    variant = FAMILIES[family]
    model = built(
        variant, layer_prefix=prefix, drop_path_rate=0.2, dropout_rate=0.1
    )
    before = ["image", "card", "normalization"]
    behind = ["head_pool", "head_norm"]
    if variant.head == "norm_pool":
        behind.reverse()
    behind += hidden(variant)
    behind += ["head_dropout", "head_classifier", "head_activation"]
    check_names(names_in(model), variant, prefix, before, behind)


@pytest.mark.parametrize("prefix", ["", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_features_of_every_family(family, prefix):
    variant = FAMILIES[family]
    model = built(
        variant,
        layer_prefix=prefix,
        drop_path_rate=0.2,
        include_top=False,
        data_format="channels_first",
    )
    before = ["image", "card", "to_channels_last", "normalization"]
    behind = ["head_norm", *hidden(variant), "to_channels_first"]
    check_names(names_in(model), variant, prefix, before, behind)


@pytest.mark.parametrize("prefix", ["", "left_"])
def test_backbones_of_upernets(prefix):
    variant = FAMILIES["v1"]
    backbone = built(
        variant, layer_prefix=prefix, drop_path_rate=0.2, include_top=False
    )
    with without_numbers():
        names = names_in(segmentation.UperNet(backbone, 5, channels=8))
    end = names.index(f"{prefix}norm3")
    before = ["image", "card", "normalization"]
    check_names(names[:end], variant, prefix, before, [])
    heads = [parse(name) for name in names[end:]]
    assert {x.scope for x in heads} == {""}
    norms = {x for x in heads if x.part.startswith("norm")}
    assert norms == {LayerName(prefix, part=f"norm{i}") for i in range(4)}


@pytest.mark.parametrize("prefix", ["", "left_"])
def test_pyramids_and_blocks_that_are_computed_again(prefix):
    variant = FAMILIES["v2"]
    model = built(
        variant,
        layer_prefix=prefix,
        include_top=False,
        data_format="channels_first",
    )
    pyramid = feature_pyramid(model, norm=True)
    added = set(names_in(pyramid)) - set(names_in(model))
    ends = {f"{prefix}P{i}_to_channels_first" for i in (2, 3, 4, 5)}
    assert added == ends | {f"{prefix}norm{i}" for i in range(4)}
    assert {parse(x).part for x in ends} == {"to_channels_first"}
    whole = set(names_in(rematerialized(model))) - set(names_in(model))
    assert whole == {
        f"{prefix}stage_{stage}_block_{block}_rematerialized"
        for stage, depth in enumerate(variant.depths)
        for block in range(depth)
    }


@pytest.mark.parametrize("step", roadmap.STEPS)
def test_networks_of_the_roadmap(step):
    with without_numbers():
        model = roadmap.build(step, "small", drop_path_rate=0.2)
    parsed = [parse(name) for name in names_in(model)]
    assert [str(x) for x in parsed] == names_in(model)
    assert {x.prefix for x in parsed} == {""}
    places = {(x.stage, x.block) for x in parsed if x.block is not None}
    design = roadmap.steps.design_of(step)
    depths = roadmap.REGIMES["small"].depths[design.stage_ratio]
    assert sorted(places) == [
        (s, b) for s, n in enumerate(depths) for b in range(n)
    ]
    assert sum(x.part == "drop_path" for x in parsed) == sum(depths) - 1


@pytest.mark.every_backend
def test_costs_are_told_by_stage_behind_any_prefix():
    variant = FAMILIES["v1"]
    plain = profile(built(variant)).stages()
    assert list(plain) == [
        "",
        "stem",
        *(f"stage_{i}" for i in range(4)),
        "head",
    ]
    for prefix in ("left_", "stem_", "head_"):
        found = profile(built(variant, layer_prefix=prefix)).stages()
        assert {name: x.macs for name, x in found.items()} == {
            name: x.macs for name, x in plain.items()
        }


# --- what was saved -----------------------------------------------------------

# Old files are loaded by these names. Blocks but the first of a stage are left
# out.
TINY = """
image card normalization stem_conv stem_norm
stage_0_block_0_depthwise stage_0_block_0_norm stage_0_block_0_expand
stage_0_block_0_activation stage_0_block_0_project stage_0_block_0_layer_scale
stage_0_block_0_add
stage_1_downsample_norm stage_1_downsample_conv
stage_1_block_0_depthwise stage_1_block_0_norm stage_1_block_0_expand
stage_1_block_0_activation stage_1_block_0_project stage_1_block_0_layer_scale
stage_1_block_0_add
stage_2_downsample_norm stage_2_downsample_conv
stage_2_block_0_depthwise stage_2_block_0_norm stage_2_block_0_expand
stage_2_block_0_activation stage_2_block_0_project stage_2_block_0_layer_scale
stage_2_block_0_add
stage_3_downsample_norm stage_3_downsample_conv
stage_3_block_0_depthwise stage_3_block_0_norm stage_3_block_0_expand
stage_3_block_0_activation stage_3_block_0_project stage_3_block_0_layer_scale
stage_3_block_0_add
head_pool head_norm head_classifier head_activation
"""
V2_ATTO = """
image card normalization stem_conv stem_norm
stage_0_block_0_depthwise stage_0_block_0_norm stage_0_block_0_expand
stage_0_block_0_activation stage_0_block_0_grn stage_0_block_0_project
stage_0_block_0_add
stage_1_downsample_norm stage_1_downsample_conv
stage_1_block_0_depthwise stage_1_block_0_norm stage_1_block_0_expand
stage_1_block_0_activation stage_1_block_0_grn stage_1_block_0_project
stage_1_block_0_add
stage_2_downsample_norm stage_2_downsample_conv
stage_2_block_0_depthwise stage_2_block_0_norm stage_2_block_0_expand
stage_2_block_0_activation stage_2_block_0_grn stage_2_block_0_project
stage_2_block_0_add
stage_3_downsample_norm stage_3_downsample_conv
stage_3_block_0_depthwise stage_3_block_0_norm stage_3_block_0_expand
stage_3_block_0_activation stage_3_block_0_grn stage_3_block_0_project
stage_3_block_0_add
head_pool head_norm head_classifier head_activation
"""
ISOTROPIC = """
image card normalization stem_conv
stage_0_block_0_depthwise stage_0_block_0_norm stage_0_block_0_expand
stage_0_block_0_activation stage_0_block_0_project stage_0_block_0_add
head_pool head_norm head_classifier head_activation
"""
SAVED = {
    "convnext_tiny": (TINY, 14 * 7),
    "convnextv2_atto": (V2_ATTO, 8 * 7),
    "convnext_isotropic_small": (ISOTROPIC, 17 * 6),
}


@pytest.mark.parametrize("name", SAVED)
def test_names_are_those_of_saved_files(name):
    expected, others = SAVED[name]
    names = names_in(built(VARIANTS[name]))
    later = [x for x in names if re.search("block_[1-9]", x)]
    assert len(later) == others
    assert [x for x in names if x not in later] == expected.split()


# --- nobody else reads them ---------------------------------------------------

# What stands elsewhere, and why.
OF_KERAS = "a name of keras.applications, whose grammar is nearly ours"
A_GIVEN = "a prefix that the caller knows; also of UperNet's heads"
ALLOWED = {
    "artifacts/saved_model_graph.py": {
        "SAVERS.fullmatch(function.signature.name)": "TensorFlow's functions"
    },
    "layers/states.py": {
        "weight.name.startswith('lora_')": "a variable of Keras"
    },
    "facts/variants.py": {"'stem_norm'": "a field of `Variant`"},
    "publishing/transformers_layout.py": {
        "'stem_norm'": "a field of `Variant`"
    },
    "tasks/detection/model.py": {
        "x.name.endswith(ends)": "a detector's own card and classifiers"
    },
    "tasks/segmentation/model.py": {
        "x.name.endswith(CARD)": "UperNet's own card, beside its backbone's"
    },
    "weights/layout_tables.py": {
        "'(?!(visual|trunk|head)\\\\.).*'": "modules of OpenCLIP",
        "'stage_{s}_block_{b}_'": OF_KERAS,
        "'stem_conv'": OF_KERAS,
    },
    "weights/layouts.py": {
        r"re.sub('^layer_normalization(_\\d+)?/', 'head_layernorm/', name)": (
            OF_KERAS
        )
    },
    "weights/loading.py": {"layer.name.removeprefix(prefix)": A_GIVEN},
}


@pytest.mark.once
def test_one_module_alone_knows_the_grammar():
    modules = {
        x.relative_to(PACKAGE).as_posix(): x for x in PACKAGE.rglob("*.py")
    }
    del modules["facts/layer_names.py"]
    found = {
        name: set(layer_name_spelling.findings(path.read_text()))
        for name, path in modules.items()
    }
    allowed = {name: set(reasons) for name, reasons in ALLOWED.items()}
    assert {name: texts for name, texts in found.items() if texts} == allowed


@pytest.mark.once
@pytest.mark.parametrize(
    "line",
    [
        # As they stood before there was the module, one for each place.
        r're.compile(r"(?:^|_)(stem|stage_\d+|head)_")',
        r're.compile(r"(.*?)stage_(\d+)_block_(\d+)_")',
        r're.compile(r".*(stage_\d+_block_\d+)_(\w+)")',
        r'LAYOUT = {r".*stage_\d+_block_\d+_expand/kernel": (None, "model")}',
        "STAGE.search(layer.name)",
        'layer.name.endswith("_drop_path")',
        "layer.name.endswith(CLASSIFIER)",
        'any(x.name.endswith("to_channels_last") for x in layers)',
        'before = name.removesuffix("stem_conv") + "normalization"',
        'prefix = known[level].rpartition("stage_")[0]',
        'prefix = first_norm.name.removesuffix("norm0")',
        'name = f"stage_{stage}_block_{block}"',
        'x = self.norm("head_norm")(x)',
        'BLOCK = "stage_{s}_block_{b}_"',
        'rows = [x for x in own if not x[1].startswith("head_")]',
        # And in other ways.
        "name.removesuffix(Part.LAYER_SCALE) + Part.PROJECT",
        '"stem" in layer.name',
        'layer.name.split("_")[1]',
        'name.startswith(("stem", "stage_0"))',
    ],
)
def test_what_takes_names_apart_is_noticed(line):
    assert layer_name_spelling.findings(line)


@pytest.mark.once
@pytest.mark.parametrize(
    "line",
    [
        '"""Of `stage_0_block_0_add` to `head_norm`."""',
        "raise ValueError(\"such as 'stage_0_block_0_add'\")",
        'fields = ("depths", "stem", "head", "head_hidden_size")',
        "parse(layer.name).part == Part.DROP_PATH",
        'path.name.endswith(".safetensors")',
        "str(name.of(Part.HEAD_NORM))",
    ],
)
def test_what_does_not_is_left_alone(line):
    assert layer_name_spelling.findings(line) == []
