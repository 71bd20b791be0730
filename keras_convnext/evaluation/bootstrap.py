"""How much a figure would change with other images of the same kind.

The percentile bootstrap: Efron, "Bootstrap Methods: Another Look at the
Jackknife", 1979. Images are drawn with repetition, as many as there are, and
each figure is computed of each draw. The middle 95 % are the interval.

A figure is computed of counts: of how often a draw has each image. So all
figures share the draws, and sums are products of matrices.
"""

import numpy as np

DRAWS, SEED, LEVEL = 1000, 0, 0.95
# Draws are made by so many counts at a time, whatever the number of images.
COUNTS_AT_ONCE = 2**17


def method(groups=None):
    """What an evaluation says of its intervals.

    Args:
        groups: as for `intervals`.
    """
    over = "images" if groups is None else "groups"
    return {
        "method": f"percentile bootstrap over {over}",
        "draws": DRAWS,
        "seed": SEED,
        "level": LEVEL,
    }


def intervals(images, *figures, groups=None):
    """The interval of each figure.

    Args:
        images: int, how many there are.
        figures: functions from counts, a `float64` array `(draws, images)`,
            to a dict of names and arrays `(draws,)`; NaN where a draw has no
            such figure. `means`, `ratios` and `of_each_draw` make some.
        groups: int array `(images,)`: images of one number are drawn together;
            each alone if `None`.

    Returns:
        A dict from names to `(low, high)`, floats, or to `None` where no draw
        has the figure.
    """
    found = {}
    for counts in _draws(images, groups):
        for figure in figures:
            for name, values in figure(counts).items():
                found.setdefault(name, []).append(values)
    return {name: _middle(np.concatenate(x)) for name, x in found.items()}


def means(**columns):
    """Figures that are the mean of a number of each image, `(images,)`."""
    return ratios(**{name: (x, np.ones(len(x))) for name, x in columns.items()})


def ratios(**columns):
    """Figures that are one sum over images divided by another.

    Args:
        columns: pairs of arrays `(images,)`, the parts of both sums.
    """

    def figures(counts):
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                name: (counts @ above) / (counts @ below)
                for name, (above, below) in columns.items()
            }

    return figures


def of_each_draw(function, *arrays):
    """Figures of a function that takes images, not counts, draw by draw.

    Args:
        function: from arrays to a dict of floats, such as scikit-learn's.
        arrays: of all images `(images, ...)`; a draw has some of the rows more
            than once.
    """

    def figures(counts):
        rows = []
        for count in counts.astype("int64"):
            numbers = np.repeat(np.arange(len(count)), count)
            rows.append(function(*(array[numbers] for array in arrays)))
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    return figures


def _draws(images, groups):
    """Yields counts `(some draws, images)`; no more memory for more draws."""
    generator = np.random.default_rng(SEED)
    units = images
    if groups is not None:
        _, groups = np.unique(groups, return_inverse=True)
        units = int(groups.max()) + 1
    at_once = max(1, COUNTS_AT_ONCE // images)
    for start in range(0, DRAWS, at_once):
        draws = min(at_once, DRAWS - start)
        numbers = generator.integers(0, units, (draws, units))
        numbers += units * np.arange(draws)[:, None]
        counts = np.bincount(numbers.ravel(), minlength=draws * units)
        counts = counts.reshape(draws, units).astype("float64")
        yield counts if groups is None else counts[:, groups]


def _middle(values):
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    ends = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    return tuple(np.quantile(values, ends).tolist())
