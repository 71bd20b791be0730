"""An option for every field of a recipe."""

import functools
import inspect
from dataclasses import fields
from typing import Annotated

import typer

NOT_CHANGED = ("name", "summary", "source")


def recipe_options(command):
    """Gives a command one option per field in place of its `**changes`.

    They reach it as the text that the user wrote, `None` if nothing.
    """
    from keras_convnext.recipes import Recipe

    signature = inspect.signature(command)
    own = list(signature.parameters.values())[:-1]
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


def changed(recipe, texts):
    """A recipe with the fields that a command line gave.

    Args:
        recipe: a `Recipe` for one size of model.
        texts: dict from field to text or `None`; numbers, words, `none`, and
            numbers parted by commas.

    Another `batch_size` scales the learning rate, unless that is given too.
    """
    changes = {
        name: _value(name, text, getattr(recipe, name))
        for name, text in texts.items()
        if text is not None
    }
    if "batch_size" in changes:
        recipe = recipe.with_batch_size(changes["batch_size"])
    return recipe.replace(**changes)


def _value(name, text, present):
    if text.lower() == "none":
        return None
    if isinstance(present, str) or name == "rand_augment":
        return text
    kind = int if isinstance(present, int) else float
    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(
            f"`--{name.replace('_', '-')}` expects "
            f"{'whole numbers' if kind is int else 'numbers'}, such as "
            f"{present!r}. Received: {text!r}"
        ) from error
    return values if isinstance(present, tuple) else values[0]
