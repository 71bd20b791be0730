"""The table of checkpoints against timm's own, and its lookup."""

import json
import warnings
from pathlib import Path

import pytest
from peers import import_timm
from typer.testing import CliRunner

import keras_convnext
from keras_convnext import VARIANTS
from keras_convnext.cli import app
from keras_convnext.weights import loading
from keras_convnext.weights import registry

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
OFFICIAL_ONLY = {
    "convnext_tiny.fb_in1k_noema",
    "convnext_small.fb_in1k_noema",
    "convnext_base.fb_in1k_noema",
    "convnext_base.fb_in1k_384",
    "convnext_large.fb_in1k_384",
    "convnext_isotropic_small.fb_in1k",
    "convnext_isotropic_base.fb_in1k",
    "convnext_isotropic_large.fb_in1k",
    *(
        f"convnext_{size}.mm_in1k{average}"
        for size in ("tiny", "small", "base")
        for average in ("", "_noema")
    ),
}


def test_every_row_of_timm_is_here_with_its_preprocessing():
    import_timm()
    from timm.models.convnext import default_cfgs

    theirs = {
        f"{model}.{tag}": config
        for model, entry in default_cfgs.items()
        for tag, config in entry.cfgs.items()
        if config.hf_hub_id
    }
    ours = {row.name: row for row in registry.checkpoints()}
    assert len(theirs) == 101
    assert ours.keys() - theirs.keys() == OFFICIAL_ONLY
    assert not theirs.keys() - ours.keys()
    for name, config in theirs.items():
        row = ours[name]
        assert row.hub_repository == config.hf_hub_id + name
        assert row.url == (config.url or "")
        assert (3, row.image_size, row.image_size) == config.input_size
        assert row.crop_pct == config.crop_pct
        assert row.crop_mode == config.crop_mode
        assert row.interpolation == config.interpolation
        assert row.preprocessing.mean == config.mean
        assert row.preprocessing.std == config.std
        assert row.classes == config.num_classes
        assert row.license == config.license


@pytest.mark.parametrize(
    "page, sentence",
    [
        ("README.md", "{architectures} architectures, {checkpoints} published"),
        ("CHANGELOG.md", "{checkpoints} published checkpoints"),
        ("docs/how_to/migrate.md", "| published checkpoints | {checkpoints} |"),
    ],
)
def test_the_documentation_counts_right(page, sentence):
    text = " ".join((ROOT / page).read_text().split())
    expected = sentence.format(
        architectures=len(keras_convnext.list_models()),
        checkpoints=len(keras_convnext.list_weights()),
    )
    assert expected in text


def test_the_official_files_number_27_and_26():
    urls = [
        row.url
        for row in registry.checkpoints()
        if row.url.startswith("https://dl.fbaipublicfiles.com/convnext/")
    ]
    assert len(urls) == len(set(urls)) == 53
    assert sum("/convnextv2/" in url for url in urls) == 26


def test_accuracies_are_those_reported():
    """A few figures, from timm's results and the official READMEs."""
    reported = {
        "convnext_tiny.fb_in1k": 82.066,
        "convnext_base.fb_in22k_ft_in1k_384": 86.826,
        "convnextv2_huge.fcmae_ft_in22k_in1k_512": 88.860,
        "convnext_isotropic_large.fb_in1k": 82.6,
        "convnext_tiny.dinov3_lvd1689m": None,
        "convnext_tiny.mm_in1k": 82.14,  # mmpretrain's own
        "convnext_small.mm_in1k_noema": 83.21,
    }
    rows = {row.name: row.top1 for row in registry.checkpoints()}
    assert {name: rows[name] for name in reported} == reported


@pytest.mark.parametrize(
    "model, weights, tag",
    [
        ("convnext_tiny", "imagenet", "fb_in1k"),
        ("convnext_large", "imagenet", "fb_in1k"),
        ("convnext_xlarge", "imagenet", "fb_in22k_ft_in1k"),
        ("convnext_isotropic_base", "imagenet", "fb_in1k"),
        ("convnextv2_huge", "imagenet", "fcmae_ft_in1k"),
        ("convnext_nano", "imagenet", "in12k_ft_in1k"),
        ("convnext_atto", "imagenet", "d2_in1k"),
        (
            "convnext_large_mlp",
            "imagenet",
            "clip_laion2b_soup_ft_in12k_in1k_320",
        ),
        ("test_convnext2", "imagenet", "r160_in1k"),
        ("convnext_base", "imagenet22k", "fb_in22k"),
        ("convnext_base", "imagenet22k_ft_imagenet", "fb_in22k_ft_in1k"),
        (
            "convnext_base",
            "imagenet22k_ft_imagenet_384",
            "fb_in22k_ft_in1k_384",
        ),
        (
            "convnextv2_base",
            "imagenet22k_ft_imagenet_384",
            "fcmae_ft_in22k_in1k_384",
        ),
        ("convnext_small", "dinov3_lvd1689m", "dinov3_lvd1689m"),
    ],
)
def test_aliases_and_tags(model, weights, tag):
    assert registry.find(model, weights).tag == tag


def test_every_variant_has_an_answer_to_imagenet():
    for model in VARIANTS:
        try:
            row = registry.find(model, "imagenet")
        except ValueError as error:
            assert "weights=None" in str(error)
            assert model in ("convnext_atto_rms", "convnextv2_small")
        else:
            assert row.classes == 1000


def test_unknown_tags_list_those_there_are():
    with pytest.raises(ValueError, match="Did you mean fb_in1k"):
        keras_convnext.ConvNeXtTiny(weights="fb_in1kk")
    with pytest.raises(ValueError, match=r"tags \['fcmae_ft_in1k', 'fcmae'\]"):
        registry.find("convnextv2_atto", "imagenet22k")


def test_restrictive_licenses_are_shown_once():
    loading._show_license.cache_clear()
    for model, tag, license in (
        ("convnextv2_atto", "fcmae_ft_in1k", "cc-by-nc-4.0"),
        ("convnext_tiny", "dinov3_lvd1689m", "dinov3-license"),
        ("convnext_tiny", "eupe_lvd1689m", "fair-noncommercial"),
    ):
        row = registry.find(model, tag)
        with pytest.warns(UserWarning, match=license):
            loading._show_license(row)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loading._show_license(row)
            loading._show_license(registry.find("convnext_tiny", "imagenet"))


def test_weights_are_listed():
    names = keras_convnext.list_weights("convnext_tiny")
    assert {"convnext_tiny.fb_in1k", "convnext_tiny.fb_in22k"} <= {*names}
    assert all(name.startswith("convnext_tiny.") for name in names)
    runner = CliRunner()
    printed = runner.invoke(app, ["weights", "convnext_tiny"]).output
    for part in ("fb_in1k", "224", "82.1", "21841", "dinov3-license"):
        assert part in printed
    assert "convnext_small" not in printed
    result = runner.invoke(app, ["weights", "*.fcmae", "--json"])
    assert len(json.loads(result.output)) == 8
    assert "fb_in22k" in runner.invoke(app, ["weights"]).output
    assert runner.invoke(app, ["weights", "resnet*"]).exit_code == 1
