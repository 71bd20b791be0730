"""`keras-convnext publish`: a trained model for people with other libraries."""

import json
from pathlib import Path
from typing import Annotated

import typer

import keras_convnext
from keras_convnext._util.progress import progress
from keras_convnext.cli import options
from keras_convnext.publishing.report import print_reports


def publish(
    model: Annotated[
        Path, typer.Argument(help="`.keras` file, such as run/best.keras.")
    ],
    to: Annotated[
        str, typer.Option(help="Folder to write, or hf://owner/name.")
    ],
    layout: Annotated[
        list[str],
        typer.Option(
            help="keras, timm or transformers: what will load it. Several by "
            "several options; each then has a folder of its own."
        ),
    ] = ["keras"],  # noqa: B006
    run: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the training run, for the card; the file's own if "
            "not given."
        ),
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(
            help="What `keras-convnext evaluate --json` printed, for the card."
        ),
    ] = None,
    data_name: Annotated[
        str | None, typer.Option(help="What the images are called on the card.")
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(
            help="Id of a license; that of the weights at the start if not "
            "given."
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify",
            help="Open it in the other library, and compare.",
        ),
    ] = True,
    verification_data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images to compare on; two photographs if not given."
        ),
    ] = None,
    private: Annotated[
        bool,
        typer.Option("--private", help="Make a new repository a private one."),
    ] = False,
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Publish a trained model for Keras, timm or transformers, with a card.

    Example: keras-convnext publish run/best.keras --to flowers --layout timm
    """

    with progress(f"publishing {model} to {to}", total=None):
        reports = keras_convnext.publish(
            model,
            to,
            layout,
            run=run,
            metrics=metrics,
            data_name=data_name,
            license=license,
            verify=verify,
            verification_data=verification_data,
            private=private,
            overwrite=force,
            verbose=False,
        )
    if as_json:
        typer.echo(json.dumps([x.as_dict() for x in reports], indent=2))
        return
    print_reports(reports)
    for report in reports:
        typer.echo(f"published: {report.place}")
