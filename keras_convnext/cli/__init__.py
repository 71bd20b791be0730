"""The `keras-convnext` command: one module per subcommand."""

import sys

import typer

from keras_convnext.cli.convert import convert
from keras_convnext.cli.demo import demo
from keras_convnext.cli.evaluate import evaluate
from keras_convnext.cli.explain import explain
from keras_convnext.cli.export import export
from keras_convnext.cli.models import models
from keras_convnext.cli.plan import plan
from keras_convnext.cli.predict import predict
from keras_convnext.cli.records import records
from keras_convnext.cli.roadmap import roadmap
from keras_convnext.cli.segment import segment
from keras_convnext.cli.train import train
from keras_convnext.cli.weights import weights
from keras_convnext.training.checkpoints import CheckpointError

app = typer.Typer(
    name="keras-convnext",
    help="ConvNeXt for Keras 3, on the backend that is installed: of several "
    "TensorFlow, else JAX. KERAS_BACKEND=tensorflow, jax or torch chooses "
    "another.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    demo,
    train,
    evaluate,
    predict,
    segment,
    explain,
    models,
    weights,
    records,
    roadmap,
    plan,
    convert,
    export,
):
    app.command()(command)


def main():
    """Runs the command; bad input ends with its message and status 2."""
    try:
        app()
    except (ValueError, ImportError, OSError, ArithmeticError) as error:
        typer.echo(f"keras-convnext: {error}", err=True)
        # The input was good, the run was not.
        went_wrong = isinstance(error, (CheckpointError, ArithmeticError))
        sys.exit(1 if went_wrong else 2)
