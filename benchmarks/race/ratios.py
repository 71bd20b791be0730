"""What pairs of times say: medians, and how sure they are."""

import math
import statistics

CONFIDENCE = 0.95


def interval(values, confidence=CONFIDENCE):
    """An interval that holds the median, whatever the distribution.

    It goes from the k-th smallest value to the k-th largest, with the largest
    k that covers enough; with fewer than six values, from the smallest to the
    largest, which cover less.

    Args:
        values: numbers, at least one.
        confidence: wanted probability, 0–1.

    Returns:
        Low end, high end, and the probability that the median is between.

    Source: Conover, *Practical Nonparametric Statistics*, 3rd ed., 3.2: the
    number of values below the median is binomial.

    Examples:
        >>> interval([3, 1, 2, 5, 4, 6])
        (1, 6, 0.96875)
    """
    ordered, count = sorted(values), len(values)
    rank = 1
    while 2 * rank < count and _coverage(count, rank + 1) >= confidence:
        rank += 1
    return ordered[rank - 1], ordered[-rank], _coverage(count, rank)


def _coverage(count, rank):
    """Probability that the median is between these ranks from either end."""
    outside = sum(math.comb(count, k) for k in range(rank)) / 2**count
    return max(0.0, 1 - 2 * outside)


def spread(values):
    """Median and interval as a dict of JSON's types."""
    low, high, coverage = interval(values)
    return {
        "median": statistics.median(values),
        "interval": [low, high],
        "coverage": coverage,
    }


def compared(pairs):
    """Their time as a multiple of ours, pair by pair.

    Args:
        pairs: dicts with `ours` and `theirs` in seconds.

    Returns:
        A dict with the `ratios`, and what `spread` says of them: above 1 we
        are faster.

    Examples:
        >>> compared([{"ours": 2.0, "theirs": 3.0}])["median"]
        1.5
    """
    ratios = [pair["theirs"] / pair["ours"] for pair in pairs]
    return {"ratios": ratios, **spread(ratios)}
