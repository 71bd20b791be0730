"""How good the features of a model are, without training it."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from typing import Any

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import one_of
from keras_convnext._util.checks import some
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import in_range
from keras_convnext._util.requirements import require
from keras_convnext._util.tables import new_console
from keras_convnext.data.source import Source
from keras_convnext.data.splits import open_splits
from keras_convnext.evaluation import bootstrap
from keras_convnext.evaluation import features
from keras_convnext.evaluation import probes
from keras_convnext.evaluation import report
from keras_convnext.evaluation.runner import Runner
from keras_convnext.evaluation.runner import identity_of
from keras_convnext.evaluation.runner import sized
from keras_convnext.images.preprocessing import Preprocessing

PROBES = ("linear", "knn", "few_shot")
OF_TASKS = {"multi-label": "many labels", "regression": "numbers"}
# What the metadata of an `Artifact` tells of what is probed.
IDENTITY = ("model", "weights", "license", "quantization")


@dataclass(frozen=True)
class Probe:
    """How well features separate the classes of images, and of which.

    Attributes:
        model, weights, license, quantization: what was probed.
        features: int, the numbers of each vector.
        classes: names of the classes of the data.
        train_images, test_images: how many could be read.
        linear: dict of `accuracy` and `interval`. Of the `strength` that was
            chosen, scikit-learn's `C`, and whether the fit `converged`. Of
            `strengths`, a list with the `accuracy` of each on the `held_out`
            part of the training images. `None` if not asked for.
        knn: dict of `accuracy`, `interval`, `neighbors` and `temperature`, or
            `None`.
        few_shot: list with `images_per_class`, mean `accuracy`, its
            `interval`, the accuracies of all `draws`, and the names of classes
            with `fewer` images; or `None`.
        unreadable: dicts by `train` and `test`, from names of images that
            could not be read, and do not count, to reasons.
        preprocessing: the `Preprocessing` of the images.
        bootstrap: dict that says how the intervals of `linear` and `knn` are
            made: by other test images. Those of `few_shot` are by other draws.
        seed: of what is held out and drawn.
        seconds: for reading images and computing features.
        file: path of what was opened; `None` for models in this process.
    """

    model: str
    weights: str | None
    license: str | None
    quantization: str | None
    features: int
    classes: tuple
    train_images: int
    test_images: int
    linear: dict | None
    knn: dict | None
    few_shot: list | None
    unreadable: dict
    preprocessing: Preprocessing
    bootstrap: dict
    seed: int
    seconds: float
    file: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return json.loads(json.dumps(asdict(self)))

    def print(self) -> None:
        """Prints what was probed, and the accuracy of each probe."""
        console = new_console()
        for line in self._what():
            console.print(line)
        rows = [
            (name, report.with_interval(x["accuracy"], x["interval"]))
            for name, x in self._rows()
        ]
        level = f"accuracy ({bootstrap.LEVEL:.0%} interval)"
        console.print(report.table(("", level), rows))

    def _what(self):
        images = self.train_images + self.test_images
        yield report.what_is(self)
        yield (
            f"{self.train_images} training and {self.test_images} test images "
            f"of {len(self.classes)} classes, {self.features} features each"
        )
        yield (
            f"{report.how_seen(self.preprocessing)}; "
            f"{images / self.seconds:.0f} images/s"
        )
        for part, names in self.unreadable.items():
            if names:
                yield (
                    f"{len(names)} {part} images could not be read: "
                    f"{some(list(names), report.SHOWN)}"
                )

    def _rows(self):
        if linear := self.linear:
            stopped = "" if linear["converged"] else ", not converged"
            yield f"linear, C = {linear['strength']:g}{stopped}", linear
        if self.knn:
            yield f"{self.knn['neighbors']} nearest neighbors", self.knn
        for row in self.few_shot or ():
            count = row["images_per_class"]
            noun = "image" if count == 1 else "images"
            draws = len(row["draws"])
            yield f"{count} {noun} per class, {draws} draws", row


@in_range
def probe(
    model: Any,
    train: Source | PathLike,
    test: Source | PathLike | None = None,
    *,
    only: Sequence[str] | None = None,
    neighbors: Count = 20,
    shots: Sequence[Count] = (1, 5, 10),
    draws: Count = 10,
    seed: Seed = 0,
    batch_size: Count = 32,
    verbose: bool = True,
    preprocessing: Preprocessing | None = None,
    image_size: Count | tuple[Count, Count] | None = None,
) -> Probe:
    """Measures the features of a model by classifiers that train in seconds.

    The model stays as it is. Its features are the inputs of its classifier, or
    of a new one on it. They are the mean of the last feature map over all
    positions, and the layers of the head behind it, such as `head_norm`. Of an
    encoder from masked pre-training that norm is the one it was built with: it
    has learned nothing. They are computed once, as the weights' own evaluation
    sees the images, and kept in memory: 4 bytes for each number, and 8 in the
    copies that are fitted on.

    Args:
        model: a model of this package, with or without its classifier; a
            Functional model from images to one vector each; or an `Artifact`,
            of an exported file one with `features`.
        train: images to learn from: a `Source`, or what
            `keras_convnext.data.open_splits` opens.
        test: images to measure on, likewise. If `None`, what `open_splits`
            holds out of `train`.
        only: which of `"linear"`, `"knn"` and `"few_shot"`; all if `None`.
        neighbors: of `"knn"`; all training images where there are fewer.
        shots: of `"few_shot"`, how many images of each class.
        draws: of `"few_shot"`, how often these are drawn.
        seed: of what is held out and drawn.
        batch_size: images at a time.
        verbose: whether to show progress on stderr, where that is a terminal.
        preprocessing: a `Preprocessing` in place of the weights' own.
        image_size: int or `(height, width)`, in place of that of
            `preprocessing`.

    Returns:
        A `Probe`.

    Raises:
        ValueError: for a model without such features or known preprocessing,
            images with many labels or numbers, other classes in `test`, and
            outputs that are no numbers.
        ImportError: without scikit-learn.

    Source: `"linear"`: multinomial logistic regression, whose strength is
    chosen on a fifth of the training images. `"knn"`: Wu et al.,
    arXiv:1805.01978, section 3.4, with the figures of DINO, arXiv:2104.14294.
    `"few_shot"`: nearest class means of features of length 1, Wang et al.,
    arXiv:1911.04623.

    Examples:
        >>> model = keras_convnext.ConvNeXt(
        ...     (1,), (8,), patch_size=1, input_shape=(8, 8, 1), mean=0.3,
        ...     std=0.35, include_top=False,
        ... )
        >>> result = keras_convnext.evaluation.probe(
        ...     model, "digits", only=["knn"], verbose=False
        ... )
        >>> result.test_images, result.features
        (359, 8)
    """
    names = tuple(only or PROBES)
    for name in names:
        one_of("only", name, PROBES)
    require("sklearn", "probes")  # before the features
    learned, measured = _opened(train, test, seed)
    artifact = features.artifact_of_features(model)
    own, preprocessing = sized(artifact, preprocessing, image_size)
    preprocessing = preprocessing or own
    runner = Runner(artifact, preprocessing, batch_size)
    features.check_vectors(runner)
    started = time.perf_counter()
    known, asked = (
        features.computed(runner, x, f"features of {part} images", verbose)
        for part, x in (("training", learned), ("test", measured))
    )
    seconds = time.perf_counter() - started
    known.source.check()  # without those that could not be read
    found: dict[str, Any] = dict.fromkeys(PROBES)
    if "linear" in names:
        found["linear"] = probes.linear(known, asked, seed, verbose)
    if "knn" in names:
        found["knn"] = probes.knn(known, asked, neighbors)
    if "few_shot" in names:
        found["few_shot"] = probes.few_shot(known, asked, shots, draws, seed)
    return Probe(
        **identity_of(artifact, IDENTITY),
        **found,
        features=known.vectors.shape[1],
        classes=known.source.classes,
        train_images=len(known.labels),
        test_images=len(asked.labels),
        unreadable={"train": known.unreadable, "test": asked.unreadable},
        preprocessing=preprocessing,
        bootstrap=bootstrap.method(asked.source.groups),
        seed=seed,
        seconds=seconds,
    )


def _opened(train, test, seed):
    """The two `Source`s, with one of the same classes for each image."""
    train, test = open_splits(train, test, seed=seed)
    for source in (train, test):
        if source.task != "single-label":
            raise ValueError(
                "Probes tell classes, one for each image. Received: images "
                f"with {OF_TASKS[source.task]}. Train a model on these, and "
                "`evaluate` it"
            )
    return train.check(), test
