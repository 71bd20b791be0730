"""An option for every field of a recipe."""

import functools
import inspect
import re
import types
import typing
from dataclasses import fields
from typing import Annotated

import typer

from keras_convnext.training.recipes import Recipe

NOT_CHANGED = ("name", "summary", "source")
EXPECTED = {
    str: "text",
    tuple: "two numbers, such as 0.35,1",
    int: "a whole number, such as 32",
    float: "a number, such as 0.1",
}


def recipe_options(command):
    """Gives a command one option per field in place of its `**changes`.

    They reach it as the text that the user wrote, `None` if nothing.
    """

    signature = inspect.signature(command)
    own = list(signature.parameters.values())[:-1]
    helps = _helps(Recipe)
    names = [x.name for x in fields(Recipe) if x.name not in NOT_CHANGED]
    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None,
                typer.Option(
                    metavar="VALUE",
                    help=helps.get(name),  # none under `python -OO`
                    rich_help_panel="Fields of the recipe, see `Recipe`",
                ),
            ],
        )
        for name in names
    ]

    @functools.wraps(command)
    def with_options(*args, **kwargs):
        return command(*args, **kwargs)

    with_options.__signature__ = signature.replace(parameters=own + added)
    with_options.__annotations__ = {x.name: x.annotation for x in own + added}
    return with_options


def _helps(record):
    """What a docstring says of each attribute, as a sentence."""
    _, _, text = inspect.getdoc(record).partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return {
        name: " ".join(f"{meaning[0].upper()}{meaning[1:]}".split())
        for name, meaning in found
    }


def changed(recipe, texts):
    """A recipe with the fields that a command line gave.

    Args:
        recipe: a `Recipe`.
        texts: dict from field to text or `None`; numbers, words, two numbers
            separated by a comma, and `none` where a field may be `None`.

    Another `batch_size` scales the learning rate, unless that is given too.
    """
    changes = {
        name: _value(name, text)
        for name, text in texts.items()
        if text is not None
    }
    if "batch_size" in changes:
        recipe = recipe.with_batch_size(changes["batch_size"])
    return recipe.replace(**changes)


def _value(name, text):
    kinds = _kinds(name)
    if text.lower() == "none" and types.NoneType in kinds:
        return None
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


def _kinds(name):
    """The types that a field of a recipe may be of."""

    kind = next(x.type for x in fields(Recipe) if x.name == name)
    return typing.get_args(kind) or (kind,)
