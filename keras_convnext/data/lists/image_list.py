"""Images that a CSV, JSON Lines or Parquet file lists, with their labels."""

import contextlib
import os
import warnings
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import one_of
from keras_convnext._util.checks import some
from keras_convnext._util.limits import check_file
from keras_convnext._util.limits import check_memory
from keras_convnext._util.telling import tell
from keras_convnext.data.lists.listing import read_listing
from keras_convnext.data.parts import NAMES
from keras_convnext.data.parts import by_part
from keras_convnext.data.source import CLASS_BYTES
from keras_convnext.data.source import Source
from keras_convnext.data.source import Subset
from keras_convnext.data.threads import in_order

LOOKED_FOR_AT_A_TIME = 1024


class ImageList(Source):
    """Images that a file lists, one row for each.

    CSV (separated by commas, semicolons, tabs or `|`; UTF-8 or UTF-16), JSON
    Lines, or Parquet, by the suffix `.csv`, `.tsv`, `.jsonl`, `.ndjson` or
    `.parquet`. The list is read row by row: memory holds paths and numbers.
    Spaces around values do not count. Columns that are not named are guessed
    by usual names, and said on stderr.

    Args:
        path: of the list.
        path_column: name of the column of paths, relative to the list's
            folder, or absolute; with slashes or backslashes.
        label_column: of the classes: text or whole numbers. Classes are in
            the order of their names as text, as those of folders.
        split_column: of `train`, `val`, `test` and the like, see
            `open_splits`. There may be none; `"none"` ignores one of a usual
            name.
        group_column: of what images have in common, such as a patient: no
            hold-out parts them. Never guessed.
        classes: their names in order, of which the list may lack some, such
            as those of another list; all that are in it, sorted, if `None`.
        is_upright: whether to apply the EXIF orientation of photographs.
        on_error: what to do where files do not exist: `"skip"` leaves them
            out and warns with their count, `"raise"` ends. Loaders warn of
            files that exist and cannot be read.

    Attributes:
        path, classes, labels, groups, is_upright: see `Source`.

    Raises:
        ValueError: if the list is empty, broken, or lacks a column or values,
            which are named by their lines. If it has a file twice with another
            label, split or group; and if none of the files exists.
        ImportError: for Parquet, if pyarrow is not installed.

    Examples:
        >>> source = keras_convnext.data.ImageList(
        ...     "photos.csv", group_column="patient"
        ... )  # doctest: +SKIP
        >>> train, validation = keras_convnext.data.open_splits(
        ...     source
        ... )  # doctest: +SKIP
    """

    _MAY_BE_EMPTY: tuple[str, ...] = ()

    def __init__(
        self,
        path: PathLike,
        path_column: str | None = None,
        label_column: str | None = None,
        split_column: str | None = None,
        group_column: str | None = None,
        classes: Sequence[str] | None = None,
        is_upright: bool = True,
        on_error: str = "skip",
    ):
        one_of("on_error", on_error, ("skip", "raise"))
        self.path = Path(path)
        self._folder = str(self.path.parent)
        self.is_upright = is_upright
        given = {
            "path": path_column,
            "label": label_column,
            "split": split_column,
            "group": group_column,
        }
        self._listing = self._read(given)
        columns = self._listing.columns
        self.classes = self._classes(classes)
        self._rows = _rows_once(self._listing)
        self._rows = self._existing(on_error)
        self.labels = self._labels()
        if "group" in columns:
            self.groups = columns["group"].codes[self._rows]
        self._splits = self._rows_of_splits()
        for part, other in combinations(self._splits, 2):
            names = [self._group_names(self._splits[x]) for x in (part, other)]
            self._refuse_shared(names, f"the splits {part!r} and {other!r}")
        if classes is None:
            try:
                self.check()
            except ValueError as error:
                raise ValueError(f"In {str(path)!r}: {error}") from error

    def _read(self, given):
        return read_listing(self.path, given, self._MAY_BE_EMPTY)

    def _classes(self, given):
        """The names of all classes in order, given or found."""
        names = self._class_names()
        classes = tuple(sorted(names) if given is None else given)
        if unknown := sorted(set(names) - set(classes)):
            raise ValueError(
                "Every label must be one of the classes that are trained on. "
                f"Received: {some(unknown)} in {str(self.path)!r}, and none of "
                f"{len(classes)} classes such as {some(classes, 3)}"
            )
        return classes

    def _labels(self):
        """The labels of the images whose files exist."""
        codes = self._listing.columns["label"].codes
        return self._labels_of_texts()[codes[self._rows]]

    def _class_names(self):
        return _class_names(self._listing)

    def _labels_of_texts(self):
        """The label of each text in the column, in the order of their codes."""
        rank = {name: number for number, name in enumerate(self.classes)}
        texts = self._listing.columns["label"].texts
        return np.array([rank[name] for name in texts], "int32")

    def read(self, number: int) -> bytes:
        path = self.name(number)
        check_file(path)  # a pipe would never end
        return Path(path).read_bytes()

    def filename(self, number: int) -> str:
        return self._listing.path(self._rows[number])

    def name(self, number: int) -> str:
        return os.path.join(self._folder, self.filename(number))

    def content(self) -> Iterator[bytes]:
        for number in range(len(self)):
            # Files removed since have no size: reading skips them.
            size = -1
            with contextlib.suppress(OSError):
                size = os.stat(self.name(number)).st_size
            yield os.fsencode(f"{self.filename(number)}\n{size}\n")

    def _group_names(self, numbers):
        if self.groups is None:
            return set()
        texts = self._listing.columns["group"].texts
        return {texts[code] for code in np.unique(self.groups[numbers])}

    def _refuse_shared(self, names, where):
        if shared := sorted(set.intersection(*names), key=str):
            raise ValueError(
                "A group may be on one side alone. Received: "
                f"{len(shared)} in both of {where}, in {str(self.path)!r}: "
                f"{some(shared)}. Move their rows to one side"
            )

    def parts(self) -> dict[str, Callable[[], Source]]:
        if not self._splits:
            return super().parts()
        chosen = by_part(self._splits)
        for name, numbers in self._splits.items():
            if name not in chosen.values():
                tell(f"{self.path}: {len(numbers)} images of {name!r} left out")
        parts: dict[str, Callable[[], Source]] = {
            part: partial(self.split, x) for part, x in chosen.items()
        }
        if "train" in parts:
            parts["train"] = partial(self._trained_on, chosen["train"])
        return parts

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, in small letters."""
        return tuple(self._splits)

    def split(self, name: str) -> Subset:
        """The images of one split.

        Args:
            name: as the list has it, in letters of any case.

        Raises:
            ValueError: if there is none of this name, or no file of it.

        Examples:
            >>> source = keras_convnext.data.ImageList(
            ...     "photos.csv"
            ... )  # doctest: +SKIP
            >>> test = source.split("test")  # doctest: +SKIP
        """
        if not self._splits:
            raise ValueError(
                "Expected a list with a column of splits, see `split_column`. "
                f"Received: split={name!r} of {str(self.path)!r} without one"
            )
        one_of("split", name.lower(), [*self._splits])
        part = Subset(self, self._splits[name.lower()])
        if not len(part):
            raise ValueError(
                "Expected files that exist in every split. Received: none in "
                f"{name!r} of {str(self.path)!r}"
            )
        return part

    def _trained_on(self, name):
        part = self.split(name)
        lacking = [x for x, n in zip(self.classes, part.counts()) if not n]
        if lacking:
            raise ValueError(
                "Every class needs images to train on. Received: "
                f"{some(lacking)} of {len(self.classes)} classes with none in "
                f"the split {name!r} of {str(self.path)!r}. Move some there, "
                "or remove the class"
            )
        return part

    def _rows_of_splits(self):
        """The numbers of the images of each split, by its name."""
        column = self._listing.columns.get("split")
        if column is None:
            return {}
        known = {alias for aliases in NAMES.values() for alias in aliases}
        unknown = [x for x in column.texts if str(x).lower() not in known]
        if unknown:
            raise ValueError(
                f"Splits must be called {', '.join(sorted(known))}. Received: "
                f"{some(unknown)} in {str(self.path)!r}. Rename them, or pass "
                "split_column='none'"
            )
        codes = column.codes[self._rows]
        names = [text.lower() for text in column.texts]
        return {
            name: np.flatnonzero(
                np.isin(codes, [i for i, x in enumerate(names) if x == name])
            )
            for name in dict.fromkeys(names)
        }

    def _existing(self, on_error):
        """Of the rows those whose files exist; others are told."""
        parts = np.arange(0, len(self._rows), LOOKED_FOR_AT_A_TIME)

        def exist(start):
            numbers = range(
                start, min(start + LOOKED_FOR_AT_A_TIME, len(self._rows))
            )
            return [os.path.isfile(self.name(number)) for number in numbers]

        is_there = np.concatenate([*in_order(exist, parts)])
        missing = np.flatnonzero(~is_there)
        if not len(missing):
            return self._rows
        count = f"{len(missing)} of {len(self._rows)}"
        told = f"{str(self.path)!r} lists files that do not exist"
        names = self._listing.some_of(self._rows[missing])
        if on_error == "raise" or not is_there.any():
            raise ValueError(
                "Paths must be relative to the folder of their list, or "
                f"absolute. Received: {told}, {count}: {names}; the "
                f"first would be {self.name(missing[0])!r}"
            )
        warnings.warn(f"{told}, left out {count}: {names}", stacklevel=3)
        return self._rows[is_there]


def check_apart(train: Source, held_out: Source) -> None:
    """Looks for what two lists share.

    Raises:
        ValueError: if that is a group. Of files there is a warning.
    """
    first, second = _listed(train), _listed(held_out)
    if first is None or second is None or first[0] is second[0]:
        return
    where = f"this list and {str(second[0].path)!r}"
    names = [
        source._group_names(numbers) for source, numbers in (first, second)
    ]
    first[0]._refuse_shared(names, where)
    files = [_hashes(source, numbers) for source, numbers in (first, second)]
    shared = first[1][np.isin(*files)]
    if len(shared):
        source = first[0]
        warnings.warn(
            f"{len(shared)} files are in both of {str(source.path)!r}, which "
            f"is trained on, and {str(second[0].path)!r}, which is validated "
            f"on: {source._listing.some_of(source._rows[shared])}",
            stacklevel=4,
        )


def _listed(source):
    """The list that a source is of, and the numbers of its images there."""
    if isinstance(source, ImageList):
        return source, np.arange(len(source))
    if isinstance(source, Subset) and isinstance(source.source, ImageList):
        return source.source, source.numbers
    return None


def _hashes(source, numbers):
    """Of the places of files, whatever list they are in."""
    places = (os.path.abspath(source.name(number)) for number in numbers)
    return np.fromiter(map(hash, map(_same, places)), "int64", len(numbers))


def _class_names(listing):
    """The names of the classes, in the order of their codes."""
    names = listing.columns["label"].texts
    several = [x for x in names if not isinstance(x, str)]
    if several:
        raise ValueError(
            "Every image must have one label. Received: "
            f"{list(several[0])} in {str(listing.table.path)!r}"
        )
    check_memory(
        CLASS_BYTES * len(names), f"{len(names)} classes, such as {names[0]!r},"
    )
    return names


def _rows_once(listing):
    """The numbers of all rows but those that say again what others say.

    Raises:
        ValueError: if they say something else.
    """
    # Sets of strings would take many times the memory of the list.
    hashes = np.fromiter(
        (hash(_same(listing.path(row))) for row in range(len(listing))),
        "int64",
        len(listing),
    )
    order = np.argsort(hashes)
    is_next = np.diff(hashes[order]) == 0
    alike = np.union1d(order[:-1][is_next], order[1:][is_next])
    is_kept = np.ones(len(listing), bool)
    first_of = {}
    for row in alike:
        first = first_of.setdefault(_same(listing.path(row)), row)
        if first == row:
            continue
        is_kept[row] = False
        for use, column in listing.columns.items():
            if column.of(first) != column.of(row):
                raise ValueError(
                    "A file may be listed once. Received: "
                    f"{listing.path(row)!r} in {str(listing.table.path)!r} "
                    f"with the {use} {column.of(first)!r} in "
                    f"{listing.place(first)} and {column.of(row)!r} in "
                    f"{listing.place(row)}. Remove what is wrong"
                )
    again = np.flatnonzero(~is_kept)
    if len(again):
        warnings.warn(
            f"{str(listing.table.path)!r} lists files more than once, which "
            f"count once: {len(again)} rows, {listing.some_of(again)}",
            stacklevel=4,
        )
    return np.flatnonzero(is_kept)


def _same(path):
    """One text for all ways to write a path."""
    return os.path.normcase(os.path.normpath(path))
