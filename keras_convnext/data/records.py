"""Images in TFRecord shards, read by number without TensorFlow.

Why not ArrayRecord, which needs no index beside it: array_record has no wheels
for Windows (nor for Intel Macs on Python 3.13), where these are read by NumPy
alone. And it does not hold labels apart: opening ImageNet would read every
image, or take a file beside it again (measured: benchmarks/NOTES.md).
"""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import some
from keras_convnext._util.json_files import check_fields
from keras_convnext._util.json_files import read_object
from keras_convnext._util.writing import sha256_of
from keras_convnext.data.source import Source

INDEX = "index.json"
FORMAT = "keras-convnext records 1"
# Around an example: its length and a checksum, and another checksum.
HEADER, FOOTER = 12, 4
FIELDS = {
    "format": str,
    "source": dict,
    "classes": list,
    "shard_count": int,
    "shards": list,
}
SHARD_FIELDS = {
    "file": str,
    "bytes": int,
    "sha256": str,
    "rows_sha256": str,
    "left_out": dict,
}
# TFRecord's own CRC-32C spans whole examples and would take another package.
# So checked are: on opening, the sizes of all shards, and the rows by their
# SHA-256; on every read, the image by `zlib.crc32` in its row; on `verify`,
# all bytes by SHA-256.
CHECKSUM = "crc32"
ADVICE = (
    "Write them again by the command they were made with: "
    "`keras-convnext records DATA --output FOLDER --verify`"
)


class Records(Source):
    """Images in TFRecord shards, as `write_records` makes them.

    Reading needs neither TensorFlow nor protobuf.

    Args:
        path: the folder that holds `index.json`.
        is_upright: whether to apply the EXIF orientation of photographs.

    Attributes:
        path, classes, labels, is_upright: see `Source`.

    Raises:
        ValueError: if the records are not finished or of another format, and
            if a shard is missing or of another size than it was.

    Examples:
        >>> source = keras_convnext.data.Records(
        ...     "photo_records"
        ... )  # doctest: +SKIP
        >>> source.verify()  # doctest: +SKIP
    """

    def __init__(self, path: PathLike, is_upright: bool = True):
        self.path = Path(path)
        self.is_upright = is_upright
        index = read_index(self.path)
        self.shards = index["shards"]
        missing = index["shard_count"] - len(self.shards)
        if missing:
            raise ValueError(
                "Expected records that were written to the end. Received: "
                f"{str(path)!r}, which lacks {missing} of "
                f"{index['shard_count']} shards. {ADVICE}"
            )
        self.verify(checksums=False)
        self.classes = tuple(index["classes"])
        self._rows = [self._rows_of(shard) for shard in self.shards]
        self._ends = np.cumsum([len(rows) for rows in self._rows])
        self.labels = np.concatenate([rows["label"] for rows in self._rows])

    def verify(self, checksums: bool = True) -> None:
        """Compares every shard with its checksum, which reads all of them.

        Args:
            checksums: whether to do so, or to compare sizes alone.

        Raises:
            ValueError: with the names of those that differ.
        """
        damaged = [
            shard["file"]
            for shard in self.shards
            if not is_whole(self.path, shard, checksums)
        ]
        if damaged:
            raise ValueError(
                "Expected shards as they were written. Received, in "
                f"{str(self.path)!r}: {some(damaged)}, which are missing or "
                f"differ. {ADVICE}"
            )

    def read(self, number: int) -> bytes:
        """Encoded bytes.

        Raises:
            ValueError: if they are not those that were written.
        """
        shard, row = self._place(number)
        # Opened anew: there may be more shards than files to hold open.
        with open(self.path / shard["file"], "rb") as file:
            file.seek(row["offset"])
            content = file.read(row["length"])
        # Rows of earlier versions have none.
        if CHECKSUM in row.dtype.names and zlib.crc32(content) != row[CHECKSUM]:
            raise ValueError(f"its bytes in {shard['file']!r} were changed")
        return content

    def filename(self, number: int) -> str:
        _, row = self._place(number)
        return os.fsdecode(row["name"])

    def name(self, number: int) -> str:
        return os.path.join(self.path, self.filename(number))

    def content(self) -> Iterator[bytes]:
        for shard in self.shards:
            yield shard["sha256"].encode()

    def _rows_of(self, shard):
        """Where the images of a shard are, which must be in it."""
        path = rows_path(self.path, shard)
        try:
            rows = np.load(path, mmap_mode="r")
            starts, lengths, labels = (
                rows[name] for name in ("offset", "length", "label")
            )
            is_right = (
                (starts >= HEADER)
                & (lengths >= 0)
                & (lengths <= shard["bytes"] - FOOTER - starts)
                & (labels >= 0)
                & (labels < len(self.classes))
            )
            is_right = is_right.all() and rows.dtype["name"].kind == "S"
        # Broken headers end in anything: SyntaxError, tokenize.TokenError …
        except Exception as error:
            raise _damaged(path, str(error)) from error
        if not is_right:
            raise _damaged(path, "images or labels outside of what there is")
        return rows

    def _place(self, number):
        place = int(np.searchsorted(self._ends, number, side="right"))
        rows = self._rows[place]
        return self.shards[place], rows[number - self._ends[place] + len(rows)]


def read_index(path):
    """The dict in a folder's `index.json`, of this format."""
    try:
        index = read_object(path / INDEX, FIELDS)
        if index["format"] != FORMAT:
            raise ValueError(f"its format is {index['format']!r}")
        _check(index)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Expected a folder with an {INDEX} of the format {FORMAT!r}. "
            f"Received: {str(path)!r}, {error}. Remove {INDEX}, and write the "
            "records again by `keras-convnext records`"
        ) from error
    return index


def _check(index):
    """Raises where a field is of another type, or a file elsewhere."""
    classes, shards = index["classes"], index["shards"]
    for shard in shards:
        check_fields(shard, SHARD_FIELDS, f"a shard in {INDEX}")
    if not all(isinstance(name, str) for name in classes):
        raise ValueError(f"{INDEX} has classes that are no names")
    files = [shard["file"] for shard in shards]
    if any(os.path.basename(x) != x for x in files):
        raise ValueError("with shards in another folder")
    if len(set(files)) != len(files):
        raise ValueError("which holds a shard twice")


def _damaged(path, reason):
    return ValueError(
        "Expected the rows of a shard as they were written. Received: "
        f"{str(path)!r}, {reason}. {ADVICE}"
    )


def rows_path(folder, shard):
    """The file that tells where the images of a shard are."""
    return (folder / shard["file"]).with_suffix(".npy")


def is_whole(folder, shard, verify):
    """Whether a shard has its size, or its checksum; and its rows theirs."""
    path, rows = folder / shard["file"], rows_path(folder, shard)
    if not path.is_file() or path.stat().st_size != shard["bytes"]:
        return False
    # The rows are small, and hold the labels.
    if not rows.is_file() or sha256_of(rows) != shard["rows_sha256"]:
        return False
    return not verify or sha256_of(path) == shard["sha256"]
