"""Image files in folders: what counts, and what systems and runs leave."""

import os
import warnings
from collections import Counter
from pathlib import Path

# What Pillow reads, of what photographs and scans are saved in. The same
# everywhere: what a data set holds must not depend on how Pillow was built.
SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg"),
    *(".jpg", ".pgm", ".png", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
# What systems and archives put beside images, in small letters; and all names
# that begin with a dot.
LEFT_BY_SYSTEMS = (
    "$recycle.bin",
    "@eadir",
    "__macosx",
    "__pycache__",
    "desktop.ini",
    "ehthumbs.db",
    "lost+found",
    "system volume information",
    "thumbs.db",
)
# Files that tell a folder of results, whose pictures are no data.
RESULTS = (
    *("records.lock", "run.json", "run.lock", "saved_model.pb"),
    "writing.lock",
)


def is_image(name):
    """Whether a file is an image by its name."""
    return name.lower().endswith(SUFFIXES)


def tell_ignored(path, names):
    """Warns of files in a folder of images that are none by their names.

    Args:
        path: of the folder.
        names: iterable of file names, or `Counter` of their endings.
    """
    endings = names
    if not isinstance(names, Counter):
        endings = Counter(ending_of(name) for name in names)
    if endings:
        shown = ", ".join(ending for ending, _ in endings.most_common(8))
        more = ", …" if len(endings) > 8 else ""
        count = endings.total()
        warnings.warn(
            f"{count} file{'s' if count > 1 else ''} ignored in {str(path)!r}: "
            f"{shown}{more}. Images end in one of {' '.join(SUFFIXES)}",
            stacklevel=3,
        )


def ending_of(name):
    """What `tell_ignored` counts files by."""
    return os.path.splitext(name)[1].lower() or "without an ending"


def is_hidden(name):
    """Whether a name is none that a user gave to images or a class."""
    return name.startswith(".") or name.lower() in LEFT_BY_SYSTEMS


def subfolders(path):
    """Names of the folders in a folder, linked ones too, in order.

    What is hidden, the results of runs, and links back to the folder or above
    it are left out.

    Raises:
        ValueError: if the folder cannot be read.
    """
    _, folders, _ = next(os.walk(path, onerror=_unreadable))
    passed = _with_parents(path)
    places = _places(path, folders)
    return [name for name, place in places.items() if place not in passed]


def walk(path, root=None):
    """`os.walk` over what users put there.

    Links are followed, yet each folder comes once, and none that holds `path`
    or `root`: no link leads in circles. What is hidden, and the results of
    runs, are left out.

    Args:
        path: where to begin.
        root: the folder of all data; `path` may be a link in it.

    Yields:
        `(folder, folders, files)`, names in order.

    Raises:
        ValueError: for a folder that cannot be read.
    """
    passed = _with_parents(path) | _with_parents(root or path)
    for folder, folders, files in os.walk(
        path, followlinks=True, onerror=_unreadable
    ):
        kept = []
        for name, place in _places(folder, folders).items():
            if place not in passed:
                passed.add(place)
                kept.append(name)
        folders[:] = kept
        yield folder, kept, sorted(x for x in files if not is_hidden(x))


def images_below(path):
    """Paths of all images in a folder and below it, sorted; a file is one.

    Other files are told of.
    """
    if not path.is_dir():
        return [path]
    files = [
        Path(folder, name) for folder, _, files in walk(path) for name in files
    ]
    tell_ignored(path, (x.name for x in files if not is_image(x.name)))
    return sorted(x for x in files if is_image(x.name))


def _with_parents(path):
    place = Path(path).resolve()
    return {str(x) for x in (place, *place.parents)}


def _places(folder, names):
    """Where those folders are that count, by name."""
    paths = {name: os.path.join(folder, name) for name in sorted(names)}
    return {
        name: os.path.realpath(path)
        for name, path in paths.items()
        if not (is_hidden(name) or _holds_results(path))
    }


def _holds_results(folder):
    return any(os.path.exists(os.path.join(folder, x)) for x in RESULTS)


def _unreadable(error):
    raise ValueError(
        "Expected a folder of images that can be read. Received: "
        f"{error.filename!r}, {error.strerror}"
    ) from error
