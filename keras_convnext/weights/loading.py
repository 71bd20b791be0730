"""From `weights=` to a model whose every variable was set exactly once."""

import functools
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

import numpy as np

from keras_convnext._util.checks import all_numbers
from keras_convnext._util.telling import tell
from keras_convnext.facts.info import ModelInfo
from keras_convnext.facts.layer_names import HEAD_WITH_WEIGHTS
from keras_convnext.facts.layer_names import Part
from keras_convnext.weights import choosing
from keras_convnext.weights import files
from keras_convnext.weights import hub
from keras_convnext.weights import registry
from keras_convnext.weights.downloading import without_secrets

SHOWN = 6  # parts of a file in a message
STRIP = 128  # outputs, of which a kernel is copied at a time
STEM_KERNELS = (f"{Part.STEM_CONV}/kernel", f"{Part.STEM_CONV_0}/kernel")


@dataclass(frozen=True)
class Source:
    """Weights that were found and read, in our names, and what they are.

    `beside` has what else is in the file, by the names there, and `prefix` is
    that of the model among them; `normalization` is as in `layouts.Converted`.
    """

    name: str
    tensors: dict
    info: ModelInfo
    release: Callable
    beside: dict = field(default_factory=dict)
    prefix: str = ""
    normalization: dict = field(default_factory=dict)

    @property
    def classes(self):
        """Outputs of the classifier, or `None` where there is none."""
        kernel = self.tensors.get(f"{Part.HEAD_CLASSIFIER}/kernel")
        is_there = kernel is not None and kernel.ndim == 2
        return kernel.shape[1] if is_there else None

    @property
    def is_projection(self):
        """Whether the classifier is a CLIP tower's projection."""
        return self.info.label_set == "clip"


def find(variant, weights, task="classify"):
    """Finds and reads what `weights` names, or `None` for `None`.

    Args:
        variant: the `Variant` that the weights are for.
        weights: `None`, a path, a URL, `hf://org/repo[@revision]`, an alias or
            tag of the registry, or a `Source`. `#name` behind a path or an
            address chooses one of several models in it.
        task: what the weights are for, a key of `registry.TASKS`.

    Raises:
        ValueError: for anything that cannot be found, read or recognized.
    """
    if weights is None or isinstance(weights, Source):
        return weights
    if isinstance(weights, str):
        if hub.is_remote(weights):
            address, choice = files.split_choice(weights)
            path, name = hub.fetch(address), without_secrets(address)
            return from_file(variant, path, name, choice, task)
        # Before paths: a folder named "imagenet" may well lie around.
        if registry.is_name(weights, task) or not files.is_path(weights):
            return _published(variant, weights, task)
    path, choice = files.split_choice(weights)
    return from_file(variant, path, path, choice, task)


def from_file(variant, path, name, choice="", task="classify", info=None):
    """Reads a local file of any layout."""
    file = files.read(path)
    found = choosing.choose(file.groups, variant, name, choice, task)
    converted = found.of(variant)
    if info is None:
        own = file.info if task == "classify" else file.task_info
        info = replace(own, weights=os.path.basename(name))
    return Source(
        name,
        converted.tensors,
        info,
        file.release,
        converted.beside,
        converted.prefix,
        converted.normalization,
    )


def _published(variant, weights, task):
    checkpoint = registry.find(variant.name, weights, task)
    _show_license(checkpoint)
    info = ModelInfo(
        weights=checkpoint.tag,
        preprocessing=checkpoint.preprocessing,
        label_set=checkpoint.label_set or None,
        license=checkpoint.license,
    )
    path = hub.fetch_checkpoint(checkpoint)
    return from_file(variant, path, checkpoint.name, "", task, info)


@functools.cache  # once for each
def _show_license(checkpoint):
    if checkpoint.license not in registry.FREE_LICENSES:
        warnings.warn(
            f"The weights {checkpoint.name} come under the license "
            f"{checkpoint.license}, which restricts their use: read it "
            "before you do.",
            stacklevel=2,
        )


def load(model, source, prefix, takes_backbone=False):
    """Assigns the variables of a model from a source; see `assign`.

    The stem takes any number of channels, as in timm: one is the sum over
    red, green and blue; more are copies of them in turn, scaled so that the
    sum stays. A head that does not fit is left out where a backbone is enough,
    with a warning, and stays as initialized; so is whatever else is in a file.

    Args:
        model: a `ConvNeXtModel`.
        source: a `Source`.
        prefix: the model's `layer_prefix`.
        takes_backbone: whether the model may do without the file's head.

    Raises:
        ValueError: as `assign`, and for tensors that belong to no ConvNeXt
            where the head is needed.
    """
    tensors, variables = dict(source.tensors), _variables(model, prefix)
    for name in tensors.keys() & variables.keys() & set(STEM_KERNELS):
        channels = variables[name].shape[2]
        tensors[name] = adapt_channels(tensors[name], channels)
    if source.beside and not takes_backbone and source.classes is not None:
        raise ValueError(
            "The file holds more than a ConvNeXt, which may change what it "
            "computes. With `include_top=False`, or `classes=` for a new "
            "classifier, the rest is left out. Received: "
            f"weights={source.name!r} with {parts(source)}"
        )
    optional, notes = (), []
    if source.beside:
        notes.append(left_out(source.name, source))
    if source.classes is None:
        # Pre-trained without labels: perhaps not even a last norm.
        optional = HEAD_WITH_WEIGHTS
    removed = _without_misfits(tensors, variables) if takes_backbone else []
    bias = variables.get(f"{Part.HEAD_CLASSIFIER}/bias")
    if bias is not None:
        notes += _about_head(source, bias.shape[0], removed)
    if notes:
        warnings.warn(". ".join(notes) + ".", stacklevel=3)
    optional = (*optional, *removed)
    assign(model, tensors, source.name, prefix, optional, source.release)


def _without_misfits(tensors, variables):
    """Removes parts of the head that do not fit; returns their names."""
    removed = []
    for part in (Part.HEAD_HIDDEN, Part.HEAD_CLASSIFIER):
        shapes, wanted = (
            {
                name: tuple(arrays[name].shape)
                for name in arrays
                if name.split("/")[0] == part
            }
            for arrays in (tensors, variables)
        )
        if removed or (shapes and shapes != wanted):
            removed += without_classifiers(tensors, [part])
    return removed


def _about_head(source, classes, removed):
    """What to tell of a classifier that starts from random weights."""
    if removed and source.classes not in (None, classes):
        return [other_classes(source, source.classes, classes)]
    if removed:
        return [
            f"The head of {source.name} has another shape: it was left out, "
            "and the model's own starts from random weights"
        ]
    if source.beside and source.classes is None:
        return ["The model's classifier starts from random weights"]
    return []


def left_out(name, source):
    return (
        f"{name} holds more than a ConvNeXt. Left out, with their numbers of "
        f"tensors: {parts(source)}"
    )


def parts(source):
    """What a file holds beside the model, by the first words of the names."""
    counts = {}
    for name in source.beside:
        start = source.prefix if name.startswith(source.prefix) else ""
        first = re.split("[./]", name.removeprefix(start))[0]
        word = start + re.sub(r"\d+", "*", first)
        counts[word] = counts.get(word, 0) + 1
    more = len(counts) - SHOWN
    shown = [f"{word} ({n})" for word, n in list(counts.items())[:SHOWN]]
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def without_classifiers(tensors, names):
    """Removes classifiers, so that the model's own stay; returns the names."""
    for name in names:
        for variable in ("kernel", "bias"):
            tensors.pop(f"{name}/{variable}", None)
    return names


def warn_of_classes(source, present, wanted):
    warnings.warn(f"{other_classes(source, present, wanted)}.", stacklevel=4)


def other_classes(source, present, wanted):
    return (
        f"The classifier of {source.name} has {present} classes, not "
        f"{wanted}: it was left out, and the model's own starts from random "
        "weights"
    )


def warn_of_normalization(source, preprocessing):
    """Says so where the file was trained on pixels normalized otherwise."""
    unlike = []
    for name, x in source.normalization.items():
        ours = getattr(preprocessing, name)
        if np.max(np.abs(x), initial=0) > 2:  # for pixels of 0–255
            x = x / 255
        if x.shape == (len(ours),) and np.abs(x - ours).max() > 2e-3:
            theirs = tuple(map(float, np.round(x, 4)))
            unlike.append(f"{name}={theirs} (the model has {ours})")
    if unlike:
        warnings.warn(
            f"{source.name} was trained on images normalized with "
            f"{' and '.join(unlike)}. Pass `mean=` and `std=` as in the file.",
            stacklevel=4,
        )


def tell_of_size(source, preprocessing):
    """Says so where an encoder gets a classifier for images of another size."""
    known = source.info.preprocessing
    if source.classes is not None or known is None:
        return
    own, wanted = (
        "×".join(map(str, dict.fromkeys(x.image_size)))
        for x in (known, preprocessing)
    )
    if own != wanted:
        tell(
            f"{source.name} is an encoder for images of {own} pixels; the "
            f"model takes {wanted}. To train at the encoder's size, pass "
            f"`image_size={own}` (`--image-size {own}`)"
        )


def adapt_channels(kernel, channels):
    """A stem kernel (height, width, 3, filters) for other channels."""
    present = kernel.shape[2]
    if present == channels or present != 3:
        return kernel
    kernel = np.asarray(kernel, "float32")
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    repeated = kernel[:, :, np.arange(channels) % 3]
    return repeated * (3 / channels)


def assign(
    model, tensors, source, prefix="", optional=(), release=lambda: None
):
    """Assigns every variable of `model` from `tensors`.

    Args:
        model: a `ConvNeXtModel`.
        tensors: arrays by `layer/variable`, without the model's `prefix`.
        source: what to call the tensors in errors, such as a path.
        prefix: the model's `layer_prefix`.
        optional: layers of the model that the tensors may lack.
        release: called after each variable, see `WeightFile`.

    Raises:
        ValueError: listing the missing, unexpected and mis-shaped names, and
            for values that are no numbers; nothing is assigned then.
    """
    variables = _variables(model, prefix)
    absent = variables.keys() - tensors.keys()
    missing = sorted(
        name for name in absent if name.split("/")[0] not in optional
    )
    unexpected = sorted(tensors.keys() - variables.keys())
    present = {name: x for name, x in tensors.items() if name in variables}
    misshaped = [
        f"{name}: file {tuple(tensor.shape)} of {tensor.dtype}, model "
        f"{tuple(variables[name].shape)} of floats"
        for name, tensor in present.items()
        if tuple(tensor.shape) != tuple(variables[name].shape)
        or not _is_floating(tensor)
    ]
    if missing or unexpected or misshaped:
        raise ValueError(
            f"The weights do not fit the model {model.name!r}: load them into "
            "the architecture that they were saved from. Received: "
            f"weights={source!r} with "
            f"{_listing('missing', missing)}, "
            f"{_listing('unexpected', unexpected)} and "
            f"{_listing('mis-shaped', misshaped)} variables"
        )
    for name, tensor in present.items():
        all_numbers(f"{name} of {source!r}", tensor)
        release()
    for name, tensor in present.items():
        variables[name].assign(_assignable(tensor))
        release()
    for layer in model.layers:
        # Built without random numbers, and not in the file.
        if f"{layer.name.removeprefix(prefix)}/kernel" in absent:
            layer.kernel.assign(layer.kernel_initializer(layer.kernel.shape))


def _variables(model, prefix):
    """Those of all layers, by `layer/variable` without the prefix."""
    return {
        f"{layer.name.removeprefix(prefix)}/{variable.name}": variable
        for layer in model.layers
        for variable in layer.weights
        if variable.name != "seed_generator_state"
    }


def _is_floating(array):
    # NumPy does not know bfloat16 as one of its floats.
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _assignable(array):
    """The array in C order and in single or double precision.

    A strip stays in the processor's cache: of a whole transposed matrix NumPy
    makes a copy in three to five times the time.
    """
    dtype = "float64" if array.dtype == "float64" else "float32"
    if array.flags.c_contiguous:
        return np.asarray(array, dtype)
    copy = np.empty(array.shape, dtype)
    for start in range(0, array.shape[-1], STRIP):
        strip = slice(start, start + STRIP)
        copy[..., strip] = array[..., strip]
    return copy


def _listing(kind, names):
    if not names:
        return f"no {kind}"
    more = ", …" if len(names) > 4 else ""
    return f"{len(names)} {kind} ({'; '.join(names[:4])}{more})"
