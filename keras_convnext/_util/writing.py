"""Files that are whole or not there, and written by one process only."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

import filelock
from safetensors import SafetensorError

from keras_convnext._util.startup import WentWrong

# Folders of what is being written. Whoever writes holds the lock in it: of a
# process that was killed it is free, and the next writer removes the folder.
UNFINISHED, LOCK = "unfinished_", "writing.lock"
LOCK_SECONDS = 5
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ROOM = "Make room on the disk, or choose another folder"
ALLOWED = "Choose a folder that you may write to, or change its permissions"
ADVICE = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EFBIG: "Raise the limit (`ulimit -f`), or choose another disk",
    errno.EACCES: ALLOWED,
    errno.EPERM: ALLOWED,
    errno.EROFS: ALLOWED,
}
# In the errors of PyTorch, HDF5 and TensorFlow, which are of any kind.
WRITING = re.compile(
    "|".join(["writ", "disk", "unexpected pos", *map(os.strerror, ADVICE)])
)
OTHERWISE = "Check that the disk has room, and that you may write there"


class NotWritten(WentWrong, OSError):
    """What a command or function writes cannot be written.

    Attributes:
        reason: what the operating system or a library says.
    """

    reason = ""


@contextlib.contextmanager
def writing(path):
    """Says of a file or folder why it cannot be written, whoever writes it.

    Raises:
        NotWritten: in place of what libraries raise, with a remedy.
    """
    try:
        yield
    except NotWritten:
        raise
    except Exception as error:
        if not _is_of_writing(error):
            raise
        raise not_written(path, error) from error


def check_writable(path):
    """Raises `NotWritten`, before any work, for a folder that is read-only."""
    if not os.access(Path(path).absolute().parent, os.W_OK | os.X_OK):
        raise NotWritten(
            f"The folder must be writable. Received: {str(path)!r}. Choose "
            "another, or change its permissions"
        )


def check_output(path, overwrite, endings, option, advice):
    """Raises, before any work, unless a file may be written.

    Args:
        path: a `Path`.
        overwrite: whether there may be one.
        endings: of its name, lower case; any if there are none.
        option: what messages call the path.
        advice: how to let it be replaced.

    Raises:
        ValueError: for a path that is no file's, or exists.
        NotWritten: for a folder that is read-only.
    """
    is_right = not endings or path.suffix.lower() in endings
    if not is_right or path.is_dir() or not path.absolute().parent.is_dir():
        ends = f" that ends in {', '.join(endings)}," if endings else ""
        raise ValueError(
            f"`{option}` must be a file{ends} in a folder that exists. "
            f"Received: {str(path)!r}"
        )
    check_writable(path)
    if path.exists() and not overwrite:
        raise ValueError(
            f"The file exists: pass {advice} to replace it. Received: "
            f"{str(path)!r}"
        )


def make_folder(path):
    """Makes a folder, and those above it, where they are missing.

    Raises:
        ValueError: if a file is in its place or above it.
        NotWritten: if it cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(
            "Expected a path where a folder is, or can be made. Received: "
            f"{str(path)!r}, where a file is in its way. Choose another path"
        ) from error
    except OSError as error:
        raise not_written(path, error) from error


@contextlib.contextmanager
def written_aside(path):
    """A path of the same name to write to, which then takes its place.

    If writing fails, what stood at `path` stays, and nothing else is left.

    Raises:
        NotWritten: if it cannot be written.

    Examples:
        >>> with written_aside("notes.txt") as unfinished:  # doctest: +SKIP
        ...     unfinished.write_text("all of it")
    """
    path = Path(path)
    with folder_aside(path) as folder, writing(path):
        unfinished = folder / path.name
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


@contextlib.contextmanager
def folder_aside(path):
    """An empty folder beside `path`, of this writer alone; removed at the end.

    What killed writers left beside `path` is removed, too.

    Raises:
        NotWritten: if there cannot be one.
    """
    path = Path(path)
    with writing(path):
        remove_unfinished(path.parent)
        holder, lock = _locked_folder(path)
    try:
        content = holder / "content"
        with writing(path):
            content.mkdir()
        yield content
    except NotWritten as error:
        if str(holder) not in str(error):
            raise
        # By the name that the user knows.
        raise not_written(path, OSError(error.reason)) from error
    finally:
        lock.release()
        shutil.rmtree(holder, ignore_errors=True)


def remove_unfinished(folder):
    """Removes from a folder what writers left that were killed."""
    for lock in Path(folder).glob(f"{UNFINISHED}*/{LOCK}"):
        # Of one that is alive, or that is not ours to remove.
        with (
            contextlib.suppress(OSError, NotImplementedError),
            filelock.FileLock(lock, timeout=0),
        ):
            shutil.rmtree(lock.parent, ignore_errors=True)


def _locked_folder(path):
    """A new folder beside a path, and its lock, which is taken."""
    # Cut: a name may have 255 bytes.
    prefix = f"{UNFINISHED}{path.name[:50]}_"
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
        lock = filelock.FileLock(folder / LOCK)
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except (OSError, NotImplementedError):
            # Some network disks have no locks: nobody removes the folder of a
            # killed writer there.
            return folder, lock
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if (folder / LOCK).exists():
            return folder, lock
        lock.release()  # another found it before it was locked


@contextlib.contextmanager
def only_writer(lock):
    """Keeps other processes from writing to a folder meanwhile.

    Args:
        lock: path of a file in the folder, which must be there.

    Raises:
        ValueError: if another process is writing to it.
        NotWritten: if there cannot be a lock.
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
    except OSError as error:
        raise not_written(lock, error) from error
    try:
        yield
    finally:
        taken.release()


def sha256_of(path):
    """The checksum of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_of_writing(error):
    """Whether libraries raise such an error where they cannot write."""
    if isinstance(error, (NotImplementedError, RecursionError)):
        return False
    # TensorFlow's are of their own, and it is not to be imported here.
    is_of_tensorflow = type(error).__module__.startswith("tensorflow.")
    if is_of_tensorflow or isinstance(error, RuntimeError):
        return bool(WRITING.search(str(error)))
    return isinstance(error, (OSError, SafetensorError))


def not_written(path, error):
    """The `NotWritten` for a path and what was raised in writing to it."""
    text = str(error).strip() or type(error).__name__
    number = getattr(error, "errno", None)
    if number is None:
        # Libraries put what the system said into their messages.
        number = next((x for x in ADVICE if os.strerror(x) in text), None)
    reason = os.strerror(number) if number else text.splitlines()[0]
    result = NotWritten(
        f"{str(path)!r} could not be written: {reason}. "
        f"{ADVICE.get(number, OTHERWISE)}"
    )
    result.reason = reason
    return result
