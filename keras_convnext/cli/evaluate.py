"""`keras-convnext evaluate`: how good a model is, beside what was published."""

import functools
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated
from typing import Any

import typer

from keras_convnext import evaluation
from keras_convnext import visualize
from keras_convnext._util.checks import one_of
from keras_convnext._util.ranges import PartAboveZero
from keras_convnext.artifacts.acceleration.accelerated import of_artifact
from keras_convnext.artifacts.acceleration.engines import MODEL
from keras_convnext.cli import calibrating
from keras_convnext.cli import lists
from keras_convnext.cli import options
from keras_convnext.cli.files import check_output
from keras_convnext.cli.files import check_picture
from keras_convnext.cli.loading import DETECTORS
from keras_convnext.cli.loading import is_classifier
from keras_convnext.cli.loading import load_on_backbone
from keras_convnext.cli.loading import open_classifier
from keras_convnext.cli.loading import opened_file
from keras_convnext.cli.printing import tell
from keras_convnext.data import Tags
from keras_convnext.data import splits
from keras_convnext.data.lists.tables import is_list
from keras_convnext.data.objects.opening import is_objects
from keras_convnext.data.objects.opening import open_part
from keras_convnext.evaluation import rules
from keras_convnext.evaluation.pages import writing
from keras_convnext.evaluation.pages.content import Content
from keras_convnext.evaluation.run import measured
from keras_convnext.tasks import detection


def evaluate(
    data: Annotated[
        str,
        typer.Option(
            help="Folder of class folders (val/ in it where there is one) or "
            "of TFRecords, a .csv, .jsonl or .parquet file that lists images, "
            "an .npz file, 'tfds:NAME' or 'digits'. For detectors, and models "
            "of many labels: a folder or file in the format of COCO, YOLO or "
            "VOC."
        ),
    ],
    model: options.ModelOrArtifact = "convnext_tiny",
    weights: options.Weights = "imagenet",
    rule: Annotated[
        str,
        typer.Option(
            help="classes (any data), or one of ImageNet's sets: imagenet, "
            "real, v2, sketch, a, r, c."
        ),
    ] = "classes",
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    label_columns: options.LabelColumns = None,
    label_separator: options.LabelSeparator = None,
    target: options.Target = None,
    split_column: options.SplitColumn = None,
    group_column: Annotated[
        str | None,
        typer.Option(
            help="Of a list: a column of what images have in common, such as "
            "a patient: intervals tell what other patients would change."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Of a list with a column of splits: which to measure on, "
            "such as test; that of the validation images if not given."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="For --rule real: `real.json`.")
    ] = None,
    all_classes: Annotated[
        bool,
        typer.Option(
            "--all-classes",
            help="For --rule a and r: all outputs compete, not only those of "
            "the 200 classes.",
        ),
    ] = False,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="For --rule c: corruptions may be missing; no mCE then.",
        ),
    ] = False,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Pixels to measure at; those of the model if not given."
        ),
    ] = None,
    crop_pct: Annotated[
        PartAboveZero | None,
        typer.Option(
            help="Image size divided by the size before the crop, as 0.875."
        ),
    ] = None,
    crop_mode: Annotated[
        str | None, typer.Option(help="center, squash or border.")
    ] = None,
    interpolation: Annotated[
        str | None, typer.Option(help="bicubic or bilinear.")
    ] = None,
    apply_exif: Annotated[
        bool | None,
        typer.Option(
            "--exif/--no-exif",
            help="Turn photographs upright; done for --rule classes alone if "
            "not given, as published results do not.",
        ),
    ] = None,
    tta: options.Tta = None,
    batch_size: options.BatchSize = 32,
    engine: options.Engine = MODEL,
    detector: options.Detector = "mask_rcnn",
    as_json: options.Json = False,
    output: Annotated[
        Path | None, typer.Option(help="File for everything as JSON.")
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.keras",
            help="File for the model with its logits divided by the "
            "temperature at which its scores fit these images best; they must "
            "be held out of training.",
        ),
    ] = None,
    reliability: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Picture of how often scores are right, by how high they are.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="For models that predict numbers: picture of predicted "
            "against true ones, such as a .png or .pdf file."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Page with figures, classes, calibration, the worst images "
            "and their Grad-CAMs: one file, which asks no server for anything.",
        ),
    ] = None,
    force: options.Force = False,
    trust: options.Trust = False,
) -> None:
    """Measure accuracy and cross-entropy on labeled images.

    Top-1, top-5, each with the interval of a bootstrap, the accuracy of every
    class and the most confused pairs, beside the published figures.
    Preprocessing is that of the weights.

    Of detectors the average precision of boxes and masks, by COCO's rules: in
    all, at overlaps of 0.5 and 0.75, by size and by class.

    Example: keras-convnext evaluate --data photos --model mine.keras

    Example: keras-convnext evaluate --data imagenet/val --rule imagenet
    --model convnext_base --output base.json

    Example: keras-convnext evaluate --data imagenet/val --rule real --labels
    real.json --model mine.onnx --json

    Example: keras-convnext evaluate --data photos.csv --split test --model
    mine.keras

    Of models that predict numbers the mean and root mean squared error, R² and
    the correlation of ranks.

    Example: keras-convnext evaluate --data photos --model mine.keras
    --calibrate calibrated.keras --reliability reliability.png

    Example: keras-convnext evaluate --data ages.csv --model ages/best.keras
    --plot ages.png

    Example: keras-convnext evaluate --data photos --model mine.keras --report
    mine.html

    Example: keras-convnext evaluate --data coco --model convnext_tiny
    --weights coco
    """
    # Before the weights are fetched.
    if output is not None:
        check_output(output, force)
    if plot is not None:
        check_picture(plot, force, "--plot")
    if report is not None:
        writing.check(report, force)
    of_lists: dict[str, Any] = {
        "path_column": path_column,
        "label_column": label_column,
        "label_columns": label_columns,
        "label_separator": label_separator,
        "target": target,
        "split_column": split_column,
        "group_column": group_column,
        "split": split,
    }
    opened = opened_file(model, trust) if is_objects(data) else None
    if is_objects(data) and not is_classifier(opened):
        of_classifiers = {
            "rule": rule != "classes",
            "labels": labels is not None,
            "all_classes": all_classes,
            "partial": partial,
            "image_size": image_size is not None,
            "crop_pct": crop_pct is not None,
            "crop_mode": crop_mode is not None,
            "interpolation": interpolation is not None,
            "apply_exif": apply_exif is not None,
            "tta": tta is not None,
            "engine": engine != MODEL,
            "calibrate": calibrate is not None,
            "reliability": reliability is not None,
            "plot": plot is not None,
            "report": report is not None,
            **{name: x is not None for name, x in of_lists.items()},
        }
        _refuse([name for name, given in of_classifiers.items() if given])
        result = _of_detector(data, opened, model, weights, detector)
        tell(result, output, as_json)
        return
    counting = rules.get(rule)
    calibrating.check(calibrate, reliability, force, rule, tta)
    size = None if image_size is None else (image_size, image_size)
    open_model = functools.partial(
        open_classifier, model, weights, trust=trust, **_built_for(size)
    )
    # A file tells how many labels there are in a row of a list.
    is_told = is_list(data) or opened is not None
    known = open_model() if is_told and Path(model).exists() else None
    metadata = {} if known is None else known.metadata
    task = _task_of(metadata)
    if task == "regression" and target is None:
        names = [name for _, name in metadata["classes"] or ()]
        of_lists["target"] = names or None
    source = _opened(data, labels, counting, of_lists, task)
    artifact = of_artifact(known or open_model(), engine)
    if plot is not None and artifact.metadata["units"] is None:
        raise ValueError(
            "`plot` is for models that predict numbers. Received: "
            f"plot={str(plot)!r} for {artifact.metadata['model']!r}. Leave it "
            "out"
        )
    own = artifact.preprocessing
    if own is not None and size is not None:
        own = own.at_size(size)
    preprocessing = rules.preprocessing_for(counting, own)
    overrides = {
        "crop_pct": crop_pct,
        "crop_mode": crop_mode,
        "interpolation": interpolation,
    }
    overrides = {key: x for key, x in overrides.items() if x is not None}
    seen = {
        "preprocessing": preprocessing and replace(preprocessing, **overrides),
        "apply_exif": apply_exif,
    }
    refusal = calibrate and calibrating.refusal(artifact)
    if calibrate is None or refusal:
        found = measured(
            artifact,
            source,
            rule,
            batch_size,
            labels=labels,
            all_classes=all_classes,
            partial=partial,
            tta=tta,
            **seen,
        )
    else:
        found = calibrating.calibrated(
            artifact, source, batch_size, calibrate, **seen
        )
    result = found.result
    if isinstance(result, evaluation.RegressionEvaluation) and plot is not None:
        visualize.written_figure(result.plot(), plot)
    tell(result, output, as_json)
    if reliability is not None:
        calibrating.draw(result, reliability)
    if report is not None:
        command = shlex.join(sys.argv)
        writing.write(report, Content(found, command=command))
    if refusal:
        raise refusal


def _of_detector(data, opened, model, weights, detector):
    """The average precision of a detector, opened or on a backbone by name."""
    one_of("detector", detector, DETECTORS)
    source = open_part(data, "validation")
    if opened is not None:
        return detection.evaluate(opened, source)
    # A classifier's have no detector.
    weights = "coco" if weights == "imagenet" else weights
    searcher = load_on_backbone(model, weights, DETECTORS[detector])
    return detection.evaluate(searcher, source)


def _refuse(options):
    """Raises `ValueError` for options that classifiers alone have."""
    if options:
        raise ValueError(
            "Data with objects is for detectors, whose images are prepared in "
            "one way and counted by one rule. Received: "
            f"{', '.join(f'`{x}`' for x in options)}. Leave it out"
        )


def _task_of(metadata):
    """What lists are opened for, by what the model returns."""
    if metadata.get("units"):
        return "regression"
    is_sigmoid = metadata.get("activation") == "sigmoid"
    return "multi-label" if is_sigmoid else "single-label"


def _opened(data, labels, rule, of_lists, task):
    """What `evaluation.evaluate` takes as its source.

    Raises:
        ValueError: for data that is not there, or of no known kind.
    """
    if labels is not None and not labels.is_file():
        raise ValueError(
            f"`labels` must be a file that exists. Received: {str(labels)!r}"
        )
    lists.refuse_columns(data, **of_lists)
    if is_objects(data):
        return Tags(open_part(data, "validation"))
    name = of_lists.pop("split")
    source = lists.opened(data, task, **of_lists)
    if name is not None:
        return source.split(name)
    if source is not data:
        return splits.open_data(source, "validation")
    if rule.is_corrupted:  # millions of files
        splits.parts_of(data)
    else:
        splits.open_data(data, "validation")
    return data


def _built_for(size):
    """Arguments of `create_model` for images of a size."""
    if size is None:
        return {}
    return {"input_shape": (*size, 3), "data_format": "channels_last"}
