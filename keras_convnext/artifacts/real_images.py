"""Real images, to calibrate int8 on and to compare artifacts on."""

import os
from pathlib import Path

import numpy as np

from keras_convnext._util.limits import check_file
from keras_convnext._util.requirements import require
from keras_convnext.artifacts import metadata as embedded
from keras_convnext.images.folders import images_below
from keras_convnext.images.levels import check_levels
from keras_convnext.images.transform import load_image

FOLDER_IMAGES, BATCH = 500, 32
DEFAULT_SIZE = (224, 224)
# Detectors compute the same at any size, and take long at their own.
DETECTOR_SIZE = (256, 320)


def to_calibrate(source, metadata):
    """Inputs of the artifact that int8 takes its ranges from, or `None`."""
    quantization = metadata["quantization"]
    if quantization == "int8":
        images = _images("representative_data", source, metadata)
        return embedded.inputs(metadata, images)
    if source is None:
        return None
    raise ValueError(
        "`representative_data` calibrates `quantization='int8'`. "
        f"Received: quantization={quantization!r}"
    )


def to_compare(source, metadata, verify):
    """Batches of images of 0–255, channels last; none without `verify`.

    Without a source two photographs; of two sizes if any size will do.
    """
    if not verify:
        return []
    if source is not None:
        images = _images("verification_data", source, metadata)
        # Hundreds of images at once would not fit into memory.
        return [
            images[start : start + BATCH]
            for start in range(0, len(images), BATCH)
        ]
    sizes = [metadata["size"]]
    if None in metadata["size"]:
        preprocessing = metadata["preprocessing"]
        height, width = (
            preprocessing.image_size if preprocessing else DEFAULT_SIZE
        )
        if embedded.is_detector(metadata["outputs"]):
            height, width = DETECTOR_SIZE
        sizes = [(height, width), (height + 32, width + 64)]
    return [_photographs(*size, metadata["channels"]) for size in sizes]


def _images(argument, source, metadata):
    """Images of 0–255, from an array or a folder of files."""
    if isinstance(source, (str, os.PathLike)):
        source = _read(argument, Path(source), metadata["preprocessing"])
    shape = (*metadata["size"], metadata["channels"])
    if source is None or not _has_shape(source, shape):
        received = "None" if source is None else f"shape {np.shape(source)}"
        raise ValueError(
            f"`{argument}` must be an array of real images of shape (n, "
            f"{', '.join(map(str, shape))}) of 0–255, or a folder of images. "
            f"Received: {received}"
        )
    check_levels(source, f"`{argument}`")
    return np.asarray(source)


def _has_shape(images, shape):
    received = np.shape(images)
    return (
        len(received) == 4
        and received[0] > 0
        and all(a in (None, b) for a, b in zip(shape, received[1:]))
    )


def check_there(argument, path):
    """Raises `ValueError` unless there is a file or folder to take."""
    if not path.exists():
        raise ValueError(
            f"`{argument}` must be a folder of images or a .npy file that "
            f"exists. Received: {str(path)!r}"
        )


def _read(argument, path, preprocessing):
    check_there(argument, path)
    if path.suffix == ".npy":
        return _load(argument, path)
    paths = images_below(path)
    # Evenly from all of them: folders are often sorted by class.
    chosen = paths[:: max(1, len(paths) // FOLDER_IMAGES)]
    if not chosen or preprocessing is None:
        raise ValueError(
            f"`{argument}` must be a folder that holds images, for a "
            "model that knows its preprocessing. Received: "
            f"{str(path)!r} with {len(paths)} images"
        )
    return np.stack([preprocessing(x) for x in chosen])


def _load(argument, path):
    try:
        check_file(path)
        return np.load(path)
    # Broken headers end in anything: SyntaxError, tokenize.TokenError …
    except Exception as error:
        raise ValueError(
            f"`{argument}` must be a folder of images, or a .npy file that "
            f"NumPy reads without pickles. Received: {str(path)!r}, {error}. "
            "Write it by `numpy.save`"
        ) from error


def _photographs(height, width, channels):
    """Two photographs; red, green and blue in turn in other channels."""
    datasets = require("sklearn.datasets", "photographs to compare on")
    photographs = [
        load_image(image, (height, width), mode="center")
        for image in datasets.load_sample_images().images
    ]
    return np.stack(photographs)[..., np.arange(channels) % 3]
