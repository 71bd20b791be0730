"""What `train` can teach a model: a row for each task."""

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import typer

from keras_convnext import data
from keras_convnext import training
from keras_convnext._util.tables import new_console
from keras_convnext.cli import lists
from keras_convnext.cli.loading import load_model
from keras_convnext.cli.recipe_options import changed
from keras_convnext.data.objects.choosing import trainable
from keras_convnext.tasks import detection
from keras_convnext.training import recipes
from keras_convnext.training.class_table import class_table
from keras_convnext.training.recipes.base import drop_path_rate_of


@dataclass(frozen=True)
class Task:
    """What the data of a task are, and how a model for them is trained.

    Attributes:
        recipes: dict from names to recipes; the first is taken if none is
            named.
        open: function of data, validation, split and seed, to two sources.
        opened: options of the command that `open` takes as well.
        images: function of a source, to how many of its images are trained on.
        labels: function of a source, to what a model's `classes` is to be.
        built: options of the command that `recipe.build` takes.
        steps_per_epoch: function of a recipe and a source.
        describe: function of what to train on, what is held out and a recipe
            that prints what is in them.
        train: function as `training.train`.
        trained: options of the command that `train` takes.
        told: options of the command for what is written in the end.
        figure: how the best figures are printed.
        find_learning_rate: function as `training.find_learning_rate`, or
            `None`.
    """

    recipes: Mapping[str, Any]
    open: Callable[..., tuple[Any, Any]]
    opened: tuple[str, ...]
    images: Callable[[Any], int]
    labels: Callable[[Any], Any]
    built: tuple[str, ...]
    steps_per_epoch: Callable[[Any, Any], int]
    describe: Callable[[Any, Any, Any], None]
    train: Callable[..., dict[str, Any]]
    trained: tuple[str, ...]
    figure: str = ".2%"
    told: tuple[str, ...] = ("report",)
    find_learning_rate: Callable[..., Any] | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """Those of the command that not all tasks have."""
        finds = ("find_learning_rate",) if self.find_learning_rate else ()
        of_runs = (*self.trained, *self.told, *finds)
        return (*self.opened, *self.built, *of_runs)

    def own(self, given: Mapping[str, Any], names: tuple[str, ...]) -> dict:
        """Those of the options of these names that were given."""
        return {name: given[name] for name in names if given[name]}

    def model(self, name, weights, recipe, changes, source, given):
        """The recipe with its changes, and the model that it trains.

        Args:
            name, weights: of the model, as the command has them.
            recipe: of `recipes`.
            changes: dict from fields to text or `None`.
            source: what to train on.
            given: dict of the options that single tasks have.
        """
        built, images = self.own(given, self.built), self.images(source)
        if Path(name).suffix != ".keras":
            recipe = changed(recipe, changes, images).for_model(name)
            weights = None if weights == "none" else weights
            labels = self.labels(source)
            return recipe, recipe.build(name, labels, weights, **built)
        if built:
            words = ", ".join(f"{key}={x}" for key, x in built.items())
            raise ValueError(
                f"{' and '.join(f'`{x}`' for x in built)} is for a model by "
                "name; a `.keras` file has its own. Received: the model "
                f"{name} and {words}"
            )
        model = load_model(name, weights)
        recipe = recipe.replace(drop_path_rate=drop_path_rate_of(model))
        return changed(recipe, changes, images).for_model(model), model


def refuse_others(name: str, given: Mapping[str, Any]) -> None:
    """Raises `ValueError` for options that only other tasks have.

    Args:
        name: of the task.
        given: dict of the options that single tasks have.
    """
    task = TASKS[name]
    for option, value in given.items():
        if not value or option in task.options:
            continue
        others = [key for key, x in TASKS.items() if option in x.options]
        raise ValueError(
            f"`{option}` is for `task` {' and '.join(others)} alone. "
            f"Received: {option}={value} for task={name}. Leave it out"
        )


def _print_counts(source, held_out, recipe):
    """How many images of each class there are, as runs print it, too."""
    new_console().print(class_table(source, held_out, recipe))


def _tell_numbers(source, *_):
    """Says of which numbers each target is."""
    for name, values in zip(source.classes, source.labels.T):
        typer.echo(
            f"{name}: {values.min():.4g} to {values.max():.4g}, mean "
            f"{values.mean():.4g}, standard deviation {values.std():.4g}"
        )


def _steps_of_classifier(recipe, source):
    pipeline = recipe.train_pipeline(len(source.classes))
    loader = data.TrainLoader(source, pipeline, recipe.epochs)
    return loader.steps_per_epoch


def _steps_of_detector(recipe, source):
    return data.ObjectLoader(source, recipe.batch_size).steps_per_epoch


# Recipes for one class in each image, which other losses make others of.
OF_CLASSES = {
    name: recipe
    for name, recipe in recipes.RECIPES.items()
    if recipe.task == "single-label"
}
OF_CLASSIFIERS = ("rematerialize", "mixup_group", "teacher", "teacher_dtype")
TASKS = {
    "single-label": Task(
        {
            "small_data": recipes.small_data,
            **OF_CLASSES,
        },
        lists.open_splits,
        (*lists.columns_of("single-label"), *lists.FOLDS, "on_error"),
        len,
        lambda source: len(source.classes),
        ("dtype",),
        _steps_of_classifier,
        _print_counts,
        training.train,
        OF_CLASSIFIERS,
        find_learning_rate=training.find_learning_rate,
    ),
    "multi-label": Task(
        {
            "multi_label": recipes.multi_label,
            **{
                name: recipe.replace(loss="binary")
                for name, recipe in OF_CLASSES.items()
            },
        },
        partial(lists.open_splits, task="multi-label"),
        (*lists.columns_of("multi-label"), *lists.FOLDS, "on_error"),
        len,
        lambda source: len(source.classes),
        ("dtype",),
        _steps_of_classifier,
        _print_counts,
        training.train,
        OF_CLASSIFIERS,
        find_learning_rate=training.find_learning_rate,
    ),
    "regression": Task(
        {
            "regression": recipes.regression,
            **{
                name: recipe.replace(
                    loss="huber", label_smoothing=0.0, cutmix_alpha=0.0
                )
                for name, recipe in OF_CLASSES.items()
            },
        },
        partial(lists.open_splits, task="regression"),
        (*lists.columns_of("regression"), *lists.FOLDS, "on_error"),
        len,
        lambda source: source.classes,
        ("dtype",),
        _steps_of_classifier,
        _tell_numbers,
        training.train,
        ("rematerialize", "mixup_group"),
        ".4g",
        find_learning_rate=training.find_learning_rate,
    ),
    "detect": Task(
        {x.name: x for x in (detection.coco_mask_rcnn, detection.coco_cascade)},
        data.open_objects,
        (),
        lambda source: len(trainable(source)),
        lambda source: source.classes,
        ("dtype", "short_side"),
        _steps_of_detector,
        lambda source, *_: data.summarize_objects(source).print(),
        detection.train,
        ("max_objects", "canvas"),
        told=(),
    ),
}
