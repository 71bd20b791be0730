"""Images, what is seen of them, and what a masked autoencoder makes of it."""

from typing import Any

import keras
import numpy as np
from keras import ops
from PIL import Image

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import ArrayLike
from keras_convnext._util.annotations import Images
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.writing import make_folder
from keras_convnext._util.writing import written_aside
from keras_convnext.tasks.pretraining import objective
from keras_convnext.tasks.pretraining import patches
from keras_convnext.tasks.pretraining.masks import check_visible
from keras_convnext.tasks.pretraining.model import IMAGES
from keras_convnext.tasks.pretraining.model import VISIBLE
from keras_convnext.tasks.pretraining.model import MaskedAutoencoder
from keras_convnext.tasks.pretraining.model import check_autoencoder

HIDDEN = 127  # the gray of what is not seen
GAP = 4  # pixels between pictures
PICTURES = 4  # images that each picture of a run shows


def reconstructed(
    model: MaskedAutoencoder, images: Images, visible: ArrayLike
) -> dict[str, Array]:
    """The images as a masked autoencoder sees and completes them.

    A prediction is relative to mean and variance of its patch, which are
    those of the image here.

    Args:
        model: a `MaskedAutoencoder`.
        images: array `(batch, height, width, channels)` of 0–255.
        visible: int array `(batch, count)`, as for the model.

    Returns:
        Dict of `uint8` arrays of the images' shape: `masked`, with gray in
        place of what is hidden; `predicted`; and `pasted`, predictions with
        the visible patches over them.

    Raises:
        ValueError: if there are other patches than the model takes.

    Examples:
        >>> encoder = keras_convnext.ConvNeXtV2Atto(
        ...     weights=None, include_top=False
        ... )
        >>> model = keras_convnext.pretraining.FCMAE(encoder, image_size=64)
        >>> images = np.zeros((1, 64, 64, 3), "uint8")
        >>> found = keras_convnext.pretraining.reconstructed(
        ...     model, images, [[2]]
        ... )
        >>> found["masked"][0, [0, 32], 0].tolist()
        [[127, 127, 127], [0, 0, 0]]
    """
    check_autoencoder(model)
    images, visible = np.asarray(images), np.asarray(visible, "int32")
    check_visible(visible, len(images), model.visible_count, model.grid)
    given = {IMAGES: images, VISIBLE: visible}
    # On TensorFlow each replica predicts the whole.
    predictions = model.predict_on_batch(given)[: len(images)]
    grid = model.grid
    normalized = model.normalized(ops.convert_to_tensor(images, "float32"))
    center, deviation = objective.statistics(
        patches.patchified(normalized, grid)
    )
    center, deviation = map(ops.convert_to_numpy, (center, deviation))
    predicted = _joined(predictions * deviation + center, images.shape)
    preprocessing: Any = model.info.preprocessing
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    pixels = np.clip(np.round((predicted * std + mean) * 255), 0, 255)
    pixels = pixels.astype("uint8")
    height, width = (
        side // count for side, count in zip(images.shape[1:3], grid)
    )
    mask = np.ones((len(images), grid[0] * grid[1]), bool)
    np.put_along_axis(mask, visible, False, axis=1)
    is_hidden = mask.reshape(-1, *grid, 1)
    is_hidden = is_hidden.repeat(height, axis=1).repeat(width, axis=2)
    seen = images.astype("uint8")
    return {
        "masked": np.where(is_hidden, np.uint8(HIDDEN), seen),
        "predicted": pixels,
        "pasted": np.where(is_hidden, pixels, seen),
    }


def side_by_side(
    model: MaskedAutoencoder, images: Images, visible: ArrayLike
) -> Images:
    """One picture: a row for each image, with what `reconstructed` returns.

    Args:
        model, images, visible: as for `reconstructed`.

    Returns:
        `uint8` array `(height, width, channels)`: image, masked image,
        prediction, and prediction with the visible patches, from the left.
    """
    found = reconstructed(model, images, visible)
    columns = (np.asarray(images, "uint8"), *found.values())
    framed = [
        np.pad(x, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
        for x in columns
    ]
    rows = np.concatenate(framed, axis=2)
    return np.concatenate(list(rows), axis=0)


def write_picture(path: PathLike, picture: Images) -> None:
    """Writes an image file of RGB or gray pixels, whole or not at all."""
    if picture.shape[-1] == 1:
        picture = picture[..., 0]
    with written_aside(path) as unfinished:
        Image.fromarray(picture).save(unfinished)


class Pictures(keras.callbacks.Callback):
    """Writes what the model makes of the same images after each epoch.

    Args:
        run: the `Run`, in whose folder `reconstructions/` they are.
        inputs: dict, as for the model.
    """

    def __init__(self, run: Any, inputs: dict[str, Array]):
        super().__init__()
        self.folder, self.inputs = run.output / "reconstructions", inputs

    def on_epoch_end(self, epoch, logs=None):
        picture = side_by_side(
            self.model, self.inputs[IMAGES], self.inputs[VISIBLE]
        )
        make_folder(self.folder)
        write_picture(self.folder / f"epoch_{epoch + 1:04}.png", picture)


def _joined(rows, shape):
    """Rows of numbers as images again."""
    batch, height, width, channels = shape
    _, *grid, _ = rows.shape
    cut = rows.reshape(
        batch, *grid, height // grid[0], width // grid[1], channels
    )
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(shape)
