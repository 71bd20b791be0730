"""Reads weight files into `{name: array}`, whatever wrote them.

The format is recognized from the content, never from the file's name. Arrays
stay on disk where the format allows it, until they are used.
"""

import functools
import json
import mmap
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save_file

from keras_convnext._util.checks import some
from keras_convnext._util.limits import check_file
from keras_convnext.facts.info import ModelInfo
from keras_convnext.layers import states
from keras_convnext.weights import keras_files
from keras_convnext.weights import torch_files

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
EXTENSIONS = (".keras", ".h5", ".safetensors", ".pth", ".pt", ".bin", ".ckpt")
INDEX = ".index.json"
# What `save_pretrained` writes, in the order in which it is looked for. An
# index lists the files among which the tensors of one model are shared out.
PRETRAINED = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
)
SHARD = re.compile(r"(.+)-\d{5}-of-(?!00001)\d{5}(\.\w+)")


@dataclass(frozen=True)
class WeightFile:
    """The content of a file: named arrays, and what a `.keras` file knows.

    `groups` has the arrays by where in the file they lie: PyTorch files may
    hold several models, `"model"` and `"model_ema"`; all others hold one, `""`.
    `infos` are those of a ConvNeXt and of what stands on it. `normalizes` tells
    whether the model does, by itself. `release` gives back the memory of what
    was read; the arrays stay valid.
    """

    groups: dict
    infos: tuple = ()
    normalizes: bool = True
    release: Callable = lambda: None

    @property
    def info(self):
        """The `ModelInfo` of the ConvNeXt, as far as it is known."""
        return self.infos[0] if self.infos else ModelInfo()

    @property
    def task_info(self):
        """That of the segmenter or detector which stands on it."""
        return self.infos[-1] if self.infos else ModelInfo()

    @property
    def tensors(self):
        """The arrays of all groups."""
        return {
            f"{group}.{name}" if group else name: tensor
            for group, tensors in self.groups.items()
            for name, tensor in tensors.items()
        }


def split_choice(weights):
    """`"file.pth#teacher"` as path and choice, which may be `""`."""
    weights = os.fspath(weights)
    if "#" not in weights or os.path.exists(weights):
        return weights, ""
    path, _, choice = weights.rpartition("#")
    return path, choice


def is_path(weights):
    """Whether this is meant to be a path rather than a tag."""
    path, _ = split_choice(weights)
    return (
        os.path.exists(path)
        or os.sep in path
        or path.endswith((*EXTENSIONS, INDEX))
    )


def read(path):
    """Reads `.keras`, `.h5`, `.safetensors` and PyTorch files, the index of
    several, or the one in a folder.

    Raises:
        ValueError: if the file is missing, damaged or something else.
        ImportError: for PyTorch files where torch is not installed.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        path = _file_in(path)
    if not os.path.isfile(path):
        raise ValueError(
            "`weights` must be None, a tag, or the path of an existing file. "
            f"Received: weights={path!r}"
        )
    if shard := SHARD.fullmatch(path):
        raise ValueError(
            "`weights` must be a whole model, and this is a part of a model: "
            f"pass {shard[1] + shard[2] + INDEX!r}, or the folder. Received: "
            f"weights={path!r}"
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


def _file_in(folder):
    """What `save_pretrained` wrote, or the only weight file of a folder."""
    names = sorted(x.name for x in Path(folder).iterdir() if x.is_file())
    found = [name for name in PRETRAINED if name in names][:1]
    found = found or [x for x in names if x.endswith((*EXTENSIONS, INDEX))]
    if len(found) == 1:
        return os.path.join(folder, found[0])
    raise ValueError(
        "`weights` must be a file, or a folder that holds one of "
        f"{list(PRETRAINED)} or a single weight file: pass the path of one. "
        f"Received: weights={folder!r} with {some(found) or 'none'}"
    )


def _check_not_quantized(tensors, path):
    """Raises `ValueError` for what `model.quantize` leaves in a file."""
    for name, tensor in tensors.items():
        is_int8 = name.endswith("/kernel") and tensor.dtype == "int8"
        if is_int8 or name.endswith(keras_files.QUANTIZED):
            raise ValueError(
                "`weights` must be floats, and `model.quantize` has changed "
                f"these. Received: weights={path!r} with the quantized layer "
                f"{name.split('/')[-2]!r}. {states.REMEDY}"
            )


def is_whole(path):
    """Whether this is a weight file with its end, by a look at its frame."""
    reader = _reader(path)
    try:
        if reader is _read_zip:
            zipfile.ZipFile(path).close()
        elif reader is _read_h5:
            h5py.File(path, "r").close()
        elif reader is _read_safetensors:
            with safetensors.safe_open(path, "np"):
                pass
    except (OSError, zipfile.BadZipFile, safetensors.SafetensorError):
        return False
    return reader is not None


def _reader(path):
    with open(path, "rb") as file:
        start = file.read(16)
    if start.startswith(b"PK"):
        return _read_zip
    if start.startswith(HDF5_SIGNATURE):
        return _read_h5
    # Before safetensors, whose first bytes are a length.
    if start.lstrip()[:1] == b"{" and os.fspath(path).endswith(".json"):
        return _read_index
    if start[8:9] == b"{":
        return _read_safetensors
    if start[:1] == b"\x80":
        return _read_torch
    return None


def _read_zip(path):
    with zipfile.ZipFile(path) as archive:
        if any(name.endswith("data.pkl") for name in archive.namelist()):
            return _read_torch(path)
        tensors, infos, normalizes = keras_files.read_archive(archive, path)
    return WeightFile({"": tensors}, infos, normalizes)


def _read_h5(path):
    return WeightFile({"": keras_files.read_h5_file(path)})


def _read_torch(path):
    return WeightFile(torch_files.read(path))


def read_index(path):
    """The names of the files that an index lists, which lie beside it."""
    check_file(path)
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    places = content.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ValueError("it is no index of weights: it has no `weight_map`")
    for name in places.values():
        if isinstance(name, list):
            raise ValueError(
                "it is an index of Keras. Save the weights as one file: "
                "`model.save_weights('model.weights.h5')`"
            )
        if not isinstance(name, str) or re.split(r"[/\\:]", name) != [name]:
            raise ValueError(f"it names {name!r}, which is not beside it")
    return places


def _read_index(path):
    places, folder = read_index(path), os.path.dirname(path)
    tensors, releases = {}, []
    for name in sorted(set(places.values())):
        shard = os.path.join(folder, name)
        if not os.path.isfile(shard):
            raise ValueError(f"it names {name!r}, which is not there")
        reader = _reader(shard)
        if reader not in (_read_safetensors, _read_torch, _read_zip):
            raise ValueError(f"{name!r} is no safetensors or PyTorch file")
        file = reader(shard)
        twice = sorted(tensors.keys() & file.tensors.keys())
        if twice:
            raise ValueError(f"{twice[0]!r} is in two of its files")
        tensors.update(file.tensors)
        releases.append(file.release)
    missing = sorted(places.keys() - tensors.keys())
    if missing:
        raise ValueError(f"{some(missing)} is in none of its files")
    return WeightFile(
        {"": tensors}, release=lambda: [release() for release in releases]
    )


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
    "I16": "<i2",
    "I8": "i1",
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
    return WeightFile(
        {"": tensors}, release=functools.partial(_release, mapped)
    )


def _without_duplicates(pairs):
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"{max(names, key=names.count)!r} is there twice")
    return dict(pairs)


def _release(mapped):
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        mapped.madvise(mmap.MADV_DONTNEED)


def write_safetensors(path, tensors, **notes):
    """Writes arrays; notes are strings that the file keeps beside them."""
    save_file(
        {name: np.ascontiguousarray(x) for name, x in tensors.items()},
        path,
        # PyTorch libraries ask for this one.
        metadata={"format": "pt", **notes},
    )
