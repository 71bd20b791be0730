"""A model for other libraries: written, opened by them, and then in place."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.json_files import read_object
from keras_convnext.artifacts import keras_file
from keras_convnext.publishing import comparing
from keras_convnext.publishing import layouts
from keras_convnext.publishing import licenses
from keras_convnext.publishing.card import CURVES
from keras_convnext.publishing.card import card_of
from keras_convnext.publishing.hub import SCHEME
from keras_convnext.publishing.hub import HubTarget
from keras_convnext.publishing.metrics import read_metrics
from keras_convnext.publishing.report import Published
from keras_convnext.publishing.report import print_reports
from keras_convnext.publishing.subject import Subject
from keras_convnext.publishing.targets import FolderTarget

# What the card takes from a run.
RUN = {
    "step": int,
    "metrics": dict,
    "best": dict,
    "settings": dict,
    "versions": dict,
}


def publish(
    model: keras.Model | PathLike,
    to: PathLike,
    layout: str | Sequence[str] = "keras",
    *,
    run: PathLike | None = None,
    metrics: PathLike | None = None,
    data_name: str | None = None,
    license: str | None = None,
    verify: bool = True,
    verification_data: PathLike | None = None,
    private: bool = False,
    overwrite: bool = False,
    verbose: bool = True,
) -> list[Published]:
    """Writes a model, with a model card, as other libraries load it.

    Each layout is opened by its library before anything appears at `to`. From
    equal pixels its logits must equal the model's to 1e-4. The pixels that the
    library reads itself are compared, too.

    Args:
        model: a classifier or regressor of this package, or the path of its
            `.keras` file.
        to: path of the folder to write, or `hf://owner/name`, a repository of
            the Hugging Face hub. With several layouts each has a folder in it,
            or a repository such as `owner/name-timm`: their files are called
            alike.
        layout: `"keras"` (for `keras.saving.load_model`), `"timm"` (for
            `timm.create_model`) or `"transformers"` (for `pipeline`), or
            several in a list.
        run: folder of the training run, of which the card tells; `None` for
            the one that the file is in, if it is.
        metrics: file with what `keras-convnext evaluate --json` printed for
            this model: its figures and intervals go onto the card.
        data_name: what the images are called on the card.
        license: id of a license that the hub knows; `None` for that of the
            weights at the start. It may not allow more than theirs does.
        verify: whether to open and compare what was written. It takes the
            layout's library and torch.
        verification_data: folder of images to compare on; two photographs if
            `None`.
        private: whether a repository that is made on the hub is private.
        overwrite: whether a folder with a published model may be replaced. A
            repository keeps its earlier commits.
        verbose: whether to print the table of the comparison.

    Returns:
        A list of `publishing.Published`, one for each layout.

    Raises:
        ValueError: for models that a library does not have or cannot
            preprocess for, naming what can be done; for licenses that allow
            too much; and if a library computes something else.
        ImportError: without a layout's library.
        OSError: if the folder cannot be written.
        publishing.hub.NotUploaded: a `ValueError`, if the hub does not take it.

    Examples:
        >>> keras_convnext.publish(
        ...     "run/best.keras", "flowers", ["timm", "transformers"]
        ... )  # doctest: +SKIP
    """
    names = layouts.chosen(layout)
    target = _target_of(to, names, private, overwrite)
    if verify:
        layouts.check_packages(names)
    folder_of_run = _run_of(model, run)
    summary = _summary_of(folder_of_run)
    if not isinstance(model, keras.Model):
        model = keras_file.load(os.fspath(model))
    subject = Subject.of(model)
    for name in names:
        layouts.LAYOUTS[name].module.check(subject)
    license = licenses.license_of(subject.info.license, license)
    measured = read_metrics(metrics, subject.model.variant.name, data_name)
    curves = folder_of_run and folder_of_run / CURVES
    has_curves = curves is not None and curves.is_file()
    photographs = comparing.photographs_of(verification_data) if verify else []
    with target.aside() as folder:
        parts = _written(subject, names, target, folder)
        reports = [
            Published(name, target.place(name), [], 0, license)
            for name in names
        ]
        if verify:
            reports = comparing.compared(subject, reports, parts, photographs)
        for part, report in zip(parts, reports):
            here = target.here(report.layout)
            text = card_of(
                *(subject, report, target.name, here),
                *(summary, measured, has_curves),
            )
            (part / "README.md").write_text(text, encoding="utf-8")
            if curves is not None and has_curves:
                shutil.copyfile(curves, part / CURVES)
        reports = [x.with_files(y) for x, y in zip(reports, parts)]
        target.deliver(folder)
    if verbose:
        print_reports(reports)
    return reports


def _target_of(to, names, private, overwrite):
    if str(to).startswith(SCHEME):
        return HubTarget(str(to), names, private)
    return FolderTarget(to, names, overwrite)


def _written(subject, names, target, folder):
    """The folders of all layouts, written but for their cards."""
    file = folder / "model.keras"
    # Without what an optimizer left in it.
    bare = type(subject.model)(
        subject.model.inputs[0],
        subject.model.outputs[0],
        name=subject.model.name,
    )
    bare.save(file)
    parts = []
    for name in names:
        part = target.part(folder, name)
        part.mkdir(parents=True)
        layouts.LAYOUTS[name].module.write(subject, file, part)
        parts.append(part)
    return parts


def _run_of(model, run):
    """The folder of a run, as a `Path`, or `None`."""
    if run is not None:
        return Path(run)
    if isinstance(model, keras.Model):
        return None
    folder = Path(model).parent
    return folder if (folder / "run.json").is_file() else None


def _summary_of(run):
    """What the run noted, or `None` without a run."""
    if run is None:
        return None
    try:
        return read_object(run / "run.json", RUN)
    except (OSError, ValueError) as error:
        raise ValueError(
            "`run` must be the folder of a training run, with its run.json. "
            f"Received: {str(run)!r}, of which {error}"
        ) from error
