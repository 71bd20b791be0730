"""CSV, JSON Lines and Parquet: rows of chosen columns, one after another.

Files may be larger than the memory, so nothing here holds more than a line or
a batch of rows.
"""

import contextlib
import csv
import json
import os
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import some
from keras_convnext._util.requirements import require

SEPARATORS = ",;\t|"
# A file without line breaks is no list, and would be read whole.
LONGEST_LINE = 2**24
BATCH = 2**14
ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# A row's line, or its number from 1, and its values.
Row = tuple[int, list[Any]]


@dataclass(frozen=True)
class Table:
    """What can be read of a list.

    Attributes:
        path: of the file.
        columns: names in the order of the file.
        unit: what numbers of rows count: lines, or rows themselves.
        rows: function of names of columns that yields rows of their values.
    """

    path: Path
    columns: tuple[str, ...]
    unit: str
    rows: Callable[[Sequence[str]], Iterator[Row]]


def is_list(path: PathLike) -> bool:
    """Whether this names a list, by its suffix."""
    return Path(path).suffix.lower() in FORMATS and not os.path.isdir(path)


def open_table(path: PathLike) -> Table:
    """Opens a list as far as the names of its columns.

    Raises:
        ValueError: if it is missing, empty, broken, or has two columns of one
            name.
        ImportError: for Parquet, if pyarrow is not installed.
    """
    path = Path(path)
    if not path.is_file():  # a pipe would never end
        raise ValueError(
            f"The list must be a file that exists. Received: {str(path)!r}"
        )
    table = FORMATS[path.suffix.lower()](path)
    counts = Counter(filter(None, table.columns))
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(
            "Every column must have a name of its own. Received: more than "
            f"one {some(twice)} in {str(path)!r}. Rename or remove them"
        )
    return table


# CSV


def _csv(path):
    headers = {}
    for separator in SEPARATORS:
        # Quotes of one separator are mistakes with another.
        with contextlib.suppress(csv.Error), _lines(path) as lines:
            reader = _reader(lines, separator)
            headers[separator] = next(filter(_has_text, reader), None)
    # Of equals the first: `max` keeps it.
    separator = max(headers, key=lambda x: len(headers[x] or ()), default="")
    if not separator or headers[separator] is None:
        # What is wrong with it, this tells.
        next(_csv_rows(path, ",", 0, []), None)
        raise _empty(path)
    columns = tuple(name.strip() for name in headers[separator])
    return Table(
        path,
        columns,
        "line",
        lambda names: _csv_rows(
            path, separator, len(columns), [columns.index(x) for x in names]
        ),
    )


def _csv_rows(path, separator, width, places):
    with _lines(path) as lines:
        reader = _reader(lines, separator)
        records = filter(_has_text, reader)
        try:
            next(records, None)  # the names
            for fields in records:
                if len(fields) != width:
                    raise csv.Error(
                        f"{len(fields)} fields where there are {width} columns"
                    )
                yield reader.line_num, [fields[place] for place in places]
        except csv.Error as error:
            raise _broken(path, reader.line_num, error) from error


def _reader(lines, separator):
    return csv.reader(lines, delimiter=separator, strict=True)


def _has_text(fields):
    """Spreadsheets leave lines of nothing but separators."""
    return any(not field.isspace() for field in fields if field)


# JSON Lines


def _json_lines(path):
    first = next(_objects(path), None)
    if first is None:
        raise _empty(path)
    return Table(path, tuple(first[1]), "line", partial(_json_rows, path))


def _json_rows(path, names):
    for line, row in _objects(path):
        yield line, [row.get(name) for name in names]


def _objects(path):
    with _lines(path) as lines:
        for line, text in enumerate(lines, 1):
            if text.isspace():
                continue
            try:
                row = json.loads(text, object_pairs_hook=_object)
                if not isinstance(row, dict):
                    raise ValueError(f"it holds no object, but {text[:40]!r}")
            except (ValueError, RecursionError) as error:
                raise _broken(path, line, error) from error
            yield line, row


def _object(pairs):
    """A dict, in which Python would let the last of equal names win."""
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"it names {twice!r} more than once")
    return row


# Parquet


def _parquet(path):
    parquet = require(
        "pyarrow.parquet", "lists in Parquet", "write the list as CSV"
    )
    with _parquet_errors(path), parquet.ParquetFile(path) as file:
        columns = tuple(file.schema_arrow.names)
    return Table(path, columns, "row", partial(_parquet_rows, parquet, path))


def _parquet_rows(parquet, path, names):
    number = 0
    with _parquet_errors(path), parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH, columns=list(names)):
            values = [batch.column(name).to_pylist() for name in names]
            for row in zip(*values):
                number += 1
                yield number, list(row)


@contextlib.contextmanager
def _parquet_errors(path):
    try:
        yield
    # Broken files end in ArrowInvalid, OSError, NotImplementedError …
    except Exception as error:
        raise ValueError(
            "Expected a Parquet file that pyarrow reads. Received: "
            f"{str(path)!r} ({error}). Write it again"
        ) from error


FORMATS: dict[str, Callable[[Path], Table]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}


# Text


@contextlib.contextmanager
def _lines(path):
    """An iterator of a text file's lines, with their ends."""
    with open(path, "rb") as file:
        encoding = ENCODINGS.get(file.read(2), "utf-8-sig")
    # The `csv` module finds the ends of lines itself, for those in quotes.
    with open(path, encoding=encoding, newline="") as file:
        yield _short_lines(file, path, encoding)


def _short_lines(file, path, encoding):
    number = 0
    try:
        while text := file.readline(LONGEST_LINE):
            number += 1
            if len(text) == LONGEST_LINE:
                raise _broken(
                    path, number, f"it has {LONGEST_LINE} characters or more"
                )
            yield text
    except UnicodeError as error:
        raise ValueError(
            f"Expected a text file in {encoding.removesuffix('-sig').upper()}."
            f" Received: {str(path)!r}, where something after line {number} is"
            f" none ({error}). Save it as UTF-8"
        ) from error


def _broken(path, line, error):
    return ValueError(
        f"Expected a list whose lines can be read. Received: {str(path)!r}, "
        f"whose line {line} is broken: {error}. Repair or remove the line"
    )


def _empty(path):
    return ValueError(
        "A list must name its columns, and have a row for each image. "
        f"Received: {str(path)!r}, which is empty"
    )
