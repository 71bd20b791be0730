"""Batches of a source as evaluation sees them, on every backend."""

import math

import keras
import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import Images
from keras_convnext._util.checks import check_process
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import in_range
from keras_convnext.data.reading import Reader
from keras_convnext.data.source import Source
from keras_convnext.data.threads import WORKERS
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.images.preprocessing import load_image_for


class EvalLoader(keras.utils.PyDataset):
    """Every image of a source once, in order, as evaluation sees it.

    Args:
        source: a `Source`. Its arrays pass as they are if they have the shape
            of the model's images.
        preprocessing: a `Preprocessing`, as `model.preprocessing`.
        batch_size: int; batches are of this size or smaller, all alike as
            far as possible.
        on_error: `"skip"` leaves out what cannot be read, and warns, which
            makes its batch smaller; `"raise"` ends with its name.
        process_index, process_count: ints; process `p` of `n` gets the images
            `p`, `p + n`, `p + 2 n` …

    Attributes:
        skipped: dict from names of images that could not be read to reasons.

    Examples:
        >>> _, digits = keras_convnext.data.open_splits("digits")
        >>> loader = keras_convnext.data.EvalLoader(
        ...     digits,
        ...     keras_convnext.Preprocessing((8, 8), mean=(0.3,), std=(0.35,)),
        ...     batch_size=100,
        ... )
        >>> len(loader), loader[3][0].shape
        (4, (90, 8, 8, 1))
    """

    @in_range
    def __init__(
        self,
        source: Source,
        preprocessing: Preprocessing,
        batch_size: Count,
        on_error: str = "skip",
        process_index: CountOrZero = 0,
        process_count: Count = 1,
    ):
        super().__init__(workers=WORKERS)
        check_process(process_index, process_count)
        self.source, self.preprocessing = source, preprocessing
        self.batch_size = batch_size
        self._reader = Reader(source, on_error)
        self.skipped = self._reader.skipped
        self._numbers = range(process_index, len(source), process_count)
        self._batches = math.ceil(len(self._numbers) / batch_size)
        self._shape = (*preprocessing.image_size, len(preprocessing.mean))
        self._loaded_shape = self._shape
        if source.is_encoded:
            preprocessing.arguments()  # raises for other than RGB

    def __len__(self) -> int:
        return self._batches

    def __getitem__(self, index: int) -> tuple[Images, Array]:
        """`uint8` images `(batch, height, width, channels)`, and labels.

        Raises:
            ValueError: if none of a batch can be read.
        """
        numbers, images = self.load(index)
        if not len(images):  # of which Keras makes NaN on some backends
            unread = self._numbers_of(index)
            raise self._reader.none_of(unread, ", or take larger batches")
        return images, self.source.labels[numbers]

    def load(self, index: int) -> tuple[Array, Images]:
        """A batch, and which images it holds.

        Returns:
            `(numbers, images)`: an int array `(batch,)` of numbers in the
            source, and the images; of length 0 if none can be read.
        """
        images = {
            number: self._reader.read(number, self._transformed)
            for number in self._numbers_of(index)
        }
        read = {x: image for x, image in images.items() if image is not None}
        result = np.array([*read.values()], "uint8")
        result = result.reshape(-1, *self._loaded_shape)
        return np.array([*read], "int64"), result

    def _numbers_of(self, index):
        count = len(self._numbers)
        start, stop = (count * i // self._batches for i in (index, index + 1))
        return self._numbers[start:stop]

    def _transformed(self, image, number):
        if self._is_as_it_is(image):
            return image
        return load_image_for(self.preprocessing, image)

    def _is_as_it_is(self, image):
        return not self.source.is_encoded and image.shape == self._shape
