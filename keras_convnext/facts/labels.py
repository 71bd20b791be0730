"""Names of the ImageNet classes, offline, and predictions put into words.

The label sets come from timm's tables and WordNet; `conversion/make_labels.py`
writes them, `label_sets/WORDNET_LICENSE.txt` holds WordNet's license.
"""

import bz2
import functools
import json
from collections.abc import Sequence
from importlib import resources

import keras
import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import ArrayLike
from keras_convnext._util.checks import one_of
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import in_range

LABEL_SETS = {
    1000: "imagenet1k",
    11821: "imagenet12k",
    21841: "imagenet22k",
}
# The score from which on an image has one of many labels, where nothing else
# was chosen.
THRESHOLD = 0.5


@functools.cache
def label_set(classes):
    """WordNet id and name of every class of an ImageNet label set.

    Args:
        classes: 1000 (ImageNet-1k), 11821 (ImageNet-12k) or 21841
            (ImageNet-22k).

    Returns:
        A tuple of `(wnid, name)` in the order of the classes: sorted by id.
        Names are not unique, ids are.

    Raises:
        ValueError: for any other number of classes.

    Source: timm's synset files, and the first of each synset's lemmas in
    WordNet 3.0 with underscores, as in `keras.applications`.

    Examples:
        >>> keras_convnext.facts.labels.label_set(1000)[2]
        ('n01484850', 'great_white_shark')
    """
    one_of("classes", classes, LABEL_SETS)
    package = resources.files(__package__)
    file = package / "label_sets" / f"{LABEL_SETS[classes]}.json.bz2"
    rows = json.loads(bz2.decompress(file.read_bytes()))
    return tuple((wnid, name) for wnid, name in rows)


@functools.cache
def imagenet22k_to_1k_indices():
    """Where each class of ImageNet-1k is among those of ImageNet-22k.

    Returns:
        A tuple of 1000 ints, 0–21840, or -1 for the one class that
        ImageNet-22k lacks: 850, the teddy (n04399382).

    Source: equal WordNet ids.

    Examples:
        >>> keras_convnext.facts.labels.imagenet22k_to_1k_indices()[:3]
        (359, 368, 460)
    """
    positions = {wnid: i for i, (wnid, _) in enumerate(label_set(21841))}
    return tuple(positions.get(wnid, -1) for wnid, _ in label_set(1000))


@in_range
def decode_predictions(
    preds: ArrayLike,
    top: Count = 5,
    class_names: Sequence | None = None,
) -> list[list[tuple[str, str, float]]]:
    """The best classes of every sample, as `keras.applications` has them.

    Args:
        preds: array or tensor `(samples, classes)` of scores of any range:
            probabilities or logits.
        top: how many classes to return, from 1 to `classes`.
        class_names: one name for each class. Without them the label set is
            the one that has as many classes.

    Returns:
        For each sample a list of `(wnid, name, score)` by falling score, which
        is a Python float. With `class_names` the first entry is the index of
        the class as a string, as names may repeat.

    Raises:
        ValueError: if `preds` is not 2-D, `class_names` does not fit it, no
            label set does, or `top` is out of range.

    Source: `keras.applications.convnext.decode_predictions`.

    Examples:
        >>> keras_convnext.decode_predictions(np.eye(1000)[[207]], top=1)
        [[('n02099601', 'golden_retriever', 1.0)]]
    """
    if keras.ops.is_tensor(preds):
        preds = keras.ops.convert_to_numpy(preds)
    preds = np.asarray(preds)
    if preds.ndim != 2:
        raise ValueError(
            "Expected a batch of predictions of shape (samples, classes). "
            f"Received: preds of shape {preds.shape}. For a single sample "
            "pass `preds[None]`"
        )
    preds = preds.astype("float64")
    labels = _labels(preds.shape[1], class_names)
    if top > len(labels):
        raise ValueError(
            f"`top` must be an int from 1 to {len(labels)}, the number of "
            f"classes. Received: top={top!r}"
        )
    return [
        [(*labels[i], float(scores[i])) for i in best_classes(scores, top)]
        for scores in preds
    ]


def softmax(logits: Array) -> Array:
    """Probabilities `(..., classes)` of logits, in float64."""
    logits = logits.astype("float64")
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def sigmoid(logits: Array) -> Array:
    """Probabilities of labels that do not compete, in float64.

    In float32 high scores would become equal, and their order be lost.
    """
    return 1 / (1 + np.exp(-logits.astype("float64")))


def best_classes(scores: Array, top: int) -> list[int]:
    """The numbers of the highest of an image's scores, the best first.

    Of equal scores the first comes first, and NaN last.

    Examples:
        >>> keras_convnext.facts.labels.best_classes(np.array([1, 3, 3]), 2)
        [1, 2]
    """
    return np.argsort(-scores, kind="stable")[:top].tolist()


def _labels(classes, class_names):
    if class_names is None:
        if classes in LABEL_SETS:
            return label_set(classes)
        raise ValueError(
            f"Without `class_names`, predictions of {list(LABEL_SETS)} "
            f"classes are expected. Received: {classes} classes. Pass "
            "`class_names` with one name for each"
        )
    names = list(class_names)
    if len(names) != classes:
        raise ValueError(
            "`class_names` must have one name for each class. Received: "
            f"{len(names)} names for {classes} classes"
        )
    return [(str(index), str(name)) for index, name in enumerate(names)]
