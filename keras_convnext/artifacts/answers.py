"""What scores say of an image, in words: of every kind of classifier."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext.artifacts.running import Artifact
from keras_convnext.facts.labels import THRESHOLD
from keras_convnext.facts.labels import best_classes

TOP = 5


def answering(
    artifact: Artifact, top: int | None = None, threshold: float | None = None
) -> Callable[[Array], list[dict[str, Any]]]:
    """A function from an image's scores to what is told of it.

    Args:
        artifact: a classifier, or a model of regression.
        top: classes, as far as there are: 5 if `None`; of many labels all
            from their thresholds on.
        threshold: of many labels the score from which on an image has one;
            if `None` the model's own, or 0.5.

    Returns:
        A function from a row of `artifact.predict` to a list of dicts: for
        each class `class`, `id` and `score`, the best first. Of numbers
        `target` and `value`.

    Raises:
        ValueError: for `top` or `threshold` where they mean nothing.
    """
    choose = _chooser(artifact.metadata, top, threshold)
    told = _as_number if artifact.metadata["units"] else dict
    return lambda row: [told(x) for x in artifact.named(row, choose(row))]


def _chooser(metadata, top, threshold):
    """A function from an image's scores to the numbers of what it shows."""
    if metadata["units"]:
        for name, value in (("top", top), ("threshold", threshold)):
            if value is not None:
                raise ValueError(
                    f"`{name}` is for models of classes. Received: {name}="
                    f"{value} for {metadata['model']!r}, which predicts "
                    "numbers. Leave it out"
                )
        return lambda values: range(len(values))
    if metadata["activation"] != "sigmoid":
        if threshold is not None:
            raise ValueError(
                "`threshold` is for models of many labels, which end in a "
                f"sigmoid. Received: threshold={threshold} for "
                f"{metadata['model']!r}, which names one. Take `top`"
            )
        return lambda scores: best_classes(scores, top or TOP)
    least = threshold
    if threshold is None:
        least = metadata["thresholds"] or THRESHOLD

    def reaching(scores):
        numbers = best_classes(scores, top or len(scores))
        is_there = scores >= np.asarray(least)
        return [number for number in numbers if is_there[number]]

    return reaching


def _as_number(row):
    """What an image has of a target, in the target's units."""
    return {"target": row["class"], "value": row["score"]}
