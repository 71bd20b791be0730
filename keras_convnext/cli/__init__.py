"""The `keras-convnext` command: one module per subcommand, named like it."""

import functools
import importlib
import sys

import typer

from keras_convnext._util import startup
from keras_convnext._util.ranges import in_range
from keras_convnext._util.writing import FULL
from keras_convnext._util.writing import NotWritten
from keras_convnext._util.writing import not_written
from keras_convnext.cli import advice
from keras_convnext.cli import options
from keras_convnext.training.checkpoints import CheckpointError
from keras_convnext.weights.hub import Unreachable

# In the order of the help.
COMMANDS = (
    *("demo", "train", "pretrain", "evaluate", "probe", "predict"),
    *("segment", "detect", "explain"),
    *("models", "weights", "records", "roadmap", "plan", "convert", "export"),
)

# The input was good, the run was not.
WENT_WRONG = (NotWritten, CheckpointError, ArithmeticError, Unreachable)

app = typer.Typer(
    name="keras-convnext",
    help="ConvNeXt for Keras 3, on the backend that is installed: of several "
    "TensorFlow, else JAX. KERAS_BACKEND=tensorflow, jax or torch chooses "
    "another.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _options_of(name):
    parameters = typer.main.get_command(app).commands[name].params
    return advice.options_of(parameters)


for name in COMMANDS:
    module = importlib.import_module(f"keras_convnext.cli.{name}")
    function = in_range(getattr(module, name))
    app.command(cls=options.Command)(
        advice.for_command(function, functools.partial(_options_of, name))
    )


def main():
    """Runs the command; bad input ends with its message and status 2."""
    try:
        with startup.running():
            app()
    except startup.ERRORS as error:
        if getattr(error, "errno", None) in FULL:
            error = not_written(error.filename or "standard output", error)
        typer.echo(f"keras-convnext: {error}", err=True)
        sys.exit(1 if isinstance(error, WENT_WRONG) else 2)
