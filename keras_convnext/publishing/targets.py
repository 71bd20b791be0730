"""Where a model is published: a folder, written aside and then moved."""

import contextlib
import os
from pathlib import Path

from keras_convnext._util.writing import check_writable
from keras_convnext._util.writing import folder_aside
from keras_convnext._util.writing import writing
from keras_convnext.publishing.layouts import LAYOUTS

# What every published folder has.
ALWAYS = ("README.md", "config.json")


class FolderTarget:
    """A folder on this machine.

    Args:
        path: of the folder.
        layouts: names; of several each has a folder in it.
        overwrite: whether it may be replaced.

    Raises:
        ValueError: if there is something else, or without `overwrite` anything.
    """

    def __init__(self, path, layouts, overwrite):
        self.path = Path(path)
        self.is_split = len(layouts) > 1
        self._check(overwrite)

    @property
    def name(self):
        return self.path.absolute().name

    def place(self, layout):
        """What the report says."""
        return str(self.path / self._inside(layout))

    def here(self, layout):
        """How code names the model: that which runs in its folder."""
        return LAYOUTS[layout].here

    @contextlib.contextmanager
    def aside(self):
        """A folder for everything, on the same disk; removed at the end."""
        with folder_aside(self.path) as folder, writing(self.path):
            yield folder

    def part(self, folder, layout):
        """Where within `aside` a layout is written."""
        return folder / "published" / self._inside(layout)

    def deliver(self, folder):
        """All of it takes its place; a folder that stood there goes."""
        before = folder / "before"
        if self.path.exists():
            os.replace(self.path, before)
        try:
            os.replace(folder / "published", self.path)
        except OSError:
            if before.exists():
                os.replace(before, self.path)
            raise

    def _inside(self, layout):
        return layout if self.is_split else ""

    def _check(self, overwrite):
        if not self.path.absolute().parent.is_dir():
            raise ValueError(
                "The folder to write to must be in one that exists. Received: "
                f"{str(self.path)!r}"
            )
        check_writable(self.path)
        is_empty = self.path.is_dir() and not any(self.path.iterdir())
        if not self.path.exists() or is_empty:
            return
        if not overwrite:
            raise ValueError(
                "The folder exists: pass `overwrite=True` (`--force`) to "
                f"replace it. Received: {str(self.path)!r}"
            )
        if not _is_published(self.path):
            raise ValueError(
                "Only a folder with a published model is replaced. Received: "
                f"{str(self.path)!r}. Remove it yourself, or choose another"
            )


def _is_published(path):
    """Whether a folder holds what this package writes, and no more."""
    folders = [x for x in path.iterdir() if x.is_dir()] if path.is_dir() else []
    parts = [path] if (path / ALWAYS[0]).is_file() else folders
    return bool(parts) and all(
        (part / name).is_file() for part in parts for name in ALWAYS
    )
