"""A student that learns from labels, and from what a teacher answers."""

import contextlib
from typing import Any

import keras
from keras import ops

from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import in_range
from keras_convnext.models.model import ConvNeXtModel
from keras_convnext.training.teachers import ANSWERS
from keras_convnext.training.teachers import LABELS
from keras_convnext.training.teachers import Teacher
from keras_convnext.training.teachers import last_stage

PROJECTION = "teacher_projection"
EPSILON = 1e-6


class DistillationLoss(keras.losses.Loss):
    """How far a student's softened answers are from a teacher's.

    Args:
        temperature: what both logits are divided by.
        is_multi_label: whether each class has a sigmoid of its own, in place
            of one softmax over all.
        **kwargs: as for `keras.losses.Loss`.

    Call arguments:
        y_true: the teacher's logits `(batch, classes)`.
        y_pred: the student's.

    The result is the Kullback–Leibler divergence of the teacher's
    distribution from the student's times the square of the temperature, so
    that gradients do not fall with it: a mean over images, and with many
    labels over classes, too.

    Source: Hinton et al., arXiv:1503.02531, section 2.
    """

    @in_range
    def __init__(
        self,
        temperature: Positive,
        is_multi_label: bool = False,
        name: str = "distillation_loss",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.temperature = float(temperature)
        self.is_multi_label = is_multi_label

    def call(self, y_true, y_pred):
        teacher = ops.cast(y_true, y_pred.dtype) / self.temperature
        student = y_pred / self.temperature
        if self.is_multi_label:
            # Of each label, there and not there.
            divergence = ops.mean(
                _divergence(ops.log_sigmoid, teacher, student)
                + _divergence(ops.log_sigmoid, -teacher, -student),
                axis=-1,
            )
        else:
            divergence = ops.sum(
                _divergence(ops.log_softmax, teacher, student), axis=-1
            )
        return self.temperature**2 * divergence


def _divergence(logarithm, teacher, student):
    """Its terms: `p log(p / q)`."""
    logarithms = logarithm(teacher)
    return ops.exp(logarithms) * (logarithms - logarithm(student))


# Derived for the way in which its layers run on PyTorch.
class Distilled(ConvNeXtModel):
    """The graph of a student, whose loss in training is one of two parts.

    `distilled` returns one. Layers and weights are the student's, which is the
    model to save. Evaluated, it is the student.
    """

    # By exactly these names Keras recognizes a Functional model.
    def __init__(
        self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any
    ):
        super().__init__(inputs, outputs, name=name, **kwargs)
        self.has_maps = len(self.outputs) > 1

    def learn_from(self, teacher: Teacher, recipe: Any) -> None:
        """Sets who teaches, and how much that counts."""
        # Keras has to know its variables: JAX would compile them as constants.
        self.teacher = teacher.model
        self.columns = teacher.columns
        self.weight = recipe.distillation_weight
        self.feature_weight = recipe.distillation_feature_weight
        dtype = self.outputs[0].dtype
        self.soft_loss = DistillationLoss(
            recipe.distillation_temperature, recipe.is_multi_label, dtype=dtype
        )
        self.feature_loss = keras.losses.MeanSquaredError(dtype=dtype)

    def call(self, inputs, training=None, mask=None, **kwargs):
        outputs = super().call(inputs, training=training, mask=mask, **kwargs)
        return outputs[0] if self.has_maps and not training else outputs

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        logits, maps = self._parts(y_pred)
        labels, answers = _with_answers(y)
        loss = super().compute_loss(x, labels, logits, sample_weight, training)
        if not training:
            return loss
        teacher_maps = None
        if answers is None:
            answers, teacher_maps = self._ask(x)
        soft = self.soft_loss(answers, logits, sample_weight)
        # Keras adds up the loss of labels in its default precision.
        soft = ops.cast(soft, loss.dtype)
        loss = (1 - self.weight) * loss + self.weight * soft
        if teacher_maps is not None:
            features = self.feature_loss(teacher_maps, maps)
            loss += self.feature_weight * ops.cast(features, loss.dtype)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logits, _ = self._parts(y_pred)
        labels, _ = _with_answers(y)
        return super().compute_metrics(x, labels, logits, sample_weight)

    def _parts(self, y_pred):
        """Logits, and maps or `None`; evaluation has the first alone."""
        is_pair = isinstance(y_pred, (list, tuple))
        return tuple(y_pred) if is_pair else (y_pred, None)

    def _ask(self, x):
        """The teacher's logits of the classes, and its maps or `None`."""
        with _no_gradients():
            answers = self.teacher(x, training=False)
        answers, maps = self._parts(answers)
        if self.columns is not None:
            answers = ops.take(answers, self.columns, axis=-1)
        if maps is not None:
            maps = _standardized(ops.cast(maps, answers.dtype))
            maps = ops.stop_gradient(maps)
        return ops.stop_gradient(answers), maps


def distilled(
    model: keras.Model, teacher: Teacher, recipe: Any, seed: int = 0
) -> Distilled:
    """A model that learns from labels and a teacher, on a student's layers.

    Args:
        model: the student, which returns logits.
        teacher: the `Teacher`.
        recipe: a `Recipe`: temperature, and what the parts weigh.
        seed: int that the weights of the projection follow from.

    Raises:
        ValueError: for feature maps that cannot be matched.
    """
    outputs = model.outputs[0]
    if recipe.distillation_feature_weight:
        assert teacher.model is not None  # `teacher_of` refuses others
        model, maps = _with_maps(model, last_stage(model))
        target = teacher.model.outputs[1].shape
        _check_grids(model.inputs[0].shape, maps.shape, target)
        project = keras.layers.Dense(
            target[-1],
            kernel_initializer=keras.initializers.GlorotUniform(seed),
            name=PROJECTION,
            dtype=model.outputs[0].dtype,
        )
        outputs = [model.outputs[0], project(maps)]
    student = Distilled(model.inputs[0], outputs, name=model.name)
    student.learn_from(teacher, recipe)
    return student


def _with_maps(model, end):
    """The model on the same layers, and what one of them returns there."""
    found = {}

    def called(layer, *args, **kwargs):
        found[layer.name] = layer(*args, **kwargs)
        return found[layer.name]

    # Layers of a model with other draws have more calls than its own.
    model = keras.models.clone_model(
        model, clone_function=lambda layer: layer, call_function=called
    )
    return model, found[end]


def _check_grids(images, student, teacher):
    if tuple(student[1:3]) == tuple(teacher[1:3]):
        return
    raise ValueError(
        "Feature maps are matched place by place. Received: maps of shape "
        f"{tuple(student[1:])} of the student, and {tuple(teacher[1:])} of the "
        f"teacher, for images of shape {tuple(images[1:])}. Take models of the "
        "same strides, or "
        "`recipe.replace(distillation_feature_weight=0.0)`"
    )


def _standardized(maps):
    """At every place with a mean of 0 and a variance of 1 over channels."""
    mean, variance = ops.moments(maps, axes=-1, keepdims=True)
    return (maps - mean) / ops.sqrt(variance + EPSILON)


def _with_answers(y):
    """Labels, and a teacher's logits where a loader asked it, or `None`."""
    is_answered = isinstance(y, dict) and y.keys() == {LABELS, ANSWERS}
    return (y[LABELS], y[ANSWERS]) if is_answered else (y, None)


def _no_gradients():
    """On PyTorch nothing is kept for going backward."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()
