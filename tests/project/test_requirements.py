"""Every package that may be missing, and who says so."""

import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from keras_convnext import tf_load_image
from keras_convnext._util import requirements
from keras_convnext.artifacts import open_artifact
from keras_convnext.artifacts import real_images
from keras_convnext.cli.serve import serve
from keras_convnext.data import ImageList
from keras_convnext.data import Tfds
from keras_convnext.data import load_digits
from keras_convnext.data import write_records
from keras_convnext.visualize import new_figure
from keras_convnext.weights import files

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    """What is opened before a package is asked for."""
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    for name in ("m.onnx", "m.pt2", "m.tflite", "m.xml", "m.parquet"):
        (tmp_path / name).touch()
    torch.save({"x": torch.ones(1)}, tmp_path / "weights.pth")
    return tmp_path


def open_named(name):
    return lambda folder: open_artifact(folder / name)


def read_pickle(folder):
    files.read(folder / "weights.pth")


def serve_model(folder):
    serve(folder / "m.onnx", port=0)


NEEDS = {
    "figure": ("matplotlib", lambda _: new_figure()),
    "digits": ("sklearn", lambda _: load_digits()),
    "photographs": ("sklearn", lambda _: real_images._photographs(9, 9, 3)),
    "tfds": ("tensorflow_datasets", lambda _: Tfds("mnist", "train")),
    "parquet": ("pyarrow", lambda folder: ImageList(folder / "m.parquet")),
    "records": ("tensorflow", lambda folder: write_records(None, folder)),
    "tf_images": ("tensorflow", lambda _: tf_load_image(np.zeros((9, 9, 3)))),
    "saved_model": ("tensorflow", open_named("saved")),
    "tflite": ("ai_edge_litert", open_named("m.tflite")),
    "onnx": ("onnxruntime", open_named("m.onnx")),
    "openvino": ("openvino", open_named("m.xml")),
    "pt2": ("torch", open_named("m.pt2")),
    "pickle": ("torch", read_pickle),
    "serving": ("fastapi", serve_model),
    "forms": ("python_multipart", serve_model),
    "metrics": ("prometheus_client", serve_model),
    "server": ("uvicorn", serve_model),
}


@pytest.mark.parametrize("case", NEEDS)
def test_every_error_says_what_is_missing_for_what_and_how_to_get_it(
    case, folder, monkeypatch
):
    module, call = NEEDS[case]
    package, extra = requirements.PACKAGES[module]
    absent = [x for x in sys.modules if x.split(".")[0] == module]
    for name in {module, *absent}:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError) as error:
        call(folder)
    assert re.match(
        rf"{package} is not installed, which is needed for .+\. "
        rf'Run `pip install "keras-convnext\[{extra}\]"`(, or .+)?$',
        str(error.value),
    )


def test_openvino_is_asked_for_in_a_second_call_too(folder, monkeypatch):
    with pytest.raises(ValueError):
        open_artifact(folder / "m.xml")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match="which is needed for OpenVINO files"):
        open_artifact(folder / "m.xml")


def test_what_is_installed_is_imported():
    assert requirements.require("json", "this test").loads("[]") == []
    assert requirements.is_installed("json")
    assert not requirements.is_installed("no_such_module")


def test_extras_of_a_purpose_come_first_and_once():
    error = requirements.missing("torch", "it", "wait", extras=["export"])
    assert str(error).endswith('keras-convnext[export,torch]"`, or wait')
    error = requirements.missing("onnx", "it", extras=["export"])
    assert str(error).endswith('keras-convnext[export]"`')


@pytest.mark.parametrize("module", requirements.PACKAGES)
def test_extras_bring_the_packages(module):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    package, extra = requirements.PACKAGES[module]
    brought = project["optional-dependencies"][extra]
    assert package in [re.match(r"[\w-]+", x)[0] for x in brought]
