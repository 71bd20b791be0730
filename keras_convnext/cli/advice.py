"""Errors in the words of the command line.

The library names arguments of Python, as in "pass `image_size=64`"; who typed
a command has options. One translation for all errors, so that none of them
needs to know who called.
"""

import functools
import inspect
import re
import typing
from typing import Annotated

from keras_convnext._util.startup import ERRORS

# Options that are called otherwise than the argument of the library.
ALIASES = {
    "name": "model",
    "overwrite": "force",
    "scales": "scale",
    "separator": "label_separator",
    "step": "steps",
}
# Whole phrases, before anything else.
PHRASES = (
    (r"`recipe\.replace\((\w+=[^`()]*)\)`", r"`\1`"),
    (r"`recipe\.with_batch_size\((\w+)\)`", r"`batch_size=\1`"),
    (
        r"Build it with `recipe\.build`, or (take|pass)",
        r"Name an architecture as `model`, or \1",
    ),
    (
        r"Build the model with `recipe\.build`, or (take|pass)",
        r"Name an architecture as `model`, or \1",
    ),
    (
        r"Build it with `recipe\.build\([^`]*\)`",
        "Name an architecture as `model`, which gets the classes of the data",
    ),
    (
        r"build the model with `classifier_activation=None`, or with "
        r"`recipe\.build`",
        "name an architecture as `model`, or save yours with "
        "`classifier_activation=None`",
    ),
    (
        r"`keras_convnext\.recipes\.multi_label`, or `loss='binary'`",
        "`--task multi-label`",
    ),
    (r"`keras_convnext\.recipes\.regression`", "`--task regression`"),
    (r"`keras_convnext\.list_weights\(\)`", "`keras-convnext weights`"),
    (r"`keras_convnext\.list_models\(\)`", "`keras-convnext models`"),
    (r"`keras_convnext\.export`", "`keras-convnext export`"),
    (r"`weights`( of [^`]*?)? must be None,", r"`weights`\1 must be 'none',"),
)
VALUE = r"""'[^']*'|"[^"]*"|\([^()]*\)|\[[^\[\]]*\]|[^\s`,;()]*[^\s`,;().]"""


def in_options(error_text, options):
    """A text with options in place of arguments.

    Args:
        error_text: of an error of the library.
        options: dict from the command's arguments to pairs of words: what
            sets them, and for switches what takes them back or `None`.

    Examples:
        >>> in_options("Pass `top=3`", {"top": ("--top", None)})
        'Pass `--top 3`'
    """
    text = error_text
    for pattern, words in PHRASES:
        text = re.sub(pattern, words, text)

    def assigned(match):
        return f"`{_set(options, match[1], match[2]) or match[0][1:-1]}`"

    def named(match):
        return f"`{_pair(options, match[1])[0] or match[1]}`"

    def received(match):
        return _set(options, match[1], match[2]) or match[0]

    text = re.sub(rf"`(\w+)=({VALUE})?`", assigned, text)
    text = re.sub(r"`(\w+)`", named, text)
    text = re.sub(rf"(?<![\w`.=(\[{{/\\'\"-])(\w+)=({VALUE})", received, text)
    # Where both were named.
    return re.sub(r"(`--[\w-]+`),? \(\1\)", r"\1", text)


def for_command(command, options_of):
    """A command whose errors name its options.

    Args:
        command: function.
        options_of: function without arguments, to the `options` of
            `in_options`; called if there is an error.
    """

    @functools.wraps(command)
    def run(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except ERRORS as error:
            # The text of the system's errors is made of other things.
            if not (isinstance(error, OSError) and error.errno):
                text = in_options(str(error), options_of())
                error.args = (text,)
                if isinstance(error, ImportError):
                    error.msg = text
            raise

    run.__signature__ = _with_plain_types(command)
    return run


def _with_plain_types(command):
    """The signature, of which older releases of Typer read no ranges."""
    signature = inspect.signature(command)
    plain = typing.get_type_hints(command)
    parameters = []
    for name, parameter in signature.parameters.items():
        details = getattr(parameter.annotation, "__metadata__", ())
        if name in plain and details:
            annotation = Annotated[plain[name], *details]
            parameter = parameter.replace(annotation=annotation)
        parameters.append(parameter)
    return signature.replace(parameters=parameters)


def options_of(parameters):
    """The `options` of `in_options`, from a command's parameters."""
    return {
        x.name: (
            (x.opts[0], next(iter(x.secondary_opts), None))
            if x.param_type_name == "option"
            else ((x.metavar or x.name).upper().strip("."), None)
        )
        for x in parameters
    }


def _pair(options, name):
    alias = ALIASES.get(name, name)
    return options.get(name) or options.get(alias) or (None, None)


def _set(options, name, value):
    """What sets an option to a value of Python's; `None` if there is none."""
    word, opposite = _pair(options, name)
    if word is None or value is None:
        return word
    if value == "True":
        return word
    if value == "False":
        return opposite or f"no {word}"
    value = {"None": "none"}.get(value, value)
    is_quoted = value[0] == value[-1] and value[0] in "'\"" and " " not in value
    value = value[1:-1] if is_quoted else value
    if re.fullmatch(r"\([\d., ]*\)", value):
        value = value[1:-1].replace(" ", "").strip(",")
    return f"{word} {value}" if word.startswith("-") else value
