"""Run in a fresh process, perhaps on another backend: loads and predicts.

Usage: KERAS_BACKEND=... python load_and_predict.py MODEL IMAGES.npy OUTPUT.npz
"""

import sys

import keras_convnext  # noqa: F401  (registers what the file holds)

if __name__ == "__main__":
    import keras
    import numpy as np

    path, images, output = sys.argv[1:]
    model = keras.saving.load_model(path)
    np.savez(
        output,
        backend=keras.backend.backend(),
        logits=keras.ops.convert_to_numpy(model(np.load(images))),
        class_names=model.class_names,
        variant=repr(model.variant),
        preprocessing=repr(model.preprocessing),
    )
