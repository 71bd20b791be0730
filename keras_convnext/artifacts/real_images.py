"""Real images, to calibrate int8 on and to compare artifacts on."""

import os
from pathlib import Path

import numpy as np

from keras_convnext._util.requirements import require
from keras_convnext.artifacts import metadata
from keras_convnext.images.reading import images_below
from keras_convnext.images.transform import load_image

FOLDER_IMAGES, BATCH = 500, 32
DEFAULT_SIZE = (224, 224)


def to_calibrate(source, exportable):
    """Inputs of the artifact that int8 takes its ranges from, or `None`."""
    quantization = exportable.options.quantization
    if quantization == "int8":
        images = _images("representative_data", source, exportable)
        return metadata.inputs(exportable.metadata, images)
    if source is None:
        return None
    raise ValueError(
        "`representative_data` calibrates `quantization='int8'`. "
        f"Received: quantization={quantization!r}"
    )


def to_compare(source, exportable, verify):
    """Batches of images of 0–255, channels last; none without `verify`.

    Without a source two photographs; of two sizes if any size will do.
    """
    if not verify:
        return []
    if source is not None:
        images = _images("verification_data", source, exportable)
        # Hundreds of images at once would not fit into memory.
        return [
            images[start : start + BATCH]
            for start in range(0, len(images), BATCH)
        ]
    size, channels = exportable.options.size, exportable.metadata["channels"]
    sizes = [size]
    if None in size:
        preprocessing = metadata.preprocessing(exportable.metadata)
        height, width = (
            preprocessing.image_size if preprocessing else DEFAULT_SIZE
        )
        sizes = [(height, width), (height + 32, width + 64)]
    return [_photographs(*size, channels) for size in sizes]


def _images(argument, source, exportable):
    """Images of 0–255, from an array or a folder of files."""
    if isinstance(source, (str, os.PathLike)):
        source = _read(argument, Path(source), exportable.metadata)
    shape = (*exportable.options.size, exportable.metadata["channels"])
    if source is None or not _has_shape(source, shape):
        received = "None" if source is None else f"shape {np.shape(source)}"
        raise ValueError(
            f"`{argument}` must be an array of real images of shape (n, "
            f"{', '.join(map(str, shape))}) of 0–255, or a folder of images. "
            f"Received: {received}"
        )
    return np.asarray(source)


def _has_shape(images, shape):
    received = np.shape(images)
    return (
        len(received) == 4
        and received[0] > 0
        and all(a in (None, b) for a, b in zip(shape, received[1:]))
    )


def _read(argument, path, values):
    if path.suffix == ".npy":
        return np.load(path)
    preprocessing = metadata.preprocessing(values)
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


def _photographs(height, width, channels):
    datasets = require("sklearn.datasets", "photographs to compare on")
    photographs = [
        load_image(image, (height, width), mode="center")
        for image in datasets.load_sample_images().images
    ]
    photographs = np.stack(photographs)
    if channels == 3:
        return photographs
    gray = photographs.mean(-1, keepdims=True).round().astype("uint8")
    more = np.concatenate([photographs, gray], -1)
    return (
        gray
        if channels == 1
        else np.resize(
            np.moveaxis(more, -1, 0), (channels, *gray.shape[:3])
        ).transpose(1, 2, 3, 0)
    )
