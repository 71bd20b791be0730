"""What commands read and may write to, before anything takes time."""

import glob
from pathlib import Path

from keras_convnext import visualize
from keras_convnext._util import writing
from keras_convnext.images.folders import SUFFIXES
from keras_convnext.images.folders import images_below
from keras_convnext.images.folders import is_hidden
from keras_convnext.images.reading import Photograph
from keras_convnext.images.reading import Unreadable


def check_output(path, force, endings=(), option="--output"):
    """Raises `ValueError` unless a file may be written to a `Path`."""
    writing.check_output(path, force, endings, option, "--force")


def check_picture(path, force, option="--output"):
    """The same of a picture that matplotlib writes."""
    kinds = visualize.new_figure().canvas.get_supported_filetypes()
    check_output(path, force, [f".{kind}" for kind in kinds], option)


def unreadable(path):
    """Why a path is not that of an image, or `None`; decodes no pixels."""
    try:
        Photograph(path)
    except Unreadable as error:
        return str(error)
    return None


def check_image(path):
    """Raises `ValueError` if `unreadable`."""
    if error := unreadable(path):
        raise ValueError(error)


def find_images(arguments):
    """Paths of the images that files, folders and patterns stand for.

    A pattern stands for files and folders as if the shell had filled it in.
    A missing file remains: reading it will say so.
    """

    paths = []
    for argument in arguments:
        is_pattern = glob.has_magic(argument) and not Path(argument).exists()
        names = [
            name
            for name in sorted(glob.glob(argument, recursive=True))
            if not is_hidden(Path(name).name)
        ]
        below = [
            path
            for name in (names if is_pattern else [argument])
            for path in images_below(Path(name))
        ]
        if not below:
            raise ValueError(
                "Expected image files, folders that hold some, or patterns "
                f"that match some. Received: {argument!r}, where there are "
                f"none that end in one of {' '.join(SUFFIXES)}"
            )
        paths += below
    return list(dict.fromkeys(paths))


def if_none_is_readable(paths):
    """The errors of all images; empty if there is one to predict.

    No model is needed to see that there is nothing to do.
    """
    results = []
    for path in paths:
        error = unreadable(path)
        if error is None:
            return []
        results.append({"image": str(path), "error": error})
    return results
