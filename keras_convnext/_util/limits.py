"""How much memory one thing from outside may take, checked before it does."""

import os
import re
import stat

VARIABLE = "KERAS_CONVNEXT_MAX_MEMORY"
DEFAULT = "2GiB"
# Weights hardly shrink when they are compressed.
LARGEST_INFLATION = 8
UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def check_memory(size, subject, file_size=0):
    """Refuses what would take too much memory.

    Args:
        size: bytes that it would take.
        subject: the beginning of the message: what takes them.
        file_size: bytes of the file that it comes from; so many times
            `LARGEST_INFLATION` are allowed in any case.

    Raises:
        ValueError: naming the variable that allows more.
    """
    allowed = max(_limit(), LARGEST_INFLATION * file_size)
    if size > allowed:
        raise ValueError(
            f"{subject} would take {_text(size)} of memory; at most "
            f"{_text(allowed)} are allowed. If you trust it and have the "
            f"memory, set {VARIABLE}, for example to {_text(2 * size)}"
        )


def check_archive(archive, path):
    """`check_memory` for all members of a ZIP file together."""
    size = sum(member.file_size for member in archive.infolist())
    check_memory(size, f"The file {str(path)!r}", os.path.getsize(path))


def check_hdf5(file, path):
    """`check_memory` for all arrays of an open HDF5 file together."""
    claimed, stored = [], []

    def visit(_, item):
        if hasattr(item, "nbytes"):
            claimed.append(item.nbytes)
            stored.append(item.id.get_storage_size())

    file.visititems(visit)
    check_memory(sum(claimed), f"The file {str(path)!r}", sum(stored))


def check_file(path):
    """Refuses pipes and devices, and files larger than may be read whole."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
    check_memory(status.st_size, f"The file {str(path)!r}")


def _limit():
    text = os.environ.get(VARIABLE, DEFAULT)
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]iB)?", text)
    if match is None:
        raise ValueError(
            f"{VARIABLE} must be a number with one of the units "
            f"{[unit for unit in UNITS if unit]}, or of bytes. "
            f"Received: {text!r}"
        )
    return float(match[1]) * UNITS[match[2] or ""]


def _text(size):
    for unit in reversed(UNITS):
        if size >= UNITS[unit]:
            return f"{size / UNITS[unit]:.3g}{unit}"
    return "0"
