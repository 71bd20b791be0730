"""`keras-convnext train --find-learning-rate`."""

import json
from dataclasses import asdict

import typer

from keras_convnext._util.requirements import is_installed
from keras_convnext._util.requirements import tell_left_out
from keras_convnext._util.writing import make_folder
from keras_convnext._util.writing import written_aside
from keras_convnext.training.loop import check_output
from keras_convnext.visualize import learning_rate_range
from keras_convnext.visualize import written_figure

NAME = "learning_rate"


def refuse_with_rates(others):
    """Raises `ValueError` for options that are of runs alone.

    Args:
        others: dict of them and what was given.
    """
    given = {name: x for name, x in others.items() if x}
    for name, value in given.items():
        raise ValueError(
            f"`{name}` is for runs, and `find_learning_rate` is none. "
            f"Received: {name}={value}. Leave one of them out"
        )


def print_rates(find, network, recipe, source, output, as_json, **options):
    """Tests learning rates, prints the best and writes how it was found.

    Args:
        find: function as `training.find_learning_rate`.
        network, recipe, source: its model, recipe and data.
        output: folder for a picture and a table.
        as_json: whether to print the table only, and write nothing.
        options: others of `find`.
    """
    check_output(output, source)
    result = find(network, recipe, source, **options)
    table = json.dumps(asdict(result), indent=1)
    if as_json:
        typer.echo(table)
        return
    make_folder(output)
    with written_aside(output / f"{NAME}.json") as unfinished:
        unfinished.write_text(table + "\n")
    tell_left_out({"matplotlib": f"{NAME}.png"})
    if is_installed("matplotlib"):
        figure = learning_rate_range(
            result.learning_rates,
            result.losses,
            result.smoothed,
            result.suggestion,
        )
        written_figure(figure, output / f"{NAME}.png")
    typer.echo(
        f"suggested, for batches of {result.batch_size}: --learning-rate "
        f"{result.suggestion:.1e}"
    )
    typer.echo(f"written: {output.resolve()}")
