"""`keras-convnext roadmap`: the paper's way from ResNet to ConvNeXt."""

from pathlib import Path
from typing import Annotated

import typer

from keras_convnext import data
from keras_convnext._util.progress import progress
from keras_convnext.cli import options
from keras_convnext.cli.printing import show
from keras_convnext.tasks import roadmap as roadmap_module


def roadmap(
    regime: Annotated[
        str | None,
        typer.Option(
            help="tiny (ResNet-50 to ConvNeXt-T), base (ResNet-200 to "
            "ConvNeXt-B) or small (to be trained on small images). tiny by "
            "default, and small with --train."
        ),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            help="Train every step on this data: 'digits', or as for `train`."
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="For each training.")] = 20,
    seeds: Annotated[
        int, typer.Option(min=1, help="Trainings of each step.")
    ] = 3,
    steps: Annotated[
        list[str] | None,
        typer.Option("--step", help="Only these steps; may be repeated."),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(help="Folder for the trained steps; resumes in it."),
    ] = Path("roadmap_output"),
    as_json: options.Json = False,
) -> None:
    """Print what each step of the roadmap costs; optionally train them all.

    Training writes roadmap.png, roadmap.md and roadmap.json, and resumes
    where it was interrupted.

    Example: keras-convnext roadmap --regime base

    Example: keras-convnext roadmap --train digits --epochs 20 --output study
    """

    regime = regime or ("small" if train else "tiny")
    if train is None:
        with progress("counting what the steps cost", None):
            rows = roadmap_module.table(regime, steps)
    else:
        source, held_out = data.open_splits(train)
        assert held_out is not None  # a tenth by default
        rows = roadmap_module.study(
            source, held_out, output, regime, steps, epochs, seeds
        )
    lines = roadmap_module.as_markdown(rows).splitlines()
    if train is not None:
        lines.append(f"written: {output.resolve()}")
    show(rows, as_json, lines)
