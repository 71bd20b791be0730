"""`python benchmarks/race`: how fast models are, beside others."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from keras_convnext._util.checks import one_of
from race import report
from race.contest import COMMAND
from race.contest import run
from race.contestants import MODES
from race.contestants import select
from race.tasks import Task

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main():
    """Runs the command; bad input ends with its message and status 2."""
    try:
        app(prog_name=COMMAND)
    except (ValueError, ImportError, OSError) as error:
        typer.echo(f"race: {error}", err=True)
        sys.exit(2)


@app.command()
def benchmark(
    model: Annotated[
        str, typer.Option(help="A name, see `keras-convnext models`.")
    ] = "convnext_tiny",
    contestants: Annotated[
        list[str] | None,
        typer.Option(
            "--contestant",
            help="A name or pattern, see --list; may be repeated. All that "
            "are installed if not given.",
        ),
    ] = None,
    modes: Annotated[
        list[str] | None,
        typer.Option(
            "--mode",
            help="inference or training (forward, backward, AdamW); both if "
            "not given.",
        ),
    ] = None,
    batch_sizes: Annotated[
        list[int] | None,
        typer.Option(
            "--batch-size",
            min=1,
            help="Of inference; may be repeated. 1, 8 and 32 if not given.",
        ),
    ] = None,
    image_size: Annotated[
        int, typer.Option(min=1, help="Of inference, in pixels.")
    ] = 224,
    training_batch_sizes: Annotated[
        list[int] | None,
        typer.Option(
            "--training-batch-size",
            min=1,
            help="May be repeated. 8 if not given.",
        ),
    ] = None,
    training_image_size: Annotated[
        int, typer.Option(min=1, help="In pixels.")
    ] = 128,
    dtype: Annotated[
        str, typer.Option(help="float32, mixed_bfloat16 or mixed_float16.")
    ] = "float32",
    pairs: Annotated[
        int, typer.Option(min=1, help="How often each pair runs.")
    ] = 15,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Cores to run on; all if not given."),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(help="Folder for results.json, .md and .png."),
    ] = Path("benchmark_output"),
    force: Annotated[
        bool, typer.Option("--force", help="Replace existing results.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON.")
    ] = False,
    listed: Annotated[
        bool,
        typer.Option("--list", help="List who can take part, and run none."),
    ] = False,
) -> None:
    """Time this package beside others, in turn, in processes of their own.

    Images per second of inference and of training steps, time to build and of
    the first call, peak memory, and how near all that comes to what the
    machine's matrix products allow.

    Example: python benchmarks/race --contestant ours/torch --contestant
    timm/eager --mode inference --batch-size 8

    Example: python benchmarks/race --dtype mixed_bfloat16 --batch-size 64
    --training-batch-size 64 --training-image-size 224 --output gpu
    """
    chosen = select(contestants or ())
    if listed:
        _print_list(chosen, as_json)
        return
    for mode in modes or ():
        one_of("mode", mode, MODES)
    tasks = []
    if "inference" in (modes or MODES):
        tasks += [
            Task("inference", count, image_size)
            for count in batch_sizes or (1, 8, 32)
        ]
    if "training" in (modes or MODES):
        tasks += [
            Task("training", count, training_image_size)
            for count in training_batch_sizes or (8,)
        ]
    results = run(
        output,
        chosen,
        tasks,
        model,
        dtype,
        pairs,
        threads,
        overwrite=force,
    )
    if as_json:
        typer.echo(json.dumps(results, indent=1))
        return
    typer.echo(report.as_markdown(results), nl=False)
    typer.echo(f"written: {(output / 'results.md').resolve()}")


def _print_list(contestants, as_json):
    if as_json:
        rows = [
            {
                "name": contestant.name,
                "against": contestant.against,
                "modes": contestant.modes,
                "missing": contestant.missing,
            }
            for contestant in contestants
        ]
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table()
    for name in ("contestant", "against", "modes", "missing"):
        table.add_column(name, no_wrap=name == "contestant")
    for contestant in contestants:
        table.add_row(
            contestant.name,
            contestant.against or "",
            ", ".join(contestant.modes),
            ", ".join(contestant.missing),
        )
    Console().print(table)
