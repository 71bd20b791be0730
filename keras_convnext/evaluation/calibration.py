"""Whether a score of 0.8 is right eight times of ten."""

import numpy as np

BINS = 15


def reliability(confidences, hits):
    """How often scores are right, by how high they are.

    Args:
        confidences: array `(n,)` of 0–1: of each image the best score, or of
            many labels each score.
        hits: bool array `(n,)`, whether it is right.

    Returns:
        A list with `above`, `to`, `count`, and the means `confidence` and
        `accuracy` (without scores `None`) for each of 15 bins of equal width.
        The first one has 0, too.

    Source: Guo et al., "On Calibration of Modern Neural Networks",
    arXiv:1706.04599, section 2.
    """
    edges = np.linspace(0.0, 1.0, BINS + 1)
    numbers = np.searchsorted(edges[1:-1], confidences)
    counts = np.bincount(numbers, minlength=BINS)
    sums = (
        np.bincount(numbers, weights=x, minlength=BINS)
        for x in (confidences, hits)
    )
    rows = zip(edges[:-1], edges[1:], counts, *sums)
    return [
        {
            "above": float(low),
            "to": float(high),
            "count": int(count),
            "confidence": float(confidence / count) if count else None,
            "accuracy": float(hit / count) if count else None,
        }
        for low, high, count, confidence, hit in rows
    ]


def expected_error(bins):
    """The expected calibration error (ECE), 0–1, of rows of `reliability`.

    The mean distance between confidence and accuracy, over all scores. Guo et
    al., equation 3.
    """
    total = sum(x["count"] for x in bins)
    return sum(
        x["count"] / total * abs(x["accuracy"] - x["confidence"])
        for x in bins
        if x["count"]
    )


def confidences_and_briers(logits, columns):
    """The best score of each image, and its Brier score.

    That is the sum over classes of the squared distance between score and
    truth, 0–2. Brier, "Verification of Forecasts Expressed in Terms of
    Probability", 1950.

    Args:
        logits: `float64` array `(n, outputs)` of a softmax; `-inf` takes no
            part.
        columns: int array `(n,)`, the right outputs.

    Returns:
        Two `float64` arrays `(n,)`.
    """
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    right = scores[np.arange(len(scores)), columns]
    briers = np.square(scores).sum(axis=1) - 2 * right + 1
    return scores.max(axis=1), briers
