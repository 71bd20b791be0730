"""How training went."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_convnext._util.annotations import Figure
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import in_range
from keras_convnext.visualize.figures import new_figure

CURVES = {
    "": "training",
    "val_": "held out",
    "val_raw_": "held out, raw weights",
}
# Below the loss the first of these that there is.
METRICS = ("accuracy", "map_macro", "r2")


def learning_curves(
    history: Sequence[Mapping[str, Any]] | dict[str, Any],
    figure: Figure | None = None,
) -> Figure:
    """Draws loss and accuracy of training, validation and the average.

    Of many labels the mean average precision, and of numbers R², are drawn in
    the place of the accuracy; of a training without labels the loss alone.

    Args:
        history: list of one dict per epoch with `loss`, `accuracy` and where
            there are such `val_…` and `val_raw_…`, as in `history.csv`; or
            the dict of lists that `fit` returns as `history.history`.
        figure: matplotlib figure or subfigure to draw into; a new one if
            `None`.

    Returns:
        The figure.

    Raises:
        ImportError: without matplotlib.

    Examples:
        >>> figure = keras_convnext.visualize.learning_curves(
        ...     {"loss": [2.0, 1.0], "accuracy": [0.3, 0.6]}
        ... )
    """
    if isinstance(history, dict):
        history = [dict(zip(history, row)) for row in zip(*history.values())]
    figure = figure or new_figure(figsize=(7, 5.2))
    names = {name for row in history for name in row}
    shown = [x for x in METRICS if not names.isdisjoint({x, f"val_{x}"})]
    metrics = ("loss", *shown[:1])
    axes = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    for axis, metric in zip(axes, metrics):
        for prefix, label in CURVES.items():
            points = [
                (row.get("epoch", number), row[prefix + metric])
                for number, row in enumerate(history, start=1)
                if row.get(prefix + metric) is not None
            ]
            if points:
                axis.plot(*zip(*points), label=label)
        axis.set_ylabel(metric)
        axis.grid(alpha=0.3)
    axes[0].legend()
    axes[-1].set_xlabel("epoch")
    return figure


@in_range
def learning_rate_range(
    learning_rates: Sequence[Positive],
    losses: Sequence[NotNegative],
    smoothed: Sequence[NotNegative],
    suggestion: Positive | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draws the loss over learning rates, as a range test measures it.

    Args:
        learning_rates: positive floats, ascending.
        losses, smoothed: floats of at least 0, as many; as measured, and
            their average.
        suggestion: one of the learning rates, which is marked.
        figure: matplotlib figure or subfigure to draw into; a new one if
            `None`.

    Returns:
        The figure.

    Raises:
        ValueError: for other numbers.
        ImportError: without matplotlib.

    Examples:
        >>> figure = keras_convnext.visualize.learning_rate_range(
        ...     [1e-4, 1e-3, 1e-2], [2.3, 1.9, 4.0], [2.3, 2.1, 2.7], 1e-3
        ... )
    """
    figure = figure or new_figure(figsize=(7, 3.6))
    axis = figure.subplots()
    axis.plot(learning_rates, losses, color="lightgray", label="of a step")
    axis.plot(learning_rates, smoothed, label="smoothed")
    if suggestion is not None:
        axis.axvline(
            suggestion,
            color="tab:orange",
            linestyle="--",
            label=f"suggested: {suggestion:.1e}",
        )
    axis.set_xscale("log")
    # A loss that explodes hides all others.
    axis.set_ylim(top=1.05 * max(smoothed), bottom=0.95 * min(smoothed))
    axis.set_xlabel("learning rate")
    axis.set_ylabel("loss")
    axis.grid(alpha=0.3)
    axis.legend()
    return figure
