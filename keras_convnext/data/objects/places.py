"""Image files that other files name."""

import os

import numpy as np

from keras_convnext.data.threads import in_order
from keras_convnext.images.reading import upright_size


def below(folder, name):
    """A path below a folder, in whatever way it is written.

    Raises:
        ValueError: for one that leads out of the folder: who wrote the file
            is not to choose what else is opened.
    """
    path = os.path.normpath(name.replace("\\", "/"))
    is_inside = path not in ("", ".") and path.split("/")[0] != ".."
    if os.path.isabs(path) or not is_inside or "\0" in path:
        raise ValueError(
            f"which names an image {name!r} that is not below {str(folder)!r}"
        )
    return path


def sizes_of(folder, names):
    """`int32` array `(n, 2)`: heights and widths, as the files tell them.

    Raises:
        Unreadable: for what is no image.
    """
    paths = (os.path.join(folder, name) for name in names)
    return np.array([*in_order(upright_size, paths)], "int32").reshape(-1, 2)
