"""What commands may write to."""

from keras_convnext._util.writing import check_writable


def check_output(path, force, ending=None):
    """Raises `ValueError` unless a file may be written to a `Path`."""
    is_right = ending in (None, path.suffix)
    if not is_right or path.is_dir() or not path.parent.is_dir():
        kind = f"{ending} file" if ending else "file"
        raise ValueError(
            f"`--output` must be a {kind} in a folder that exists. Received: "
            f"{str(path)!r}"
        )
    check_writable(path)
    if path.exists() and not force:
        raise ValueError(
            "The file exists: pass --force to replace it. Received: "
            f"{str(path)!r}"
        )
