"""ImageNet-C: fifteen corruptions, five severities, measured by AlexNet."""

from itertools import product
from pathlib import Path

import numpy as np

from keras_convnext.data.folder import ImageFolder

# AlexNet's mean error over the severities, as in `imagenet.py` of
# github.com/google-research/augmix.
ALEXNET_ERRORS = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
SEVERITIES = (1, 2, 3, 4, 5)


def open_parts(folder, is_partial=False):
    """Opens the data set of every corruption and severity.

    Args:
        folder: with `gaussian_noise/1/n01440764/…`, or the same below one
            folder per archive, as they unpack: `noise/gaussian_noise/1/…`.
        is_partial: whether parts may be missing.

    Returns:
        A dict from `(corruption, severity)` to `ImageFolder`.

    Raises:
        ValueError: if parts are missing, or differ in their classes.
    """
    folder = Path(folder)
    paths, missing = {}, []
    for corruption, severity in product(ALEXNET_ERRORS, SEVERITIES):
        name = f"{corruption}/{severity}"
        folders = [*folder.glob(f"{name}/"), *folder.glob(f"*/{name}/")]
        if folders:
            paths[corruption, severity] = folders[0]
        else:
            missing.append(name)
    if not paths or (missing and not is_partial):
        raise ValueError(
            "Expected a folder with CORRUPTION/SEVERITY/CLASS for 15 "
            f"corruptions and 5 severities. Received: {str(folder)!r} without "
            f"{', '.join(missing[:5])}{'…' if missing[5:] else ''} "
            f"({len(missing)} of 75 missing). "
            "Unpack all archives of ImageNet-C there, or ask for a part "
            "(partial=True, --partial), which has no mCE"
        )
    parts = {
        part: ImageFolder(path, is_upright=False)
        for part, path in paths.items()
    }
    _check_classes(parts)
    return parts


def summary(errors):
    """Corruption errors.

    CE is the sum of a model's errors over the severities divided by that of
    AlexNet's; mCE the mean of all fifteen. Hendrycks and Dietterich,
    arXiv:1903.12261, section 4.2.

    Args:
        errors: dict from `(corruption, severity)` to an error of 0–1.

    Returns:
        `(rows, mce)`: a list with a dict for each corruption, `corruption`,
        `errors` by severity, their mean `error`, `alexnet_error` and `ce`,
        and the mean of these. `ce` and `mce` are in percent, and `None` where
        errors are missing.
    """
    rows = []
    for corruption, alexnet_error in ALEXNET_ERRORS.items():
        by_severity = {
            str(s): x for (c, s), x in errors.items() if c == corruption
        }
        if not by_severity:
            continue
        error = float(np.mean(list(by_severity.values())))
        is_whole = len(by_severity) == len(SEVERITIES)
        rows.append(
            {
                "corruption": corruption,
                "errors": by_severity,
                "error": error,
                "alexnet_error": alexnet_error,
                "ce": 100 * error / alexnet_error if is_whole else None,
            }
        )
    ces = [row["ce"] for row in rows]
    is_whole = len(rows) == len(ALEXNET_ERRORS) and None not in ces
    return rows, float(np.mean(ces)) if is_whole else None


def mce(errors):
    """mCE, percent, of arrays `(..., 75)` of errors in the order of parts."""
    by_severity = errors.reshape(*errors.shape[:-1], -1, len(SEVERITIES))
    alexnet = np.array([*ALEXNET_ERRORS.values()])
    return 100 * (by_severity.mean(axis=-1) / alexnet).mean(axis=-1)


def _check_classes(parts):
    (first, expected), *others = (
        (f"{c}/{s}", source.classes) for (c, s), source in parts.items()
    )
    for name, classes in others:
        if classes != expected:
            differing = sorted(set(classes) ^ set(expected))
            raise ValueError(
                "Every corruption must have the same classes. Received: "
                f"{name!r} with {len(classes)} and {first!r} with "
                f"{len(expected)}, which differ in {differing[:3]}. Unpack the "
                "archives of ImageNet-C again"
            )
