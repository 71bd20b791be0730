"""The `keras-convnext` command: one module per subcommand, named like it."""

import importlib
import sys

import typer

from keras_convnext.training.checkpoints import CheckpointError
from keras_convnext.weights.hub import Unreachable

# In the order of the help.
COMMANDS = (
    *("demo", "train", "evaluate", "predict", "segment", "explain", "models"),
    *("weights", "records", "roadmap", "plan", "convert", "export"),
)

# The input was good, the run was not.
WENT_WRONG = (CheckpointError, ArithmeticError, Unreachable)

app = typer.Typer(
    name="keras-convnext",
    help="ConvNeXt for Keras 3, on the backend that is installed: of several "
    "TensorFlow, else JAX. KERAS_BACKEND=tensorflow, jax or torch chooses "
    "another.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for name in COMMANDS:
    module = importlib.import_module(f"keras_convnext.cli.{name}")
    app.command()(getattr(module, name))


def main():
    """Runs the command; bad input ends with its message and status 2."""
    try:
        app()
    except (ValueError, ImportError, OSError, ArithmeticError) as error:
        typer.echo(f"keras-convnext: {error}", err=True)
        sys.exit(1 if isinstance(error, WENT_WRONG) else 2)
