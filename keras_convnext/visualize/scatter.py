"""How near predicted numbers are to the true ones, as a picture."""

from collections.abc import Sequence

import numpy as np

from keras_convnext._util.annotations import ArrayLike
from keras_convnext._util.annotations import Figure
from keras_convnext.visualize.figures import new_figure


def predicted_against_true(
    true: ArrayLike,
    predicted: ArrayLike,
    names: Sequence[str] | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draws a point for each image, and the line on which all is exact.

    Args:
        true, predicted: numbers `(images,)` or `(images, targets)`.
        names: of the targets; none are written if `None`.
        figure: matplotlib figure or subfigure to draw into; a new one if
            `None`.

    Returns:
        The figure, with the targets side by side.

    Raises:
        ValueError: for arrays of other or different shapes.
        ImportError: without matplotlib.

    Examples:
        >>> figure = keras_convnext.visualize.predicted_against_true(
        ...     [20, 35, 61], [22, 31, 60], ["age"]
        ... )
    """
    true, predicted = (np.asarray(x, "float64") for x in (true, predicted))
    is_table = true.ndim in (1, 2) and true.size
    if true.shape != predicted.shape or not is_table:
        raise ValueError(
            "Expected as many predicted numbers as true ones, (images,) or "
            f"(images, targets). Received: shapes {true.shape} and "
            f"{predicted.shape}"
        )
    true, predicted = (x.reshape(len(x), -1) for x in (true, predicted))
    names = [""] * true.shape[1] if names is None else names
    if len(names) != true.shape[1]:
        raise ValueError(
            "Expected a name for each target. Received: "
            f"{len(names)} names for {true.shape[1]}"
        )
    figure = figure or new_figure(figsize=(4 * len(names), 4))
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name, x, y in zip(axes, names, true.T, predicted.T):
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        axis.plot(ends, ends, color="gray", linewidth=1)
        axis.scatter(x, y, s=8, alpha=0.5, linewidths=0)
        axis.set_title(name, parse_math=False)
        axis.set_xlabel("true")
        axis.set_ylabel("predicted")
        axis.set_aspect("equal", adjustable="datalim")
    return figure
