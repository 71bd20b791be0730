"""The maintainers' batch tools, on checkpoints from a local server."""

import ast
import csv
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from conftest import COMPILES
from conftest import long_where_compiled
from peers import import_timm
from peers import timm_peer
from safetensors.torch import save as to_safetensors

from keras_convnext import VARIANTS
from keras_convnext.weights import registry

CONVERSION = Path(__file__).parents[2] / "conversion"


def tool(name):
    spec = importlib.util.spec_from_file_location(name, CONVERSION / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@long_where_compiled
def test_checkpoints_are_converted_compared_and_listed(
    server,  # noqa: F811
    tmp_path,
    capsys,
):
    import_timm()
    convert = tool("convert_checkpoints.py")
    for name in ("test_convnext", "test_convnext3"):
        content = to_safetensors(timm_peer(VARIANTS[name], 1000).state_dict())
        if name == "test_convnext3":
            content = content[:-8]  # truncated
        server.add_repository(
            f"timm/{name}.r160_in1k", {"model.safetensors": content}
        )
    output = tmp_path / "converted"
    arguments = ["test_convnext*", "--output", str(output)]
    assert convert.main(arguments) == 1
    printed = capsys.readouterr().out
    assert "[1/3] test_convnext.r160_in1k: equal" in printed
    assert "1 converted, 2 failed" in printed
    manifest = json.loads((output / "manifest.json").read_text())
    entry = manifest["test_convnext.r160_in1k"]
    assert entry["largest_difference"] < 1e-4
    assert len(entry["sha256"]) == 64 and entry["versions"]["timm"]
    failed = manifest["test_convnext3.r160_in1k"]
    assert failed["status"] == "failed" and "intact" in failed["error"]
    assert "| equal |" in (output / "manifest.md").read_text()
    model = keras.saving.load_model(output / "test_convnext.r160_in1k.keras")
    assert model.info.weights == "r160_in1k"

    # Again: what is done is not done twice.
    assert convert.main(arguments) == 1
    printed = capsys.readouterr().out
    assert "test_convnext.r160_in1k: done before" in printed


@pytest.mark.once
def test_the_model_zoo_names_all_models_and_checkpoints():
    """And each line that loads one: of which model and which tag."""
    text = (CONVERSION.parent / "docs" / "model_zoo.md").read_text()
    rows = re.findall(r'^\| <span id="[^"]+"></span>(.*) \|$', text, re.M)
    loaded, speeds = {}, {}
    for row in rows:
        name, *_, line, _, _, _ = row.split(" | ")
        (call,) = ast.parse(line.strip("`")).body
        texts = [
            x.value
            for x in ast.walk(call)
            if isinstance(x, ast.Constant) and isinstance(x.value, str)
        ]
        model, tag = texts
        assert name == f"{model}.{tag}"
        loaded[name] = call.value.func.id
        speeds[name] = row.split(" | ")[6]
    checkpoints = [
        x for task in registry.TASKS for x in registry.checkpoints(task)
    ]
    assert len(rows) == len(checkpoints)
    builders = {
        "classify": "create_model",
        "segment": "UperNet",
        "mask_rcnn": "MaskRCNN",
        "cascade_mask_rcnn": "CascadeMaskRCNN",
    }
    assert loaded == {x.name: builders[x.task] for x in checkpoints}
    with (CONVERSION.parent / "benchmarks/speed/zoo.csv").open() as file:
        measured = {
            ("classify", x["model"], x["size"]): x["images_per_second"]
            for x in csv.DictReader(file)
        }
    assert speeds == {
        x.name: measured.get((x.task, x.model, str(x.image_size)), "–")
        for x in checkpoints
    }
    architectures = re.findall(r"^\| (\w+) \| \(", text, re.M)
    assert architectures == list(VARIANTS)


@pytest.mark.long
@pytest.mark.skipif(COMPILES, reason="is of the table alone")
def test_the_model_zoo_is_fresh():
    subprocess.run(
        [sys.executable, CONVERSION / "make_model_zoo.py", "--check"],
        check=True,
    )
