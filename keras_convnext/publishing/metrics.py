"""Figures of an evaluation, as `keras-convnext evaluate --json` prints them."""

import math
from dataclasses import dataclass
from pathlib import Path

from keras_convnext._util.json_files import read_object
from keras_convnext.evaluation.report import figure_of
from keras_convnext.evaluation.report import title_of
from keras_convnext.evaluation.rules import RULES

FIELDS = {"model": str, "rule": str, "images": int, "intervals": dict}
# What stands beside `accuracy` or `figures`.
ALONE = (
    *("balanced_accuracy", "f1_macro", "cross_entropy"),
    *("brier", "ece", "mce"),
)
# The names of the hub for metrics.
HUB_NAMES = {"top1": "accuracy", "f1_macro": "f1"}


@dataclass(frozen=True)
class Figure:
    """One figure: its key, value, and text with its interval."""

    key: str
    value: float
    text: str

    @property
    def title(self):
        return title_of(self.key)

    @property
    def metric(self):
        """The hub's name for it."""
        return HUB_NAMES.get(self.key, self.key)


@dataclass(frozen=True)
class Metrics:
    """What was measured, and on what.

    Attributes:
        figures: list of `Figure`.
        where: what they were measured on, in words.
        name: what that is called.
        level: of the intervals, 0–1, or `None` without any.
    """

    figures: list
    where: str
    name: str
    level: float | None


def read_metrics(path, model, data_name=None):
    """The `Metrics` in a file.

    Args:
        path: of the file, or `None`, which gives `None`.
        model: name of the architecture that must have been evaluated.
        data_name: what the images are called.

    Raises:
        ValueError: for a file of another kind, or of another model.
    """
    if path is None:
        return None
    try:
        if not Path(path).is_file():
            raise ValueError("it is no file")
        values = read_object(Path(path), FIELDS)
        figures = _figures(values)
        if not figures:
            raise ValueError("it holds no figures")
    except (ValueError, TypeError) as error:
        raise ValueError(
            "`metrics` must be a file with what `keras-convnext evaluate "
            f"--json` prints. Received: {str(path)!r}, of which {error}"
        ) from error
    if values["model"] != model:
        raise ValueError(
            "`metrics` must be those of the model that is published. "
            f"Received: {str(path)!r} of {values['model']!r} for {model!r}"
        )
    titles = {key: rule.title for key, rule in RULES.items()}
    titles["classes"] = "images of its own classes"
    name = data_name or titles.get(values["rule"], values["rule"])
    level = (values.get("bootstrap") or {}).get("level")
    return Metrics(
        figures,
        f"{name}, {values['images']} images",
        name,
        level if values["intervals"] else None,
    )


def _figures(values):
    """Those that there are, with their intervals."""
    found = {
        **(values.get("accuracy") or {}),
        **(values.get("figures") or {}),
        **{key: values.get(key) for key in ALONE},
    }
    figures = []
    for key, value in found.items():
        is_number = isinstance(value, (int, float)) and math.isfinite(value)
        if not is_number:
            continue
        low_high = values["intervals"].get(key)
        interval = low_high and tuple(map(float, low_high))
        figures.append(Figure(key, value, figure_of(key, value, interval)))
    return figures
