"""Teachers: trained classifiers whose logits a student learns from.

A Keras model answers within the training step, on the device. What was
exported runs in a runtime of its own, and answers in the loader, while the step
before is trained. Both see the batch that the student sees, augmented and
mixed.
"""

import functools
import hashlib
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_convnext._util.checks import all_numbers
from keras_convnext._util.checks import one_of
from keras_convnext._util.writing import sha256_of
from keras_convnext.facts import classes
from keras_convnext.facts.layer_names import HEAD
from keras_convnext.facts.layer_names import parse
from keras_convnext.layers.initializers import skip_random_numbers
from keras_convnext.models import inspection
from keras_convnext.models.inference import optimize_for_inference
from keras_convnext.models.sigmoid import like
from keras_convnext.models.units import units_of

HALF = ("bfloat16", "float16")
# What may follow the logits of a teacher, by the student's task.
ACTIVATIONS = {"single-label": "softmax", "multi-label": "sigmoid"}
EXPECTED = (
    "`teacher` must be a Keras model with a ConvNeXt of this package, or what "
    "`keras_convnext.open_artifact` opens"
)


@dataclass(frozen=True)
class Teacher:
    """Who answers for the classes of a data set.

    Attributes:
        fingerprint: dict of JSON's types that tells it from others.
        columns: int array, which of its outputs are the classes; `None` for
            all in their order.
        model: the `keras.Model` from images to its logits, or to a list of
            them and of its last maps; weights and dtype are its own. `None`
            of what was exported.
        answer: function of a NumPy batch of images to logits of the classes;
            `None` of a model.
    """

    fingerprint: dict[str, Any]
    columns: Any = None
    model: keras.Model | None = None
    answer: Callable[[Any], Any] | None = None

    def answered(self, images: Any, labels: Any) -> tuple[Any, Any]:
        """A batch of a loader with the logits beside its labels."""
        assert self.answer is not None  # of a model nobody asks a loader
        return images, {LABELS: labels, ANSWERS: self.answer(images)}


# Keys of labels with answers.
LABELS, ANSWERS = "labels", "teacher"


class _Outputs(NamedTuple):
    """What `classes.outputs_of` asks of a classifier."""

    outputs: list
    is_named: bool
    metadata: dict


def teacher_of(
    given: Any,
    recipe: Any,
    shapes: Sequence[tuple[int, int, int]],
    names: Sequence[str],
    dtype: str | None = None,
) -> Teacher:
    """The `Teacher` that somebody gave, once it fits.

    Args:
        given: a `keras.Model`, or an `Artifact`. A model is copied.
        recipe: a `Recipe`.
        shapes: of the images, one for each size in training.
        names: of the student's classes, in order.
        dtype: of `HALF`, what a model is to compute in; as it does if `None`.

    Raises:
        ValueError: for what cannot teach, with the remedy.
    """
    _check_recipe(recipe)
    model = given
    if not isinstance(given, keras.Model):
        model = getattr(given, "model", None)
    if model is not None:
        return _of_model(model, recipe, shapes, names, dtype)
    if not hasattr(given, "metadata"):
        raise ValueError(
            f"{EXPECTED}. Received: teacher={given!r}. Open a file by "
            "`keras_convnext.open_artifact(path)`, and pass that"
        )
    return _of_artifact(given, recipe, shapes, names, dtype)


def _check_recipe(recipe):
    if recipe.is_regression:
        raise ValueError(
            "A teacher tells how likely each class is, which numbers have not. "
            f"Received: a teacher, and loss={recipe.loss!r} by the recipe "
            f"{recipe.name!r}. Leave the teacher out"
        )
    if not (recipe.distillation_weight or recipe.distillation_feature_weight):
        raise ValueError(
            "A teacher must have a part in the loss. Received: "
            "distillation_weight=0 and distillation_feature_weight=0 by the "
            f"recipe {recipe.name!r}. Raise one of them, or leave the teacher "
            "out"
        )


def _of_model(model, recipe, shapes, names, dtype):
    info = inspection.info_of(model) if hasattr(model, "layers") else None
    if info is None or not getattr(model, "inputs", None):
        raise ValueError(
            f"{EXPECTED}. Received: {type(model).__name__} {model.name!r}. "
            "Build the teacher with this package, or train by a loop of your "
            "own"
        )
    if not inspection.normalizes(model):
        raise ValueError(
            "The teacher sees the student's pixels of 0–255, and must "
            f"normalize them itself. Received: {model.name!r}, built with "
            "`include_preprocessing=False`. Build it without that: the weights "
            "are the same"
        )
    taken = tuple(model.inputs[0].shape[1:])
    for shape in shapes:
        if not inspection.takes(model, shape):
            raise ValueError(
                "The teacher must take the student's images, of shape "
                f"{shape}. Received: {model.name!r}, which takes {taken}. "
                "Build it with `input_shape=(None, None, "
                f"{shape[-1]})`, `data_format='channels_last'` and its file as "
                "`weights`: they are the same for all sizes"
            )
    if dtype is not None:
        one_of("teacher_dtype", dtype, HALF)
    # Student and teacher are variables of one model, which PyTorch knows by
    # their paths: of two of one path it would not clear the gradients.
    with keras.name_scope("teacher"):
        copy = optimize_for_inference(model, fold_normalization=dtype is None)
        if dtype is not None:
            copy = _in_half(copy, dtype)
    copy = _to_logits(copy, recipe, model.name)
    count = copy.outputs[0].shape[-1]
    known = inspection.classes_of(info, count)
    columns = _columns(names, known, count, model.name)
    if recipe.distillation_feature_weight:
        end = last_stage(model)
        maps = copy.get_layer(end).output
        copy = keras.Model(copy.inputs[0], [copy.outputs[0], maps])
    copy.trainable = False
    fingerprint = {
        "name": model.name,
        "dtype": dtype,
        "digest": _digest(model, info),
    }
    return Teacher(fingerprint, columns, copy)


def last_stage(model: keras.Model) -> str:
    """Name of the layer whose output are a model's last feature maps.

    Raises:
        ValueError: for models without known stages.
    """
    info = inspection.info_of(model)
    ends = list((info and info.pyramid_level_inputs or {}).values())
    names = {layer.name for layer in model.layers}
    if not ends or ends[-1] not in names:
        raise ValueError(
            "Feature maps are matched between ConvNeXts whose stages are "
            "known, and that are not nested in another model. Received: "
            f"distillation_feature_weight for {model.name!r}. Take "
            "`recipe.replace(distillation_feature_weight=0.0)`"
        )
    return ends[-1]


def _in_half(model, dtype):
    """A copy whose backbone computes, and is kept, in half precision."""

    def converted(layer):
        config = layer.get_config()
        if parse(layer.name).scope not in ("", HEAD):
            config["dtype"] = dtype
        return type(layer).from_config(config)

    with skip_random_numbers():
        copy = keras.models.clone_model(
            model, clone_function=converted, recursive=True
        )
    copy.set_weights(model.get_weights())
    return copy


def _to_logits(model, recipe, name):
    """The model without what follows its logits; it must be ours alone."""
    last = inspection.last_layer(model)
    kinds = (keras.layers.Dense, keras.layers.Activation)
    activation = getattr(last, "activation", None)
    word = getattr(activation, "__name__", None)
    is_classifier = isinstance(last, kinds) and len(model.output_shape) == 2
    if not is_classifier or units_of(model) is not None:
        raise ValueError(
            "The teacher must be a classifier that ends in its logits, or in a "
            f"softmax or sigmoid of them. Received: {name!r}, which ends in "
            f"the layer {last.name!r}. Pass a model with its classifier"
        )
    _check_activation(word, recipe, name)
    last.activation = keras.activations.linear
    return like(model, model.outputs[0])


def _check_activation(word, recipe, name):
    fitting = ACTIVATIONS[recipe.task]
    if word not in (None, "linear", fitting):
        raise ValueError(
            f"With loss={recipe.loss!r} a teacher returns logits, or a "
            f"{fitting} of them. Received: {name!r}, which ends in "
            f"{word!r}. Pass one that was trained for such labels, or change "
            "the recipe's `loss`"
        )


def _columns(names, known, count, name):
    outputs = known or [(str(x), str(x)) for x in range(count)]
    classifier = _Outputs(
        outputs, known is not None, {"model": f"{name}, the teacher"}
    )
    columns, _ = classes.outputs_of(names, classifier)
    return None if np.array_equal(columns, np.arange(count)) else columns


def _of_artifact(artifact, recipe, shapes, names, dtype):
    metadata, name = artifact.metadata, str(artifact.path)
    if dtype is not None:
        raise ValueError(
            "What was exported computes in the precision it was exported with. "
            f"Received: teacher_dtype={dtype!r} for {name!r}. Export it in "
            "that, or pass the Keras model"
        )
    if recipe.distillation_feature_weight:
        raise ValueError(
            "An exported teacher returns its logits, and not its feature maps. "
            "Received: distillation_feature_weight="
            f"{recipe.distillation_feature_weight} for {name!r}. Pass the "
            "Keras model, or take "
            "`recipe.replace(distillation_feature_weight=0.0)`"
        )
    if "logits" not in metadata["outputs"]:
        raise ValueError(
            "The teacher must return logits. Received: "
            f"{name!r} with outputs {metadata['outputs']}. Export a model with "
            "its classifier"
        )
    _check_activation(metadata["activation"], recipe, name)
    for shape in shapes:
        artifact.at_size(shape[:2])
        if shape[-1] != metadata["channels"]:
            raise ValueError(
                f"The teacher must take images of {shape[-1]} channels. "
                f"Received: {name!r}, which takes {metadata['channels']}. Take "
                "one that was trained on such images"
            )
    side = [x or y for x, y in zip(metadata["size"], shapes[0])]
    example = np.zeros((1, *side, shapes[0][-1]), "float32")
    count = artifact.outputs_of(example)["logits"].shape[-1]
    columns = _columns(names, metadata["classes"], count, name)
    fingerprint = {"name": Path(name).name, "digest": _digest_of(artifact.path)}
    answer = functools.partial(_answers, artifact, columns)
    return Teacher(fingerprint, answer=answer)


def _answers(artifact, columns, images):
    if artifact.metadata["input_dtype"] == "uint8":
        images = np.rint(images)  # mixed ones are between levels
    logits = artifact.outputs_of(images)["logits"]
    all_numbers(f"The output 'logits' of {str(artifact.path)!r}", logits)
    logits = logits if columns is None else logits[:, columns]
    return np.asarray(logits, "float32")


def _digest(model, info):
    """Of all values: a teacher that has learned more is another."""
    digest = hashlib.sha256(repr(info.preprocessing).encode())
    for weight in model.weights:
        values = np.ascontiguousarray(
            np.asarray(ops.convert_to_numpy(weight), "float32")
        )
        digest.update(f"{weight.path} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()[:16]


def _digest_of(path):
    """Of a file, what lies beside it under its name, or a folder."""
    path = Path(path)
    files = [x for x in path.rglob("*") if x.is_file()]
    if not path.is_dir():
        files = [path]
        weights = path.with_suffix(".bin")  # of OpenVINO
        if path.suffix == ".xml" and weights.exists():
            files.append(weights)
    digests = [sha256_of(x) for x in sorted(files)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
