"""Options that several commands have, declared once."""

import functools
import inspect
from pathlib import Path
from typing import Annotated

import typer

from keras_convnext._util import ranges
from keras_convnext._util import startup
from keras_convnext._util import telling

Model = Annotated[
    str, typer.Option(help="A name, see `models`, or a `.keras` file.")
]
ModelOrArtifact = Annotated[
    str,
    typer.Option(
        help="A name, see `models`, a `.keras` file, or the result of "
        "`export`: an `.onnx`, `.tflite`, `.xml` or `.pt2` file, or the folder "
        "of a SavedModel."
    ),
]
Images = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE...",
        help="Files, folders (searched with all below them) and patterns.",
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        help="Of a model by name: a tag or alias (see `weights`), a file or "
        "folder, a URL, hf://owner/repository, or 'none' for random ones."
    ),
]
Detector = Annotated[
    str,
    typer.Option(
        help="mask_rcnn, or cascade_mask_rcnn: better and slower, and the one "
        "with weights for small to xlarge."
    ),
]
Scales = Annotated[
    list[float] | None,
    typer.Option(
        "--scale",
        help="Times the usual size; 1 if not given. Several are put together: "
        "give the option several times.",
    ),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Open the model even if it runs code."),
]
TopOrReached = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Classes per image, as far as there are: 5 if not given; of many "
        "labels all from their thresholds on.",
    ),
]
Threshold = Annotated[
    ranges.Part | None,
    typer.Option(
        help="For models of many labels: the score from which on an image has "
        "one; the model's own, or 0.5, if not given."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images at a time.")]
Engine = Annotated[
    str,
    typer.Option(
        help="What runs the model: keras (the model itself), auto (the fastest "
        "of those installed that agrees with it), optimized, onnxruntime, "
        "openvino or inductor."
    ),
]
Exif = Annotated[
    bool,
    typer.Option(
        "--exif/--no-exif",
        help="Turn photographs upright; published results do not.",
    ),
]
PathColumn = Annotated[
    str | None,
    typer.Option(
        help="Of a list: its column of paths, relative to its folder; one of "
        "a usual name if not given."
    ),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        help="Of a list: its column of classes; one of a usual name if not "
        "given."
    ),
]
LabelColumns = Annotated[
    str | None,
    typer.Option(
        help="Of a list for many labels: columns of 0 and 1, one for each "
        "label, as 'cat,dog'; if there is no column of labels, all that hold 0 "
        "and 1."
    ),
]
LabelSeparator = Annotated[
    str | None,
    typer.Option(
        help="Of a list for many labels: what stands between two of them; ';' "
        "if not given."
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        help="Of a list: its column of numbers to predict, several with commas "
        "between; one of a usual name, or those that a model predicts, if not "
        "given."
    ),
]
SplitColumn = Annotated[
    str | None,
    typer.Option(
        help="Of a list: its column of train, val, test and the like; one of a "
        "usual name if not given, or 'none'."
    ),
]
Tta = Annotated[
    str | None,
    typer.Option(
        help="Means of scores over views: flip (and its mirror image) or "
        "five-crop (center and corners). One view if not given."
    ),
]
OnError = Annotated[
    str,
    typer.Option(
        help="Images that cannot be read: skip, with a warning, or raise."
    ),
]
Seed = Annotated[
    ranges.Seed, typer.Option(min=0, help="The same seed gives the same model.")
]
Top = Annotated[
    int,
    typer.Option(min=1, help="Classes per image, as far as there are."),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace a result that exists.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Pattern = Annotated[
    str,
    typer.Argument(help="Shell-style pattern of names, as '*tiny*'."),
]

# Of runs that train.
RunFolder = Annotated[
    Path,
    typer.Option(help="Folder for the results, and to resume from."),
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="Let no kernel depend on the order of threads; slower.",
    ),
]
Resume = Annotated[
    str,
    typer.Option(
        help="auto: resume where the run in the folder was stopped. never: "
        "refuse a folder with a run."
    ),
]
CheckpointMinutes = Annotated[
    ranges.Positive, typer.Option(help="Between checkpoints inside an epoch.")
]
CheckpointSteps = Annotated[
    int | None, typer.Option(min=1, help="Steps between checkpoints.")
]
LogTo = Annotated[
    list[str] | None,
    typer.Option(
        help="mlflow, wandb or tensorboard, of which the last is there anyway "
        "if it is installed; several by several options."
    ),
]
Keep = Annotated[int, typer.Option(min=1, help="Checkpoints that stay.")]
Loader = Annotated[
    str | None,
    typer.Option(help="tf or python; tf on the TensorFlow backend."),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="Of a model by name: float32, mixed_bfloat16 or "
        "mixed_float16; Keras' own default if not given."
    ),
]
Devices = Annotated[
    str | None,
    typer.Option(help="How many devices of each host to train on, or 'all'."),
]
Hosts = Annotated[
    str | None,
    typer.Option(
        help="Addresses of all hosts, separated by commas; this command "
        "runs on each, and the first coordinates. 'auto' on JAX under "
        "SLURM and on TPU pods."
    ),
]
HostIndex = Annotated[
    int | None,
    typer.Option(min=0, help="Which of the hosts this is; found by its name."),
]
Oversubscribe = Annotated[
    bool,
    typer.Option(
        "--oversubscribe",
        help="Let --devices start more processes than there are cores; "
        "PyTorch without GPUs.",
    ),
]
ModelParallel = Annotated[
    int,
    typer.Option(
        min=1,
        help="Devices over which Dense kernels are sharded; JAX only.",
    ),
]


# Of all commands.
Quiet = Annotated[
    bool,
    typer.Option("--quiet", help="Print results, warnings and errors alone."),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        help="Print warnings of all kinds, and where in the code they and "
        "errors arise.",
    ),
]


def with_manners(command):
    """A command with the options of all commands."""

    @functools.wraps(command)
    def run(*args, quiet, verbose, **kwargs):
        telling.choose_amount(quiet, verbose)
        with startup.showing_all(verbose):
            return command(*args, **kwargs)

    manners = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False,
            annotation=annotation,
        )
        for name, annotation in (("quiet", Quiet), ("verbose", Verbose))
    ]
    signature = inspect.signature(command)
    parameters = [*signature.parameters.values(), *manners]
    run.__signature__ = signature.replace(parameters=parameters)
    return run


class Command(typer.core.TyperCommand):
    """A command that names all options that are missing, at once."""

    def parse_args(self, ctx, args):
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            # Its class is Click's, which Typer has in one place or another.
            if type(error).__name__ == "MissingParameter":
                found, _, _ = self.make_parser(ctx).parse_args(given)
                names = [
                    repr(parameter.opts[0])
                    for parameter in self.params
                    if parameter.required and found.get(parameter.name) is None
                ]
                error.param_hint = " and ".join(names)
            raise
