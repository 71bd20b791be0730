"""The `keras-convnext` command: one module per subcommand, named like it."""

import importlib
import sys

import typer

from keras_convnext._util.ranges import in_range
from keras_convnext.cli import options
from keras_convnext.training.checkpoints import CheckpointError

# In the order of the help.
COMMANDS = (
    *("demo", "train", "evaluate", "predict", "segment", "explain", "models"),
    *("weights", "records", "roadmap", "plan", "convert", "export"),
)

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
    app.command(cls=options.Command)(in_range(getattr(module, name)))


def main():
    """Runs the command; bad input ends with its message and status 2."""
    try:
        app()
    except (ValueError, ImportError, OSError, ArithmeticError) as error:
        typer.echo(f"keras-convnext: {options.spelled(error, app)}", err=True)
        # The input was good, the run was not.
        went_wrong = isinstance(error, (CheckpointError, ArithmeticError))
        sys.exit(1 if went_wrong else 2)
