"""Data of images as commands open it: with options that lists alone have."""

from keras_convnext import data as datasets
from keras_convnext.data.lists.tables import is_list

COLUMNS = ("path_column", "label_column", "split_column", "group_column")
FOLDS = ("folds", "fold")


def opened(data, **arguments):
    """An `ImageList` of a list; other data as it was written."""
    if data is None or not is_list(data):
        return data
    return datasets.ImageList(data, **arguments)


def refuse_columns(*data, **columns):
    """Raises `ValueError` for options of lists where there is none."""
    given = {name: x for name, x in columns.items() if x is not None}
    if given and not any(x is not None and is_list(x) for x in data):
        words = ", ".join(f"{name}={x!r}" for name, x in given.items())
        raise ValueError(
            f"{' and '.join(f'`{x}`' for x in given)} is for lists: .csv, "
            f".tsv, .jsonl or .parquet files. Received: {words} for "
            f"{data[0]!r}. Leave it out"
        )


def open_splits(
    data, validation, validation_split, seed, on_error, folds, fold, **columns
):
    """`data.open_splits` of what the command line has."""
    refuse_columns(data, validation, **columns)
    data = opened(data, **columns, on_error=on_error)
    classes = getattr(data, "classes", None)
    validation = opened(
        validation, **columns, classes=classes, on_error=on_error
    )
    return datasets.open_splits(
        data, validation, validation_split, seed, folds, fold
    )
