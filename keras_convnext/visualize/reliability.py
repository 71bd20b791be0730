"""How often scores are right."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_convnext._util.annotations import Figure
from keras_convnext.visualize.figures import new_figure


def reliability_diagram(
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]] | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draws accuracy over confidence, and how many scores there are of each.

    Bars below the diagonal are scores that promise too much.

    Args:
        before: list of bins, `reliability` of an evaluation.
        after: the same of a calibrated model, drawn beside it, or `None`.
        figure: matplotlib figure or subfigure to draw into; a new one if
            `None`.

    Returns:
        The figure.

    Raises:
        ImportError: without matplotlib.

    Source: Guo et al., "On Calibration of Modern Neural Networks",
    arXiv:1706.04599, figure 1.

    Examples:
        >>> bins = [
        ...     {"above": 0.0, "to": 0.5, "count": 0, "confidence": None,
        ...      "accuracy": None},
        ...     {"above": 0.5, "to": 1.0, "count": 8, "confidence": 0.9,
        ...      "accuracy": 0.75},
        ... ]
        >>> figure = keras_convnext.visualize.reliability_diagram(bins)
    """
    columns = {"before": before, "after": after} if after else {"": before}
    figure = figure or new_figure(figsize=(3.8 * len(columns), 4.6))
    axes = figure.subplots(
        *(2, len(columns)),
        squeeze=False,
        sharex=True,
        sharey="row",
        height_ratios=(3, 1),
    )
    for (title, bins), upper, lower in zip(columns.items(), *axes):
        full = [x for x in bins if x["count"]]
        for axis, values in (
            (upper, [x["accuracy"] for x in full]),
            (lower, [x["count"] for x in full]),
        ):
            axis.bar(
                [x["above"] for x in full],
                values,
                [x["to"] - x["above"] for x in full],
                align="edge",
                edgecolor="white",
            )
            axis.grid(alpha=0.3)
        upper.plot((0, 1), (0, 1), "--", color="gray")
        upper.plot(
            [x["confidence"] for x in full],
            [x["accuracy"] for x in full],
            "o",
            color="black",
            markersize=3,
        )
        upper.set(xlim=(0, 1), ylim=(0, 1), title=title)
        lower.set(xlabel="confidence")
    axes[0, 0].set_ylabel("accuracy")
    axes[1, 0].set_ylabel("scores")
    return figure
