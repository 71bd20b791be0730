"""`keras-convnext probe`: how good features are, without training a model."""

from pathlib import Path
from typing import Annotated

import typer

from keras_convnext import evaluation
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import PartBetween
from keras_convnext._util.ranges import Seed
from keras_convnext.artifacts import running
from keras_convnext.cli import lists
from keras_convnext.cli import options
from keras_convnext.cli.files import check_output
from keras_convnext.cli.loading import is_exported
from keras_convnext.cli.loading import load_model
from keras_convnext.cli.printing import tell
from keras_convnext.data.objects.opening import is_objects
from keras_convnext.data.parts import by_part


def probe(
    data: Annotated[
        str,
        typer.Option(
            help="Folder of class folders (or with train/ and val/), of "
            "TFRecords, a .csv, .jsonl or .parquet file that lists images, an "
            ".npz file, 'tfds:NAME' or 'digits'."
        ),
    ],
    model: options.ModelOrArtifact = "convnext_tiny",
    weights: options.Weights = "imagenet",
    validation: Annotated[
        str | None,
        typer.Option(help="Images to measure on; of --data if not given."),
    ] = None,
    validation_split: Annotated[
        PartBetween,
        typer.Option(
            help="Part of each class to measure on where the data has no "
            "validation images."
        ),
    ] = 0.1,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    split_column: options.SplitColumn = None,
    group_column: Annotated[
        str | None,
        typer.Option(
            help="Of a list: a column of what images have in common, such as "
            "a patient: never both learned from and measured on, and drawn "
            "together in intervals."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Of a list with a column of splits: which to measure on, "
            "such as test; that of the validation images if not given."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="linear, knn or few_shot; all if not given. For two give the "
            "option twice."
        ),
    ] = None,
    neighbors: Annotated[
        Count, typer.Option(min=1, help="Of knn: images that vote.")
    ] = 20,
    shots: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Of few_shot: images of each class, 1, 5 and 10 if not given. "
            "For two numbers give the option twice.",
        ),
    ] = None,
    draws: Annotated[
        Count,
        typer.Option(min=1, help="Of few_shot: how often images are drawn."),
    ] = 10,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Pixels to measure at; those of the model if not given."
        ),
    ] = None,
    seed: Annotated[
        Seed,
        typer.Option(min=0, help="Of what is held out, and of the draws."),
    ] = 0,
    batch_size: options.BatchSize = 32,
    as_json: options.Json = False,
    output: Annotated[
        Path | None, typer.Option(help="File for everything as JSON.")
    ] = None,
    force: options.Force = False,
    trust: options.Trust = False,
) -> None:
    """Measure the features of a model, without training it.

    Three classifiers learn from its features: logistic regression (linear), the
    nearest images (knn), and the nearest means of 1, 5 and 10 images of each
    class (few_shot). Each accuracy has its interval.

    Example: keras-convnext probe --data photos --model run/encoder.keras

    Example: keras-convnext probe --data photos --model convnextv2_atto
    --weights fcmae --json

    Example: keras-convnext probe --data scans.csv --group-column patient
    --split test --model convnext_tiny --only linear --output linear.json
    """
    # Before the weights are fetched.
    if output is not None:
        check_output(output, force)
    if is_objects(data):
        raise ValueError(
            "Probes tell classes, one for each image. Received: objects in "
            f"{data!r}. Arrange the images in a folder for each class, or list "
            "them"
        )
    columns = {
        "path_column": path_column,
        "label_column": label_column,
        "split_column": split_column,
        "group_column": group_column,
    }
    train, test = _opened(
        data, validation, validation_split, seed, split, columns
    )
    result = evaluation.probe(
        _features_of(model, weights, trust),
        train,
        test,
        only=only,
        neighbors=neighbors,
        shots=shots or (1, 5, 10),
        draws=draws,
        seed=seed,
        batch_size=batch_size,
        image_size=image_size,
    )
    tell(result, output, as_json)


def _features_of(name, weights, trust):
    """What `evaluation.probe` takes of a name or a file.

    Of a model by name the classifier is left out: its weights may have none.
    """
    if Path(name).suffix == ".keras" or is_exported(name):
        return running.open_artifact(name, trust)
    return load_model(name, weights, include_top=False, pooling="avg")


def _opened(data, validation, validation_split, seed, split, columns):
    """The `Source`s to learn from and to measure on."""
    arguments = {**columns, "on_error": "skip"}
    if split is None:
        return lists.open_splits(
            *(data, validation, validation_split, seed),
            folds=None,
            fold=None,
            **arguments,
        )
    lists.refuse_columns(data, **columns, split=split)
    listed = lists.opened(data, **arguments)
    if validation is not None:
        raise ValueError(
            "The images to measure on are those of `split`, or of "
            f"`validation`. Received: split={split!r} and "
            f"validation={validation!r}. Leave one of them out"
        )
    test = listed.split(split)
    learned = by_part(listed.splits).get("train")
    if learned in (None, split.lower()):
        raise ValueError(
            "Expected a split to learn from, such as train, and another to "
            f"measure on. Received: split={split!r} of {list(listed.splits)} "
            f"in {data!r}"
        )
    return listed.split(learned), test
