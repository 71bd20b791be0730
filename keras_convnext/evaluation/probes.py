"""How well features tell classes: three classifiers that train in seconds.

All are scikit-learn's, on the features of a model that stays as it is.
"""

import math
import warnings

import numpy as np

from keras_convnext._util.checks import some
from keras_convnext._util.progress import progress
from keras_convnext._util.requirements import require
from keras_convnext._util.telling import tell
from keras_convnext.data.holding_out import split
from keras_convnext.evaluation import bootstrap

# Of the linear probe: strengths to choose from, the greatest the least
# regularized; the part of the training images that chooses; and iterations.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2)
# Where no class can spare an image, as scikit-learn's default.
DEFAULT_STRENGTH = 1.0
HELD_OUT = 0.2
ITERATIONS = 1000
# Of votes: 0.07 in Wu et al. 2018 and in DINO.
TEMPERATURE = 0.07


def linear(train, test, seed, verbose=True):
    """Logistic regression, its strength chosen on held-out training images.

    The strength is the inverse of the L2 regularization, scikit-learn's `C`:
    the first of `STRENGTHS` of the best accuracy on a fifth of the training
    images, with the same part of each class. It is fitted on all of them then.
    Features are standardized by what it is fitted on.

    Args:
        train, test: `Features`.
        seed: int, which images are held out.
        verbose: whether to show progress.

    Returns:
        A dict of `accuracy`, `interval`, `strength`, `converged`, `held_out`
        (how many images) and `strengths`, a list of `strength`, `accuracy` and
        `converged` of each.
    """
    fitted_on, held_out = _parts(train, seed)
    steps = 1 + (len(STRENGTHS) if len(held_out) else 0)
    tried = []
    with progress("fitting", steps, verbose=verbose) as advance:
        for strength in STRENGTHS if len(held_out) else ():
            rows = train.vectors[fitted_on], train.labels[fitted_on]
            model, converged = _fitted(*rows, strength)
            right = _right(model, train.vectors, train.labels, held_out)
            tried.append(
                {
                    "strength": strength,
                    "accuracy": float(right.mean()),
                    "converged": converged,
                }
            )
            advance()
        best = max(tried, key=lambda x: x["accuracy"], default=None)
        strength = best["strength"] if best else DEFAULT_STRENGTH
        model, converged = _fitted(train.vectors, train.labels, strength)
        advance()
    _tell_of_strengths(strength, converged, tried)
    right = _right(model, test.vectors, test.labels)
    return {
        **_accuracy(right, test),
        "strength": strength,
        "converged": converged,
        "held_out": len(held_out),
        "strengths": tried,
    }


def knn(train, test, neighbors):
    """The nearest training images by cosine similarity, whose votes weigh.

    A vote weighs `exp(similarity / 0.07)`: Wu et al., "Unsupervised Feature
    Learning via Non-Parametric Instance Discrimination", arXiv:1805.01978,
    section 3.4, as in DINO, arXiv:2104.14294, with its 20 neighbors.

    Args:
        train, test: `Features`.
        neighbors: int; all where there are fewer.

    Returns:
        A dict of `accuracy`, `interval`, `neighbors` and `temperature`.
    """
    package = require("sklearn.neighbors", "probes")
    count = min(neighbors, len(train.labels))
    model = package.KNeighborsClassifier(
        count,
        metric="cosine",
        weights=lambda distances: np.exp((1 - distances) / TEMPERATURE),
    ).fit(train.vectors.astype("float64"), train.labels)
    right = _right(model, test.vectors, test.labels)
    return {
        **_accuracy(right, test),
        "neighbors": count,
        "temperature": TEMPERATURE,
    }


def few_shot(train, test, shots, draws, seed):
    """The nearest mean of a few images of each class, drawn again and again.

    Features have length 1, as in Wang et al., "SimpleShot",
    arXiv:1911.04623 (L2N).

    Args:
        train, test: `Features`.
        shots: ints, images of each class; all of a class that has fewer.
        draws: int, how often they are drawn.
        seed: int.

    Returns:
        For each of `shots` a dict of `images_per_class`, `accuracy`, the mean
        over draws; `interval`, of that mean by Student's t, `None` of a single
        draw; `draws`, the accuracy of each; and `fewer`, the names of classes
        with fewer images.
    """
    preprocessing = require("sklearn.preprocessing", "probes")
    known, asked = (
        preprocessing.normalize(x.vectors.astype("float64"))
        for x in (train, test)
    )
    present = np.unique(train.labels)
    numbers = [np.flatnonzero(train.labels == label) for label in present]
    results = []
    for count in shots:
        accuracies = []
        for draw in range(draws):
            generator = np.random.default_rng([seed, count, draw])
            means = np.array(
                [
                    known[generator.permutation(x)[:count]].mean(axis=0)
                    for x in numbers
                ]
            )
            nearest = present[_nearest(asked, means)]
            accuracies.append(float((nearest == test.labels).mean()))
        fewer = [
            train.source.classes[label]
            for label, x in zip(present, numbers)
            if len(x) < count
        ]
        if fewer:
            tell(
                f"Of classes with fewer than {count} images all are taken, "
                f"those of {some(fewer)}"
            )
        results.append(
            {
                "images_per_class": count,
                "accuracy": float(np.mean(accuracies)),
                "interval": _interval_of_mean(accuracies),
                "draws": accuracies,
                "fewer": fewer,
            }
        )
    return results


def _parts(train, seed):
    """The numbers of the images to fit on, and of those that choose."""
    try:
        fitted_on, held_out = split(train.source, HELD_OUT, seed)
    except ValueError:  # no class, or no group, can spare one
        tell(
            "No class can spare an image to choose a strength on: it is "
            f"{DEFAULT_STRENGTH:g}"
        )
        return np.arange(len(train.labels)), np.arange(0)
    return fitted_on.numbers, held_out.numbers


def _fitted(vectors, labels, strength):
    """A logistic regression of standardized features, and if it converged."""
    models = require("sklearn.linear_model", "probes")
    pipeline = require("sklearn.pipeline", "probes")
    preprocessing = require("sklearn.preprocessing", "probes")
    exceptions = require("sklearn.exceptions", "probes")
    model = pipeline.make_pipeline(
        preprocessing.StandardScaler(),
        models.LogisticRegression(C=strength, max_iter=ITERATIONS),
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", exceptions.ConvergenceWarning)
        model.fit(vectors.astype("float64"), labels)
    kinds = [x.category for x in caught]
    for other in caught:
        if other.category is not exceptions.ConvergenceWarning:
            warnings.warn(other.message, stacklevel=2)
    return model, exceptions.ConvergenceWarning not in kinds


def _tell_of_strengths(strength, converged, tried):
    """Says which fits were stopped before they converged."""
    stopped = [f"{x['strength']:g}" for x in tried if not x["converged"]]
    if stopped:
        tell(
            f"Fits that did not converge in {ITERATIONS} iterations, and were "
            f"compared as they were: those of C = {', '.join(stopped)}"
        )
    if not converged:
        tell(
            f"The logistic regression of C = {strength:g} did not converge in "
            f"{ITERATIONS} iterations: its accuracy is that of where it stopped"
        )


def _right(model, vectors, labels, numbers=slice(None)):
    """Which images a classifier names rightly, `(n,)`."""
    predicted = model.predict(vectors[numbers].astype("float64"))
    return predicted == labels[numbers]


def _nearest(vectors, means):
    metrics = require("sklearn.metrics", "probes")
    return metrics.pairwise_distances_argmin(vectors, means)


def _accuracy(right, test):
    """The part that is right, and the interval of a bootstrap over images."""
    found = bootstrap.intervals(
        len(right),
        bootstrap.means(accuracy=right.astype("float64")),
        groups=test.source.groups,
    )
    return {"accuracy": float(right.mean()), "interval": found["accuracy"]}


def _interval_of_mean(values):
    """By Student's t, within 0 and 1; `None` of a single value."""
    if len(values) < 2:
        return None
    stats = require("scipy.stats", "probes")
    quantile = stats.t.ppf((1 + bootstrap.LEVEL) / 2, len(values) - 1)
    mean, half = np.mean(values), quantile * np.std(values, ddof=1)
    half /= math.sqrt(len(values))
    return max(0.0, float(mean - half)), min(1.0, float(mean + half))
