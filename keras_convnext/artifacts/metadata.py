"""What an artifact knows about itself: one JSON text in every format."""

import json
from dataclasses import asdict

import keras
import numpy as np

from keras_convnext._util.version import __version__
from keras_convnext.artifacts import graph
from keras_convnext.facts import labels
from keras_convnext.facts.info import as_record
from keras_convnext.facts.info import with_new_names
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.models import inspection
from keras_convnext.models.inspection import info_of

KEY = "keras_convnext"
FILE = f"{KEY}.json"


def of_model(
    model,
    size,
    data_format,
    input_dtype="float32",
    quantization=None,
    features=False,
):
    """What there is to know, as a dict that JSON can hold.

    Args:
        model: a Functional `keras.Model` of one image input.
        size: `(height, width)` of the artifact's input, `None` for any.
        data_format, input_dtype: of the artifact's input.
        quantization, features: as for `export`.

    Returns:
        `model`, `weights`, `license`: what it is; `classes`: a list of
        `[id, name]` or `None`; `preprocessing`: the `Preprocessing` or
        `None`; `normalizes`: whether pixels of 0–255 go in; `data_format`,
        `input_dtype`, `size` (height and width, `None` for any) and
        `channels` of the input; `outputs`: their names; `activation` from
        `logits` to `scores`; `label_set`; `quantization`; `producer`.
    """
    info = info_of(model)
    outputs = list(graph.named_outputs(model, features))
    return {
        "producer": f"keras_convnext {__version__}, keras {keras.__version__}"
        f" on {keras.backend.backend()}",
        "model": info.variant.name if info and info.variant else model.name,
        "weights": info.weights if info else None,
        "license": info.license if info else None,
        "label_set": info.label_set if info else None,
        "classes": _classes(model, info, outputs),
        "preprocessing": _preprocessing(info, size),
        "normalizes": inspection.normalizes(model),
        "data_format": data_format,
        "input_dtype": input_dtype,
        "size": list(size),
        "channels": inspection.image_shape(model)[2],
        "outputs": outputs,
        "activation": _activation(model, outputs),
        "quantization": quantization,
    }


def to_json(values):
    return json.dumps(values, ensure_ascii=False)


def from_json(text):
    """The dict, or `None` where there is none."""
    return with_new_names(json.loads(text)) if text else None


def preprocessing(values):
    """The `Preprocessing` of what `of_model` returned, or `None`."""
    if values["preprocessing"] is None:
        return None
    return as_record(Preprocessing, values["preprocessing"])


def inputs(values, images):
    """Images of 0–255, channels last, as an artifact takes them."""
    if not values["normalizes"]:
        known = preprocessing(values)
        mean, std = (known.mean, known.std) if known else (0.0, 1.0)
        # Without statistics of its own it is left with pixels of 0–1.
        mean, std = mean or 0.0, std or 1.0
        images = (np.asarray(images, "float32") / 255 - mean) / std
    if values["data_format"] == "channels_first":
        images = np.transpose(images, (0, 3, 1, 2))
    return np.ascontiguousarray(images, values["input_dtype"])


def _classes(model, info, outputs):
    """Pairs of id and name: the model's own names, or its label set's."""
    if not {"logits", "scores"} & set(outputs) or info is None:
        return None
    count = model.outputs[0].shape[-1]
    if info.class_names is not None and len(info.class_names) == count:
        return [[str(i), name] for i, name in enumerate(info.class_names)]
    if info.label_set == "clip" or count not in labels.LABEL_SETS:
        return None
    return [list(pair) for pair in labels.label_set(count)]


def _preprocessing(info, size):
    if info is None or info.preprocessing is None:
        return None
    values = asdict(info.preprocessing)
    if None not in size:
        values["image_size"] = size
    return values


def _activation(model, outputs):
    if "scores" not in outputs or "logits" not in outputs:
        return None
    return getattr(model.layers[-1].activation, "__name__", None)
