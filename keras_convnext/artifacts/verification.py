"""Is the artifact the model? Compared in the runtime that will run it."""

import contextlib
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_convnext.artifacts import handover
from keras_convnext.artifacts import metadata
from keras_convnext.artifacts import running
from keras_convnext.models import inspection

# Largest difference as a part of the largest logit, at least of 1.
BOUNDS = {None: 1e-4, "float16": 1e-2}
# What int8 must still agree in, over at least so many images …
LEAST_AGREEMENT, ENOUGH_IMAGES = 0.95, 300
# … and over fewer, how alike the logits must be.
LEAST_SIMILARITY = 0.95
LATENCY_SECONDS, LATENCY_RUNS = 2.0, 30


@dataclass(frozen=True)
class Report:
    """What an export measured.

    Attributes:
        path, format, quantization: what was written.
        size_bytes: of the file, or of all files of a folder.
        images: how many real images were compared; 0 without verification.
        difference: largest of any output, logits first of all.
        bound: what `difference` may be, or `None` for int8.
        agreement: part of the images whose best class is the same, or `None`
            without a classifier.
        similarity: least cosine between logits less their mean.
        latency_ms: median at batch 1 in the target runtime.
        operations: how often each operation is in the graph, where the format
            tells.
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

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return {**asdict(self), "path": str(self.path)}

    def row(self) -> tuple[str, ...]:
        """What `table` shows, as text."""

        def text(value, form):
            return "–" if value is None else format(value, form)

        return (
            self.path.name,
            self.quantization or "float32",
            text(self.difference, ".1e"),
            text(self.bound, ".1e"),
            text(self.agreement, ".1%"),
            str(self.images),
            f"{self.size_bytes / 1e6:.2f}",
            text(self.latency_ms, ".1f"),
        )

    def print(self) -> None:
        """Prints the table, and the operations below it."""
        from rich.console import Console

        console = Console()
        console.print(table([self]))
        if self.operations:
            counts = sorted(self.operations.items(), key=lambda x: -x[1])
            shown = ", ".join(f"{count} {name}" for name, count in counts)
            console.print(f"operations: {shown}")

    @property
    def problem(self) -> str:
        """What is wrong with the artifact, or `""`."""
        if not self.images or self.difference is None:
            return ""
        if self.bound is not None:
            if self.difference <= self.bound:
                return ""
            return (
                f"outputs differ by up to {self.difference:.1e}, allowed are "
                f"{self.bound:.1e}"
            )
        enough = self.images >= ENOUGH_IMAGES and self.agreement is not None
        value, least = (
            (self.agreement, LEAST_AGREEMENT)
            if enough
            else (self.similarity, LEAST_SIMILARITY)
        )
        what = "best classes agree" if enough else "logits are alike"
        if value is not None and value >= least:
            return ""
        return f"{what} to {value:.1%} only, expected are {least:.0%}"


def table(reports):
    """A `rich` table of reports."""
    from rich.table import Table

    drawn = Table()
    for name in (
        *("artifact", "precision", "max diff", "allowed", "top-1"),
        *("images", "MB", "ms"),
    ):
        drawn.add_column(name, overflow="fold")
    for report in reports:
        drawn.add_row(*report.row())
    return drawn


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
    is_saved_model = exportable.options.format == "saved_model"
    run = run_saved_model if is_saved_model else run_here
    outputs, milliseconds = run(path, inputs)
    report = replace(
        describe(path, exportable.options),
        images=sum(map(len, batches)),
        latency_ms=milliseconds,
    )
    return _compared(report, expected, outputs)


def outputs_of(exportable, batches):
    """The model's own outputs, on the backend that Keras runs on."""
    model = exportable.rebuilt(exportable.model)
    own = {
        **exportable.metadata,
        "data_format": inspection.data_format(exportable.model),
        "input_dtype": "float32",
    }
    with full_precision():
        outputs = [
            model.predict_on_batch(metadata.inputs(own, x)) for x in batches
        ]
    return [
        {name: np.asarray(x) for name, x in output.items()}
        for output in outputs
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


def describe(path, options):
    """The `Report` of an artifact that was not compared."""
    files = path.rglob("*") if path.is_dir() else path.parent.iterdir()
    return Report(
        path,
        options.format,
        options.quantization,
        size_bytes=sum(x.stat().st_size for x in files if x.is_file()),
        operations=running.operations(path),
    )


def run_here(path, inputs):
    """Outputs of every batch, and the median milliseconds of one image."""
    artifact = running.open_artifact(path)
    outputs = [artifact.run(batch) for batch in inputs]
    image, seconds = inputs[-1][:1], []
    while len(seconds) < 3 or (
        sum(seconds) < LATENCY_SECONDS and len(seconds) < LATENCY_RUNS
    ):
        start = time.perf_counter()
        artifact.run(image)
        seconds.append(time.perf_counter() - start)
    return outputs, 1000 * float(np.median(seconds))


def run_saved_model(path, inputs):
    """As `run_here`, in a process of TensorFlow alone."""
    with tempfile.TemporaryDirectory() as folder:
        images, outputs = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(images, *inputs)
        script = Path(__file__).with_name("tf_only.py")
        done = subprocess.run(
            [sys.executable, script, path, images, outputs],
            capture_output=True,
            text=True,
            env=handover.environment("tensorflow"),
        )
        if done.returncode:
            raise RuntimeError(
                "The SavedModel does not run in TensorFlow:\n"
                f"{done.stderr[-2000:]}"
            )
        results = dict(np.load(outputs))
    if not results.pop("alone"):
        raise RuntimeError("This package was in TensorFlow's process")
    seconds = results.pop("seconds")
    batches = [{} for _ in inputs]
    for key, values in results.items():
        number, name = key.removeprefix("arr_").split("/", 1)
        batches[int(number)][name] = values
    return batches, 1000 * float(seconds)


def _compared(report, expected, outputs):
    pairs = [
        (name, wanted[name], got[name])
        for wanted, got in zip(expected, outputs)
        for name in wanted
    ]
    differences = [np.abs(a - b).max() for _, a, b in pairs]
    bound = BOUNDS.get(report.quantization)
    if bound is not None:
        # The worst output, each measured by its own scale; NaN is worse than
        # any number.
        scales = [max(1.0, float(np.abs(a).max())) for _, a, _ in pairs]
        worst = int(np.argmax([d / s for d, s in zip(differences, scales)]))
        bound *= scales[worst]
    else:
        names = [name for name, _, _ in pairs]
        worst = names.index("logits") if "logits" in names else 0
    best = [
        a.argmax(1) == b.argmax(1)
        for name, a, b in pairs
        if name in ("logits", "scores")
    ]
    main = pairs[0][0] if "logits" not in expected[0] else "logits"
    cosines = [_cosine(a, b) for name, a, b in pairs if name == main]
    return replace(
        report,
        difference=float(differences[worst]),
        bound=bound,
        agreement=float(np.mean(np.concatenate(best))) if best else None,
        similarity=float(np.min(np.concatenate(cosines))),
    )


def _cosine(a, b):
    a, b = (x.reshape(len(x), -1).astype("float64") for x in (a, b))
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / norms
