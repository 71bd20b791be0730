"""Is what was published the model? Asked in the library that will open it."""

import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from keras_convnext._util.requirements import require
from keras_convnext._util.writing import writing
from keras_convnext.artifacts import handover
from keras_convnext.artifacts import real_images
from keras_convnext.artifacts import verification
from keras_convnext.images.folders import images_below
from keras_convnext.images.reading import Photograph
from keras_convnext.publishing import opening
from keras_convnext.publishing.subject import Subject

# Largest difference as a part of the largest logit, at least of 1.
BOUND = verification.BOUNDS[None]
# How many pixels aside a library's crop may begin, and the mean difference of
# pixels from there, in levels of 0–255. timm's are ours. transformers rounds
# the other way where what is cropped is odd, and resizes by torchvision: up to
# 0.11 levels on the photographs; another interpolation makes 0.9 or more.
PIXELS = {"timm": (0, 0.0), "transformers": (1, 0.5)}
MOST_IMAGES = 32


def photographs_of(source):
    """`uint8` arrays `(height, width, 3)`: a folder's, or two photographs."""
    if source is None:
        datasets = require(
            "sklearn.datasets",
            "photographs to compare on",
            "pass `verification_data`, a folder of images",
        )
        return list(datasets.load_sample_images().images)
    real_images.check_there("verification_data", Path(source))
    paths = images_below(Path(source))
    if not paths:
        raise ValueError(
            "`verification_data` must be a folder that holds images. Received: "
            f"{str(source)!r}, with none"
        )
    chosen = paths[:: max(1, len(paths) // MOST_IMAGES)][:MOST_IMAGES]
    return [Photograph(path).pixels() for path in chosen]


def compared(subject, reports, folders, photographs):
    """The reports, with what was measured.

    Args:
        subject: the `Subject`.
        reports: list of `Published`.
        folders: their paths, which may be elsewhere yet.
        photographs: list of arrays.

    Raises:
        ValueError: where a library computes something else.
    """
    images = np.stack([subject.preprocessing(x) for x in photographs])
    expected = subject.outputs_of(images)
    normalized = _normalized(subject, images)
    jobs = [
        (report.layout, folder.absolute(), normalized, photographs)
        for report, folder in zip(reports, folders)
        if report.layout in opening.OPENED_BY
    ]
    results = iter(_in_other_process(jobs) if jobs else [])
    return [
        _judged(subject, report, images, expected, next(results))
        if report.layout in opening.OPENED_BY
        else _by_keras(report, folder, images, expected[subject.main], subject)
        for report, folder in zip(reports, folders)
    ]


def _normalized(subject, images):
    """As PyTorch's libraries compute it, float by float."""
    mean, std = (
        np.array(x, "float32")
        for x in (subject.preprocessing.mean, subject.preprocessing.std)
    )
    pixels = (images.astype("float32") / np.float32(255) - mean) / std
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def _in_other_process(jobs):
    with tempfile.TemporaryDirectory() as folder:
        exchange = Path(folder) / "jobs"
        with writing(exchange):
            exchange.write_bytes(pickle.dumps(jobs))
        try:
            handover.run("torch", opening.__file__, exchange)
        except RuntimeError as error:
            libraries = " and ".join(dict.fromkeys(x[0] for x in jobs))
            raise ValueError(
                f"{libraries} must open what is published. Received: {error}\n"
                "Nothing was written. Install a newer version of it, or pass "
                "`verify=False` to publish regardless"
            ) from error
        return pickle.loads(exchange.read_bytes())


def _judged(subject, report, images, expected, result):
    """The report of what another library opened."""
    logits = expected["logits"]
    aside, allowed = PIXELS[report.layout]
    levels = 255 * np.array(subject.preprocessing.std)[:, None, None]
    ours = _normalized(subject, images) * levels
    shifts, pixels = zip(
        *(_apart(x, y * levels, aside) for x, y in zip(ours, result["pixels"]))
    )
    best = [subject.names[index] for index in logits.argmax(1)]
    agreement = None
    if result["best"] is not None:
        agreement = float(
            np.mean([a == b for a, b in zip(best, result["best"])])
        )
    report = _measured(report, logits, result["logits"])
    report = replace(
        report,
        opened_by=f"{report.layout} {result['version']}",
        pixels=float(max(pixels)),
        aside=sum(x > 0 for x in shifts),
        agreement=agreement,
    )
    problems = [_too_different(report)]
    if not report.pixels <= allowed:
        problems.append(
            f"its pixels differ by {report.pixels:.3g} levels of 255 on "
            f"average, allowed are {allowed:g}"
        )
    if result["names"] != subject.names:
        problems.append("its classes have other names")
    if agreement not in (None, 1.0):
        problems.append(
            f"its pipeline finds the same class in {agreement:.0%} of "
            f"{len(images)} images. Compare on images of the model's own by "
            "`verification_data`"
        )
    return _checked(report, problems)


def _apart(ours, theirs, aside):
    """By how many pixels a crop is moved, and the mean difference from there.

    Args:
        ours, theirs: arrays `(channels, height, width)`.
        aside: how far to look.
    """
    if ours.shape != theirs.shape:
        return 0, np.inf
    height, width = ours.shape[1:]
    inner = ours[:, aside : height - aside, aside : width - aside]
    found = []
    for top in range(2 * aside + 1):
        for left in range(2 * aside + 1):
            moved = theirs[
                :,
                top : height - 2 * aside + top,
                left : width - 2 * aside + left,
            ]
            shift = max(abs(top - aside), abs(left - aside))
            found.append((float(np.abs(inner - moved).mean()), shift))
    pixels, shift = min(found)
    return shift, pixels


def _by_keras(report, folder, images, expected, subject):
    """The report of what Keras opened, on the backend that runs."""
    model = Subject.of(keras.saving.load_model(folder, compile=False))
    report = _measured(report, expected, model.outputs_of(images)[model.main])
    report = replace(
        report, opened_by=f"keras {keras.__version__}", pixels=0.0, aside=0
    )
    problems = [_too_different(report)]
    if model.info != subject.info:
        problems.append("it has forgotten what the model knows of itself")
    return _checked(report, problems)


def _measured(report, expected, received):
    return replace(
        report,
        images=len(expected),
        # NaN is worse than any number.
        difference=float(np.abs(expected - received).max()),
        bound=BOUND * max(1.0, float(np.abs(expected).max())),
    )


def _too_different(report):
    if report.difference <= report.bound:
        return ""
    return (
        f"its outputs differ by up to {report.difference:.1e}, allowed are "
        f"{report.bound:.1e}"
    )


def _checked(report, problems):
    problems = [x for x in problems if x]
    if problems:
        raise ValueError(
            "What is published must compute what the model does. Received, "
            f"from {report.opened_by}: {'; '.join(problems)}. Nothing was "
            "written; `verify=False` publishes it regardless"
        )
    return report
