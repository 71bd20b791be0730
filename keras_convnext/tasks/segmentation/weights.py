"""From `weights=` of an UperNet to arrays in our names."""

import os
import warnings
from pathlib import Path

from keras_convnext.facts.info import ModelInfo
from keras_convnext.tasks.segmentation import checkpoints
from keras_convnext.tasks.segmentation.model import AUXILIARY
from keras_convnext.tasks.segmentation.model import DECODE
from keras_convnext.weights import hub
from keras_convnext.weights import loading

CLASSIFIERS = (f"{DECODE}_classifier", f"{AUXILIARY}_classifier")


def find(variant, weights):
    """Finds and reads what `weights` names.

    Args:
        variant: the `Variant` of the backbone.
        weights: path, URL, `hf://org/repo[@revision]`, tag, or `None`.

    Returns:
        `(source, crop)`: a `loading.Source` and the side in pixels of the
        crops it was trained on, where that is known; both may be `None`.

    Raises:
        ValueError: for anything that cannot be found, read or recognised,
            and for files without the head of an UperNet.
    """
    if weights is None:
        return None, None
    crop = info = None
    name = path = os.fspath(weights)
    if hub.is_remote(name):
        path = hub.fetch(name)
    elif checkpoints.is_name(name) or not _is_path(name):
        checkpoint = checkpoints.find(variant.name, name)
        path, name = hub.fetch_checkpoint(checkpoint), checkpoint.name
        crop = checkpoint.crop
        info = ModelInfo(weights=checkpoint.tag, licence=checkpoint.licence)
    source = loading.from_file(variant, path, name, info)
    if f"{CLASSIFIERS[0]}/bias" not in source.tensors:
        raise ValueError(
            "Expected the weights of a whole UperNet, with `decode_head.…`, "
            "in the official names, transformers' or this package's. "
            f"Received: weights={name!r} without that head. Pass weights of a "
            "backbone to the backbone: `ConvNeXtTiny(weights=…)`"
        )
    return source, crop


def _is_path(name):
    return os.path.exists(name) or os.sep in name or Path(name).suffix != ""


def sizes(source):
    """Classes and channels of the head in the weights."""
    kernel = source.tensors[f"{CLASSIFIERS[0]}/kernel"]
    return kernel.shape[3], kernel.shape[2]


def load(model, source, prefix):
    """Assigns every variable of an UperNet.

    The auxiliary head is left out where the model has none. Classifiers for
    another number of classes are, too, with a warning.

    Raises:
        ValueError: for missing, unexpected and mis-shaped tensors; nothing is
            assigned then.
    """
    tensors, optional = dict(source.tensors), set()
    if not isinstance(model.output, dict):
        tensors = {
            name: tensor
            for name, tensor in tensors.items()
            if not name.startswith(f"{AUXILIARY}_")
        }
    present = sizes(source)[0]
    wanted = model.outputs[0].shape[-1]
    if present != wanted:
        optional = set(CLASSIFIERS)
        for name in CLASSIFIERS:
            for variable in ("kernel", "bias"):
                tensors.pop(f"{name}/{variable}", None)
        warnings.warn(
            f"The classifiers of {source.name} have {present} classes, not "
            f"{wanted}: they were left out, and the model's own start from "
            "random weights.",
            stacklevel=3,
        )
    loading.assign(
        model, tensors, source.name, prefix, optional, source.release
    )
