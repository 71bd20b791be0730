"""`keras-convnext train`: from a folder of images to a trained model."""

from functools import partial
from typing import Annotated
from typing import Any

import typer

from keras_convnext import evaluation
from keras_convnext import training
from keras_convnext._util.checks import one_of
from keras_convnext._util.progress import progress
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.requirements import require
from keras_convnext.cli import options
from keras_convnext.cli.devices import start_devices
from keras_convnext.cli.learning_rate import print_rates
from keras_convnext.cli.learning_rate import refuse_with_rates
from keras_convnext.cli.loading import check_model
from keras_convnext.cli.loading import open_teacher
from keras_convnext.cli.printing import show
from keras_convnext.cli.recipe_options import recipe_options
from keras_convnext.cli.training_tasks import TASKS
from keras_convnext.cli.training_tasks import refuse_others
from keras_convnext.tasks import detection
from keras_convnext.training import distribution
from keras_convnext.training.recipes import Recipe
from keras_convnext.training.trackers import check_trackers

OF_TASKS = "; ".join(
    f"{x} for {key}"
    for key, x in (
        (name, " or ".join(task.recipes)) for name, task in TASKS.items()
    )
)


@recipe_options(Recipe, detection.DetectionRecipe)
def train(
    data: Annotated[
        str,
        typer.Option(
            help="Folder of class folders (or with train/ and val/), of "
            "TFRecords, a .csv, .jsonl or .parquet file that lists images, an "
            ".npz file, 'tfds:NAME' or 'digits'. To detect objects, or name "
            "them as many labels: a folder or file in the format of COCO, YOLO "
            "or VOC."
        ),
    ],
    output: options.RunFolder,
    task: Annotated[
        str,
        typer.Option(
            help="single-label (one class for each image), multi-label (any "
            "number of them), regression (numbers, such as an age), or detect "
            "(boxes, and masks where the data have them)."
        ),
    ] = "single-label",
    model: options.Model = "convnext_tiny",
    weights: options.Weights = "imagenet",
    recipe: Annotated[
        str | None,
        typer.Option(help=f"{OF_TASKS}. The first if not given."),
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(help="Images to validate on; of --data if not given."),
    ] = None,
    validation_split: Annotated[
        PartBelowOne,
        typer.Option(
            help="Part of each class, or of images with objects, that is held "
            "out where the data has no validation images; 0 for none."
        ),
    ] = 0.1,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    label_columns: options.LabelColumns = None,
    label_separator: options.LabelSeparator = None,
    target: options.Target = None,
    split_column: options.SplitColumn = None,
    group_column: Annotated[
        str | None,
        typer.Option(
            help="Of a list: a column of what images have in common, such as "
            "a patient, whose images are never both trained on and held out."
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Hold out one of so many folds, with the same part of each "
            "class, in place of --validation-split.",
        ),
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=1, help="Which of --folds, from 1.")
    ] = None,
    seed: options.Seed = 0,
    deterministic: options.Deterministic = False,
    resume: options.Resume = "auto",
    checkpoint_minutes: options.CheckpointMinutes = 10.0,
    checkpoint_steps: options.CheckpointSteps = None,
    keep: options.Keep = 3,
    on_error: options.OnError = "skip",
    loader: options.Loader = None,
    dtype: options.Dtype = None,
    rematerialize: Annotated[
        bool,
        typer.Option(
            "--rematerialize",
            help="Compute blocks again going backward: less memory, a third "
            "more arithmetic.",
        ),
    ] = False,
    mixup_group: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images that Mixup and CutMix treat alike; those of a device "
            "by default.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="For classes and labels: a trained model that this one learns "
            "from, too: a name with its weights (convnext_base.fb_in1k), a "
            "`.keras` file or the result of `export`."
        ),
    ] = None,
    teacher_dtype: Annotated[
        str | None,
        typer.Option(
            help="What a Keras --teacher computes in: bfloat16 or float16; as "
            "it does if not given."
        ),
    ] = None,
    short_side: Annotated[
        int | None,
        typer.Option(
            min=32,
            help="For detect, of a model by name: pixels of the short side "
            "of images, 800 if not given. Training goes down to 0.6 of it.",
        ),
    ] = None,
    max_objects: Annotated[
        int | None,
        typer.Option(
            min=1, help="For detect: objects of an image, 100 if not given."
        ),
    ] = None,
    canvas: Annotated[
        str | None,
        typer.Option(
            help="For detect: tight, the least that holds a batch; or fixed, "
            "one of three sizes, so that JAX compiles three times."
        ),
    ] = None,
    log_to: options.LogTo = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Write report.html into the folder in the end: figures and "
            "the worst images of the best model, curves, counts and settings. "
            "Of a run that is complete, too.",
        ),
    ] = False,
    devices: options.Devices = None,
    hosts: options.Hosts = None,
    host_index: options.HostIndex = None,
    oversubscribe: options.Oversubscribe = False,
    model_parallel: options.ModelParallel = 1,
    find_learning_rate: Annotated[
        bool,
        typer.Option(
            "--find-learning-rate",
            help="Test learning rates in 100 steps, draw the loss over them "
            "and print the one to take; nothing is trained.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print what is in the data, by class, and recipe, parameter "
            "groups and learning rates only.",
        ),
    ] = False,
    as_json: options.Json = False,
    **changes: str | None,
) -> None:
    """Train a model on images; if killed, it resumes.

    The same command again resumes from the last checkpoint. Ends with status
    1 if the loss is no number any more or a file cannot be written, and with
    130 or 143 after SIGINT or SIGTERM. Started by torchrun, it ends with
    torchrun's status.

    Example: keras-convnext train --data photos --output run

    Example: keras-convnext train --data imagenet --output run --model
    convnext_small --weights none --recipe imagenet1k --batch-size 256

    Example: keras-convnext train --data photos --output run --epochs 5
    --learning-rate 1e-4 --dry-run

    Example: keras-convnext train --data photos --output run
    --find-learning-rate

    Example: keras-convnext train --data imagenet --output run --devices all

    Example: keras-convnext train --data photos.csv --output run
    --group-column patient --folds 5 --fold 1

    Example: keras-convnext train --data photos --output run
    --class-sampling-exponent 1

    Example: keras-convnext train --data photos --output run --report

    Example: keras-convnext train --data photos --output small --model
    convnext_atto --teacher run/best.keras --distillation-weight 0.7

    Example: keras-convnext train --task multi-label --data coco --output tags
    --loss asymmetric

    Example: keras-convnext train --task regression --data photos.csv --output
    ages --target age

    Example: keras-convnext train --task detect --data coco --output run
    --weights coco --steps 6000 --batch-size 2
    """

    # Before processes are started, and images looked for.
    one_of("task", task, TASKS)
    chosen_task = TASKS[task]
    of_tasks = {
        "path_column": path_column,
        "label_column": label_column,
        "label_columns": label_columns,
        "label_separator": label_separator,
        "target": target,
        "split_column": split_column,
        "group_column": group_column,
        "folds": folds,
        "fold": fold,
        "dtype": dtype,
        "rematerialize": rematerialize,
        "mixup_group": mixup_group,
        "teacher": teacher,
        "teacher_dtype": teacher_dtype,
        "short_side": short_side,
        "max_objects": max_objects,
        "canvas": canvas,
        "report": report,
        "find_learning_rate": find_learning_rate,
    }
    refuse_others(task, of_tasks)
    if find_learning_rate:
        refuse_with_rates(
            {
                "dry_run": dry_run,
                "log_to": log_to,
                "teacher": teacher,
                "devices": devices,
                "hosts": hosts,
            }
        )
    recipe = recipe or next(iter(chosen_task.recipes))
    one_of("recipe", recipe, chosen_task.recipes)
    check_trackers(log_to or ())
    check_model(model)
    if not dry_run:
        start_devices(devices, hosts, host_index, model_parallel, oversubscribe)
    if report and not dry_run:
        require("matplotlib.figure", "reports")
        distribution.current().check_held_out("runs with a report")
    training.make_repeatable(seed, deterministic)
    with progress(f"looking for images in {data}", None):
        of_data = {**of_tasks, "on_error": on_error}
        source, held_out = chosen_task.open(
            data,
            validation,
            validation_split,
            seed,
            **{name: of_data[name] for name in chosen_task.opened},
        )
    # What is printed does not depend on the weights' values.
    weights = "none" if dry_run else weights
    chosen, network = chosen_task.model(
        model,
        weights,
        chosen_task.recipes[recipe],
        changes,
        source,
        of_tasks,
    )
    if dry_run:
        chosen_task.describe(source, held_out, chosen)
        steps = chosen_task.steps_per_epoch(chosen, source)
        typer.echo(training.describe(network, chosen, steps))
        return
    if find_learning_rate:
        print_rates(
            *(chosen_task.find_learning_rate, network, chosen, source),
            *(output, as_json),
            seed=seed,
            on_error=on_error,
            loader=loader,
            **chosen_task.own(of_tasks, chosen_task.trained),
        )
        return
    more: dict[str, Any] = {}
    if report:
        # Before trackers are done with the run.
        more = {
            "finish": partial(
                evaluation.write_run_report,
                output,
                source,
                held_out,
                # So many fit, and every device gets as many.
                chosen.batch_size // chosen.gradient_accumulation_steps,
            )
        }
    if teacher is not None:
        of_tasks["teacher"] = open_teacher(teacher)
    result = chosen_task.train(
        network,
        chosen,
        source,
        output,
        held_out,
        seed=seed,
        resume=resume,
        checkpoint_minutes=checkpoint_minutes,
        checkpoint_steps=checkpoint_steps,
        keep=keep,
        on_error=on_error,
        loader=loader,
        log_to=log_to or (),
        **chosen_task.own(of_tasks, chosen_task.trained),
        **more,
    )
    if not distribution.current().is_writer:
        return
    best = (
        f"best {name}: {value:{chosen_task.figure}}"
        for name, value in result["best"].items()
    )
    show(result, as_json, (*best, f"written: {output.resolve()}"))
