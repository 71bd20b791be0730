"""Reads PyTorch files, and runs nothing of what is in them.

Pickles can run code. Tensors are let through, and known names of what training
scripts save beside them: of those nothing is made, an empty thing takes their
place.
"""

import os
import pickle
import re
import zipfile
from collections import OrderedDict

import ml_dtypes
import numpy as np

from keras_convnext._util.requirements import require
from keras_convnext.weights import registry

DEEPEST = 8  # dicts in dicts
# Options and notes of training scripts.
NOTES = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    *(
        f"datetime.{name}"
        for name in ("date", "datetime", "time", "timedelta", "timezone")
    ),
    *(
        f"pathlib.{module}{name}"
        for module in ("", "_local.")
        for name in ("PosixPath", "WindowsPath", "PurePosixPath")
    ),
    "decimal.Decimal",
    "fractions.Fraction",
    "uuid.UUID",
    *(
        f"builtins.{name}"
        for name in (
            *("bool", "dict", "float", "frozenset", "int", "list", "object"),
            *("range", "slice", "str", "tuple"),
        )
    ),
    "torch.torch_version.TorchVersion",
    "mmengine.config.config.Config",
    # Of curves, with its own methods by name.
    "mmengine.logging.history_buffer.HistoryBuffer",
    "builtins.getattr",
    *(
        f"omegaconf.{name}"
        for name in (
            "dictconfig.DictConfig",
            "listconfig.ListConfig",
            "base.ContainerMetadata",
            "base.Metadata",
            "nodes.AnyNode",
        )
    ),
    "typing.Any",
)
# The same, of kinds that are dicts.
DICTS = (
    "collections.defaultdict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "yacs.config.CfgNode",
    "fvcore.common.config.CfgNode",
    "easydict.EasyDict",
    "addict.addict.Dict",
    "mmengine.config.config.ConfigDict",
    "mmcv.utils.config.ConfigDict",
)
NUMPY = (
    "numpy.ndarray",
    "numpy.dtype",
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ),
)


class Inert:
    """In the place of something from a file: keeps what it is given."""

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state):
        self.state = state


class InertDict:
    """The same for a kind of dict: a plain one with the same items."""

    def __new__(cls, *args, **kwargs):
        return OrderedDict()


def read(path):
    """All tensors of a file: dicts by where they lie, as `"model_ema"`.

    Raises:
        ValueError: if there is something else in it than tensors and notes.
        ImportError: where torch is not installed.
    """
    torch = require("torch", f"the PyTorch file {path!r}", _without_torch(path))
    allowed = [(Inert, name) for name in (*NOTES, *NUMPY)]
    allowed += [(InertDict, name) for name in DICTS]
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(
                path,
                map_location="cpu",
                weights_only=True,
                # The format before torch 1.6 is no archive.
                mmap=zipfile.is_zipfile(path),
            )
    except pickle.UnpicklingError as error:
        raise ValueError(_explained(error)) from None
    groups = {}
    _collect(torch, content, (), groups, set())
    if not groups:
        raise ValueError(
            f"it holds a {type(content).__name__} without tensors by name"
        )
    return groups


def _explained(error):
    """What to do about an object that is neither tensor nor note."""
    told = " ".join(str(error).split())
    found = re.search(r"GLOBAL (\S+)", told)
    if not found:
        return told
    return (
        f"beside tensors it holds `{found[1]}`, which only the program that "
        "saved it can read; nothing of it was run. Save the tensors alone "
        "there: `torch.save(model.state_dict(), path)`"
    )


def _collect(torch, content, where, groups, seen):
    """Finds the dicts that hold tensors, at any depth."""
    if id(content) in seen or len(where) > DEEPEST:
        return
    seen.add(id(content))
    if isinstance(content, (list, tuple)):
        content = dict(enumerate(content))
    elif not isinstance(content, dict):
        return
    tensors = {}
    for name, value in content.items():
        array = _as_array(torch, value)
        if array is not None and isinstance(name, str):
            tensors[name] = array
        elif isinstance(value, (dict, list, tuple)):
            _collect(torch, value, (*where, str(name)), groups, seen)
    if tensors:
        groups[".".join(where)] = tensors


def _as_array(torch, value):
    if isinstance(value, torch.Tensor):
        return _torch_array(torch, value)
    if isinstance(value, Inert) and isinstance(value.state, tuple):
        return _numpy_array(value.state)
    return None


def _torch_array(torch, tensor):
    if tensor.is_quantized:
        raise ValueError(
            "its tensors are quantized. Save the model from before that"
        )
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:  # unknown to NumPy
        return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _numpy_array(state):
    """The array of numbers that NumPy would make of its own notes, or None."""
    if len(state) != 5 or not isinstance(state[2], Inert):
        return None
    _, shape, dtype, is_fortran, data = state
    name, order = dtype.args[:1], dtype.state
    if not name or not re.fullmatch(r"f[248]|[iu][1248]|b1", str(name[0])):
        return None
    byte_order = order[1] if isinstance(order, tuple) else "="
    if byte_order not in ("<", ">", "=", "|") or not isinstance(data, bytes):
        return None
    array = np.frombuffer(data, f"{byte_order}{name[0]}")
    return array.reshape(shape, order="F" if is_fortran else "C")


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
