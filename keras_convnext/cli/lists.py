"""Data of images as commands open it: with options that lists alone have."""

from keras_convnext import data as datasets
from keras_convnext.data.lists.tables import is_list

COLUMNS = ("path_column", "label_column", "split_column", "group_column")
FOLDS = ("folds", "fold")


def opened(data, many=False, **arguments):
    """An `ImageList` of a list; other data as it was written.

    Args:
        data: what the command line has.
        many: whether images have many labels each: then it is a `TagList`.
        arguments: of the class.
    """
    if data is None or not is_list(data):
        return data
    kind = datasets.TagList if many else datasets.ImageList
    return kind(data, **arguments)


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
    data,
    validation,
    validation_split,
    seed,
    on_error,
    folds,
    fold,
    many=False,
    **columns,
):
    """`data.open_splits` of what the command line has.

    With `many` labels for each image it is `data.open_many_labels`.
    """
    refuse_columns(data, validation, **columns)
    options = {**columns, "on_error": on_error}
    data = opened(data, many, **options)
    classes = getattr(data, "classes", None)
    validation = opened(validation, many, classes=classes, **options)
    open_ = datasets.open_many_labels if many else datasets.open_splits
    return open_(data, validation, validation_split, seed, folds, fold)
