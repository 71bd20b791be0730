"""Which images a page shows, and what it says of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_convnext.evaluation.pages.markup import join
from keras_convnext.evaluation.pages.markup import name_of
from keras_convnext.evaluation.pages.markup import number
from keras_convnext.evaluation.report import named
from keras_convnext.facts.classes import outputs_of

# So many labels of an image are named.
NAMED = 12


@dataclass(frozen=True)
class Example:
    """An image to show.

    Attributes:
        part, place: of it among the sources.
        output: of the model, the one that its Grad-CAM is of.
        facts: pairs of a title and what to say.
    """

    part: int
    place: int
    output: int
    facts: list[tuple[str, Any]]


@dataclass(frozen=True)
class Choice:
    """Images of a kind.

    Attributes:
        title: of the section.
        why: what the images have in common.
        seen: what the Grad-CAM is of.
        of: function of a `Measured`, to the numbers of images in `each`, the
            first ones first.
        tell: function of a `Measured` and such a number, to an `Example`.
    """

    title: str
    why: str
    seen: str
    of: Callable[[Any], Any]
    tell: Callable[[Any, int], Example]


def _mistakes(measured):
    """Wrong answers, by falling score; in order where there are no scores."""
    each = measured.each
    wrong = np.flatnonzero(~each["right"])
    if "confidence" not in each:
        return wrong
    return wrong[np.argsort(-each["confidence"][wrong], kind="stable")]


def _doubtful(measured):
    """All images by rising score; none where there are no scores."""
    each = measured.each
    if "confidence" not in each:
        return []
    return np.argsort(each["confidence"], kind="stable")


def _answer(measured, index):
    each, truth = measured.each, measured.truth
    label, output = each["label"][index], each["output"][index]
    right = truth.right([each["place"][index]], [label])[0]
    facts = [
        ("true", _names(measured.outputs, sorted(right))),
        ("predicted", _names(measured.outputs, [output])),
    ]
    if "confidence" in each:
        facts.append(("score", _score(each["confidence"][index])))
    part, place = (int(each[name][index]) for name in ("part", "place"))
    return Example(part, place, int(output), facts)


def losses_of(labels, scores):
    """The mean binary cross-entropy over the last axis, in nats."""
    right = np.where(labels == 1, scores, 1 - scores)
    return -np.log(np.maximum(right, np.finfo("float64").tiny)).mean(axis=-1)


def _highest_losses(measured):
    each = measured.each
    losses = losses_of(each["labels"], each["scores"])
    return np.argsort(-losses, kind="stable")


def _labels(measured, index):
    each, rows = measured.each, measured.result.classes
    labels, scores = each["labels"][index] == 1, each["scores"][index]
    worst = int(np.abs(scores - labels).argmax())
    found = scores >= [row["threshold"] for row in rows]
    outputs = [(row["id"], row["class"]) for row in rows]
    facts = [
        ("true", _names(outputs, np.flatnonzero(labels))),
        ("predicted", _names(outputs, np.flatnonzero(found))),
        (
            "worst score",
            join([_names(outputs, [worst]), " ", _score(scores[worst])]),
        ),
        ("loss", _number(losses_of(labels, scores))),
    ]
    output = _columns(measured)[worst]
    return Example(0, int(each["place"][index]), int(output), facts)


def errors_of(measured):
    """Predicted minus true numbers, and the same by the target's own RMSE."""
    each = measured.each
    errors = each["predicted"] - each["true"]
    scale = [row["rmse"] or 1.0 for row in measured.result.targets]
    return errors, np.abs(errors) / scale


def _largest_errors(measured):
    return np.argsort(-errors_of(measured)[1].max(axis=1), kind="stable")


def _numbers(measured, index):
    each, targets = measured.each, measured.result.targets
    errors, scaled = errors_of(measured)
    facts = []
    for row, *values in zip(
        targets, each["true"][index], each["predicted"][index], errors[index]
    ):
        name = name_of(row["target"])
        for kind, value in zip(("true", "predicted", "error"), values):
            facts.append((join([name, f", {kind}"]), _number(value)))
    output = _columns(measured)[scaled[index].argmax()]
    return Example(0, int(each["place"][index]), int(output), facts)


def _columns(measured):
    """Which output each class or target of the data is."""
    (source,) = measured.sources
    return outputs_of(source.classes, measured.classifier)[0]


def _names(outputs, numbers):
    """The names of some outputs, with commas between."""
    names = [
        name_of(named(outputs[x][1], outputs[x][0])) for x in numbers[:NAMED]
    ]
    if len(numbers) > NAMED:
        names.append(f"{len(numbers) - NAMED} more")
    if not names:
        return "none"
    first, *others = names
    return join([first, *(join([", ", x]) for x in others)])


def _score(value):
    return number(float(value), f"{value:.1%}")


def _number(value):
    return number(float(value), f"{value:.4g}")


CHOICES = {
    "single-label": (
        Choice(
            "Most confident mistakes",
            "Wrong answers with the highest scores. Labels may be wrong, too.",
            "the predicted class",
            _mistakes,
            _answer,
        ),
        Choice(
            "Most doubtful images",
            "Images whose best score is the lowest, be it right or wrong.",
            "the predicted class",
            _doubtful,
            _answer,
        ),
    ),
    "multi-label": (
        Choice(
            "Worst images",
            "Images with the highest loss: the mean binary cross-entropy of "
            "their labels, in nats.",
            "the label with the worst score",
            _highest_losses,
            _labels,
        ),
    ),
    "regression": (
        Choice(
            "Largest errors",
            "Images with the largest error, of several targets by the root "
            "mean squared error of each.",
            "what makes the target with the largest error greater",
            _largest_errors,
            _numbers,
        ),
    ),
}
