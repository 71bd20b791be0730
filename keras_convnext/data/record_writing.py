"""Writes any source of image files as TFRecord shards, resumably."""

import json
import math
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import in_range
from keras_convnext._util.requirements import require
from keras_convnext._util.writing import make_folder
from keras_convnext._util.writing import only_writer
from keras_convnext._util.writing import sha256_of
from keras_convnext._util.writing import written_aside
from keras_convnext.data import records
from keras_convnext.data.reading import Reader
from keras_convnext.data.source import Source
from keras_convnext.data.threads import in_order

IMAGES_PER_SHARD = 1024


@in_range
def write_records(
    source: Source,
    output: PathLike,
    shards: Count | None = None,
    verify: bool = False,
    on_error: str = "skip",
    progress: Callable[[int], Any] | None = None,
) -> dict[str, str]:
    """Writes a source as TFRecord shards, the images' bytes as they are.

    Shards hold `tf.train.Example`s with `image/encoded`, `image/class/label`
    (from 0), `image/class/text` and `image/filename`, as other packages read
    them, in the order of the source. `index.json` and a `.npy` file beside
    each shard tell `Records` where every image is. Killed at any moment and
    called again, it goes on, and ends with the same bytes.

    Args:
        source: a `Source` of encoded images, such as `ImageFolder`.
        output: path of a folder, which is made.
        shards: int, how many; one for 1024 images if `None`.
        verify: whether shards that are there must have their checksums, or
            their sizes alone.
        on_error: `"skip"` leaves out images that cannot be read, and warns;
            `"raise"` ends with the name of the first.
        progress: function that is called with how many images more are done.

    Returns:
        A dict from names of images that were left out to reasons.

    Raises:
        ValueError: if the folder holds other records or is being written to,
            and for sources of arrays.
        ImportError: if TensorFlow, which writes, is not installed.
        OSError: if it cannot be written, for instance on a full disk.

    Examples:
        >>> source = keras_convnext.data.ImageFolder("photos")  # doctest: +SKIP
        >>> keras_convnext.data.write_records(
        ...     source, "photo_records"
        ... )  # doctest: +SKIP
        {}
    """
    tf = require(
        "tensorflow",
        "writing TFRecord shards",
        "write them elsewhere: reading them does without",
    )
    progress = progress or (lambda count: None)
    output = Path(output)
    index = _planned(source, shards)
    make_folder(output)
    with only_writer(output / "records.lock"):
        written = {x["file"]: x for x in _begun(output, index)}
        reader = Reader(source, on_error)
        left_out: dict[str, str] = {}
        for path, numbers in _parts(output, len(source), index["shard_count"]):
            shard = written.get(path.name)
            if shard is None or not records.is_whole(output, shard, verify):
                shard = _write(tf, reader, path, numbers, progress)
                # With those still to be looked at, which may be whole.
                written[path.name] = shard
                index["shards"] = [written[name] for name in sorted(written)]
                with written_aside(output / records.INDEX) as unfinished:
                    unfinished.write_text(json.dumps(index, indent=1) + "\n")
            else:
                progress(len(numbers))
            left_out |= shard["left_out"]
    return left_out


def _planned(source, shards):
    """The index to be, but for its shards."""
    if not source.is_encoded:
        raise ValueError(
            "Records hold images as they are in their files. Received: a "
            f"{type(source).__name__}, whose images are arrays. Train on it "
            "as it is"
        )
    if source.task != "single-label":
        raise ValueError(
            "Records hold one class for each image. Received: a "
            f"{type(source).__name__} whose images may have several, or "
            "numbers. Train on it as it is"
        )
    if shards is None:
        shards = math.ceil(len(source) / IMAGES_PER_SHARD)
    if not 1 <= shards <= len(source):
        raise ValueError(
            f"`shards` must be from 1 to {len(source)}, the number of images. "
            f"Received: shards={shards}"
        )
    return {
        "format": records.FORMAT,
        "source": source.fingerprint(),
        "classes": list(source.classes),
        "shard_count": shards,
    }


def _begun(output, index):
    """The shards that are written already, of the same source."""
    if not (output / records.INDEX).exists():
        return []
    begun = records.read_index(output)
    # Those of earlier versions have no sample of their source.
    if "sample" not in begun["source"]:
        index["source"].pop("sample")
    for key in ("source", "shard_count"):
        if begun[key] != index[key]:
            raise ValueError(
                "Expected a folder that is empty or holds the beginning of "
                f"these records. Received: {str(output)!r} with {key} "
                f"{begun[key]} and not {index[key]}. Choose another folder, "
                "or remove this one"
            )
    return begun["shards"]


def _parts(output, count, shards):
    """Yields the path of every shard, and the numbers of its images."""
    for i in range(shards):
        name = f"images-{i:05}-of-{shards:05}.tfrecord"
        yield (
            output / name,
            range(count * i // shards, count * (i + 1) // shards),
        )


def _write(tf, reader, path, numbers, progress):
    """Writes a shard and its rows; returns its entry in the index."""
    source, left_out = reader.source, {}
    contents = in_order(lambda x: reader.read(x, _whole), numbers)
    rows, position = [], 0
    with written_aside(path) as unfinished:
        with tf.io.TFRecordWriter(str(unfinished)) as writer:
            for number, content in zip(numbers, contents):
                progress(1)
                if content is None:
                    name = source.name(number)
                    left_out[name] = reader.skipped[name]
                    continue
                label = int(source.labels[number])
                name = os.fsencode(source.filename(number))
                text = os.fsencode(source.classes[label])
                record = _example(tf, content, label, text, name)
                writer.write(record)
                offset = position + records.HEADER + record.find(content)
                checksum = zlib.crc32(content)
                rows.append((offset, len(content), label, checksum, name))
                position += records.HEADER + len(record) + records.FOOTER
        shard = {
            "file": path.name,
            "images": len(rows),
            "bytes": unfinished.stat().st_size,
            "sha256": sha256_of(unfinished),
            "left_out": left_out,
        }
    width = max([len(name) for *_, name in rows], default=1)
    types = [("offset", "<i8"), ("length", "<i8"), ("label", "<i4")]
    types += [(records.CHECKSUM, "<u4"), ("name", f"S{width}")]
    with written_aside(records.rows_path(path.parent, shard)) as unfinished:
        np.save(unfinished, np.array(rows, types))
        shard["rows_sha256"] = sha256_of(unfinished)
    return shard


def _whole(photograph, number):
    """The bytes of an image that can be read to its end."""
    photograph.pixels()
    return photograph.content


def _example(tf, content, label, text, name):
    example = tf.train.Example()
    features = example.features.feature
    features["image/encoded"].bytes_list.value.append(content)
    features["image/class/label"].int64_list.value.append(label)
    features["image/class/text"].bytes_list.value.append(text)
    features["image/filename"].bytes_list.value.append(name)
    # Its maps have no order otherwise.
    return example.SerializeToString(deterministic=True)
