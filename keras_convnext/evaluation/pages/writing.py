"""From a model and images, or a run, to a file."""

import csv
import datetime
import shlex
from pathlib import Path
from typing import Any

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.json_files import read_object
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import in_range
from keras_convnext._util.requirements import require
from keras_convnext._util.version import __version__
from keras_convnext._util.writing import check_output
from keras_convnext._util.writing import written_aside
from keras_convnext.artifacts.running import open_artifact
from keras_convnext.data.source import Source
from keras_convnext.evaluation.multi_label import MultiLabelEvaluation
from keras_convnext.evaluation.pages import classes
from keras_convnext.evaluation.pages import examples as images
from keras_convnext.evaluation.pages import facts
from keras_convnext.evaluation.pages import runs
from keras_convnext.evaluation.pages.content import Content
from keras_convnext.evaluation.pages.content import RunFolder
from keras_convnext.evaluation.pages.markup import page
from keras_convnext.evaluation.regression import RegressionEvaluation
from keras_convnext.evaluation.report import Evaluation
from keras_convnext.evaluation.run import measured
from keras_convnext.images.preprocessing import Preprocessing

ENDINGS = (".html", ".htm")
OF_RUN = "report.html"
RECORD = {"status": str, "best": dict, "settings": dict}
# In the order of the page. A section that has nothing to tell is left out.
SECTIONS = (
    ("Figures", facts.figures),
    ("Run", runs.progress_of),
    ("Curves", runs.curves),
    ("What was evaluated", facts.subject),
    ("Images of the run", runs.counts),
    ("Predicted against true", facts.scatter),
    ("Calibration", facts.calibration),
    ("Confusion", classes.confusion),
    ("Classes", classes.by_class),
)
LAST_SECTIONS = (
    ("Settings", runs.settings),
    ("To repeat it", facts.repetition),
)


@in_range
def write_report(
    path: PathLike,
    model: Any,
    source: Source | PathLike,
    rule: str = "classes",
    batch_size: Count = 32,
    verbose: bool = True,
    *,
    examples: CountOrZero = 12,
    overwrite: bool = False,
    labels: PathLike | None = None,
    all_classes: bool = False,
    partial: bool = False,
    preprocessing: Preprocessing | None = None,
    apply_exif: bool | None = None,
    image_size: Count | tuple[Count, Count] | None = None,
    tta: str | None = None,
) -> Evaluation | MultiLabelEvaluation | RegressionEvaluation:
    """Measures a model as `evaluate` does, and writes it as one HTML page.

    The page has figures with intervals, the confusion matrix, a table of the
    classes, calibration, the worst images with their Grad-CAMs, and versions.
    It asks no server for anything and runs no script. Names in it are escaped.

    Args:
        path: of the file to write, which ends in `.html`: whole or not at all.
        model, source, rule, batch_size, verbose, labels, all_classes, partial,
            preprocessing, apply_exif, image_size, tta: as for `evaluate`.
        examples: how many images of each kind to show. Exported models have
            no Grad-CAMs.
        overwrite: whether `path` may exist.

    Returns:
        The result of `evaluate`.

    Raises:
        ValueError: as `evaluate`; before any work for a path that exists, or
            whose folder does not.
        ImportError: without matplotlib, likewise.
        OSError: if the file cannot be written.

    Examples:
        >>> result = keras_convnext.evaluation.write_report(
        ...     "report.html", model, "photos"
        ... )  # doctest: +SKIP
    """
    check(path, overwrite)
    found = measured(
        model,
        source,
        rule,
        batch_size,
        verbose=verbose,
        labels=labels,
        all_classes=all_classes,
        partial=partial,
        preprocessing=preprocessing,
        apply_exif=apply_exif,
        image_size=image_size,
        tta=tta,
    )
    write(path, Content(found, examples=examples, verbose=verbose))
    return found.result


@in_range
def write_run_report(
    output: PathLike,
    data: Source,
    validation: Source | None = None,
    batch_size: Count = 32,
    verbose: bool = True,
    *,
    examples: CountOrZero = 12,
) -> Path:
    """Writes `report.html` into the folder of a run that has ended.

    The page is that of `write_report`, of the best model on the held-out
    images, with the run's curves, counts of images and settings. Without
    held-out images it has these alone.

    Args:
        output: path of the folder, as for `keras_convnext.train`.
        data, validation: what the run was trained on, and what was held out.
        batch_size, verbose, examples: as for `write_report`.

    Returns:
        The path of the page.

    Raises:
        ValueError: for a folder without a run.
        ImportError: without matplotlib.
        OSError: if the file cannot be written.

    Examples:
        >>> keras_convnext.evaluation.write_run_report(
        ...     "run", data, validation
        ... )  # doctest: +SKIP
    """
    require("matplotlib.figure", "reports")
    output = Path(output)
    if not (output / "run.json").is_file():
        raise ValueError(
            "Expected the folder of a run, with its `run.json`. Received: "
            f"{str(output)!r}"
        )
    summary = read_object(output / "run.json", RECORD)
    run = RunFolder(summary, _history(output), data, validation)
    found = None
    if validation is not None:
        names = ("best.keras", "last.keras")
        name = next((x for x in names if (output / x).is_file()), names[-1])
        artifact = open_artifact(output / name)
        found = measured(
            artifact, validation, batch_size=batch_size, verbose=verbose
        )
    command = summary.get("command")
    path = output / OF_RUN
    write(
        path,
        Content(
            found,
            run,
            command and shlex.join(map(str, command)),
            examples,
            verbose,
        ),
    )
    return path


def check(path: PathLike, overwrite: bool) -> None:
    """Raises before any work for what could not be written in the end."""
    advice = "`overwrite=True` (`--force`)"
    check_output(Path(path), overwrite, ENDINGS, "report", advice)
    require("matplotlib.figure", "reports")


def write(path: PathLike, content: Content) -> None:
    """Writes a page, whole or not at all."""
    sections: list[Any] = [(name, tell(content)) for name, tell in SECTIONS]
    sections += images.sections(content)
    sections += [(name, tell(content)) for name, tell in LAST_SECTIONS]
    text = page(_title(content), sections, _foot())
    with written_aside(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _title(content):
    result = content.result
    if content.run is not None:
        name = content.run.summary["settings"]["model"]["name"]
        return f"A run of {name}"
    return f"{result.model}: {result.images} images"


def _foot():
    now = datetime.datetime.now(datetime.UTC)
    return (
        f"Written {now.isoformat(timespec='minutes')} by keras_convnext "
        f"{__version__}."
    )


def _history(output):
    """The rows of `history.csv`, in numbers where these are some."""
    path = output / "history.csv"
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: float(x) for k, x in row.items() if x} for row in rows]
