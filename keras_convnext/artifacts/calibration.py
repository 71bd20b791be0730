"""The images that int8 takes its ranges from."""

import os
from pathlib import Path

import numpy as np

from keras_convnext.artifacts import metadata as metadata_
from keras_convnext.images.reading import images_below
from keras_convnext.images.transform import load_image_for

FOLDER_IMAGES = 500


def images(source, options, metadata):
    """Inputs of the artefact, from images of 0–255 or a folder of files."""
    if options.quantization != "int8":
        if source is None:
            return None
        raise ValueError(
            "`representative_data` calibrates `quantization='int8'`. "
            f"Received: quantization={options.quantization!r}"
        )
    if isinstance(source, (str, os.PathLike)):
        source = _read(Path(source), metadata)
    shape = (*options.size, metadata["channels"])
    if source is None or np.shape(source)[1:] != shape or not len(source):
        found = "None" if source is None else f"shape {np.shape(source)}"
        raise ValueError(
            "int8 is calibrated on real images: `representative_data` must be "
            f"an array of shape (n, {', '.join(map(str, shape))}) of 0–255, "
            f"or a folder of images. Received: {found}"
        )
    return metadata_.inputs(metadata, np.asarray(source))


def _read(path, metadata):
    if path.suffix == ".npy":
        return np.load(path)
    preprocessing = metadata_.preprocessing(metadata)
    paths = images_below(path)
    # Evenly from all of them: folders are often sorted by class.
    chosen = paths[:: max(1, len(paths) // FOLDER_IMAGES)]
    if not chosen or preprocessing is None:
        raise ValueError(
            "`representative_data` must be a folder that holds images, for a "
            "model that knows its preprocessing. Received: "
            f"{str(path)!r} with {len(paths)} images"
        )
    return np.stack([load_image_for(preprocessing, x) for x in chosen])
