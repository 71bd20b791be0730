"""How many images each class has, as a table for those who begin a run."""

import numpy as np

from keras_convnext.data.balancing import BalancedOrder
from keras_convnext.training.recipes.weighting import of_classes

# With more classes the most frequent and the rarest are shown.
MOST_FREQUENT, RAREST = 10, 9


def class_table(data, validation, recipe):
    """A `rich` table of at most 20 classes, the most frequent first.

    Args:
        data: the `Source` that is trained on.
        validation: what is held out, or `None`.
        recipe: a `Recipe`; if it weighs classes, or draws rare ones more
            often, there are columns for that.
    """
    from rich.table import Table

    columns = dict(_columns(data, validation, recipe))
    drawn = Table()
    drawn.add_column("class", overflow="fold")
    for name in columns:
        drawn.add_column(name, justify="right")
    order = np.argsort(-data.counts(), kind="stable")
    left_out = len(order) - MOST_FREQUENT - RAREST
    if left_out < 2:
        shown, middle, rarest = order, [], []
    else:
        shown, middle = order[:MOST_FREQUENT], order[MOST_FREQUENT:-RAREST]
        rarest = order[-RAREST:]
    for number in shown:
        drawn.add_row(*_row(data.classes[number], columns, number))
    if len(middle):
        drawn.add_row(*_row(f"… {len(middle)} more", columns, middle))
        for number in rarest:
            drawn.add_row(*_row(data.classes[number], columns, number))
    if data.is_multi_label:
        parts = [x for x in (data, validation) if x is not None]
        none = [np.count_nonzero(~x.labels.any(axis=1)) for x in parts]
        drawn.add_row("(no label)", *map(str, none))
    return drawn


def _columns(data, validation, recipe):
    """Yields the name of each column, and its numbers `(classes,)`."""
    yield "images", data.counts()
    if validation is not None:
        yield "held out", validation.counts()
    if recipe.weighs_classes:
        yield "weight", of_classes(recipe, data)
    if recipe.class_sampling_exponent:
        order = BalancedOrder(data.labels, recipe.class_sampling_exponent)
        yield "drawn per epoch", _sums(data, order.expected)


def _sums(data, of_images):
    """Of each class the sum over its images."""
    if not data.is_multi_label:
        return np.bincount(data.labels, of_images, len(data.classes))
    return np.array([of_images[has == 1].sum() for has in data.labels.T])


def _row(name, columns, numbers):
    """The texts of a row, for one class or the sum of several."""
    texts = [name]
    for title, values in columns.items():
        if title == "weight":
            value = values[numbers]
            low, high = np.min(value), np.max(value)
            same = f"{low:.3g}" == f"{high:.3g}"
            texts.append(f"{low:.3g}" if same else f"{low:.3g} to {high:.3g}")
        else:
            texts.append(f"{np.sum(values[numbers]):.0f}")
    return texts
