"""What commands read and may write to, before anything takes time."""

from keras_convnext._util.writing import check_writable
from keras_convnext.images.reading import Photograph
from keras_convnext.images.reading import Unreadable


def check_output(path, force, endings=()):
    """Raises `ValueError` unless a file may be written to a `Path`."""
    is_right = not endings or path.suffix.lower() in endings
    if not is_right or path.is_dir() or not path.parent.is_dir():
        ends = f" that ends in {', '.join(endings)}," if endings else ""
        raise ValueError(
            f"`--output` must be a file{ends} in a folder that exists. "
            f"Received: {str(path)!r}"
        )
    check_writable(path)
    if path.exists() and not force:
        raise ValueError(
            "The file exists: pass --force to replace it. Received: "
            f"{str(path)!r}"
        )


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
