"""Writes any source of image files as TFRecord shards, resumably."""

import contextlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.requirements import require
from keras_convnext._util.writing import only_writer
from keras_convnext._util.writing import sha256_of
from keras_convnext._util.writing import written_aside
from keras_convnext.data import records
from keras_convnext.data.reading import Reader
from keras_convnext.data.source import Source
from keras_convnext.data.threads import WORKERS
from keras_convnext.data.threads import in_order

IMAGES_PER_SHARD = 1024


def write_records(
    source: Source,
    output: PathLike,
    shards: int | None = None,
    verify: bool = False,
    on_error: str = "skip",
    workers: int = WORKERS,
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
        workers: int, threads that read.
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
    output = Path(output)
    index = _planned(source, shards)
    output.mkdir(parents=True, exist_ok=True)
    with only_writer(output / "records.lock"):
        written = {x["file"]: x for x in _begun(output, index)}
        reader = Reader(source, on_error)
        left_out: dict[str, str] = {}
        parts = _parts(output, len(source), index["shard_count"])
        for path, numbers in parts:
            shard = written.get(path.name)
            if shard is None or not records.is_whole(output, shard, verify):
                shard = _write(tf, reader, path, numbers, workers, progress)
                # With those still to be looked at, which may be whole.
                written[path.name] = shard
                index["shards"] = [
                    written[x.name] for x, _ in parts if x.name in written
                ]
                with written_aside(output / records.INDEX) as unfinished:
                    unfinished.write_text(json.dumps(index, indent=1) + "\n")
            elif progress is not None:
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
    found = records.read_index(output)
    for key in ("source", "shard_count"):
        if found[key] != index[key]:
            raise ValueError(
                "Expected a folder that is empty or holds the beginning of "
                f"these records. Received: {str(output)!r} with {key} "
                f"{found[key]} and not {index[key]}. Choose another folder, "
                "or remove this one"
            )
    return found["shards"]


def _parts(output, count, shards):
    """A list of the path of every shard, and the numbers of its images."""
    ends = [count * i // shards for i in range(shards + 1)]
    names = [f"images-{i:05}-of-{shards:05}.tfrecord" for i in range(shards)]
    return [
        (output / name, range(start, stop))
        for name, start, stop in zip(names, ends, ends[1:])
    ]


def _write(tf, reader, path, numbers, workers, progress):
    """Writes a shard and its rows; returns its entry in the index."""
    source, before = reader.source, set(reader.skipped)
    contents = in_order(lambda x: reader.read(x, _whole), numbers, workers)
    rows, position = [], 0
    with written_aside(path) as unfinished:
        with _errors_of(tf), tf.io.TFRecordWriter(str(unfinished)) as writer:
            for number, content in zip(numbers, contents):
                if progress is not None:
                    progress(1)
                if content is None:
                    continue
                label = int(source.labels[number])
                name = os.fsencode(source.filename(number))
                text = os.fsencode(source.classes[label])
                record = _example(tf, content, label, text, name)
                writer.write(record)
                offset = position + records.HEADER + record.find(content)
                rows.append((offset, len(content), label, name))
                position += records.HEADER + len(record) + records.FOOTER
        shard = {
            "file": path.name,
            "images": len(rows),
            "bytes": unfinished.stat().st_size,
            "sha256": sha256_of(unfinished),
        }
    with written_aside(records.rows_path(path.parent, shard)) as unfinished:
        np.save(unfinished, _as_array(rows))
        shard["rows_sha256"] = sha256_of(unfinished)
    shard["left_out"] = {
        name: reason
        for name, reason in sorted(reader.skipped.items())
        if name not in before
    }
    return shard


def _whole(photograph, number):
    """The bytes of an image that can be read to its end."""
    photograph.pixels()
    return photograph.content


def _example(tf, content, label, text, name):
    def of_bytes(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    labels = tf.train.Int64List(value=[label])
    features = {
        "image/encoded": of_bytes(content),
        "image/class/label": tf.train.Feature(int64_list=labels),
        "image/class/text": of_bytes(text),
        "image/filename": of_bytes(name),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    # Its maps have no order otherwise.
    return example.SerializeToString(deterministic=True)


def _as_array(rows):
    width = max([len(name) for *_, name in rows], default=1)
    types = [("offset", "<i8"), ("length", "<i8"), ("label", "<i4")]
    return np.array(rows, [*types, ("name", f"S{width}")])


@contextlib.contextmanager
def _errors_of(tf):
    """A full disk is no `OSError` in TensorFlow."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(f"The records cannot be written: {error}") from error
