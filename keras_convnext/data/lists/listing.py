"""What a list says of its images, column by column, in little memory."""

import contextlib
import math
import numbers
import os
from array import array
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import did_you_mean
from keras_convnext._util.checks import some
from keras_convnext._util.telling import tell
from keras_convnext.data.lists.tables import Table
from keras_convnext.data.lists.tables import open_table

# What columns are called, in small letters and without what separates words;
# of several the first counts. Which images belong together none can guess.
USUAL = {
    "path": (
        *("path", "filepath", "imagepath", "file", "filename", "imagefile"),
        *("imagefilename", "imagename", "image", "img", "imgpath"),
    ),
    "label": ("label", "labels", "class", "classes", "classname", "category"),
    "target": ("target", "targets", "value", "y"),
    "split": ("split", "subset", "partition"),
    "group": (),
}
OPTIONAL = ("split", "group")
# In the place of a column's name: there is to be none.
NONE = "none"
SHOWN = 5
Text = str | tuple[str, ...]


@dataclass(frozen=True)
class Coded:
    """A column whose texts come again and again.

    Attributes:
        codes: `int32` array `(rows,)` of positions in `texts`.
        texts: every text once, in the order of the file. A tuple of several
            where a row holds a list.
    """

    codes: Array
    texts: tuple[Any, ...]

    def of(self, row: int) -> Text:
        return self.texts[self.codes[row]]


@dataclass(frozen=True)
class Numbers:
    """A column of numbers.

    Attributes:
        values: array `(rows,)`: finite `float64`, or `int8` of 0 and 1.
    """

    values: Array

    def of(self, row: int) -> float:
        return float(self.values[row])


@dataclass(frozen=True)
class Listing:
    """What is read of a list; paths as bytes, which take less than strings.

    Attributes:
        table: where it comes from.
        lines: `int64` array `(rows,)`: where each row is in the file.
        columns: dict from `"label"`, `"split"`, `"group"` to `Coded` columns,
            of those that there are, and from `target_use` and `flag_use` to
            `Numbers`.
    """

    table: Table
    lines: Array
    columns: Mapping[str, Any]
    paths: bytearray
    ends: Array

    def __len__(self) -> int:
        return len(self.ends)

    def path(self, row: int) -> str:
        """As it is written, with slashes for backslashes."""
        start = self.ends[row - 1] if row else 0
        return os.fsdecode(bytes(self.paths[start : self.ends[row]]))

    def some_of(self, rows: Array) -> str:
        """The first paths of several rows, and how many more there are."""
        more = len(rows) - SHOWN
        names = ", ".join(repr(self.path(row)) for row in rows[:SHOWN])
        return f"{names} and {more} more" if more > 0 else names

    def place(self, row: int) -> str:
        """The row for messages, as `line 3`."""
        return f"{self.table.unit} {self.lines[row]}"


def columns_of(
    table: Table, given: Mapping[str, str | None]
) -> dict[str, str | None]:
    """The name of the column for each use; guesses are said.

    Args:
        table: of `open_table`.
        given: dict from uses, such as `"path"`, to names, or to `None` for
            what is to be guessed. `"none"` leaves out an optional column.

    Raises:
        ValueError: if there is no such column.
    """
    columns, guessed = {}, []
    for use, name in given.items():
        if name is None:
            name = usual_column(table, use)
            if name is not None:
                guessed.append(f"{use} from {name!r}")
        elif use in OPTIONAL and name == NONE:
            name = None
        else:
            _check_there(_argument(use), name, table)
        if name is None and use not in OPTIONAL:
            raise ValueError(
                f"Expected a column for the {use} of each image, with one of "
                f"the names {', '.join(USUAL[use])}. Received: the columns "
                f"{some(table.columns, 20)} in {str(table.path)!r}. Name it: "
                f"`{_argument(use)}`"
            )
        columns[use] = name
    if guessed:
        tell(f"{table.path}: {', '.join(guessed)}")
    return columns


def usual_column(table: Table, use: str) -> str | None:
    """The first column of a usual name for a use."""
    usual = {"".join(filter(str.isalnum, x.lower())): x for x in table.columns}
    return next((usual[x] for x in USUAL[use] if x in usual), None)


def columns_named(
    argument: str, value: str | Sequence[str], table: Table
) -> tuple[str, ...]:
    """One column or several, with commas between or in a sequence.

    Raises:
        ValueError: if there is no such column, and for one named twice.
    """
    names = tuple(value)
    if isinstance(value, str):
        is_one = value in table.columns  # perhaps with a comma in it
        names = (value,) if is_one else tuple(map(str.strip, value.split(",")))
    for name in names:
        _check_there(argument, name, table)
    if len(set(names)) < len(names) or not names:
        raise ValueError(
            f"`{argument}` must name one column or several, each once. "
            f"Received: {argument}={value!r}"
        )
    return names


def _check_there(argument, name, table):
    """Raises `ValueError` for a column that a list has not."""
    if name not in table.columns:
        raise ValueError(
            f"`{argument}` must be a column of {str(table.path)!r}, one of "
            f"{list(table.columns)}. Received: {argument}={name!r}"
            f"{did_you_mean(name, table.columns)}"
        )


def _argument(use):
    return use if use == "target" else f"{use}_column"


def targets_of(
    path: PathLike, target: str | Sequence[str] | None
) -> tuple[str, ...]:
    """The columns of numbers that images have in place of labels.

    Args:
        path: of the list.
        target: name, or several with commas between or in a sequence; a usual
            one is looked for if `None`.

    Raises:
        ValueError: if there is no such column, and for one named twice.
    """
    table = open_table(path)
    if target is not None:
        return columns_named("target", target, table)
    return (str(columns_of(table, {"target": None})["target"]),)


def target_use(name: str) -> str:
    """What `read_listing` calls a column of numbers, in messages too."""
    return f"target {name!r}"


def flag_use(name: str) -> str:
    """What `read_listing` calls a column of one label."""
    return f"label {name!r}"


def read_listing(
    path: PathLike,
    given: Mapping[str, str | None],
    may_be_empty: tuple[str, ...] = (),
    targets: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> Listing:
    """Reads a list, once.

    Args:
        path: of a CSV, JSON Lines or Parquet file.
        given: see `columns_of`.
        may_be_empty: uses of columns in which rows may be without a value.
        targets: names of columns of numbers.
        flags: names of columns of 0 and 1.

    Raises:
        ValueError: if it has no rows, or rows without a value, which are
            named, or with what is no finite number, or neither 0 nor 1.
    """
    table = open_table(path)
    columns = columns_of(table, given)
    columns |= {target_use(name): name for name in targets}
    columns |= {flag_use(name): name for name in flags}
    uses = [use for use, name in columns.items() if name is not None]
    coders: dict[str, Any] = {use: _Coder() for use in uses if use != "path"}
    coders |= {target_use(name): _NumberReader("d") for name in targets}
    coders |= {flag_use(name): _NumberReader("b") for name in flags}
    parse: dict[str, Any] = dict.fromkeys(uses, (text_of, "text or numbers"))
    parse |= {target_use(x): (number_of, "finite numbers") for x in targets}
    parse |= {flag_use(x): (flag_of, "0 or 1") for x in flags}
    lines, ends, paths = array("q"), array("q"), bytearray()
    empty: dict[str, list[int]] = {use: [] for use in uses}
    for line, values in table.rows([str(columns[use]) for use in uses]):
        lines.append(line)
        for use, value in zip(uses, values):
            read, kind = parse[use]
            try:
                text = read(value)
            except ValueError as error:
                raise ValueError(
                    f"Expected {kind} as {use}. Received: {error} in "
                    f"{table.unit} {line} of {str(path)!r}"
                ) from error
            if text in ("", (), None) and use not in may_be_empty:
                empty[use].append(line)
            if use == "path":
                paths += os.fsencode(str(text).replace("\\", "/"))
                ends.append(len(paths))
            else:
                coders[use].add(text)
    _check_rows(table, len(lines), empty)
    return Listing(
        table,
        np.frombuffer(lines, "int64"),
        {use: coder.coded() for use, coder in coders.items()},
        paths,
        np.frombuffer(ends, "int64"),
    )


def text_of(value: Any) -> Text:
    """A value as text, of lists the texts in a tuple; empty if there is none.

    Raises:
        ValueError: for what is neither text nor a number.
    """
    if isinstance(value, str):
        return value.strip()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, numbers.Number):
        # Whole numbers become floats where a table lacks one of them.
        is_whole = isinstance(value, float) and value.is_integer()
        return str(int(value) if is_whole else value)  # type: ignore[call-overload]
    if isinstance(value, (list, tuple)):
        return tuple(str(text_of(x)) for x in value)
    raise ValueError(f"{value!r} of type {type(value).__name__}")


def number_of(value: Any) -> float | None:
    """A value as a number; `None` if there is none.

    Raises:
        ValueError: for what is no finite number.
    """
    if isinstance(value, str):
        value = value.strip()
    is_nan = isinstance(value, float) and math.isnan(value)
    if value is None or value == "" or is_nan:
        return None
    # Python's own rules take True, and 1_000 for a thousand.
    is_number = isinstance(value, (str, numbers.Real, Decimal))
    if is_number and not isinstance(value, bool) and "_" not in str(value):
        with contextlib.suppress(ValueError, OverflowError):
            if math.isfinite(number := float(value)):
                return number
    raise ValueError(repr(value))


def flag_of(value: Any) -> int | None:
    """A value as 0 or 1; `None` if there is none.

    Raises:
        ValueError: for what is neither.
    """
    if isinstance(value, str):
        # As pandas writes booleans.
        value = {"true": 1, "false": 0}.get(value.strip().lower(), value)
    number = int(value) if isinstance(value, bool) else number_of(value)
    if number not in (None, 0, 1):
        raise ValueError(repr(value))
    return None if number is None else int(number)


class _NumberReader:
    """Collects numbers; rows without one end the reading later.

    Args:
        kind: of Python's `array`.
    """

    def __init__(self, kind):
        self.values = array(kind)

    def add(self, number):
        self.values.append(0 if number is None else number)

    def coded(self):
        return Numbers(np.frombuffer(self.values, self.values.typecode))


class _Coder:
    """Numbers texts in the order in which they come."""

    def __init__(self):
        self.codes, self.code_of = array("i"), {}

    def add(self, text):
        self.codes.append(self.code_of.setdefault(text, len(self.code_of)))

    def coded(self):
        return Coded(np.frombuffer(self.codes, "int32"), tuple(self.code_of))


def _check_rows(table, count, empty):
    if not count:
        raise ValueError(
            "A list must have a row for each image. Received: "
            f"{str(table.path)!r} with the columns {some(table.columns, 20)} "
            "and no rows"
        )
    for use, lines in empty.items():
        if lines:
            shown = ", ".join(map(str, lines[:SHOWN]))
            more = ", …" if len(lines) > SHOWN else ""
            raise ValueError(
                f"Every row must have a {use}. Received: {len(lines)} of "
                f"{count} without one in {str(table.path)!r}, {table.unit} "
                f"{shown}{more}. Fill them in, or remove the rows"
            )
