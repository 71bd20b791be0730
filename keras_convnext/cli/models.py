"""`keras-convnext models`: which architectures there are."""

import dataclasses
import json
import sys

import typer
from rich.console import Console
from rich.table import Table

from keras_convnext import VARIANTS
from keras_convnext import list_models
from keras_convnext.cli import options

COLUMNS = ("name", "depths", "dims", "image_size", "license")


def models(
    pattern: options.Pattern = "*",
    as_json: options.Json = False,
) -> None:
    """List the architectures whose names match a pattern.

    Example: keras-convnext models 'convnextv2_*'
    """

    variants = [VARIANTS[name] for name in list_models(pattern)]
    if not variants:
        typer.echo(f"keras-convnext: no model matches {pattern!r}", err=True)
        sys.exit(1)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(v) for v in variants]))
        return
    table = Table()
    for name in COLUMNS:
        table.add_column(name, no_wrap=name in ("name", "license"))
    for variant in variants:
        table.add_row(*(str(getattr(variant, name)) for name in COLUMNS))
    Console().print(table)
