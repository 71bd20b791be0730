"""Reads the files of Keras, 3 and 2, without building a model.

A model inside another keeps its name before those of its layers:
`backbone/stem_conv/kernel`.
"""

import io
import json
import re
import warnings

import h5py
import ml_dtypes
import numpy as np

from keras_convnext._util.limits import check_archive
from keras_convnext._util.limits import check_hdf5
from keras_convnext.facts.info import ModelInfo
from keras_convnext.facts.layer_names import block_pattern
from keras_convnext.layers import forms

# Whatever a dense layer of Keras' files has besides its kernel and bias.
QUANTIZED = "(quantized)"
# Parts of a file that hold no weights of the model.
STATES = re.compile(r"(optimizer|metrics|loss_tracker|_\w+)/.*")
IN_A_BLOCK = re.compile(block_pattern(".*"))


def read_archive(archive, path):
    """The arrays of a `.keras` file, its `ModelInfo`s, and if it normalizes.

    That of the first ConvNeXt comes first, that of what stands on it last.
    """
    check_archive(archive, path)
    config = json.loads(archive.read("config.json"))
    weights = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(weights, "r") as file:
        check_hdf5(file, path)
        tensors = _read_h5(file)
    layers = list(_layers(config["config"]))
    infos = tuple(
        ModelInfo.from_config(layer["config"]["info"])
        for layer in layers
        if layer.get("registered_name") == "keras_convnext>ModelCard"
    )
    _tell_units(layers, path)
    names = {layer.get("class_name") for layer in layers}
    normalizes = "ImageNormalization" in names
    return tensors, infos, normalizes


def _tell_units(layers, path):
    """Warns of numbers that are no weights, and that weights alone lack."""
    for layer in layers:
        if layer.get("registered_name") == "keras_convnext>TargetUnits":
            mean, std = (layer["config"][name] for name in ("mean", "std"))
            warnings.warn(
                f"{str(path)!r} predicts numbers, which its last layer brings "
                "into their units. Its weights alone give standardized ones: "
                f"multiply them by {std}, and add {mean}. "
                "`keras.saving.load_model` has the whole",
                stacklevel=2,
            )


def _layers(config):
    """The configs of all layers, those of models inside included."""
    for layer in config.get("layers", ()):
        yield layer
        if isinstance(layer.get("config"), dict):
            yield from _layers(layer["config"])


def read_h5_file(path):
    with h5py.File(path, "r") as file:
        check_hdf5(file, path)
        # Keras 2 writes whole models, or weights alone.
        weights = file.get("model_weights", file)
        if "layer_names" in weights.attrs:
            return _read_legacy_h5(weights)
        return _read_h5(file)


def _read_h5(file):
    found, variables = {}, forms.variables_by_folder()

    def visit(path, group):
        if path.split("/")[-1] != "vars" or not len(group):
            return
        if STATES.fullmatch(path):
            return
        *folders, folder = path.split("/")[:-1] or [""]
        kind, layer = re.sub(r"_\d+$", "", folder), group.attrs.get("name")
        names = variables.get(kind, ())
        for index, dataset in group.items():
            has_name = int(index) < len(names)
            other = QUANTIZED if names else index
            variable = names[int(index)] if has_name else other
            name = (*_names(file, folders), str(layer), variable)
            found[name] = _array(dataset, file)

    file.visititems(visit)
    return _joined(found)


def _names(file, folders):
    """Names of what lies in nested folders, from the outermost inwards."""
    for end in range(1, len(folders) + 1):
        group = file.get("/".join([*folders[:end], "vars"]))
        if group is not None:
            yield str(group.attrs.get("name"))


def _read_legacy_h5(file):
    found = {}
    for layer in _strings(file.attrs["layer_names"]):
        for name in _strings(file[layer].attrs["weight_names"]):
            parts = name.removesuffix(":0").split("/")
            found[(layer, *parts[-2:])] = _array(file[layer][name], file)
    return _joined(found)


def _joined(found):
    """The arrays by name: of what a layer lies in, models alone are named.

    Models are told by the blocks in them; layers that hold others, such as the
    stem of keras.applications, have none.
    """
    models = {
        outer
        for *above, layer, _ in found
        if IN_A_BLOCK.fullmatch(layer)
        for outer in above
        if not IN_A_BLOCK.fullmatch(outer)
    }
    return {
        "/".join([*(x for x in above if x in models), layer, variable]): array
        for (*above, layer, variable), array in found.items()
    }


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
