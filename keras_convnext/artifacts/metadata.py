"""What an artifact knows about itself: one JSON text in every format."""

import json
from dataclasses import asdict
from math import isfinite

import keras
import numpy as np

from keras_convnext._util.checks import is_positive_int
from keras_convnext._util.image_layout import DATA_FORMATS
from keras_convnext._util.json_files import check_fields
from keras_convnext._util.version import __version__
from keras_convnext.artifacts import graph
from keras_convnext.facts.info import ModelInfo
from keras_convnext.facts.info import as_record
from keras_convnext.facts.info import with_new_names
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.models import inspection
from keras_convnext.models.units import units_of

KEY = "keras_convnext"
FILE = f"{KEY}.json"
# The outputs that tell a detector. Those of keras-cv have no scores.
DETECTIONS = ("boxes", "scores", "classes")
# That of a segmenter: logits of every pixel.
DECODE = "decode"
# What a head returns, of which the first there is counts: `values` are numbers
# in the units of their targets.
HEADS = ("logits", "scores", "values")
INPUT_DTYPES = ("float32", "uint8")


def of_model(
    model,
    size=None,
    data_format=None,
    input_dtype="float32",
    quantization=None,
    features=False,
    batch_size=None,
):
    """What there is to know, as a dict.

    Args:
        model: a Functional `keras.Model` of one image input.
        size: `(height, width)` of the artifact's input, each `None` for any;
            `None` for the model's own.
        data_format, input_dtype, quantization, features: as for `export`.
        batch_size: how many images it takes at once, `None` for any number.

    Returns:
        `model`, `weights`, `license`: what it is; `classes`: a list of
        `[id, name]` or `None`; `preprocessing`: the `Preprocessing` or
        `None`; `normalizes`: whether pixels of 0–255 go in; `data_format`,
        `input_dtype`, `size` (height and width, `None` for any) and
        `channels` of the input; `outputs`: their names; `activation` from
        `logits` to `scores`; `thresholds` of a sigmoid: of each class the
        score from which on an image has it, or `None`; `temperature`, what
        a calibration divided the logits by, or `None`; `units` of `values`: a
        dict of `mean` and `std` of each target in training, by which they are
        scaled already, or `None`; `label_set`; `quantization`; `batch_size`;
        `producer`.
    """
    outputs = list(graph.named_outputs(model, features))
    card = inspection.info_of(model)
    if is_detector(outputs) or DECODE in outputs:
        card = inspection.infos_of(model)[-1]
    info = card or ModelInfo()
    activation = None
    if {"scores", "logits"} <= set(outputs):
        last = getattr(model.layers[-1], "activation", None)
        activation = getattr(last, "__name__", None)
    height, width, channels = inspection.image_shape(model)
    size = [height, width] if size is None else list(size)
    return {
        "producer": f"keras_convnext {__version__}, keras {keras.__version__}"
        f" on {keras.backend.backend()}",
        "model": info.variant.name if info.variant else model.name,
        "weights": info.weights,
        "license": info.license,
        "label_set": info.label_set,
        "classes": _classes(model, card, outputs),
        "preprocessing": inspection.preprocessing_of(model, size, card),
        "normalizes": inspection.normalizes(model),
        "data_format": data_format or inspection.data_format(model),
        "input_dtype": input_dtype,
        "size": size,
        "channels": channels,
        "outputs": outputs,
        "activation": activation,
        "thresholds": _thresholds(model, info, activation),
        "temperature": info.temperature,
        "units": _units(model, outputs),
        "quantization": quantization,
        "batch_size": batch_size,
    }


def to_json(values):
    return json.dumps(values, ensure_ascii=False, default=asdict)


def from_json(text):
    """The dict, or `None` where there is none.

    Raises:
        ValueError: for metadata that is damaged.
    """
    if not text:
        return None
    values = json.loads(text)
    check_fields(values, {}, "the metadata")
    values = with_new_names(values)
    check_fields(values, dict.fromkeys(FIELDS, object), "the metadata")
    values = {**dict.fromkeys(LATER), **values}
    for name, is_right in {**FIELDS, **LATER}.items():
        if not is_right(values[name]):
            raise ValueError(f"its metadata has {name}={values[name]!r}")
    if values["preprocessing"]:
        try:
            saved = as_record(Preprocessing, values["preprocessing"])
        except TypeError as error:
            raise ValueError(
                f"its metadata lacks fields of the preprocessing ({error})"
            ) from error
        values["preprocessing"] = saved
    return values


def _is_text(value):
    return isinstance(value, str)


def _is_text_or_none(value):
    return value is None or _is_text(value)


def _are_texts(value):
    return isinstance(value, list) and all(map(_is_text, value))


def _are_classes(value):
    """`None`, or a list of pairs of texts."""
    if value is None:
        return True
    return isinstance(value, list) and all(
        _are_texts(pair) and len(pair) == 2 for pair in value
    )


def _are_numbers(value):
    """`None`, or a list of numbers of 0 to 1."""
    if value is None:
        return True
    return isinstance(value, list) and all(
        type(x) in (int, float) and 0 <= x <= 1 for x in value
    )


def _is_positive(value):
    """`None`, or a number above 0."""
    return value is None or (type(value) in (int, float) and value > 0)


def _are_units(value):
    """`None`, or as many finite means as positive deviations."""
    if value is None:
        return True
    if not isinstance(value, dict) or set(value) != {"mean", "std"}:
        return False
    mean, std = value["mean"], value["std"]
    if not (isinstance(mean, list) and isinstance(std, list)):
        return False
    return (
        len(mean) == len(std)
        and all(type(x) in (int, float) and isfinite(x) for x in mean + std)
        and all(x > 0 for x in std)
    )


def _is_size(value):
    """A list of height and width, each an int or `None`."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(side is None or is_positive_int(side) for side in value)
    )


# What a damaged file may have otherwise, and who reads it relies on.
FIELDS = {
    "model": _is_text,
    "label_set": _is_text_or_none,
    "classes": _are_classes,
    "preprocessing": lambda value: value is None or isinstance(value, dict),
    "normalizes": lambda value: isinstance(value, bool),
    "data_format": lambda value: value in DATA_FORMATS,
    "input_dtype": lambda value: value in INPUT_DTYPES,
    "size": _is_size,
    "channels": is_positive_int,
    "outputs": _are_texts,
    "activation": _is_text_or_none,
}


# The same of what earlier versions did not write.
LATER = {
    "thresholds": _are_numbers,
    "temperature": _is_positive,
    "units": _are_units,
    "batch_size": lambda value: value is None or is_positive_int(value),
}


def is_detector(outputs):
    """Whether these are names of the outputs of a detector."""
    return set(DETECTIONS) <= set(outputs)


def inputs(values, images):
    """Images of 0–255, channels last, as an artifact takes them."""
    if not values["normalizes"]:
        saved = values["preprocessing"]
        mean, std = (saved.mean, saved.std) if saved else (0.0, 1.0)
        # Without statistics of its own it is left with pixels of 0–1.
        mean, std = mean or 0.0, std or 1.0
        images = (np.asarray(images, "float32") / 255 - mean) / std
    if values["data_format"] == "channels_first":
        images = np.transpose(images, (0, 3, 1, 2))
    return np.ascontiguousarray(images, values["input_dtype"])


def _thresholds(model, info, activation):
    """The model's own, if it still ends in the sigmoid they are for."""
    if activation != "sigmoid" or info.thresholds is None:
        return None
    is_same = len(info.thresholds) == model.outputs[0].shape[-1]
    return list(info.thresholds) if is_same else None


def _units(model, outputs):
    """The scales of a model whose numbers are in the units of targets."""
    if "values" not in outputs:
        return None
    units = units_of(model)
    # Of lists that Keras tracks, which cannot be pickled.
    return {"mean": [*units.mean], "std": [*units.std]}


def _classes(model, info, outputs):
    """Pairs of id and name: the model's own names, or its label set's."""
    if not {*HEADS, DECODE} & set(outputs) or info is None:
        return None
    names = info.class_names
    if DECODE in outputs:
        # As many as there are, also without names.
        numbers = map(str, range(model.outputs[0].shape[-1]))
        return [[x, names[int(x)] if names else x] for x in numbers]
    if is_detector(outputs):
        return names and [[str(i), name] for i, name in enumerate(names)]
    count = model.outputs[0].shape[-1]
    if "values" in outputs and len(names or ()) != count:
        return None
    return inspection.classes_of(info, count)
