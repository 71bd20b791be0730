"""Runs an artifact on batches of images, and takes the time.

As a program it runs a SavedModel where nothing but TensorFlow is imported:

    python measuring.py FOLDER EXCHANGE

EXCHANGE is a file of pickled batches, which the pickled results replace. It is
run by its path, so that the package, with its layers, stays out.
"""

import pickle
import sys
import time
from pathlib import Path

import numpy as np

LATENCY_SECONDS, LATENCY_RUNS = 2.0, 30


def measured(run, batches):
    """Outputs of every batch, and the median milliseconds of one image."""
    outputs = [run(batch) for batch in batches]
    image, seconds = batches[-1][:1], []
    while len(seconds) < 3 or (
        sum(seconds) < LATENCY_SECONDS and len(seconds) < LATENCY_RUNS
    ):
        start = time.perf_counter()
        run(image)
        seconds.append(time.perf_counter() - start)
    return outputs, 1000 * float(np.median(seconds))


def saved_model(folder):
    """The function of a SavedModel, from images to outputs by name."""
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)

    def run(images):
        serve = loaded.signatures["serving_default"]
        outputs = serve(image=tf.constant(images))
        return {name: x.numpy() for name, x in outputs.items()}

    return run


def main(folder, exchange):
    batches = pickle.loads(Path(exchange).read_bytes())
    result = measured(saved_model(folder), batches)
    if "keras_convnext" in sys.modules:  # TensorFlow brings Keras
        raise RuntimeError("This package was in TensorFlow's process")
    Path(exchange).write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
