"""An option for every figure of a recipe."""

import inspect
import re
import types
import typing
from typing import Annotated

import typer

from keras_convnext._util import ranges
from keras_convnext.training.recipes import Recipe

# By name; a recipe's own name and texts are fields of the class below it.
TYPES = {
    name: typing.get_type_hints(Recipe)[name]  # without their ranges
    for name in inspect.get_annotations(Recipe)
}
EXPECTED = {
    str: "text",
    tuple: "two numbers, such as 0.35,1",
    int: "a whole number, such as 32",
    float: "a number, such as 0.1",
}


def recipe_options(command):
    """Gives a command one option per figure in place of its `**changes`.

    They reach it as the text that the user wrote, `None` if nothing.
    """
    signature = inspect.signature(command)
    *parameters, changes = signature.parameters.values()
    helps = _helps(Recipe)
    for name in TYPES:
        option = typer.Option(
            metavar="VALUE",
            help=helps.get(name),  # none under `python -OO`
            rich_help_panel="Fields of the recipe, see `Recipe`",
        )
        parameters.append(
            changes.replace(
                name=name,
                kind=inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[str | None, option],
            )
        )
    command.__signature__ = signature.replace(parameters=parameters)
    return command


def _helps(record):
    """The meanings of attributes in a docstring, as sentences by name."""
    _, _, text = inspect.getdoc(record).partition("Attributes:\n")
    pairs = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return {
        name: " ".join(f"{meaning[0].upper()}{meaning[1:]}".split())
        for name, meaning in pairs
    }


def changed(recipe, texts, images):
    """A recipe with the figures that a command line gave.

    Args:
        recipe: a `Recipe`.
        texts: dict from field to text or `None`; numbers, words, two numbers
            separated by a comma, and `none` where a field may be `None`.
        images: int, how many there are to train on.

    Another `batch_size`, or one that so many images fill, scales the learning
    rate, unless that is given too.
    """
    changes = {
        name: _value(name, text)
        for name, text in texts.items()
        if text is not None
    }
    if "batch_size" in changes:
        recipe = recipe.with_batch_size(changes["batch_size"])
    recipe = recipe.replace(**changes)
    if "batch_size" not in changes:
        return recipe.for_images(images, "learning_rate" not in changes)
    if recipe.batch_size > images * recipe.gradient_accumulation_steps:
        raise ValueError(
            f"`batch_size` must be at most the number of images, {images}. "
            f"Received: batch_size={recipe.batch_size}. Leave it out, or add "
            "images"
        )
    return recipe


def _value(name, text):
    kinds = ranges.members(TYPES[name])
    if text.lower() == "none" and types.NoneType in kinds:
        return None
    kinds = {typing.get_origin(x) or x for x in kinds}
    kind, expected = next(x for x in EXPECTED.items() if x[0] in kinds)
    try:
        if kind is tuple:
            low, high = text.split(",")
            return float(low), float(high)
        return kind(text)
    except ValueError as error:
        raise ValueError(
            f"`--{name.replace('_', '-')}` expects {expected}. Received: "
            f"{text!r}"
        ) from error
