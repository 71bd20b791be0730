"""Is the artifact the model? Compared in the runtime that will run it."""

import contextlib
import pickle
import tempfile
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_convnext._util.tables import new_console
from keras_convnext._util.writing import writing
from keras_convnext.artifacts import detection_rows
from keras_convnext.artifacts import handover
from keras_convnext.artifacts import measuring
from keras_convnext.artifacts import metadata
from keras_convnext.artifacts import running
from keras_convnext.models import inspection

# Largest difference as a part of the largest logit, at least of 1.
BOUNDS = {None: 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
# Of numbers the scale is one deviation of the target; of a large mean float32
# has no more digits than that.
LEAST_PART_OF_MEAN = 1e-2
# What int8 must still agree in, over at least so many images …
LEAST_AGREEMENT, ENOUGH_IMAGES = 0.95, 300
# … and over fewer, how alike the logits must be.
LEAST_SIMILARITY = 0.95


@dataclass(frozen=True)
class Report:
    """The measurements of an export.

    Attributes:
        path, format, quantization: what was written.
        size_bytes: of the file, or of all files of a folder.
        images: how many real images were compared; 0 without verification.
        difference: largest of any output, logits first of all.
        bound: what `difference` may be, or `None` for int8.
        agreement: part of the images, of a segmenter of the pixels, whose best
            class is the same, or `None` without a classifier.
        similarity: least cosine between logits less their mean; of numbers 1
            less the mean squared difference, in variances of the target.
        latency_ms: median at batch 1 in the target runtime.
        operations: how often each operation is in the graph, where the format
            tells.
        converter: `"tf2onnx"` where it converted the whole model, as some layer
            has no ONNX form here; `None` where layers were written one by one.
    """

    path: Path
    format: str
    quantization: str | None
    size_bytes: int
    images: int = 0
    difference: float | None = None
    bound: float | None = None
    agreement: float | None = None
    similarity: float | None = None
    latency_ms: float | None = None
    operations: dict | None = None
    converter: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return {**asdict(self), "path": str(self.path)}

    def print(self) -> None:
        """Prints the table, and the operations below it."""
        from rich.table import Table

        def text(value, form):
            return "–" if value is None else format(value, form)

        row = {
            "artifact": self.path.name,
            "precision": self.quantization or "float32",
            "max diff": text(self.difference, ".1e"),
            "allowed": text(self.bound, ".1e"),
            "top-1": text(self.agreement, ".1%"),
            "images": str(self.images),
            "MB": f"{self.size_bytes / 1e6:.2f}",
            "ms": text(self.latency_ms, ".1f"),
        }
        table = Table()
        for name in row:
            table.add_column(name, overflow="fold")
        table.add_row(*row.values())
        console = new_console()
        console.print(table)
        if self.operations:
            counts = sorted(self.operations.items(), key=lambda x: -x[1])
            shown = ", ".join(f"{count} {name}" for name, count in counts)
            console.print(f"operations: {shown}")
        if self.converter:
            console.print(f"converted by {self.converter}")

    @property
    def problem(self) -> str:
        """The fault of the artifact in words, or `""`."""
        if self.difference is None:
            return ""
        if self.bound is not None:
            if self.difference <= self.bound:
                return ""
            return (
                f"outputs differ by up to {self.difference:.1e}, allowed are "
                f"{self.bound:.1e}"
            )
        if self.agreement is None or self.images < ENOUGH_IMAGES:
            what, value = "outputs are alike", self.similarity
            least = LEAST_SIMILARITY
        else:
            what, value = "best classes agree", self.agreement
            least = LEAST_AGREEMENT
        if value is not None and value >= least:
            return ""
        return f"{what} to {value:.1%} only, expected are {least:.0%}"


def verify(exportable, path, batches):
    """Runs the model and its artifact on the same real images.

    Args:
        exportable: the `Exportable` that was written.
        path: of the artifact.
        batches: list of arrays of images of 0–255, channels last.

    Returns:
        A `Report`, whose `problem` says whether to trust the artifact.
    """
    expected = outputs_of(exportable, batches)
    inputs = [metadata.inputs(exportable.metadata, x) for x in batches]
    is_saved_model = exportable.format == "saved_model"
    run = run_saved_model if is_saved_model else run_here
    outputs, milliseconds = run(path, inputs)
    report = replace(
        describe(path, exportable),
        images=sum(map(len, batches)),
        latency_ms=milliseconds,
    )
    return compared(report, expected, outputs, exportable.metadata["units"])


def outputs_of(exportable, batches):
    """The model's own outputs, on the backend that Keras runs on."""
    model = exportable.rebuilt(exportable.model)
    metadata_of_model = {
        **exportable.metadata,
        "data_format": inspection.data_format(exportable.model),
        "input_dtype": "float32",
    }
    with full_precision():
        return [
            model.predict_on_batch(metadata.inputs(metadata_of_model, x))
            for x in batches
        ]


@contextlib.contextmanager
def full_precision():
    """GPUs round float32 products to 10 bits unless told otherwise."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    elif backend == "torch":
        import torch

        with torch.backends.cudnn.flags(allow_tf32=False):
            yield
    else:
        import tensorflow as tf

        settings = tf.config.experimental
        before = settings.tensor_float_32_execution_enabled()
        settings.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            settings.enable_tensor_float_32_execution(before)


def describe(path, exportable):
    """The `Report` of an artifact that was not compared."""
    files = path.rglob("*") if path.is_dir() else path.parent.iterdir()
    return Report(
        path,
        exportable.format,
        exportable.metadata["quantization"],
        size_bytes=sum(x.stat().st_size for x in files if x.is_file()),
        operations=running.operations(path),
    )


def run_here(path, inputs):
    """Outputs of every batch, and the median milliseconds of one image."""
    return measuring.measured(running.open_artifact(path).run, inputs)


def run_saved_model(path, inputs):
    """As `run_here`, in a process of TensorFlow alone."""
    with tempfile.TemporaryDirectory() as folder:
        exchange = Path(folder) / "batches"
        with writing(exchange):
            exchange.write_bytes(pickle.dumps(inputs))
        handover.run("tensorflow", measuring.__file__, path, exchange)
        return pickle.loads(exchange.read_bytes())


def compared(report, expected, outputs, units):
    """A report, with how far outputs are from those of the model.

    Args:
        report: a `Report`, whose `quantization` decides what is allowed.
        expected, outputs: of each batch a dict from names to arrays. Outputs
            may have more names.
        units: those of the metadata.
    """
    is_detector = metadata.is_detector(expected[0])
    if is_detector:
        pairs = zip(expected, outputs)
        outputs = [detection_rows.in_order(*pair) for pair in pairs]
    pairs = [
        (name, wanted[name], got[name])
        for wanted, got in zip(expected, outputs)
        for name in wanted
    ]
    main = "logits" if "logits" in expected[0] else next(iter(expected[0]))
    least = 1.0
    if units:
        mean, std = (np.array(units[name]) for name in ("mean", "std"))
        pairs = [
            (name, *((x - mean) / std if name == main else x for x in both))
            for name, *both in pairs
        ]
        least = max(1.0, LEAST_PART_OF_MEAN * np.abs(mean / std).max())
    bound = BOUNDS.get(report.quantization)
    measured = [
        (a, b) for name, a, b in pairs if bound is not None or name == main
    ]
    # The worst output, each measured by its own scale; NaN is worse than any
    # number.
    differences = np.array([np.abs(a - b).max() for a, b in measured])
    scales = np.array([max(least, np.abs(a).max()) for a, _ in measured])
    worst = np.argmax(differences / scales)
    best = [
        (a.argmax(-1) == b.argmax(-1)).ravel()
        for name, a, b in pairs
        if name in ("logits", "scores", metadata.DECODE) and not is_detector
    ]
    alike = _explained if units else _cosine
    cosines = [alike(a, b) for name, a, b in pairs if name == main]
    return replace(
        report,
        difference=float(differences[worst]),
        bound=None if bound is None else bound * float(scales[worst]),
        agreement=float(np.mean(np.concatenate(best))) if best else None,
        similarity=float(np.min(np.concatenate(cosines))),
    )


def _explained(a, b):
    """Of standardized numbers, for each target."""
    return 1 - np.square(a - b).mean(axis=0)


def _cosine(a, b):
    a, b = (x.reshape(len(x), -1).astype("float64") for x in (a, b))
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / norms
