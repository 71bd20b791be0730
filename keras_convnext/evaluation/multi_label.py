"""A model over images of many labels each, or none."""

import json
import time
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np

from keras_convnext._util.tables import new_console
from keras_convnext.evaluation import bootstrap
from keras_convnext.evaluation import calibration
from keras_convnext.evaluation import label_draws
from keras_convnext.evaluation.classifier import scored
from keras_convnext.evaluation.per_image import PerImage
from keras_convnext.evaluation.per_image import groups_of
from keras_convnext.evaluation.report import MEASURED
from keras_convnext.evaluation.report import SHOWN
from keras_convnext.evaluation.report import figure_of
from keras_convnext.evaluation.report import heading
from keras_convnext.evaluation.report import named
from keras_convnext.evaluation.report import print_calibration
from keras_convnext.evaluation.report import table
from keras_convnext.evaluation.report import text_of
from keras_convnext.evaluation.report import title_of
from keras_convnext.evaluation.temperature import Calibration
from keras_convnext.facts import classes
from keras_convnext.facts.labels import THRESHOLD
from keras_convnext.facts.labels import sigmoid
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.training import label_metrics


@dataclass(frozen=True)
class MultiLabelEvaluation:
    """The figures of an evaluation of many labels, and their origin.

    Attributes:
        model, weights, license, quantization, file, images, unreadable,
            matched_by, outputs, preprocessing, applies_exif, seconds: see
            `Evaluation`.
        figures: dict of the parts 0–1 `map_macro` and `map_micro` (mean
            average precision). At the score of 0.5 it has `precision_…`,
            `recall_…` and `f1_…` of both kinds, and `subset_accuracy`, the
            part of images with all labels right.
        at_thresholds: dict of the same that depend on scores, at the model's
            own thresholds, or `None` if it has none.
        classes: list with `class`, `id`, `images`, `average_precision` (0–1;
            without images `None`), and `threshold`, `precision`, `recall` and
            `f1` at it, of each class of the data. A class without images
            counts as 0 in the means, as in scikit-learn.
        rule: `"classes"`.
        brier, ece: of all scores of all images: the mean squared distance
            from 0 and 1, and the expected calibration error, both 0–1.
        reliability: see `Evaluation`; `confidence` is the mean score, and
            `accuracy` the part of the labels that are there.
        intervals, intervals_at_thresholds: as `Evaluation.intervals`, of
            `figures` and `brier`, and of `at_thresholds`. A class of which a
            draw has no image is left out of that draw's means.
        bootstrap, tta, temperature, calibration: see `Evaluation`.
    """

    model: str
    weights: str | None
    license: str | None
    quantization: str | None
    images: int
    figures: dict
    at_thresholds: dict | None
    classes: list
    unreadable: dict
    matched_by: str
    outputs: int
    preprocessing: Preprocessing
    applies_exif: bool
    seconds: float
    file: str | None = None
    rule: str = "classes"
    brier: float | None = None
    ece: float | None = None
    reliability: list | None = None
    intervals: dict = field(default_factory=dict)
    intervals_at_thresholds: dict | None = None
    bootstrap: dict = field(default_factory=bootstrap.method)
    tta: str | None = None
    temperature: float | None = None
    calibration: Calibration | None = None

    @property
    def measured(self) -> dict[str, float]:
        """The figures at 0.5, and what there is of `brier` and `ece`."""
        others = {"brier": self.brier, "ece": self.ece}
        return {
            **self.figures,
            **{key: x for key, x in others.items() if x is not None},
        }

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return json.loads(json.dumps(asdict(self)))

    def print(self) -> None:
        """Prints the figures, and the classes with the lowest precision."""
        console = new_console()
        for line in heading(self, "many labels"):
            console.print(line)
        empty = [x["class"] for x in self.classes if not x["images"]]
        if empty:
            console.print(
                f"{len(empty)} classes have no images here, and count as 0 in "
                "means over classes (macro)"
            )
        title = MEASURED.replace("measured", "measured at 0.5")
        columns = {title: (self.measured, self.intervals)}
        if self.at_thresholds:
            columns["at the model's thresholds"] = (
                self.at_thresholds,
                self.intervals_at_thresholds or {},
            )
        rows = [
            (
                title_of(key),
                *(
                    figure_of(key, values.get(key), intervals.get(key))
                    for values, intervals in columns.values()
                ),
            )
            for key in self.measured
        ]
        console.print(table(("", *columns), rows))
        print_calibration(console, self.calibration)
        lowest = sorted(
            (x for x in self.classes if x["images"]),
            key=lambda x: x["average_precision"],
        )
        names = ("average_precision", "precision", "recall", "f1")
        rows = [
            (
                named(x["class"], x["id"]),
                x["images"],
                *(text_of(x[name], ".1%") for name in names),
                text_of(x["threshold"], ".3f"),
            )
            for x in lowest[:SHOWN]
        ]
        titles = ("AP", "precision", "recall", "F1", "from the score")
        console.print(table(("lowest classes", "images", *titles), rows))


def measure(classifier, source, identity, verbose, keep_logits=False):
    """The `MultiLabelEvaluation` of a `Classifier`, and a `PerImage`.

    Args:
        classifier: whose outputs have the classes of the data.
        source: multi-label, turned upright as told.
        identity: dict of the fields that say what is evaluated.
        verbose: whether to show progress.
        keep_logits: whether the columns are to have the logits, too.
    """
    _check(classifier)
    columns, matched_by = classes.outputs_of(source.classes, classifier)
    started = time.perf_counter()
    each, unreadable = _scores(
        classifier, source, columns, verbose, keep_logits
    )
    labels, scores = each["labels"], each["scores"]
    groups = groups_of(each, source)
    seconds = time.perf_counter() - started
    own = classifier.metadata["thresholds"]
    thresholds, at_thresholds, intervals = THRESHOLD, None, None
    if own is not None:
        thresholds = np.array(own)[columns]
        at_thresholds = label_metrics.at(labels, scores, thresholds)
        rates = label_draws.rates_at(labels, scores, thresholds)
        intervals = bootstrap.intervals(len(labels), rates, groups=groups)
    by_class = label_metrics.by_class(labels, scores, thresholds)
    outputs = classifier.outputs_of(columns, source.classes)
    result = MultiLabelEvaluation(
        **identity,
        images=len(labels),
        figures=label_metrics.measured(labels, scores),
        at_thresholds=at_thresholds,
        classes=[
            {"class": outputs[column][1], "id": outputs[column][0], **row}
            for column, row in zip(columns, by_class)
        ],
        unreadable=unreadable,
        matched_by=matched_by,
        outputs=len(outputs),
        preprocessing=classifier.preprocessing,
        applies_exif=source.is_upright,
        tta=classifier.tta,
        seconds=seconds,
        **_calibration(labels, scores, groups),
        bootstrap=bootstrap.method(groups),
        intervals_at_thresholds=intervals,
    )
    return result, each


def _calibration(labels, scores, groups):
    """How far scores can be taken at their word, and intervals at 0.5."""
    errors = np.square(scores - labels).mean(axis=1)
    bins = calibration.reliability(scores.ravel(), labels.ravel())
    return {
        "brier": float(errors.mean()),
        "ece": calibration.expected_error(bins),
        "reliability": bins,
        "intervals": bootstrap.intervals(
            len(labels),
            label_draws.figures(labels, scores, THRESHOLD),
            bootstrap.means(brier=errors),
            groups=groups,
        ),
    }


def _check(classifier):
    """Raises `ValueError` for scores that compete with one another."""
    activation = classifier.metadata["activation"]
    if activation in (None, "sigmoid"):
        return
    raise ValueError(
        "Images of many labels take a model with a score for each, by a "
        f"sigmoid. Received: {classifier.metadata['model']!r}, whose classes "
        f"compete by a {activation}. Train it with `recipes.multi_label`"
    )


def _scores(classifier, source, columns, verbose, keep_logits):
    """A `PerImage` of the images that can be read, and why others cannot."""
    has_logits = "logits" in classifier.metadata["outputs"]
    each, unreadable = PerImage(), {}
    for places, outputs in scored(
        classifier, source, columns, verbose, unreadable, "sigmoid"
    ):
        each.add(
            place=places.astype("int32"),
            labels=source.labels[places],
            scores=sigmoid(outputs) if has_logits else outputs,
        )
        if keep_logits:
            each.add(logits=outputs.astype("float32"))
    return each, unreadable
