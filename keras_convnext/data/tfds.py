"""Data sets that TensorFlow Datasets has prepared, read by number."""

import os
import struct
from collections.abc import Iterator

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.requirements import require
from keras_convnext.data.records import FOOTER
from keras_convnext.data.records import HEADER
from keras_convnext.data.source import Source


class Tfds(Source):
    """A split of a prepared TFDS data set of labeled images.

    Opening it reads every example once, for its label; of large data sets
    `write_records` makes ones that open at once. Nothing is downloaded.

    Args:
        name: the data set's name, with `/config` and `:version` where TFDS
            has them.
        split: a name such as `"train"`; not a part of one.
        data_dir: the folder of TFDS' data sets; its own default if `None`.
        is_upright: whether to apply the EXIF orientation of photographs.

    Attributes:
        classes, labels, is_upright: see `Source`.

    Raises:
        ImportError: if `tensorflow_datasets` is not installed.
        ValueError: if the data set is unknown, not prepared, has no such
            split, or is not of images with one class each.

    Examples:
        >>> source = keras_convnext.data.Tfds(
        ...     "imagenette", "train"
        ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        name: str,
        split: str,
        data_dir: PathLike | None = None,
        is_upright: bool = True,
    ):
        builder = _builder(name, data_dir)
        if split not in builder.info.splits:
            raise ValueError(
                f"Expected a split of {name!r}, one of "
                f"{list(builder.info.splits)}. Received: split={split!r}"
            )
        features = builder.info.features
        image, label = _keys(name, features)
        self.is_upright = is_upright
        self.classes = tuple(features[label].names)
        self._id = f"tfds:{builder.info.full_name} {split}"
        self._paths = builder.info.splits[split].filepaths
        self._image = image
        self._read = _reader(builder, split, image)
        count = builder.info.splits[split].num_examples
        try:
            labels = [self._read(number)[label] for number in range(count)]
        # Broken files end in anything: IndexError, protobuf's DecodeError …
        except Exception as error:
            raise ValueError(
                "Expected a data set as TFDS wrote it. Received: "
                f"{self._id!r} in {str(builder.data_path)!r} ({error}). "
                "Prepare it again"
            ) from error
        self.labels = np.array(labels, "int32")

    def read(self, number: int) -> bytes:
        return self._read(int(number))[self._image]

    def name(self, number: int) -> str:
        return f"{self._id} {number}"

    def content(self) -> Iterator[bytes]:
        for path in self._paths:
            size = os.stat(path).st_size
            yield f"{os.path.basename(path)} {size}\n".encode()


def splits_of(name, data_dir=None):
    """Names of the splits of a prepared data set."""
    return list(_builder(name, data_dir).info.splits)


def _reader(builder, split, image):
    """A function from a number to an example, its image's bytes as they are."""
    import tensorflow_datasets as tfds

    info, decoders = builder.info, {image: tfds.decode.SkipDecoding()}
    if info.file_format is not tfds.core.FileFormat.TFRECORD:
        return builder.as_data_source(split, decoders=decoders).__getitem__
    # Files that are made to be read in order.
    features, paths = info.features, info.splits[split].filepaths
    places = np.array([*_places(paths)])

    def read(number):
        index, start, length = places[number]
        with open(paths[index], "rb") as file:
            file.seek(start)
            example = file.read(length)
        return features.deserialize_example_np(example, decoders=decoders)

    return read


def _places(paths):
    """In which TFRecord file each example is, where it starts, its length.

    Lengths must lie within the file. The CRC-32C of lengths and examples are
    not compared: that takes TensorFlow, or another package.
    """
    for index, path in enumerate(paths):
        end, start = os.stat(path).st_size, HEADER
        with open(path, "rb") as file:
            while start < end:
                file.seek(start - HEADER)
                (length,) = struct.unpack("<Q", file.read(8))
                if length > end - start - FOOTER:
                    raise ValueError(
                        "Expected TFRecord files as TFDS wrote them. Received:"
                        f" {str(path)!r}, where an example of {length} bytes "
                        f"begins at {start} of {end}. Prepare the data again"
                    )
                yield index, start, length
                start += length + FOOTER + HEADER


def _builder(name, data_dir):
    tfds = require("tensorflow_datasets", "data sets of TFDS")
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"Expected the name of a data set of TFDS. Received: {name!r}"
            f"{' in ' + repr(data_dir) if data_dir else ''}. They are listed "
            "on www.tensorflow.org/datasets"
        ) from error
    if not builder.is_prepared():
        option = f" --data_dir {data_dir}" if data_dir else ""
        raise ValueError(
            "Expected a data set that is prepared; nothing is downloaded "
            f"here. Received: {name!r}, which is not in "
            f"{str(builder.data_path)!r}. Run `tfds build {name}{option}`"
        )
    return builder


def _keys(name, features):
    """The keys of the one image and the one label in an example."""
    import tensorflow_datasets as tfds

    images, labels = (
        [key for key, feature in features.items() if isinstance(feature, kind)]
        for kind in (tfds.features.Image, tfds.features.ClassLabel)
    )
    if not len(images) == len(labels) == 1:
        raise ValueError(
            "Expected a data set of images with one class each. Received: "
            f"{name!r} with images {images} and class labels {labels}"
        )
    return images[0], labels[0]
