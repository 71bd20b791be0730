"""What commands print."""

import json

import typer

from keras_convnext._util.writing import written_aside


def show(result, as_json, lines):
    """Prints a result as JSON, or the lines that tell it to people."""
    text = json.dumps(result, indent=2) if as_json else "\n".join(lines)
    typer.echo(text)


def tell(result, output, as_json):
    """All of an evaluation into a file, and its figures on stdout.

    Args:
        result: has `as_dict` and `print`.
        output: path of the file, or `None`.
        as_json: whether to print all of it.
    """
    text = json.dumps(result.as_dict(), indent=2)
    if output is not None:
        with written_aside(output) as unfinished:
            unfinished.write_text(text + "\n", encoding="utf-8")
    if as_json:
        typer.echo(text)
    else:
        result.print()
