"""Files that are whole or not there, and written by one process only."""

import contextlib
import hashlib
import os
from pathlib import Path

import filelock


@contextlib.contextmanager
def written_aside(path):
    """A path beside `path` to write to, which then takes its place.

    If writing fails, what stood at `path` stays, and nothing else is left.

    Examples:
        >>> with written_aside("notes.txt") as unfinished:  # doctest: +SKIP
        ...     unfinished.write_text("all of it")
    """
    path = Path(path)
    unfinished = path.with_name(f"unfinished_{path.name}")
    try:
        # Safetensors makes files that others may not read: the mode is taken
        # from one that is made as usual.
        unfinished.touch()
        mode = unfinished.stat().st_mode
        yield unfinished
        unfinished.chmod(mode)
        # What takes a place must not be empty after a power cut.
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def only_writer(lock):
    """Keeps other processes from writing to a folder meanwhile.

    Args:
        lock: path of a file in the folder, which must be there.

    Raises:
        ValueError: if another process is writing to it.
    """
    taken = filelock.FileLock(lock, timeout=0)
    try:
        taken.acquire()
    except filelock.Timeout as error:
        raise ValueError(
            "Only one process may write to a folder. Received: "
            f"{str(Path(lock).parent)!r}, to which another is writing. Wait "
            "for it, or choose another folder"
        ) from error
    try:
        yield
    finally:
        taken.release()


def sha256_of(path):
    """The checksum of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
