"""The `keras-convnext` command: one module per subcommand, named like it.

The module of a subcommand is imported when it is called: `--help`, `--version`,
`models` and `weights` answer before Keras would have started.
"""

import ast
import functools
import importlib
import inspect
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

import keras_convnext
from keras_convnext._util import startup
from keras_convnext._util import telling
from keras_convnext._util.ranges import in_range
from keras_convnext._util.version import __version__
from keras_convnext._util.writing import FULL
from keras_convnext._util.writing import not_written
from keras_convnext.cli import advice
from keras_convnext.cli import options

# In the order of the help.
COMMANDS = (
    *("demo", "train", "pretrain", "evaluate", "probe", "predict"),
    *("segment", "detect", "explain"),
    *("models", "weights", "records", "roadmap", "plan", "convert", "export"),
    *("publish", "serve"),
)
# Those that need no Keras, or start it themselves.
LIGHT = ("models", "weights", "serve")


class Commands(typer.core.TyperGroup):
    """Subcommands that are imported when they are called."""

    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, name):
        """A name and a line, for the help."""
        if name in COMMANDS:
            return typer.core.TyperCommand(name, help=_documented(name))

    def resolve_command(self, ctx, args):
        # Which says of an unknown name which it is like.
        name, _, rest = super().resolve_command(ctx, args)
        return name, command_of(name), rest


app = typer.Typer(
    cls=Commands,
    name="keras-convnext",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(is_asked):
    if is_asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _command(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """ConvNeXt for Keras 3, on the backend that is installed.

    Of several it takes TensorFlow, else JAX. KERAS_BACKEND=tensorflow, jax or
    torch chooses another.
    """


def start_keras():
    """Imports all of the package: what a file holds may be of any room.

    Then it has its public names, as in programs.
    """
    with startup.starting():
        api = importlib.import_module("keras_convnext._api")
    names = {name: getattr(api, name) for name in api.__all__}
    vars(keras_convnext).update(names)


@functools.cache
def command_of(name):
    """A subcommand, as Click has it: with its options."""
    if name not in LIGHT:
        start_keras()
    module = importlib.import_module(f"keras_convnext.cli.{name}")
    function = in_range(getattr(module, name))
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name, cls=options.Command)(
        options.with_manners(
            advice.for_command(
                function, lambda: advice.options_of(command_of(name).params)
            )
        )
    )
    return typer.main.get_command(alone)


def _documented(name):
    """The docstring of a subcommand, read without importing it."""
    tree = ast.parse(Path(__file__).with_name(f"{name}.py").read_text())
    functions = (x for x in tree.body if isinstance(x, ast.FunctionDef))
    (function,) = (x for x in functions if x.name == name)
    return inspect.cleandoc(ast.get_docstring(function))


def main():
    """Runs the command; bad input ends with its message and status 2."""
    try:
        with startup.running():
            app()
    except startup.ERRORS as error:
        if telling.is_verbose():
            traceback.print_exc()
        if getattr(error, "errno", None) in FULL:
            error = not_written(error.filename or "standard output", error)
        typer.echo(f"keras-convnext: {error}", err=True)
        went_wrong = isinstance(error, startup.WentWrong | ArithmeticError)
        sys.exit(1 if went_wrong else 2)
