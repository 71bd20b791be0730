"""The range of every number that is taken, declared once beside its name.

An annotation such as `Count` holds the range; `in_range` checks a function's
arguments by it, and `check_fields` those of a dataclass.
"""

import dataclasses
import functools
import inspect
import math
import numbers
import types
import typing
from collections.abc import Callable
from collections.abc import Mapping
from typing import Annotated
from typing import Any
from typing import ParamSpec
from typing import TypeAlias
from typing import TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Range:
    """Finite numbers between two ends, of which there may be one or none.

    Attributes:
        at_least, at_most: ends that are in the range.
        above, below: ends that are not.
    """

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value):
        return (
            math.isfinite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def text(self, kind: type) -> str:
        """What must be given, `a number of at least 0 and below 1`."""
        noun = {int: "int", float: "number"}[kind]
        if self in POSITIVE:
            return f"a positive {noun}"
        ends = (
            (self.at_least, "of at least"),
            (self.above, "above"),
            (self.at_most, "at most"),
            (self.below, "below"),
        )
        words = [f"{word} {end}" for end, word in ends if end is not None]
        if not words:
            return f"a finite {noun}"
        article = "an" if kind is int else "a"
        return f"{article} {noun} {' and '.join(words)}"


POSITIVE = (Range(at_least=1), Range(above=0))

# Any number but NaN and infinity.
Finite: TypeAlias = Annotated[float, Range()]
Positive: TypeAlias = Annotated[float, Range(above=0)]
NotNegative: TypeAlias = Annotated[float, Range(at_least=0)]
# Parts of a whole: with both ends, without the whole, without nothing.
Part: TypeAlias = Annotated[float, Range(at_least=0, at_most=1)]
PartBelowOne: TypeAlias = Annotated[float, Range(at_least=0, below=1)]
PartAboveZero: TypeAlias = Annotated[float, Range(above=0, at_most=1)]
PartBetween: TypeAlias = Annotated[float, Range(above=0, below=1)]

Whole: TypeAlias = Annotated[int, Range()]
Count: TypeAlias = Annotated[int, Range(at_least=1)]
CountOrZero: TypeAlias = Annotated[int, Range(at_least=0)]
Several: TypeAlias = Annotated[int, Range(at_least=2)]
# What every generator of random numbers takes.
Seed: TypeAlias = Annotated[int, Range(at_least=0, below=2**32)]


def check(name: str, value: Any, annotation: Any) -> None:
    """Raises `ValueError` for a number outside of its annotation's range.

    Args:
        name: of the argument.
        value: a number; or where the annotation has such, `None`, a sequence
            of numbers, or a dict of them by model size.
        annotation: of the argument, with such as `Count` in it.
    """
    _check(name, value, annotation, value)


def _check(name, value, annotation, received):
    kinds = members(annotation)
    if value is None and types.NoneType in kinds:
        return
    if hasattr(value, "__array__") and not isinstance(value, np.generic):
        value = np.asarray(value).tolist()
        received = value
    if isinstance(value, Mapping):
        # By model size, or of a mapping's own.
        mappings = [x for x in kinds if typing.get_origin(x) is Mapping]
        of_one = _elements(mappings[0])[1] if mappings else annotation
        for one in value.values() if mappings or Any in kinds else ():
            _check(name, one, of_one, received)
        return
    sequences = [x for x in kinds if _elements(x)]
    if sequences and isinstance(value, (tuple, list)):
        for one in value:
            _check(name, one, _elements(sequences[0])[0], received)
    if len({*kinds} - {types.NoneType}) == len(sequences) == 1:
        _check_length(name, value, sequences[0])
    if sequences and isinstance(value, (tuple, list)):
        return
    ranged = [x for x in kinds if _range(x)]
    # Texts and functions, where they may stand for a number.
    origins = {typing.get_origin(x) or x for x in kinds}
    is_text = str in origins and isinstance(value, str)
    is_function = Callable in origins and callable(value)
    if not ranged or is_text or is_function:
        return
    range_, kind = _range(ranged[0]), typing.get_args(ranged[0])[0]
    number = numbers.Integral if kind is int else numbers.Real
    is_number = isinstance(value, number) and not isinstance(value, bool)
    if not is_number or value not in range_:
        subject = f"`{name}`" if value is received else f"Each of `{name}`"
        raise ValueError(
            f"{subject} must be {range_.text(kind)}. Received: "
            f"{name}={received!r}"
        )


def _check_length(name, value, annotation):
    """Raises `ValueError` for other than a tuple of the length annotated."""
    if typing.get_origin(annotation) is not tuple:
        return
    elements = typing.get_args(annotation)
    count = None if Ellipsis in elements else len(elements)
    is_sequence = isinstance(value, (tuple, list))
    if not is_sequence or count not in (None, len(value)):
        raise ValueError(
            f"`{name}` must be a tuple of {count or 'several'} numbers. "
            f"Received: {name}={value!r}"
        )


def check_ordered(name: str, values: Any) -> None:
    """Raises `ValueError` unless these are the least and the greatest."""
    is_pair = isinstance(values, (tuple, list)) and len(values) == 2
    if not is_pair or values[0] > values[1]:
        raise ValueError(
            f"`{name}` must be two numbers, the least and the greatest. "
            f"Received: {name}={values!r}"
        )


def in_range(function: Callable[P, R]) -> Callable[P, R]:
    """Makes a function check the numbers that it is given by their ranges."""
    signature = inspect.signature(function)
    annotations = ranged(function)

    @functools.wraps(function)
    def checked(*args, **kwargs):
        try:
            given = signature.bind_partial(*args, **kwargs).arguments
        except TypeError:  # the call says it better
            given = {}
        for name, annotation in annotations.items():
            if name in given:
                check(name, given[name], annotation)
        return function(*args, **kwargs)

    # Keras reads the names of a layer's arguments here.
    checked.__signature__ = signature  # type: ignore[attr-defined]
    return checked


def check_fields(record: Any) -> None:
    """Checks the fields of a dataclass by their ranges."""
    for name, annotation in ranged(type(record)).items():
        check(name, getattr(record, name), annotation)


def ranged(source: Any) -> dict[str, Any]:
    """The annotations with a range, by field or argument."""
    if dataclasses.is_dataclass(source):
        annotations = {x.name: x.type for x in dataclasses.fields(source)}
    else:
        parameters = inspect.signature(source).parameters.values()
        annotations = {x.name: x.annotation for x in parameters}
    return {name: x for name, x in annotations.items() if _has_range(x)}


def _has_range(annotation):
    return any(
        _range(x) or any(map(_has_range, _elements(x)))
        for x in members(annotation)
    )


def members(annotation):
    """Those of a union, or the annotation alone."""
    if hasattr(annotation, "__metadata__") and not _range(annotation):
        annotation = annotation.__origin__  # an option of a command
    is_union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    return typing.get_args(annotation) if is_union else (annotation,)


def _range(annotation):
    """The `Range` of `Count` and its like."""
    metadata = getattr(annotation, "__metadata__", ())
    return next((x for x in metadata if isinstance(x, Range)), None)


def _elements(annotation):
    """What a sequence of numbers holds."""
    if _range(annotation):
        return ()
    is_callable = typing.get_origin(annotation) is Callable
    return () if is_callable else typing.get_args(annotation)
