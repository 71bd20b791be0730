"""What commands print."""

import json

import typer


def show(result, as_json, lines):
    """Prints a result as JSON, or the lines that tell it to people."""
    text = json.dumps(result, indent=2) if as_json else "\n".join(lines)
    typer.echo(text)
