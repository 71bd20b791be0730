"""Reads weight files into `{"layer/variable": array}`, whatever wrote them."""

import io
import json
import os
import re
import zipfile
from dataclasses import dataclass

import h5py
import ml_dtypes
import numpy as np

from keras_convnext.model import ModelInfo

# The first layer of every ConvNeXt: what stands before it is the prefix that
# the model was built with.
STEM_LAYERS = ("stem_conv", "stem_conv_0")

# Variables of each layer class in the order in which Keras saves them.
VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "depthwise_conv2d": ("kernel", "bias"),
    "global_response_normalization": ("gamma", "beta"),
    "layer_normalization": ("gamma", "beta"),
    "layer_scale": ("gamma",),
    "rms_normalization": ("scale",),
    "simple_normalization": ("gamma",),
}


@dataclass(frozen=True)
class WeightFile:
    """The content of a file: tensors by canonical name, and what they are."""

    tensors: dict
    info: ModelInfo

    @property
    def classes(self):
        """Outputs of the classifier, or `None` where there is none."""
        bias = self.tensors.get("head_classifier/bias")
        return None if bias is None else len(bias)


def read(path):
    """Reads a `.keras` or `.weights.h5` file that this package wrote.

    Raises:
        ValueError: if the file is missing, damaged or something else.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise ValueError(
            "`weights` must be None or the path of an existing `.keras` or "
            f"`.weights.h5` file. Received: weights={path!r}"
        )
    try:
        if zipfile.is_zipfile(path):
            tensors, info = _read_keras_archive(path)
        else:
            with h5py.File(path, "r") as file:
                tensors, info = _read_h5(file), ModelInfo()
    except (OSError, KeyError, json.JSONDecodeError, zipfile.BadZipFile) as e:
        raise ValueError(
            "`weights` must be an intact `.keras` or `.weights.h5` file "
            "written by Keras; this one cannot be read "
            f"({type(e).__name__}: {e}). Received: weights={path!r}"
        ) from e
    return WeightFile(_without_prefix(tensors, path), info)


def _read_keras_archive(path):
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        weights = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(weights, "r") as file:
        return _read_h5(file), _model_info(config)


def _model_info(config):
    for layer in config["config"].get("layers", ()):
        if layer.get("registered_name") == "keras_convnext>ModelCard":
            return ModelInfo.from_config(layer["config"]["info"])
    return ModelInfo()


def _read_h5(file):
    tensors = {}
    for name, group in file["layers"].items():
        if "vars" not in group:
            continue
        layer = group["vars"].attrs.get("name")
        for index, dataset in group["vars"].items():
            variable = _variable_name(name, int(index))
            tensors[f"{layer}/{variable}"] = _array(dataset)
    return tensors


def _variable_name(group, index):
    """Keras numbers a layer's variables, and its layers by class."""
    names = VARIABLES.get(re.sub(r"_\d+$", "", group), ())
    return names[index] if index < len(names) else str(index)


def _array(dataset):
    # Keras marks bfloat16, which HDF5 does not know, with an attribute.
    if dataset.attrs.get("dtype") == "bfloat16":
        return np.array(dataset, dtype=ml_dtypes.bfloat16)
    return np.array(dataset)


def _without_prefix(tensors, path):
    for name in tensors:
        layer = name.split("/")[0]
        for stem in STEM_LAYERS:
            if layer.endswith(stem):
                prefix = layer.removesuffix(stem)
                return {
                    key.removeprefix(prefix): value
                    for key, value in tensors.items()
                }
    raise ValueError(
        "`weights` must be a file saved from a model of this package; it has "
        f"no layer named {' or '.join(STEM_LAYERS)}. Received: "
        f"weights={path!r} with layers "
        f"{sorted({name.split('/')[0] for name in tensors})[:5]}…"
    )
