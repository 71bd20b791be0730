"""Reads weight files into `{name: array}`, whatever wrote them.

The format is recognized from the content, never from the file's name. Arrays
stay on disk where the format allows it, until they are used.
"""

import argparse
import functools
import io
import json
import mmap
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field

import h5py
import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save_file

from keras_convnext._util.limits import check_archive
from keras_convnext._util.limits import check_hdf5
from keras_convnext._util.requirements import require
from keras_convnext.facts.info import ModelInfo
from keras_convnext.layers import forms
from keras_convnext.layers import states
from keras_convnext.weights import registry

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

# Whatever a dense layer of Keras' files has besides its kernel and bias.
QUANTIZED = "(quantized)"
# Where training scripts keep the weights among other things.
WRAPPERS = ("model", "state_dict", "module")


@dataclass(frozen=True)
class WeightFile:
    """The content of a file: named arrays, and what a `.keras` file knows.

    `normalizes` tells whether the model does, by itself. `release` gives back
    the memory of what was read; the arrays stay valid.
    """

    tensors: dict
    info: ModelInfo = field(default_factory=ModelInfo)
    normalizes: bool = True
    release: Callable = lambda: None


def read(path):
    """Reads `.keras`, `.h5`, `.safetensors` and PyTorch files.

    Raises:
        ValueError: if the file is missing, damaged or something else.
        ImportError: for PyTorch files where torch is not installed.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise ValueError(
            "`weights` must be None, a tag, or the path of an existing file. "
            f"Received: weights={path!r}"
        )
    reader = _reader(path)
    if reader is None:
        raise ValueError(
            "`weights` must be a `.keras`, `.h5`, `.safetensors` or PyTorch "
            f"file; the content is none of them. Received: weights={path!r}"
        )
    try:
        file = reader(path)
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(
            "`weights` must be an intact file; this one cannot be read "
            f"({type(error).__name__}: {error}). Received: weights={path!r}"
        ) from error
    _check_not_quantized(file.tensors, path)
    return file


def _check_not_quantized(tensors, path):
    """Raises `ValueError` for what `model.quantize` leaves in a file."""
    for name, tensor in tensors.items():
        is_int8 = name.endswith("/kernel") and tensor.dtype == "int8"
        if is_int8 or name.endswith(QUANTIZED):
            raise ValueError(
                "`weights` must be floats, and `model.quantize` has changed "
                f"these. Received: weights={path!r} with the quantized layer "
                f"{name.split('/')[0]!r}. {states.REMEDY}"
            )


def _reader(path):
    with open(path, "rb") as file:
        start = file.read(16)
    if start.startswith(b"PK"):
        return _read_zip
    if start.startswith(HDF5_SIGNATURE):
        return _read_h5_file
    if start[8:9] == b"{":
        return _read_safetensors
    if start[:1] == b"\x80":
        return _read_torch
    return None


# Keras


def _read_zip(path):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("data.pkl") for name in names):
            return _read_torch(path)
        check_archive(archive, path)
        config = json.loads(archive.read("config.json"))
        weights = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(weights, "r") as file:
        check_hdf5(file, path)
        tensors = _read_h5(file)
    layers = config["config"].get("layers", ())
    infos = (
        ModelInfo.from_config(layer["config"]["info"])
        for layer in layers
        if layer.get("registered_name") == "keras_convnext>ModelCard"
    )
    names = {layer.get("class_name") for layer in layers}
    normalizes = "ImageNormalization" in names
    return WeightFile(tensors, next(infos, ModelInfo()), normalizes)


def _read_h5_file(path):
    with h5py.File(path, "r") as file:
        check_hdf5(file, path)
        # Keras 2 writes whole models, or weights alone.
        weights = file.get("model_weights", file)
        if "layer_names" in weights.attrs:
            return WeightFile(_read_legacy_h5(weights))
        return WeightFile(_read_h5(file))


def _read_h5(file):
    tensors, variables = {}, forms.variables_by_folder()

    def visit(path, group):
        if path.split("/")[-1] != "vars" or not len(group):
            return
        layer = group.attrs.get("name")
        kind = re.sub(r"_\d+$", "", path.split("/")[-2])
        names = variables.get(kind, ())
        for index, dataset in group.items():
            has_name = int(index) < len(names)
            other = QUANTIZED if names else index
            variable = names[int(index)] if has_name else other
            tensors[f"{layer}/{variable}"] = _array(dataset, file)

    file["layers"].visititems(visit)
    return tensors


def _read_legacy_h5(file):
    tensors = {}
    for layer in _strings(file.attrs["layer_names"]):
        for name in _strings(file[layer].attrs["weight_names"]):
            parts = name.removesuffix(":0").split("/")
            dataset = file[layer][name]
            tensors["/".join(parts[-2:])] = _array(dataset, file)
    return tensors


def _strings(values):
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values]


def _array(dataset, file):
    is_elsewhere = dataset.file.filename != file.file.filename
    if is_elsewhere or dataset.external or dataset.is_virtual:
        raise ValueError(f"{dataset.name} refers to another file")
    # Keras marks bfloat16, which HDF5 does not know, with an attribute.
    if dataset.attrs.get("dtype") == "bfloat16":
        return np.array(dataset, dtype=ml_dtypes.bfloat16)
    return np.array(dataset)


# Others


# The library reads copies. Measured with ConvNeXtLarge (791 MB) on torch: views
# of the mapped file, whose pages are given back, take 2.2 s of CPU and peak at
# 1.12 times the file; all of the library's arrays at once 2.8 s and 2.07; one
# by one 3.0 s and 1.12, or 2.5 s and 2.10 where the library's file stays open.
SAFETENSORS_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": ml_dtypes.bfloat16,
    "I64": "<i8",
    "I32": "<i4",
    "U8": "u1",
    "BOOL": "?",
}


def _read_safetensors(path):
    with safetensors.safe_open(path, "np"):  # checks that the file is whole
        pass
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    data = np.frombuffer(mapped, "u1")
    length = int.from_bytes(data[:8].tobytes(), "little")
    text = data[8 : 8 + length].tobytes()
    header = json.loads(text, object_pairs_hook=_without_duplicates)
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + at for at in entry["data_offsets"])
        dtype = SAFETENSORS_DTYPES[entry["dtype"]]
        tensors[name] = data[start:end].view(dtype).reshape(entry["shape"])
    return WeightFile(tensors, release=functools.partial(_release, mapped))


def _without_duplicates(pairs):
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"{max(names, key=names.count)!r} is there twice")
    return dict(pairs)


def _release(mapped):
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        mapped.madvise(mmap.MADV_DONTNEED)


def _read_torch(path):
    torch = require("torch", f"the PyTorch file {path!r}", _without_torch(path))
    # Pickles can run code: only tensors, and the command-line options that
    # training scripts save beside them, are let through.
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(
            path,
            map_location="cpu",
            weights_only=True,
            # The format before torch 1.6 is no archive.
            mmap=zipfile.is_zipfile(path),
        )
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not names")
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    return WeightFile(
        {
            name: _torch_array(torch, tensor)
            for name, tensor in content.items()
            if isinstance(tensor, torch.Tensor) and isinstance(name, str)
        }
    )


def _without_torch(path):
    """The tag that downloads the same weights as safetensors, or the way to
    get some."""
    name = os.path.basename(path)
    for row in registry.checkpoints():
        if row.hub_repository and row.url.endswith(f"/{name}"):
            return (
                f"use `weights={row.tag!r}` of {row.model}, which are the "
                "same and download as safetensors"
            )
    return (
        "convert it on a machine with torch: `keras-convnext convert "
        f"{path} weights.safetensors`"
    )


def _torch_array(torch, tensor):
    if tensor.dtype == torch.bfloat16:  # unknown to NumPy
        return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.detach().numpy()


def write_safetensors(path, tensors, **notes):
    """Writes arrays; notes are strings that the file keeps beside them."""
    save_file(
        {name: np.ascontiguousarray(x) for name, x in tensors.items()},
        path,
        # PyTorch libraries ask for this one.
        metadata={"format": "pt", **notes},
    )
