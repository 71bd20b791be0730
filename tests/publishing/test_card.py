"""The model card, read by the hub's own classes, and licenses."""

import json
import re

import pytest
from huggingface_hub import ModelCard
from test_publish import NAMES
from test_publish import new_model
from test_publish import publish

import keras_convnext
from keras_convnext.publishing import licenses

# What `run.json` holds, as far as the card takes it.
RUN = {
    "status": "complete",
    "command": ["keras-convnext", "train", "--data", "/home/me/secret photos"],
    "step": 120,
    "metrics": {"epoch": 3, "step": 120, "loss": 0.5, "val_accuracy": 0.75},
    "best": {"val_accuracy": 0.8125},
    "settings": {
        "recipe": {
            "epochs": 3,
            "learning_rate": 0.002,
            "loss": "cross_entropy",
        },
        "model": {
            "name": "mine",
            "weights": "fb_in1k",
            "input_shape": [64, 64, 3],
        },
        "data": {"images": 400, "classes": 5, "digest": "ab"},
        "validation": {"images": 80, "classes": 5, "digest": "cd"},
        "seed": 7,
    },
    "versions": {"keras_convnext": "0.0.9", "keras": "3.15", "backend": "jax"},
}
# What `evaluate --json` prints, likewise.
METRICS = {
    "model": "test_convnext",
    "rule": "classes",
    "images": 300,
    "accuracy": {"top1": 0.9, "top5": 1.0},
    "balanced_accuracy": 0.85,
    "f1_macro": None,
    "ece": 0.031,
    "intervals": {"top1": [0.86, 0.93]},
    "bootstrap": {"level": 0.95},
    "file": "/home/me/run/best.keras",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that began with published weights."""
    folder = tmp_path_factory.mktemp("run")
    model = new_model()
    model.update_info(weights="r160_in1k", license="apache-2.0")
    model.save(folder / "best.keras")
    (folder / "run.json").write_text(json.dumps(RUN))
    (folder / "curves.png").write_bytes(b"a picture")
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    return folder


def test_the_card_tells_what_the_run_knows(run, tmp_path):
    publish(
        run / "best.keras",
        tmp_path / "flowers",
        "timm",
        metrics=run / "metrics.json",
        data_name="Flowers | 5",
        verify=False,
    )
    path = tmp_path / "flowers" / "README.md"
    card = ModelCard.load(path)
    data = card.data
    assert ModelCard(str(card)).data.to_dict() == data.to_dict()
    assert (data.license, data.library_name) == ("apache-2.0", "timm")
    assert data.pipeline_tag == "image-classification"
    assert data.base_model == "timm/test_convnext.r160_in1k"
    assert {"convnext", "keras_convnext"} < set(data.tags)
    found = {x.metric_type: x for x in data.eval_results}
    assert found["accuracy"].metric_value == 0.9
    assert found["accuracy"].dataset_name == "Flowers | 5"
    assert found["ece"].metric_value == 0.031
    assert "f1" not in found
    text = card.text
    for line in (
        "| Architecture | test_convnext |",
        "| Trained on | 400 images |",
        "| Held out | 80 images |",
        "| Seed | 7 |",
        "| learning_rate | 0.002 |",
        "| top-1 | 90.00% (86.0–93.0) |",
        "| balanced accuracy | 85.00% |",
        "Measured on Flowers | 5, 300 images.",
        "| | measured (95% interval) |",
        "| keras_convnext, in training | 0.0.9 |",
        "![Loss and metrics of each epoch](curves.png)",
        r"a cat, a dog \| a wolf, a \<b\>, d, e",
        "It was not compared",
    ):
        assert line.replace("| | ", "|  | ") in text.replace("| | ", "|  | ")
    assert (path.parent / "curves.png").read_bytes() == b"a picture"
    everything = b"".join(x.read_bytes() for x in path.parent.iterdir())
    for private in (b"/home/me", b"secret photos", str(run).encode()):
        assert private not in everything


def test_without_figures_of_an_evaluation_those_of_the_run_are_named_so(
    run, tmp_path
):
    publish(run / "best.keras", tmp_path / "flowers", verify=False)
    card = ModelCard.load(tmp_path / "flowers" / "README.md")
    assert card.data.eval_results is None
    assert "They also chose the best epoch" in " ".join(card.text.split())
    assert "| val_accuracy | 0.8125 |" in card.text


def test_a_model_without_a_run_has_a_card(tmp_path):
    model = new_model()
    model.class_names = None
    publish(model, tmp_path / "out", verify=False)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license is None
    assert "No license is known" in card.text
    for title in ("## Training", "## Figures", "## Classes", "| None"):
        assert title not in card.text


BROKEN = {
    "another model": ({"model": "convnext_tiny"}, "those of the model"),
    "no figures": (
        {"accuracy": {}, "balanced_accuracy": None, "ece": None},
        "it holds no figures",
    ),
    "no images": ({"images": "many"}, "must be of type int"),
    "intervals": ({"intervals": {"top1": ["a", 1]}}, "could not convert"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_metrics_of_another_kind_are_refused(case, run, tmp_path):
    changes, said = BROKEN[case]
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({**METRICS, **changes}))
    with pytest.raises(ValueError, match=f"(?s)`metrics` must be .*{said}"):
        publish(run / "best.keras", tmp_path / "out", metrics=path)
    assert not (tmp_path / "out").exists()


def test_a_run_must_have_noted_something(run, tmp_path):
    with pytest.raises(ValueError, match="the folder of a training run"):
        publish(run / "best.keras", tmp_path / "out", run=tmp_path)


# Of the weights at the start, chosen, and the result or the reason.
LICENSES = [
    ("mit", None, "mit"),
    (None, None, None),
    (None, "mit", "mit"),
    ("apache-2.0", "cc-by-nc-4.0", "cc-by-nc-4.0"),
    ("cc-by-nc-4.0", None, "cc-by-nc-4.0"),
    ("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-sa-4.0"),
    ("cc-by-nc-4.0", "mit", ValueError("forbids commercial use")),
    (
        "fair-noncommercial-research-license",
        "apache-2.0",
        ValueError("forbids"),
    ),
    ("dinov3-license", None, "dinov3-license"),
    ("dinov3-license", "mit", ValueError("holds for what is made")),
    ("mit", "my-own", ValueError("an id that the hub knows")),
]


@pytest.mark.once
@pytest.mark.parametrize("inherited, chosen, result", LICENSES)
def test_no_license_allows_more_than_that_of_the_weights(
    inherited, chosen, result
):
    if isinstance(result, ValueError):
        with pytest.raises(ValueError, match=str(result)):
            licenses.license_of(inherited, chosen)
    else:
        assert licenses.license_of(inherited, chosen) == result


@pytest.mark.once
def test_every_license_of_the_registry_has_its_rule():
    rows = keras_convnext.weights.registry.checkpoints()
    for license in {x.license for x in rows}:
        is_known = license in (*licenses.IDS, *licenses.NAMED)
        assert is_known, license
        is_free = not re.search("nc|noncommercial|dinov3", license)
        assert is_free == (license in licenses.FREE_LICENSES)
    fields = licenses.metadata_of("dinov3-license")
    assert fields == {"license": "other", "license_name": "dinov3-license"}


def test_the_license_is_in_the_report_and_on_the_card(tmp_path):
    model = new_model()
    model.update_info(license="cc-by-nc-4.0")
    with pytest.raises(ValueError, match="forbids commercial use"):
        publish(model, tmp_path / "out", license="mit", verify=False)
    (report,) = publish(model, tmp_path / "out", "timm", verify=False)
    assert report.license == "cc-by-nc-4.0"
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "cc-by-nc-4.0"
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["pretrained_cfg"]["license"] == "cc-by-nc-4.0"
    assert config["label_names"] == NAMES
