"""Data of images as commands open it: with options that lists alone have."""

from keras_convnext import data as datasets
from keras_convnext.data.lists.tables import is_list

COLUMNS = (
    *("path_column", "label_column", "label_columns", "label_separator"),
    *("target", "split_column", "group_column"),
)
OF_MANY = {"label_columns", "label_separator"}
FOLDS = ("folds", "fold")
# By the task: what a list is, the columns that it has not, and what opens it.
KINDS = {
    "single-label": (
        datasets.ImageList,
        {"target", *OF_MANY},
        datasets.open_splits,
    ),
    "multi-label": (datasets.TagList, {"target"}, datasets.open_many_labels),
    "regression": (
        datasets.TargetList,
        {"label_column", "classes", *OF_MANY},
        datasets.open_targets,
    ),
}


def columns_of(task):
    """The options for columns that lists of a task have."""
    return tuple(name for name in COLUMNS if name not in KINDS[task][1])


def opened(data, task="single-label", **arguments):
    """An `ImageList` or its like of a list; other data as it was written.

    Args:
        data: what the command line has.
        task: key of `KINDS`.
        arguments: of the class.

    Raises:
        ValueError: for columns that lists of the task have not.
    """
    if data is None or not is_list(data):
        return data
    kind, without, _ = KINDS[task]
    for name in without & arguments.keys():
        value = arguments.pop(name)
        if value is not None:
            other = "numbers" if name == "target" else "classes"
            other = "many labels" if name in OF_MANY else other
            raise ValueError(
                f"`{name}` is for {other}, and task={task!r} has none. "
                f"Received: {name}={value!r}. Leave it out"
            )
    separator = arguments.pop("label_separator", None)
    if separator is not None:
        arguments["separator"] = separator
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
    task="single-label",
    **columns,
):
    """`data.open_splits`, or its like for the task, of what the command line
    has."""
    refuse_columns(data, validation, **columns)
    options = {**columns, "on_error": on_error}
    data = opened(data, task, **options)
    known = getattr(data, "classes", None)
    if task == "regression":
        options["target"] = known or options["target"]
    else:
        options["classes"] = known
    validation = opened(validation, task, **options)
    *_, open_ = KINDS[task]
    return open_(data, validation, validation_split, seed, folds, fold)
