"""ReaL: for each ImageNet-1k validation image all that is right."""

import json
import re

import numpy as np

from keras_convnext._util.limits import check_file

FILE_NAME = re.compile(r"ILSVRC2012_val_(\d{8})")
CLASSES = 1000


def read_labels(path):
    """The labels of all validation images.

    Args:
        path: of `real.json` from google-research/reassessed-imagenet, which
            is timm's `imagenet_real_labels.json`: a list with one list of
            class numbers, perhaps empty, for each image.

    Returns:
        A list of sets of ints.

    Raises:
        ValueError: if the file cannot be read, or holds something else.
    """
    try:
        check_file(path)  # a pipe would never end
        with open(path, encoding="utf-8") as file:
            labels = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            "Expected the JSON file of the ReaL labels, `real.json` of "
            "github.com/google-research/reassessed-imagenet. Received: "
            f"{str(path)!r} ({error})"
        ) from error
    is_known = isinstance(labels, list) and all(
        isinstance(each, list)
        and all(type(x) is int and 0 <= x < CLASSES for x in each)
        for each in labels
    )
    if not is_known:
        raise ValueError(
            "Expected a list with one list of class numbers of 0 to "
            f"{CLASSES - 1} for each validation image. Received: {str(path)!r}"
            " with something else. Download `real.json` again"
        )
    return [set(each) for each in labels]


def labels_of(source, labels):
    """The labels of each image of a source, by its file name.

    Args:
        source: a `Source` whose names hold `ILSVRC2012_val_00000001` and so
            on, wherever the files lie.
        labels: of `read_labels`.

    Returns:
        `(numbers, targets)`: int array of the images that have labels, and
        their sets of class numbers.

    Raises:
        ValueError: for names that tell no validation image.
    """
    numbers, targets = [], []
    for number in range(len(source)):
        match = FILE_NAME.search(source.name(number))
        place = int(match[1]) if match else 0
        if not 1 <= place <= len(labels):
            raise ValueError(
                "ReaL labels go by the names of the files, "
                f"ILSVRC2012_val_00000001 to {len(labels):08d}. Received: "
                f"{source.name(number)!r}. Keep the names of the original "
                "archive"
            )
        if labels[place - 1]:
            numbers.append(number)
            targets.append(labels[place - 1])
    return np.array(numbers, "int64"), targets
