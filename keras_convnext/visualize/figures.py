"""Figures that belong to no window, and how they become files."""

from typing import Any

from keras_convnext._util.annotations import Figure
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import in_range
from keras_convnext._util.requirements import require
from keras_convnext._util.writing import written_aside

# Of heat maps over images.
HEAT = "inferno"


def opacity(heat):
    """Of a heat map over an image: where nothing is seen the image stays."""
    return 0.75 * heat**0.5


def new_figure(**options: Any) -> Figure:
    """A matplotlib `Figure` that belongs to no window.

    Raises:
        ImportError: without matplotlib, with the extra to install.
    """
    figure = require("matplotlib.figure", "pictures")
    return figure.Figure(**{"layout": "constrained", **options})


@in_range
def written_figure(
    figure: Figure, path: PathLike, dpi: Count = 120
) -> PathLike:
    """Writes a figure as an image file, whole or not at all."""
    with written_aside(path) as unfinished:
        figure.savefig(unfinished, dpi=dpi)
    return path


def show(axis, image, title=None, **options):
    """Draws an image without ticks; one of one channel in gray."""
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.ndim == 2:
        options = {"cmap": "gray", **options}
    axis.imshow(image, **options)
    axis.set_axis_off()
    if title is not None:
        axis.set_title(title, fontsize=9)


def grid(count, figure=None, columns=8, size=1.6):
    """Axes for so many small pictures, row by row.

    Args:
        count: int.
        figure: matplotlib figure or subfigure to draw into; a new one if
            `None`.
        columns: int, at most.
        size: inches, side of a picture of a new figure.

    Returns:
        `(figure, axes)`: a list of `count` axes.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = figure or new_figure(figsize=(size * columns, size * rows * 1.15))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, list(axes[:count])
