"""Which columns of a list say, by 0 and 1, what labels an image has."""

from collections.abc import Mapping
from collections.abc import Sequence
from itertools import islice

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import some
from keras_convnext._util.telling import tell
from keras_convnext.data.lists.listing import columns_named
from keras_convnext.data.lists.listing import flag_of
from keras_convnext.data.lists.listing import usual_column
from keras_convnext.data.lists.tables import open_table

# Rows by which columns are taken for labels; what follows must be alike.
LOOKED_AT = 100


def label_columns_of(
    path: PathLike,
    label_columns: str | Sequence[str] | None,
    given: Mapping[str, str | None],
) -> tuple[str, ...] | None:
    """The columns of labels, one for each; `None` if one column has them all.

    Args:
        path: of the list.
        label_columns: names with commas between, or in a sequence. If `None`
            and there is no column of a usual name for labels, all but those
            of other uses are taken if they hold 0 and 1, which is said.
        given: names of the other columns, see `listing.columns_of`.

    Raises:
        ValueError: for columns that are not there or named twice, and if both
            kinds of columns are named.
    """
    table = open_table(path)
    if label_columns is not None:
        if given["label"] is not None:
            raise ValueError(
                "Labels are in one column, or each in a column of its own. "
                f"Received: label_column={given['label']!r} and "
                f"label_columns={label_columns!r}. Leave one of them out"
            )
        return columns_named("label_columns", label_columns, table)
    if given["label"] is not None or usual_column(table, "label"):
        return None
    others = {
        usual_column(table, x) if given[x] is None else given[x]
        for x in ("path", "split", "group")
    }
    names = tuple(x for x in table.columns if x not in others)
    if len(names) < 2 or not _are_flags(table, names):
        return None
    tell(f"{table.path}: labels from the columns {some(names)} of 0 and 1")
    return names


def _are_flags(table, names):
    values = [x for _, row in islice(table.rows(names), LOOKED_AT) for x in row]
    try:
        return bool(values) and None not in map(flag_of, values)
    except ValueError:
        return False
