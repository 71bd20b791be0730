"""A classifier that answers by a table: an image's color is its number."""

import os

import numpy as np
from PIL import Image

from keras_convnext.artifacts.running import Artifact
from keras_convnext.facts.labels import label_set
from keras_convnext.images.preprocessing import Preprocessing

IMAGENET = [list(pair) for pair in label_set(1000)]
SIDE = 4


def colored(number):
    """An image that says its number: of one color, so no crop changes it."""
    image = np.zeros((SIDE, SIDE, 3), "uint8")
    image[:] = number % 256, number // 256, 0
    return image


class TableClassifier(Artifact):
    """Answers the image of number `n` with row `n` of a table of logits.

    Args:
        table: array `(images, outputs)`.
        classes: `[id, name]` of each output, or `None`.
        metadata: other entries of it.
    """

    def __init__(self, table, classes=None, **metadata):
        self.table = np.asarray(table)
        self.seen = []
        preprocessing = Preprocessing((SIDE, SIDE), crop_pct=0.5)
        defaults = {
            "model": "known",
            "weights": None,
            "license": None,
            "label_set": None,
            "classes": classes,
            "preprocessing": preprocessing,
            "normalizes": True,
            "data_format": "channels_last",
            "input_dtype": "float32",
            "size": [SIDE, SIDE],
            "channels": 3,
            "outputs": ["logits"],
            "activation": None,
            "units": None,
            "quantization": None,
            "temperature": None,
        }
        super().__init__("known", {**defaults, **metadata}, self.answers)

    def answers(self, inputs):
        self.seen.append(inputs)
        colors = inputs[:, 0, 0].astype(int)
        numbers = colors[:, 0] + 256 * colors[:, 1]
        (name,) = self.metadata["outputs"]
        return {name: self.table[numbers]}


def named(*names):
    """Classes as a model has them that has names of its own."""
    return [[str(index), name] for index, name in enumerate(names)]


def write(path, number):
    """Writes an image without loss, whatever its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colored(number)).save(path, format="PNG")


def write_validation(folder):
    """One image of each class of ImageNet-1k, its number that of the class.

    They have the names of ImageNet's validation images: number 0 is
    `ILSVRC2012_val_00000001.JPEG`.
    """
    for number, (wnid, _) in enumerate(IMAGENET):
        write(folder / wnid / f"ILSVRC2012_val_{number + 1:08d}.JPEG", number)
    return folder


def linked(folder, names, source):
    """A folder with other names for some classes of another one.

    Args:
        names: dict from new names to those in `source`.
    """
    for name, source_name in names.items():
        (folder / name).mkdir(parents=True)
        for image in (source / source_name).iterdir():
            os.link(image, folder / name / image.name)
    return folder
