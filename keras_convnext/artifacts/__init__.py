"""Models out of Keras: written, reloaded in their runtime, and compared."""

import importlib
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import keras

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import PathLike
from keras_convnext.artifacts import calibration
from keras_convnext.artifacts import graph
from keras_convnext.artifacts import handover
from keras_convnext.artifacts import metadata as metadata_
from keras_convnext.artifacts import options as options_
from keras_convnext.artifacts import requirements
from keras_convnext.artifacts import verification
from keras_convnext.artifacts.runtimes import open_artefact
from keras_convnext.artifacts.verification import Report
from keras_convnext.models.inference import optimize_for_inference

__all__ = ["export", "open_artefact"]

# The module that writes a format, and the backend that it needs.
WRITERS = {
    "saved_model": ("saved_model", "tensorflow"),
    "tflite": ("tflite", "tensorflow"),
    "onnx": ("onnx", None),
    "openvino": ("openvino", None),
    "torch": ("torch", "torch"),
}


def export(
    model: keras.Model,
    path: PathLike,
    format: str | None = None,
    *,
    quantization: str | None = None,
    representative_data: PathLike | Array | None = None,
    image_size: int | tuple[int, int] | str | None = None,
    data_format: str | None = None,
    input_dtype: str = "float32",
    features: bool = False,
    verify: bool = True,
    overwrite: bool = False,
    verbose: bool = True,
) -> Report:
    """Writes a model for another runtime, and proves it equal.

    Works on every Keras backend; what takes TensorFlow runs in a process of
    its own where another backend is running. The artefact is reloaded in its
    own runtime and compared with the model on real images before it appears
    at `path`.

    Args:
        model: a model of this package, or any Functional model of one image
            input. Half-precision models are exported in float32.
        path: file or, for SavedModel, folder to write; OpenVINO's weights
            are beside it, in a `.bin`.
        format: `"saved_model"`, `"tflite"`, `"onnx"`, `"openvino"` or
            `"torch"`; `None` goes by the ending of `path`: `.tflite`, `.onnx`,
            `.xml` or `.pt2`.
        quantization: `None` (float32); for TFLite `"float16"`, `"dynamic"`
            (int8 weights) or `"int8"` (all integers); for ONNX `"int8"`.
        representative_data: for `"int8"`: array `(n, height, width, channels)`
            of images of 0–255, or a folder of images; some hundred.
        image_size: `None` for the model's own, an int or `(height, width)`,
            or `"dynamic"`.
        data_format: layout of the input, `"channels_last"` or
            `"channels_first"`; `None` for the model's own.
        input_dtype: `"float32"` or `"uint8"`.
        features: whether the classifier's input becomes an output too.
        verify: whether to compare the artefact with the model.
        overwrite: whether `path`, and weights beside it, may exist.
        verbose: whether to print the table of the comparison.

    Returns:
        A `verification.Report`. The outputs of the artefact are `scores` (what
        the model returns), `logits` (before the softmax) and `features`, as
        far as there are.

    Raises:
        ValueError: for arguments out of range, models whose graph is not
            known, and artefacts that differ from the model: those stay beside
            `path`, in the folder that the message names.
        ImportError: without the packages of a format, naming the extra.
        OSError: if the path cannot be written.

    Examples:
        >>> keras_convnext.export(model, "model.onnx")  # doctest: +SKIP
        >>> keras_convnext.export(
        ...     model,
        ...     "model.tflite",
        ...     quantization="int8",
        ...     representative_data=images,
        ... )  # doctest: +SKIP
    """
    path = Path(path)
    format = options_.format_of(path, format)
    options_.check_target(path, format, overwrite)
    options = options_.options(
        model,
        format,
        image_size,
        data_format,
        input_dtype,
        quantization,
        features,
    )
    requirements.check(format, quantization, verify)
    model = graph.as_float32(model)
    metadata = metadata_.of_model(model, options)
    images = calibration.images(representative_data, options, metadata)
    folder = Path(
        tempfile.mkdtemp(prefix=f"unfinished_{path.name}_", dir=path.parent)
    )
    try:
        report = _write_and_compare(
            model, options, metadata, folder / path.name, images, verify
        )
        _move(folder, path, report.problem)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report = replace(report, path=path)
    if verbose:
        report.print()
    return report


def write_here(model, options, metadata, path, representative_data):
    """Writes an artefact on the running backend."""
    module, _ = WRITERS[options.format]
    writer = importlib.import_module(f"{__name__}.{module}")
    writer.write(model, options, metadata, path, representative_data)


def _write_and_compare(model, options, metadata, path, images, verify):
    text = metadata_.to_json(metadata)
    _, backend = WRITERS[options.format]
    # What the metadata say of the input stays true.
    lean = optimize_for_inference(model, fold_normalization=False)
    if backend in (None, keras.backend.backend()):
        write_here(lean, options, text, path, images)
    else:
        handover.write(backend, lean, options, text, path, images)
    if not verify:
        return verification.describe(path, options)
    return verification.verify(model, options, metadata, path)


def _move(folder, path, problem):
    """What was written goes to its place, or aside if it is not the model."""
    if problem:
        kept = path.with_name(folder.name.replace("unfinished", "unverified"))
        os.replace(folder, kept)
        raise ValueError(
            "The artefact must compute what the model does. Received: "
            f"{problem}. It is kept in {str(kept)!r}; what stood at "
            f"{str(path)!r} is untouched. `verify=False` writes it regardless"
        )
    if path.is_dir():
        shutil.rmtree(path)
    # Weights beside a file first: it is not complete without.
    for file in sorted(folder.iterdir(), key=lambda x: x.name == path.name):
        os.replace(file, path.with_name(file.name))
