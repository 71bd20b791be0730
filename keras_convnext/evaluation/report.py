"""What an evaluation found: as fields, as JSON and as tables."""

import json
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from keras_convnext._util.checks import some
from keras_convnext._util.tables import new_console
from keras_convnext.evaluation import bootstrap
from keras_convnext.evaluation.rules import RULES
from keras_convnext.evaluation.temperature import FIGURES
from keras_convnext.evaluation.temperature import Calibration
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.images.views import COUNTS

SHOWN = 10
MEASURED = f"measured ({bootstrap.LEVEL:.0%} interval)"
LABELS = {
    "top1": "top-1",
    "balanced_accuracy": "balanced accuracy",
    "f1_macro": "F1 (macro)",
    "cross_entropy": "cross-entropy",
    "mce": "mCE",
    "brier": "Brier score",
    "ece": "ECE",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
    "spearman": "Spearman",
}
# Others are parts.
FORMATS = {
    "cross_entropy": ".4f",
    "mce": ".1f",
    "brier": ".4f",
    **dict.fromkeys(("mae", "rmse", "r2", "spearman"), ".4g"),
}


@dataclass(frozen=True)
class Evaluation:
    """The figures of an evaluation, and their origin.

    Attributes:
        model, weights, license, quantization: what was evaluated.
        rule: key of `evaluation.rules.RULES`.
        images: how many were scored.
        accuracy: dict of `top1` and, where more outputs compete, `top5` (or
            whatever was asked for), 0–1.
        cross_entropy: mean in nats, or `None`: where an artifact gives no
            logits, the activation is no softmax, or images have several
            labels.
        balanced_accuracy: mean accuracy of the classes that have images, 0–1;
            `None` where images have several labels.
        f1_macro: mean F1 of the classes that have images or are predicted,
            0–1, or `None` likewise.
        classes: list with `class`, `id`, `images` and `accuracy` (0–1) for
            each class of the data; without images `None`.
        confused: list with `true`, `true_id`, `predicted`, `predicted_id` and
            `count` of the most frequent mistakes.
        unreadable: dict from names of images that could not be read, and do
            not count, to reasons.
        unlabeled: how many images have no labels in ReaL, and do not count.
        matched_by: `"names"`, `"ids"`, `"numbers"` or `"positions"`: how the
            data's classes were found among the model's outputs.
        outputs: how many outputs competed.
        preprocessing: the `Preprocessing` of the images.
        applies_exif: whether photographs were turned upright.
        published: dict with figures such as `top1` and their `source`, or
            `None` where there are none for what was measured.
        corruptions: for ImageNet-C, list with `corruption`, `errors` by
            severity, their mean `error`, `alexnet_error` (all 0–1) and `ce`
            (percent).
        mce: percent, or `None` but for all of ImageNet-C.
        seconds: for reading and scoring.
        file: path of what was opened; `None` for models in this process.
        brier: mean over images of the sum of squared distances between scores
            and truth, 0–2, or `None` as `cross_entropy`.
        ece: expected calibration error, 0–1, likewise: the mean distance
            between confidence and accuracy in 15 bins of equal width.
        reliability: list with `above`, `to`, `count`, `confidence` and
            `accuracy` of each bin, or `None`.
        intervals: dict from names of figures to `(low, high)`, between which
            they are in 95 % of the draws of a bootstrap over images, or over
            groups where the source has some. `ece` has none: by chance alone
            it is greater in a draw. Of ImageNet-C `balanced_accuracy` and
            `f1_macro` have none.
        bootstrap: dict that says how: `method`, `draws`, `seed`, `level`.
        tta: `"flip"` or `"five-crop"`, where scores are means over views.
        temperature: what an earlier calibration divided the logits by.
        calibration: the `Calibration` that followed, of `calibrate`.
    """

    model: str
    weights: str | None
    license: str | None
    quantization: str | None
    rule: str
    images: int
    accuracy: dict
    cross_entropy: float | None
    balanced_accuracy: float | None
    f1_macro: float | None
    classes: list
    confused: list
    unreadable: dict
    unlabeled: int
    matched_by: str
    outputs: int
    preprocessing: Preprocessing
    applies_exif: bool
    published: dict | None
    corruptions: list | None
    mce: float | None
    seconds: float
    file: str | None = None
    brier: float | None = None
    ece: float | None = None
    reliability: list | None = None
    intervals: dict = field(default_factory=dict)
    bootstrap: dict = field(default_factory=bootstrap.method)
    tta: str | None = None
    temperature: float | None = None
    calibration: Calibration | None = None

    @property
    def top1(self) -> float:
        """Part of the images whose best output is right, 0–1."""
        return self.accuracy["top1"]

    @property
    def measured(self) -> dict[str, float]:
        """`accuracy`, and of the other figures those that there are."""
        names = (
            *("balanced_accuracy", "f1_macro", "cross_entropy"),
            *("brier", "ece", "mce"),
        )
        others = {name: getattr(self, name) for name in names}
        return {
            **self.accuracy,
            **{key: x for key, x in others.items() if x is not None},
        }

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return json.loads(json.dumps(asdict(self)))

    def print(self) -> None:
        """Prints figures, the lowest classes and the most confused pairs."""
        console = new_console()
        for line in self._what():
            console.print(line)
        console.print(self._figures())
        print_calibration(console, self.calibration)
        if self.corruptions:
            console.print(self._corruptions())
        lowest = sorted(
            (x for x in self.classes if x["images"]),
            key=lambda x: x["accuracy"],
        )
        console.print(
            table(
                ("lowest classes", "images", "accuracy"),
                [
                    (
                        named(x["class"], x["id"]),
                        x["images"],
                        text_of(x["accuracy"], ".1%"),
                    )
                    for x in lowest[:SHOWN]
                ],
            )
        )
        if self.confused:
            console.print(
                table(
                    ("most confused", "taken for", "images"),
                    [
                        (
                            named(x["true"], x["true_id"]),
                            named(x["predicted"], x["predicted_id"]),
                            x["count"],
                        )
                        for x in self.confused
                    ],
                )
            )

    def _what(self):
        """Lines on what was measured how, and what was left out."""
        is_part = self.corruptions and self.mce is None
        title = RULES[self.rule].title
        yield from heading(self, f"{'Part of ' if is_part else ''}{title}")
        if self.unlabeled:
            yield f"{self.unlabeled} images have no labels"

    def _figures(self):
        columns = {MEASURED: self.measured}
        if self.published:
            published = dict(self.published)
            columns[f"published ({published.pop('source')})"] = published
        keys = dict.fromkeys(key for x in columns.values() for key in x)
        rows = [
            (
                title_of(key),
                *(
                    figure_of(
                        key,
                        x.get(key),
                        self.intervals.get(key) if name == MEASURED else None,
                    )
                    for name, x in columns.items()
                ),
            )
            for key in keys
        ]
        return table(("", *columns), rows)

    def _corruptions(self):
        severities = sorted({s for x in self.corruptions for s in x["errors"]})
        rows = [
            (
                row["corruption"],
                *(text_of(row["errors"].get(s), ".1%") for s in severities),
                text_of(row["error"], ".1%"),
                figure_of("mce", row["ce"]),
            )
            for row in self.corruptions
        ]
        return table(("error", *severities, "mean", "CE"), rows)


def heading(result, title, field="classes"):
    """Lines on what was measured how, and what could not be read.

    Args:
        result: an `Evaluation`, or a `MultiLabelEvaluation`.
        title: what the data are called.
        field: name of the attribute that lists what the model tells of them.
    """
    yield what_is(result)
    if result.temperature is not None:
        yield f"calibrated at a temperature of {result.temperature:.4g}"
    yield (
        f"{title}: {result.images} images of {len(getattr(result, field))} "
        f"{field}, found by {result.matched_by} among {result.outputs} outputs"
    )
    exif = "applied" if result.applies_exif else "ignored"
    yield (
        f"{how_seen(result.preprocessing)}, EXIF {exif}; "
        f"{result.images / result.seconds:.0f} images/s"
    )
    if result.tta:
        count = COUNTS[result.tta]
        yield f"scores are means over {count} views ({result.tta})"
    if result.unreadable:
        names = some(list(result.unreadable), SHOWN)
        yield f"{len(result.unreadable)} images could not be read: {names}"


def what_is(result):
    """A line on the model: its name or file, its weights and its license."""
    weights = result.weights or "no published weights"
    license = f", {result.license}" if result.license else ""
    precision = f", {result.quantization}" if result.quantization else ""
    if result.file is None:
        return f"{result.model}{precision} ({weights}{license})"
    # May have been trained since.
    began = f" built with {weights}{license}" if result.weights else ""
    return f"{result.file}: {result.model}{precision}{began}"


def how_seen(preprocessing):
    """A line on the transform of images."""
    size = "×".join(map(str, preprocessing.image_size))
    return (
        f"{size}, {preprocessing.crop_mode} {preprocessing.crop_pct:g}, "
        f"{preprocessing.interpolation}"
    )


def print_calibration(console, calibration):
    """Prints a `Calibration`, if there is one."""
    if calibration is None:
        return
    for line in calibration.lines():
        console.print(line)
    columns = calibration.before, calibration.after
    rows = [
        (LABELS[key], *(figure_of(key, x[key]) for x in columns))
        for key in FIGURES
    ]
    console.print(table(("", "before", "after"), rows))


def table(columns, rows):
    from rich.table import Table

    drawn = Table()
    for index, name in enumerate(columns):
        is_number = rows and isinstance(rows[0][index], (int, float))
        drawn.add_column(
            name, justify="right" if is_number else "left", overflow="fold"
        )
    for row in rows:
        drawn.add_row(*map(str, row))
    return drawn


def named(name, id):
    """`golden_retriever (n02099601)`; numbers tell nothing more."""
    return name if id.isdecimal() else f"{name} ({id})"


def title_of(key):
    """`mAP (macro)` of `map_macro`, and `top-5` of `top5`."""
    name, _, kind = key.rpartition("_")
    if kind in ("macro", "micro"):
        return f"{ {'map': 'mAP', 'f1': 'F1'}.get(name, name) } ({kind})"
    words = key.replace("top", "top-").replace("_", " ")
    return LABELS.get(key, words)


def figure_of(key, value, interval=None):
    """A figure of any evaluation, as it is printed."""
    return with_interval(value, interval, FORMATS.get(key, ".2%"))


def with_interval(value, interval, spec=".2%"):
    """`98.61% (97.2–99.4)`, or the figure alone."""
    text = text_of(value, spec)
    if value is None or interval is None:
        return text
    if spec.endswith("%"):
        interval, spec = (100 * x for x in interval), ".1f"
    return f"{text} ({'–'.join(format(x, spec) for x in interval)})"


def text_of(value, spec):
    return "–" if value is None else format(value, spec)
