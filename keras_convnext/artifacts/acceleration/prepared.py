"""A model on its way to engines: what several of them need, made once."""

import functools
import hashlib
from dataclasses import replace
from pathlib import Path

from keras_convnext._util.image_layout import to_layout
from keras_convnext.artifacts import options
from keras_convnext.artifacts import real_images
from keras_convnext.artifacts import verification
from keras_convnext.artifacts.exportable import Exportable
from keras_convnext.models import inspection
from keras_convnext.models.graph_execution import predictor


class Plan:
    """A model, and how it is to run; checked before any work.

    Args:
        model: a Functional `keras.Model` of one input of images.
        size: height and width of the images; the model's own if `None`.
        quantization: `None`, `"bfloat16"` or `"int8"`.
        representative_data: for int8, as of `export`.
        threads: of engines that have their own; 0 for as many as they take.

    Raises:
        ValueError: for what cannot be.
    """

    def __init__(self, model, size, quantization, representative_data, threads):
        of_file = "int8" if quantization == "int8" else None
        self.model = options.of_images(model, "onnx", of_file)
        self.quantization, self.threads = quantization, threads
        self.metadata = options.checked(
            self.model, "onnx", size, None, "float32", of_file, False
        )
        self.calibration = real_images.to_calibrate(
            representative_data, self.metadata
        )
        own = inspection.image_shape(self.model)[:2]
        self.is_resized = tuple(self.metadata["size"]) != tuple(own)
        self.input_shape = (
            None,
            *to_layout(
                *self.metadata["size"],
                self.metadata["channels"],
                self.metadata["data_format"],
            ),
        )

    @property
    def facts(self):
        """The settings that a choice depends on, beside model and machine."""
        calibration = None
        if self.calibration is not None:
            calibration = hashlib.blake2b(self.calibration.data).hexdigest()
        size = list(self.metadata["size"])
        return [size, self.quantization, self.threads, calibration]


class Prepared:
    """What a plan's engines are opened from.

    Args:
        plan: a `Plan`.
        folder: for files, which engines must not need once they are open.
    """

    def __init__(self, plan, folder):
        self.plan, self.folder = plan, Path(folder)
        self.threads, self.is_resized = plan.threads, plan.is_resized

    @functools.cached_property
    def exportable(self):
        """The float32 model of the plan."""
        metadata = {**self.plan.metadata, "quantization": None}
        return Exportable.of(self.plan.model, "onnx", metadata)

    @functools.cached_property
    def named(self):
        """The float32 model with outputs by name, at the plan's size."""
        model = self.exportable.model
        if self.plan.is_resized:
            return self.exportable.rebuilt(model)
        return model

    def expected(self, images):
        """The model's own outputs by name."""
        with verification.full_precision():
            return predictor(self.named)(images)

    def file(self, quantization):
        """The path of the model as ONNX, written once."""
        from keras_convnext.artifacts import onnx

        is_int8 = quantization == "int8"
        path = self.folder / ("int8.onnx" if is_int8 else "float32.onnx")
        if path.exists():
            return path
        exportable = self.exportable
        if is_int8:
            exportable = replace(exportable, metadata=self.plan.metadata)
        # No converter: its processes take longer than what a race saves.
        proto = onnx.to_onnx(exportable)
        onnx.finish(proto, exportable, path, self.plan.calibration)
        return path
