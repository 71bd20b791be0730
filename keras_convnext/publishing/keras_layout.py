"""A folder for `keras.saving.load_model`: a `.keras` file, unpacked.

Keras saves to the hub in this form. It is unpacked rather than saved so, as
HDF5 ends the process where it finds the disk full.
"""

import zipfile

USAGE = """\
import keras, keras_convnext
model = keras.saving.load_model("{here}")
print(model.predict(model.preprocessing("photograph.jpg")[None]))
"""


def check(subject):
    """Every model can be."""


def write(subject, file, folder):
    """Writes `config.json`, `metadata.json` and `model.weights.h5`."""
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
