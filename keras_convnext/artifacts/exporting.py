"""Writes a model for another runtime, reloads it there, and compares."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import keras

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import in_range
from keras_convnext._util.writing import UNFINISHED
from keras_convnext._util.writing import folder_aside
from keras_convnext._util.writing import writing
from keras_convnext.artifacts import handover
from keras_convnext.artifacts import options
from keras_convnext.artifacts import real_images
from keras_convnext.artifacts import verification
from keras_convnext.artifacts.exportable import Exportable
from keras_convnext.artifacts.formats import FORMATS
from keras_convnext.artifacts.formats import check_packages
from keras_convnext.artifacts.verification import Report


@in_range
def export(
    model: keras.Model,
    path: PathLike,
    format: str | None = None,
    *,
    quantization: str | None = None,
    representative_data: PathLike | Array | None = None,
    image_size: Count | tuple[Count, Count] | str | None = None,
    batch_size: str | None = None,
    data_format: str | None = None,
    input_dtype: str = "float32",
    features: bool = False,
    verify: bool = True,
    verification_data: PathLike | Array | None = None,
    overwrite: bool = False,
    verbose: bool = True,
) -> Report:
    """Writes a model for another runtime, and proves it equal.

    Works on every Keras backend; what takes TensorFlow runs in a process of
    its own where another backend is running. The artifact is reloaded in its
    own runtime and compared with the model on real images before it appears
    at `path`.

    Args:
        model: a model of this package, or any Functional model of one image
            input. Half-precision models are exported in float32. Detectors
            are exported to ONNX, OpenVINO and SavedModel; they take images
            that fill their tensor, and give boxes in pixels of these.
            Segmenters leave out what helps to train them. To ONNX and
            OpenVINO, models with layers that have no ONNX form here are
            converted by tf2onnx, with TensorFlow.
        path: file to write, or folder for SavedModel, Triton and web pages;
            OpenVINO's weights are beside it, in a `.bin`.
        format: `"saved_model"`, `"tflite"`, `"onnx"`, `"openvino"`,
            `"torch"`, `"triton"`, a model's folder for a repository of
            Triton, with an ONNX file, or `"web"`, a page that runs one in the
            browser. `None` goes by the ending of `path`: `.tflite`, `.onnx`,
            `.xml` or `.pt2`.
        quantization: `None` (float32); for TFLite `"float16"`, `"dynamic"`
            (int8 weights) or `"int8"` (all integers); for ONNX, Triton and
            web pages `"float16"`, `"int8_weight_only"` or `"int8"` (weights
            and activations).
        representative_data: for `"int8"`: array `(n, height, width, channels)`
            of images of 0–255, or a folder of images; some hundred.
        image_size: `None` for the model's own, an int or `(height, width)`,
            or `"dynamic"`.
        batch_size: `None` for what the format has: any, and in TFLite 1; or
            `"dynamic"` for any there, too.
        data_format: layout of the input, `"channels_last"` or
            `"channels_first"`; `None` for the model's own.
        input_dtype: `"float32"` or `"uint8"`.
        features: whether the classifier's input becomes an output too.
        verify: whether to compare the artifact with the model.
        verification_data: images to compare on, as `representative_data`;
            two photographs if `None`. Give some hundred of your own to learn
            how often an int8 model agrees.
        overwrite: whether `path`, and weights beside it, may exist.
        verbose: whether to print the table of the comparison.

    Returns:
        A `verification.Report`. The outputs of the artifact are `scores` (what
        the model returns), `logits` (before the softmax) and `features`, as
        far as there are. A model of regression has `values`, in the units of
        their targets, a segmenter `decode`, the logits of every pixel. A
        detector has its own.

    Raises:
        ValueError: for arguments out of range, models whose graph is not
            known, and artifacts that differ from the model: those stay beside
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
    format = options.format_of(path, format)
    options.check_target(path, format, overwrite)
    model = options.to_export(model, format, quantization)
    metadata = options.checked(
        model,
        format,
        image_size,
        data_format,
        input_dtype,
        quantization,
        features,
        batch_size,
    )
    check_packages(format, quantization, verify and verification_data is None)
    images = real_images.to_calibrate(representative_data, metadata)
    batches = real_images.to_compare(verification_data, metadata, verify)
    exportable = Exportable.of(model, format, metadata)
    with folder_aside(path) as folder:
        report = _write_and_compare(
            exportable, folder / path.name, images, batches
        )
        with writing(path):
            _move(folder, path, report.problem)
    report = replace(report, path=path)
    if verbose:
        report.print()
    return report


def _write_and_compare(exportable, path, images, batches):
    backend, converter = FORMATS[exportable.format].backend, None
    if backend in (None, keras.backend.backend()):
        converter = handover.write_here(exportable, path, images)
    else:
        handover.write(backend, exportable, path, images)
    if batches:
        report = verification.verify(exportable, path, batches)
    else:
        report = verification.describe(path, exportable)
    return replace(report, converter=converter)


def _move(folder, path, problem):
    """What was written goes to its place, or aside if it is not the model."""
    if problem:
        name = folder.parent.name.replace(UNFINISHED, "unverified_")
        kept = path.with_name(name)
        os.replace(folder, kept)
        raise ValueError(
            "The artifact must compute what the model does. Received: "
            f"{problem}. It is kept in {str(kept)!r}; what stood at "
            f"{str(path)!r} is untouched. `verify=False` writes it regardless"
        )
    if path.is_dir():
        shutil.rmtree(path)
    # Weights beside a file first: it is not complete without.
    for file in sorted(folder.iterdir(), key=lambda x: x.name == path.name):
        os.replace(file, path.with_name(file.name))
