"""A model over images with numbers in place of classes."""

import json
import os
import time
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import Figure
from keras_convnext._util.tables import new_console
from keras_convnext.data.lists.tables import is_list
from keras_convnext.data.lists.target_list import TargetList
from keras_convnext.data.splits import open_data
from keras_convnext.evaluation import bootstrap
from keras_convnext.evaluation import number_draws
from keras_convnext.evaluation.classifier import scored
from keras_convnext.evaluation.ground_truth import opened
from keras_convnext.evaluation.per_image import PerImage
from keras_convnext.evaluation.per_image import groups_of
from keras_convnext.evaluation.report import MEASURED
from keras_convnext.evaluation.report import figure_of
from keras_convnext.evaluation.report import heading
from keras_convnext.evaluation.report import table
from keras_convnext.evaluation.report import title_of
from keras_convnext.facts import classes
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.training import target_metrics
from keras_convnext.training.target_metrics import FIGURES
from keras_convnext.visualize import predicted_against_true


@dataclass(frozen=True)
class RegressionEvaluation:
    """The figures of an evaluation of predicted numbers, and their origin.

    Attributes:
        model, weights, license, quantization, file, images, unreadable,
            matched_by, outputs, preprocessing, applies_exif, seconds, tta,
            bootstrap: see `Evaluation`; `temperature` is `None`.
        figures: dict of the means over targets. `mae` and `rmse` are the mean
            and root mean squared error; `r2` is the part of the variance that
            is explained, at most 1; `spearman` is the correlation of ranks.
            Of one image or targets all alike `r2` is 1 if all is exact and
            else 0; `spearman` is 0 where either side is all alike.
        targets: list with `target`, its name, and the same figures of each, in
            its own units.
        intervals: as `Evaluation.intervals`, of `figures`. Draws of targets
            that are all alike have no part in those of `r2` and `spearman`.
        true, predicted: `float64` arrays `(images, targets)`, which `as_dict`
            leaves out.
        rule: `"classes"`.
    """

    model: str
    weights: str | None
    license: str | None
    quantization: str | None
    images: int
    figures: dict
    targets: list
    intervals: dict
    unreadable: dict
    matched_by: str
    outputs: int
    preprocessing: Preprocessing
    applies_exif: bool
    seconds: float
    true: Array = field(repr=False, compare=False)
    predicted: Array = field(repr=False, compare=False)
    file: str | None = None
    rule: str = "classes"
    bootstrap: dict = field(default_factory=bootstrap.method)
    tta: str | None = None
    temperature: float | None = None

    @property
    def measured(self) -> dict[str, float]:
        """The means over targets."""
        return dict(self.figures)

    def as_dict(self) -> dict[str, Any]:
        """All fields but those of single images, as JSON can hold them."""
        values = asdict(self)
        del values["true"], values["predicted"]
        return json.loads(json.dumps(values))

    def print(self) -> None:
        """Prints the figures, together and of each target."""
        console = new_console()
        for line in heading(self, "numbers", "targets"):
            console.print(line)
        rows = [
            (
                title_of(name),
                figure_of(name, value, self.intervals.get(name)),
            )
            for name, value in self.figures.items()
        ]
        is_one = len(self.targets) == 1
        name = self.targets[0]["target"] if is_one else "mean over targets"
        console.print(table((name, MEASURED), rows))
        if not is_one:
            rows = [
                (x["target"], *(figure_of(name, x[name]) for name in FIGURES))
                for x in self.targets
            ]
            console.print(table(("target", *map(title_of, FIGURES)), rows))

    def plot(self, figure: Figure | None = None) -> Figure:
        """Draws predicted against true numbers, for each target.

        Args:
            figure: see `keras_convnext.visualize.predicted_against_true`.

        Raises:
            ImportError: without matplotlib.
        """
        names = [row["target"] for row in self.targets]
        return predicted_against_true(self.true, self.predicted, names, figure)


def source_of(metadata, source):
    """The `Source` that is given, or that a path stands for.

    A list that a model of regression is measured on has columns of the names
    of its targets.

    Raises:
        ValueError: for data with classes where the model predicts numbers, and
            the other way about.
    """
    is_number = metadata["units"] is not None
    is_path = isinstance(source, (str, os.PathLike))
    if is_number and is_path and is_list(source):
        names = [name for _, name in metadata["classes"] or ()]
        source = open_data(TargetList(source, names or None), "validation")
    source = opened(source)
    if source.is_regression != is_number:
        raise _other_task(metadata, source.is_regression)
    return source


def check_rule(metadata, rule, title):
    """Raises `ValueError` where classes are counted and there are numbers."""
    if metadata["units"] is not None:
        raise ValueError(
            f"{title} has classes. Received: rule={rule!r} for "
            f"{metadata['model']!r}, which predicts numbers. Evaluate it on "
            "numbers, with rule='classes'"
        )


def _other_task(metadata, has_numbers):
    model = metadata["model"]
    if has_numbers:
        return ValueError(
            "Images with numbers in place of classes take a model that "
            f"predicts numbers. Received: {model!r}, which tells classes. "
            "Train one with `keras_convnext.recipes.regression`"
        )
    return ValueError(
        "A model that predicts numbers takes images with numbers: a "
        "`TargetList` or `TargetArrays`. Received: data with classes for "
        f"{model!r}. Name the column of a list, see `target`"
    )


def measure(classifier, source, identity, verbose, keep_logits=False):
    """The `RegressionEvaluation` of a `Classifier`, and a `PerImage`.

    Args:
        classifier: whose outputs are the targets of the data.
        source: of regression, turned upright as told.
        identity: dict of the fields that say what is evaluated.
        verbose: whether to show progress.
        keep_logits: has no meaning here: there are none.
    """
    columns, matched_by = classes.outputs_of(source.classes, classifier)
    started = time.perf_counter()
    each, unreadable = PerImage(), {}
    batches = scored(classifier, source, columns, verbose, unreadable)
    for places, outputs in batches:
        each.add(place=places, true=source.labels[places], predicted=outputs)
    true, predicted = each["true"], each["predicted"]
    seconds = time.perf_counter() - started
    groups = groups_of(each, source)
    by_target = target_metrics.by_target(true, predicted)
    result = RegressionEvaluation(
        **identity,
        images=len(true),
        figures=target_metrics.means(by_target),
        targets=[
            {"target": name, **row}
            for name, row in zip(source.classes, by_target)
        ],
        intervals=bootstrap.intervals(
            len(true), number_draws.figures(true, predicted), groups=groups
        ),
        bootstrap=bootstrap.method(groups),
        unreadable=unreadable,
        matched_by=matched_by,
        outputs=len(classifier.outputs),
        preprocessing=classifier.preprocessing,
        applies_exif=source.is_upright,
        tta=classifier.tta,
        seconds=seconds,
        true=true,
        predicted=predicted,
    )
    return result, each
