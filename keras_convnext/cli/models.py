"""`keras-convnext models`: which architectures there are."""

import dataclasses
import json
import sys

import typer
from rich.table import Column
from rich.table import Table

from keras_convnext._util.checks import did_you_mean
from keras_convnext._util.tables import new_console
from keras_convnext.cli import options
from keras_convnext.facts.variants import VARIANTS
from keras_convnext.facts.variants import list_models

WHOLE = ("name", "license")


def models(
    pattern: options.Pattern = "*",
    as_json: options.Json = False,
) -> None:
    """List the architectures whose names match a pattern.

    Example: keras-convnext models 'convnextv2_*'
    """

    variants = [VARIANTS[name] for name in list_models(pattern)]
    fields = ("name", "depths", "dims", "image_size", "license")
    columns = [Column(name, no_wrap=name in WHOLE) for name in fields]
    rows = ([str(getattr(x, name)) for name in fields] for x in variants)
    missing = f"no model matches {pattern!r}{did_you_mean(pattern, VARIANTS)}"
    print_listing(variants, missing, as_json, columns, rows)


def print_listing(records, missing, as_json, columns, rows):
    """Prints dataclasses as JSON, or a table; exits with 1 without any.

    Args:
        missing: the error.
        columns, rows: those of the table; rows are lists of strings.
    """

    if not records:
        typer.echo(f"keras-convnext: {missing}", err=True)
        sys.exit(1)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(x) for x in records]))
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    new_console().print(table)
