"""Weights that are there but wrong are refused, never believed."""

import json
import struct
import zipfile

import h5py
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from safetensors.numpy import save_file

import keras_convnext
from keras_convnext import open_artifact
from keras_convnext._util import limits
from keras_convnext.weights import files

pytestmark = LONG_WHERE_COMPILED


def new_model(**options):
    options = {"input_shape": (16, 16, 3), "classes": 3, **options}
    return keras_convnext.ConvNeXt((1,), (4,), **options)


@pytest.fixture
def tensors(tmp_path):
    """Of a small model, by our names."""
    path = tmp_path / "whole.keras"
    new_model().save(path)
    return dict(files.read(path).tensors)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_values_that_are_no_numbers_are_refused(
    value, dtype, tensors, tmp_path
):
    path = tmp_path / "wrong.safetensors"
    tensors = {name: x.astype(dtype) for name, x in tensors.items()}
    tensors["stem_norm/beta"][1] = value
    save_file(tensors, path)
    message = r"stem_norm/beta of .*wrong\.safetensors.*no numbers"
    with pytest.raises(ValueError, match=message):
        new_model(weights=path)


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
def test_tensors_that_are_no_floats_are_refused(dtype, tensors, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "wrong.pth"
    state = {name: torch.from_numpy(x.copy()) for name, x in tensors.items()}
    state["stem_norm/beta"] = state["stem_norm/beta"].to(getattr(torch, dtype))
    torch.save(state, path)
    with pytest.raises(ValueError, match=rf"stem_norm/beta: .* of {dtype}"):
        new_model(weights=path)


def test_names_that_are_there_twice_are_refused(tensors, tmp_path):
    path = tmp_path / "twice.safetensors"
    save_file(tensors, path)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + length].decode().rstrip()
    twice = (
        header[:-1]
        + ',"stem_norm/beta":'
        + json.dumps(json.loads(header)["stem_norm/beta"])
    )
    twice = (twice + "}").encode()
    path.write_bytes(
        struct.pack("<Q", len(twice)) + twice + content[8 + length :]
    )
    with pytest.raises(
        ValueError, match=r"cannot be read .*twice\.safetensors"
    ):
        new_model(weights=path)


@pytest.mark.parametrize("content", [{0: "x"}, ["x"], "x", {"model": [1]}])
def test_pytorch_files_without_names_are_refused(content, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "odd.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"Received: .*"):
        new_model(weights=path)


@pytest.mark.parametrize("kind", ["S4", "O"])
def test_hdf5_files_of_strings_are_refused(kind, tmp_path):
    path = tmp_path / "strings.weights.h5"
    new_model().save_weights(path)
    with h5py.File(path, "r+") as file:
        group = file["layers/layer_normalization/vars"]
        del group["0"]
        dtype = h5py.string_dtype() if kind == "O" else kind
        group.create_dataset("0", data=["x"] * 4, dtype=dtype)
    with pytest.raises(ValueError, match=r"strings\.weights\.h5"):
        new_model(weights=path)


def rewritten(path, **members):
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**content, **members}.items():
            archive.writestr(name, data)


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize("config", [b"null", b"[1]", b"{}", b"x", DEEP])
@pytest.mark.parametrize("read", [open_artifact, files.read])
def test_keras_files_with_another_config_are_refused(read, config, tmp_path):
    path = tmp_path / "config.keras"
    new_model().save(path)
    rewritten(path, **{"config.json": config})
    with pytest.raises(ValueError, match=r"config\.keras"):
        read(path)


def test_keras_files_are_checked_whole(tmp_path, monkeypatch):
    path = tmp_path / "m.keras"
    model = new_model()
    model.save(path)
    whole = path.read_bytes()
    for name, damaged in {
        "flipped": whole[:-3000] + bytes([whole[-3000] ^ 1]) + whole[-2999:],
        "cut": whole[:-40],
        "empty": b"",
    }.items():
        path.write_bytes(damaged)
        for read in (open_artifact, files.read):
            with pytest.raises(ValueError, match=r"m\.keras"):
                read(path)
        assert name
    with pytest.raises(ValueError, match="it does not exist|must exist"):
        open_artifact(tmp_path / "missing.keras")
    model.get_layer("stem_norm").beta.assign(np.full(4, np.nan))
    model.save(path)
    with pytest.raises(ValueError, match=r"m\.keras'.*no numbers"):
        open_artifact(path)
    path.write_bytes(whole)
    monkeypatch.setenv(limits.VARIABLE, "1KiB")
    open_artifact(path)  # it inflates to no more than it is
    rewritten(path, **{"config.json": b" " * 10**7})
    with pytest.raises(ValueError, match=limits.VARIABLE):
        open_artifact(path)


@pytest.mark.parametrize("read", [open_artifact, files.read])
@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]
)
def test_arrays_that_inflate_are_refused(compression, read, tmp_path):
    """Together, too: each of these is within the limit."""
    weights, path = tmp_path / "bomb.h5", tmp_path / "bomb.keras"
    new_model().save(path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    weights.write_bytes(content["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        for name in "abc":
            # Of what is never written nothing is stored.
            file.create_dataset(name, (2**28,), "float32", chunks=(1024,))
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            if name != "model.weights.h5":
                archive.writestr(name, data)
        archive.write(weights, "model.weights.h5")
    with pytest.raises(ValueError, match=rf"bomb\.keras.*{limits.VARIABLE}"):
        read(path)


def test_keras_files_import_no_other_modules(tmp_path):
    path, mark = tmp_path / "other.keras", tmp_path / "mark"
    new_model().save(path)
    config = {"module": "os", "class_name": "mkdir", "config": str(mark)}
    rewritten(path, **{"config.json": json.dumps(config).encode()})
    with pytest.raises(ValueError, match=r"other\.keras"):
        open_artifact(path)
    assert not mark.exists()


def test_artifacts_that_answer_with_no_numbers_say_so(tmp_path):
    model = new_model()
    artifact = keras_convnext.artifacts.running.of_model(model, "it")
    images = np.zeros((1, 16, 16, 3), "float32")
    artifact.predict(images)
    model.get_layer("stem_norm").beta.assign(np.full(4, np.nan))
    with pytest.raises(
        ValueError, match="output '(logits|scores)' of 'it' .*no numbers"
    ):
        artifact.predict(images)
