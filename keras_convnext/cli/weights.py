"""`keras-convnext weights`: which published weights there are."""

import dataclasses
import json
import sys
from typing import Annotated

import typer


def weights(
    pattern: Annotated[
        str, typer.Argument(help="Model, or full name, such as '*.fcmae*'.")
    ] = "*",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON with every field.")
    ] = False,
) -> None:
    """List the published weights: tag, size, classes, top-1, licence.

    Example: keras-convnext weights 'convnext_tiny.fb_*'
    """
    from rich.console import Console

    from keras_convnext.weights import registry

    rows = registry.matching(pattern)
    if not rows:
        typer.echo(f"keras-convnext: no weights match {pattern!r}", err=True)
        sys.exit(1)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(row) for row in rows]))
        return
    Console().print(registry.table(rows))
