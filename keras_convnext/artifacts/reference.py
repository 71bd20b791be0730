"""What an artefact is compared with: real images, and the model's outputs."""

import contextlib

import keras
import numpy as np

from keras_convnext.artifacts import graph
from keras_convnext.artifacts import metadata as metadata_
from keras_convnext.artifacts.requirements import require
from keras_convnext.data import load_digits
from keras_convnext.images.transform import load_image
from keras_convnext.models import inspection

DEFAULT_SIZE = 224


def real_images(metadata):
    """Batches of real images of 0–255, channels last, of the model's size.

    Handwritten digits where they fit, else scikit-learn's two photographs; of
    two sizes if any size will do.
    """
    size, channels = metadata["size"], metadata["channels"]
    if tuple(size) == (8, 8) and channels == 1:
        return [load_digits()[1][0]]
    if None in size:
        known = metadata["preprocessing"]
        height, width = known["image_size"] if known else (DEFAULT_SIZE,) * 2
        sizes = [(height, width), (height + 32, width + 64)]
    else:
        sizes = [tuple(size)]
    return [_photographs(*size, channels) for size in sizes]


def outputs(model, options, metadata, batches):
    """The model's own outputs, on the backend that Keras runs on."""
    named = graph.named(model, options.features)
    model = graph.rebuild(named, graph.image(named, options.size), graph.step)
    own = {
        **metadata,
        "data_format": inspection.data_format(named),
        "input_dtype": "float32",
    }
    with full_precision():
        outputs = [
            model.predict_on_batch(metadata_.inputs(own, batch))
            for batch in batches
        ]
    return [
        {name: np.asarray(x) for name, x in output.items()}
        for output in outputs
    ]


@contextlib.contextmanager
def full_precision():
    """GPUs round float32 products to 10 bits unless told otherwise."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    elif backend == "torch":
        import torch

        with torch.backends.cudnn.flags(allow_tf32=False):
            yield
    else:
        import tensorflow as tf

        settings = tf.config.experimental
        before = settings.tensor_float_32_execution_enabled()
        settings.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            settings.enable_tensor_float_32_execution(before)


def _photographs(height, width, channels):
    datasets = require("sklearn.datasets", "scikit-learn")
    photographs = [
        load_image(image, (height, width), mode="center")
        for image in datasets.load_sample_images().images
    ]
    photographs = np.stack(photographs)
    if channels == 3:
        return photographs
    grey = photographs.mean(-1, keepdims=True).round().astype("uint8")
    more = np.concatenate([photographs, grey], -1)
    return (
        grey
        if channels == 1
        else np.resize(
            np.moveaxis(more, -1, 0), (channels, *grey.shape[:3])
        ).transpose(1, 2, 3, 0)
    )
