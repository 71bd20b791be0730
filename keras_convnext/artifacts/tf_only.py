"""Runs a SavedModel where nothing but TensorFlow is imported.

Usage: python tf_only.py FOLDER INPUTS.npz OUTPUTS.npz

Run by its path, so that the package, with its layers, stays out.
"""

import sys
import time

if __name__ == "__main__":
    import numpy as np
    import tensorflow as tf

    folder, inputs, outputs = sys.argv[1:]
    serve = tf.saved_model.load(folder).signatures["serving_default"]
    results = {}
    for number, images in np.load(inputs).items():
        for name, values in serve(image=tf.constant(images)).items():
            results[f"{number}/{name}"] = values.numpy()
    image = tf.constant(images[:1])
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        serve(image=image)
        seconds.append(time.perf_counter() - start)
    np.savez(
        outputs,
        seconds=np.median(seconds[1:]),
        alone="keras_convnext" not in sys.modules,  # TensorFlow brings Keras
        **results,
    )
