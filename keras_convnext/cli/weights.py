"""`keras-convnext weights`: which published weights there are."""

import dataclasses
import json
import sys

import typer
from rich.console import Console

from keras_convnext.cli import options
from keras_convnext.weights import registry


def weights(
    pattern: options.Pattern = "*",
    as_json: options.Json = False,
) -> None:
    """List the published weights: tag, size, classes, top-1, license.

    Example: keras-convnext weights 'convnext_tiny.fb_*'
    """

    rows = registry.matching(pattern)
    if not rows:
        typer.echo(f"keras-convnext: no weights match {pattern!r}", err=True)
        sys.exit(1)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(row) for row in rows]))
        return
    Console().print(registry.table(rows))
