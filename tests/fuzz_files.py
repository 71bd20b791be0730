"""The kinds of files that `fuzz.py` damages: how each is written and opened."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import object_files
import pyarrow
from PIL import Image
from pyarrow import parquet

import keras_convnext
from keras_convnext.data.objects.opening import open_part
from keras_convnext.data.splits import open_data
from keras_convnext.images.reading import Photograph
from keras_convnext.training.checkpoints import Checkpoints

SIZE = 32
CHANNELS = {"jpeg": "RGB", "png": "RGBA", "gif": "P", "webp": "RGB"}


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        write: function of an empty folder.
        open: function of that folder, the arrays that are in it.
        has_checksums: whether a damaged file must never give other arrays.
        is_damaged: which of the files are damaged.
    """

    write: Callable
    open: Callable
    has_checksums: bool = False
    is_damaged: Callable = lambda path: True


def pixels(seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (SIZE, SIZE, 3), "uint8")


@functools.cache
def model():
    """A model in which every weight matters."""
    model = keras_convnext.ConvNeXt(
        (1, 1), (4, 8), input_shape=(SIZE, SIZE, 3), classes=3
    )
    generator = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(generator.normal(0.5, 0.2, variable.shape))
    return model


def write_image(format_):
    def write(folder):
        image = Image.fromarray(pixels()).convert(CHANNELS.get(format_, "RGB"))
        image.save(folder / f"image.{format_}")

    return write


def open_image(folder):
    (path,) = folder.iterdir()
    return [Photograph(path).pixels()]


def write_model(name):
    def write(folder):
        path = folder / name
        if name.endswith((".keras", ".h5")):
            is_model = name.endswith(".keras")
            save = model().save if is_model else model().save_weights
            save(path)
        else:
            format_ = None if path.suffix else "saved_model"
            keras_convnext.export(model(), path, format_, verbose=False)

    return write


def open_model(name):
    def open_(folder):
        artifact = keras_convnext.open_artifact(folder / name)
        return [artifact.predict(pixels()[None].astype("float32"))]

    return open_


def write_weights(name, layout):
    def write(folder):
        model().save(folder / "model.keras")
        keras_convnext.convert_weights(
            folder / "model.keras", folder / "written.safetensors", layout
        )
        (folder / "model.keras").unlink()
        if name.endswith(".pth"):
            import torch
            from safetensors.torch import load_file

            state = load_file(folder / "written.safetensors")
            torch.save({"model": state}, folder / name)
            (folder / "written.safetensors").unlink()
        else:
            (folder / "written.safetensors").rename(folder / name)

    return write


def open_weights(name):
    def open_(folder):
        loaded = keras_convnext.ConvNeXt(
            (1, 1),
            (4, 8),
            input_shape=(SIZE, SIZE, 3),
            classes=3,
            weights=folder / name,
        )
        return loaded.get_weights()

    return open_


def write_arrays(folder):
    images = np.stack([pixels(seed) for seed in range(4)])
    np.savez(folder / "data.npz", images=images, labels=np.arange(4) % 2)


def write_folder(folder):
    for seed in range(4):
        target = folder / "ab"[seed % 2]
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(seed)).save(target / f"{seed}.png")


def write_records(folder):
    write_folder(folder / "images")
    keras_convnext.data.write_records(
        keras_convnext.data.ImageFolder(folder / "images"), folder / "records"
    )


def write_list(name):
    def write(folder):
        write_folder(folder)
        rows = [
            {"path": f"{'ab'[i % 2]}/{i}.png", "label": "ab"[i % 2], "n": i}
            for i in range(4)
        ]
        path = folder / name
        if path.suffix == ".parquet":
            parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        elif path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(x) + "\n" for x in rows))
        else:
            lines = [rows[0], *(x.values() for x in rows)]
            text = "".join(",".join(map(str, x)) + "\n" for x in lines)
            path.write_text(text)

    return write


def open_source(name):
    def open_(folder):
        source = open_data(folder / name)
        images = map(source.image, range(len(source)))
        if source.is_encoded:
            images = (image.pixels() for image in images)
        return [np.array(source.labels), *images]

    return open_


def write_objects(write):
    def write_(folder):
        write(folder / "data")

    return write_


def open_objects(folder):
    """All that is told of objects, their masks among it."""
    source = open_part(folder / "data")
    columns = source.all_objects()
    masks = [source.objects(i).masks() for i in range(len(source))]
    return [columns["box"], columns["class"], *masks]


def write_checkpoints(folder):
    checkpoints = Checkpoints(folder / "checkpoints")
    for step in (1, 2):
        tensors = {"w": np.full(8, step, "float32")}
        checkpoints.save(step, tensors, {"epoch": step})


def open_checkpoints(folder):
    """The last whole one: its step must be that of its tensors."""
    step, tensors, record = Checkpoints(folder / "checkpoints").latest()
    assert record["epoch"] == step
    return [tensors["w"] - step]


KINDS = {
    **{
        name: Kind(write_image(name), open_image)
        for name in ("png", "jpeg", "gif", "bmp", "webp", "tiff")
    },
    "keras": Kind(write_model("m.keras"), open_model("m.keras"), True),
    "h5": Kind(write_model("m.weights.h5"), open_weights("m.weights.h5")),
    "safetensors": Kind(
        write_weights("m.safetensors", "timm"), open_weights("m.safetensors")
    ),
    "pth": Kind(write_weights("m.pth", "official"), open_weights("m.pth")),
    "npz": Kind(write_arrays, open_source("data.npz"), True),
    "folder": Kind(write_folder, open_source("")),
    **{
        kind: Kind(
            write_list(f"list.{kind}"),
            open_source(f"list.{kind}"),
            is_damaged=lambda x: x.suffix != ".png",
        )
        for kind in ("csv", "jsonl", "parquet")
    },
    "records": Kind(
        write_records,
        open_source("records"),
        True,
        lambda x: x.suffix != ".png",
    ),
    **{
        name: Kind(
            write_objects(write),
            open_objects,
            is_damaged=lambda x: x.suffix != ".png",
        )
        for name, write in {
            "coco": object_files.write_coco,
            "yolo": object_files.write_yolo,
            "voc": object_files.write_voc,
        }.items()
    },
    "voc_masks": Kind(
        write_objects(object_files.write_voc_masks),
        open_objects,
        is_damaged=lambda x: "SegmentationObject" in x.parts,
    ),
    "checkpoints": Kind(write_checkpoints, open_checkpoints, True),
    "onnx": Kind(write_model("m.onnx"), open_model("m.onnx")),
    "tflite": Kind(write_model("m.tflite"), open_model("m.tflite"), True),
    "openvino": Kind(write_model("m.xml"), open_model("m.xml")),
    "saved_model": Kind(write_model("m"), open_model("m")),
    **(
        {"pt2": Kind(write_model("m.pt2"), open_model("m.pt2"), True)}
        if keras.backend.backend() == "torch"
        else {}
    ),
}
