"""An option for every figure of the recipes."""

import inspect
import re
import types
import typing
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from keras_convnext._util import ranges
from keras_convnext._util.json_files import read_object

# Which recipe is taken says it.
LEFT_OUT = {"detector"}
EXPECTED = {
    Mapping: 'a JSON file with an object such as {"cat": 1, "fox": 9.5}',
    str: "text",
    tuple: "two numbers, such as 0.35,1",
    Sequence: "numbers, such as 0.75,0.9",
    int: "a whole number, such as 32",
    float: "a number, such as 0.1",
}


def recipe_options(*kinds):
    """Gives a command one option per figure in place of its `**changes`.

    They reach it as the text that the user wrote, `None` if nothing.

    Args:
        kinds: classes of recipes; fields of several are one option, as the
            first describes it.
    """

    def decorate(command):
        signature = inspect.signature(command)
        *parameters, changes = signature.parameters.values()
        for name, option in _options(kinds).items():
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

    return decorate


def _options(kinds):
    """An option for each field, by name."""
    options = {}
    for kind in kinds:
        helps = _helps(kind)
        for name in figures(kind):
            option = typer.Option(
                metavar="VALUE",
                help=helps.get(name),  # none under `python -OO`
                rich_help_panel=f"Fields of the recipe, see `{kind.__name__}`",
            )
            options.setdefault(name, option)
    return options


def figures(kind):
    """The types of a recipe class's figures by name, without their ranges.

    Its own name and texts are fields of the class below it.
    """
    hints = typing.get_type_hints(kind)
    names = inspect.get_annotations(kind)
    return {name: hints[name] for name in names if name not in LEFT_OUT}


def _helps(record):
    """The meanings of attributes in a docstring, as sentences by name."""
    _, _, text = inspect.getdoc(record).partition("Attributes:\n")
    pairs = re.findall(r"^    ([\w, ]+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return {
        name: " ".join(f"{meaning[0].upper()}{meaning[1:]}".split())
        for names, meaning in pairs
        for name in names.split(", ")
    }


def changed(recipe, texts, images):
    """A recipe with the figures that a command line gave.

    Args:
        recipe: of any task.
        texts: dict from field to text or `None`; numbers, words, two numbers
            separated by a comma, names of JSON files, and `none` where a field
            may be `None`.
        images: int, how many there are to train on.

    Raises:
        ValueError: for texts of another kind, and for fields that recipes of
            other tasks have.

    Another `batch_size`, or one that so many images fill, scales the learning
    rate, unless that is given too.
    """
    kinds = figures(type(recipe))
    given = {name: x for name, x in texts.items() if x is not None}
    if others := [name for name in given if name not in kinds]:
        raise ValueError(
            f"The recipe {recipe.name!r} has other figures. Received: "
            f"{', '.join(f'`{x}`' for x in others)}. Leave it out; it has "
            f"{', '.join(f'`{x}`' for x in kinds)}"
        )
    changes = {
        name: _value(name, text, kinds[name]) for name, text in given.items()
    }
    if "batch_size" in changes:
        recipe = recipe.with_batch_size(changes["batch_size"])
    recipe = recipe.replace(**changes)
    if "batch_size" not in changes:
        return recipe.for_images(images, "learning_rate" not in changes)
    micro_batches = getattr(recipe, "gradient_accumulation_steps", 1)
    if recipe.batch_size > images * micro_batches:
        raise ValueError(
            f"`batch_size` must be at most the number of images, {images}. "
            f"Received: batch_size={recipe.batch_size}. Leave it out, or add "
            "images"
        )
    return recipe


def _value(name, text, kind):
    kinds = ranges.members(kind)
    if text.lower() == "none" and types.NoneType in kinds:
        return None
    elements = {
        typing.get_args(x)[0] for x in kinds if typing.get_origin(x) is Sequence
    }
    kinds = {typing.get_origin(x) or x for x in kinds}
    kind, expected = next(x for x in EXPECTED.items() if x[0] in kinds)
    if elements == {int}:
        expected = "whole numbers, such as 128,224"
    try:
        if kind is tuple:
            low, high = text.split(",")
            return float(low), float(high)
        if kind is Mapping:
            return _numbers_in(Path(text))
        if kind is Sequence:
            (element,) = elements
            return tuple(element(x) for x in text.split(","))
        return kind(text)
    except ValueError as error:
        why = f" ({error})" if kind is Mapping else ""
        raise ValueError(
            f"`--{name.replace('_', '-')}` expects {expected}. Received: "
            f"{text!r}{why}"
        ) from error


def _numbers_in(path):
    """The object in a JSON file, whose values are numbers."""
    if not path.is_file():
        raise ValueError("there is no such file")
    numbers = read_object(path, {})
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{name!r} has {value!r}, which is no number")
    return numbers
