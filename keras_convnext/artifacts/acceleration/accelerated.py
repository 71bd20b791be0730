"""A model run by the fastest engine that is right."""

import functools
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import one_of
from keras_convnext._util.machine import cpu_name
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import in_range
from keras_convnext._util.telling import tell
from keras_convnext.artifacts import metadata as embedded
from keras_convnext.artifacts import verification
from keras_convnext.artifacts.acceleration import choices
from keras_convnext.artifacts.acceleration import engines
from keras_convnext.artifacts.acceleration import racing
from keras_convnext.artifacts.acceleration.engines import MODEL
from keras_convnext.artifacts.acceleration.engines import QUANTIZATIONS
from keras_convnext.artifacts.acceleration.prepared import Plan
from keras_convnext.artifacts.acceleration.prepared import Prepared
from keras_convnext.artifacts.running import Artifact
from keras_convnext.artifacts.verification import Report

AUTO = "auto"


@in_range
def accelerate(
    model: keras.Model,
    engine: str = AUTO,
    *,
    quantization: str | None = None,
    representative_data: PathLike | Array | None = None,
    threads: Count | None = None,
    cache: bool = True,
    verbose: bool = True,
) -> "Accelerated":
    """Runs a model by the fastest engine that is installed, and proves it.

    At the first batch all engines run it in turn. An engine is out if it
    differs from the model by more than 1e-4 of its largest logit (at least of
    1), or fails. The fastest of the others runs this batch and all of about
    its size. The table is printed on stderr. The choice is kept in the
    package's cache folder for the same weights, machine and versions. Other
    processes do not race, but open the engine and prove it on their first
    batch.

    Engines take copies of the weights. A model that goes on learning is
    noticed by samples of its weights, and refused.

    Args:
        model: a Functional `keras.Model` of one input of images, as for
            `export`. Half precision is compared and run in float32. Detectors
            take images that fill their tensor, and give boxes in their pixels.
        engine: `"auto"`, or one without a race: `"keras"` (the model),
            `"optimized"` (of `optimize_for_inference`), `"onnxruntime"`,
            `"openvino"`, or `"inductor"` (PyTorch's compiler, on its backend).
            The last one compiles for minutes, and races where neither
            `"onnxruntime"` nor `"openvino"` is installed.
        quantization: `None` (float32); `"bfloat16"` or `"int8"` for engines
            that have them, which need to agree less, as exported files do.
        representative_data: for `"int8"`, as for `export`.
        threads: of ONNX Runtime and OpenVINO; if `None`, `OMP_NUM_THREADS` or
            what they choose. The others take those of the backend.
        cache: whether to read and write choices.
        verbose: whether to print the table and show progress.

    Returns:
        An `Accelerated`: call it, or its `predict`.

    Raises:
        ValueError: for arguments out of range, models whose graph is not
            known, and quantized ones.
        ImportError: for an engine that is not installed, with the extra.

    Examples:
        >>> model = keras_convnext.ConvNeXt(
        ...     (1,), (8,), input_shape=(32, 32, 3), classes=10
        ... )
        >>> fast = keras_convnext.accelerate(model, "keras", verbose=False)
        >>> fast.predict(np.zeros((5, 32, 32, 3)), batch_size=4).shape
        (5, 10)
    """
    one_of("engine", engine, (AUTO, *engines.ENGINES))
    one_of("quantization", quantization, (None, *QUANTIZATIONS))
    if engine != AUTO and (problem := engines.obstacle(engine)):
        raise problem
    threads = threads or _threads()
    plan = Plan(model, None, quantization, representative_data, threads)
    return Accelerated(model, plan, engine, cache, verbose)


class Accelerated:
    """A model that some engine runs; made by `accelerate`.

    Calls from several threads take turns.

    Attributes:
        model: that of `accelerate`.
        engines: dict from the shape of a first batch of about some size to the
            name of the engine for it.
    """

    def __init__(
        self,
        model: keras.Model,
        plan: Plan,
        engine: str,
        cache: bool,
        verbose: bool,
    ):
        self.model = model
        self.engines: dict[tuple[int, ...], str] = {}
        self._plan, self._engine = plan, engine
        self._cache, self._verbose = cache, verbose
        self._sample = choices.sample_of(model)
        self._opened: dict[str, Any] = {}
        self._runs: dict[tuple[int, ...], Any] = {}
        self._lock = threading.RLock()

    def __call__(self, images: Array) -> Any:
        """The model's outputs for one batch.

        Args:
            images: array of images as the model takes them.

        Returns:
            NumPy arrays, in the structure of the model's outputs.

        Raises:
            ValueError: for images of another shape, weights that have
                changed, and a chosen engine that fails or differs.
        """
        return self._in_structure(self.run(images))

    @in_range
    def predict(self, images: Array, batch_size: Count = 32) -> Any:
        """The same for any number of images, batch by batch.

        Args:
            images: array of images as the model takes them.
            batch_size: images at a time; the last batch is filled up.

        Returns:
            NumPy arrays, in the structure of the model's outputs.

        Raises:
            ValueError: as a call.
        """
        images = self._checked(images)
        width = min(batch_size, len(images))
        parts = []
        for start in range(0, len(images), width):
            part = batch = images[start : start + width]
            if len(part) < width:
                # One size for all: another would be compiled anew.
                batch = np.resize(part, (width, *part.shape[1:]))
            outputs = self.run(batch)
            parts.append({k: x[: len(part)] for k, x in outputs.items()})
        return self._in_structure(
            {
                name: np.concatenate([x[name] for x in parts])
                for name in parts[0]
            }
        )

    def run(self, images: Array) -> dict[str, Array]:
        """Every output by name, as of an `Artifact`, logits among them.

        Args:
            images: array of images as the model takes them.

        Returns:
            A dict from names to float arrays `(n, ...)`.

        Raises:
            ValueError: as a call.
        """
        images = self._checked(images)
        if choices.sample_of(self.model) != self._sample:
            raise ValueError(
                "Expected the weights that were there when the model was "
                f"accelerated. Received: {self.model.name!r} with others. Call "
                "`keras_convnext.accelerate(model)` again"
            )
        with self._lock:
            count, *shape = images.shape
            # One race for 4 to 7 images.
            key = (count.bit_length(), *shape)
            if key not in self._runs:
                self._runs[key] = self._chosen(images, key)
            outputs = self._runs[key](images)
            names = self._plan.metadata["outputs"]
            return {name: np.asarray(outputs[name]) for name in names}

    def _checked(self, images):
        """Images as engines take them."""
        if keras.ops.is_tensor(images):
            images = keras.ops.convert_to_numpy(images)
        images = np.ascontiguousarray(images, "float32")
        wanted = self._plan.input_shape
        is_right = images.ndim == len(wanted) and all(
            a in (None, b) for a, b in zip(wanted, images.shape)
        )
        if not is_right or not len(images):
            raise ValueError(
                f"Expected images of shape {wanted}, at least one. Received: "
                f"shape {images.shape}"
            )
        return images

    def _in_structure(self, outputs):
        """Outputs as the model gives them, of all by name."""
        model = self._plan.model
        if len(model.outputs) == 1:
            first = outputs[self._plan.metadata["outputs"][0]]
            return keras.tree.map_structure(lambda _: first, model.output)
        if isinstance(model.output, dict):
            return {name: outputs[name] for name in model.output}
        flat = [outputs[name] for name in model.output_names]
        return keras.tree.pack_sequence_as(model.output, flat)

    def _chosen(self, images, key):
        """The function of the engine for a batch, which it is proved on."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            prepared = Prepared(self._plan, folder)
            expected = prepared.expected(images)
            enter = functools.partial(self._entered, prepared, images, expected)
            name, run = self._engine_for(enter, images, key)
        self._opened[name] = run
        self.engines[images.shape] = name
        return run

    def _engine_for(self, enter, images, key):
        """The name and the function of an engine: told, remembered or raced."""
        if self._engine != AUTO:
            run, _, report = enter(self._engine)
            if report.problem:
                raise ValueError(
                    "The engine must compute what the model does. Received: "
                    f"engine={self._engine!r}, whose {report.problem}. Take "
                    "another, or 'auto'"
                )
            return self._engine, run
        facts = choices.digest_of(self.model), self._plan.facts, key
        file = choices.file_of(*facts) if self._cache else None
        known = choices.read(file) if file else None
        if known is None or known["engine"] not in engines.ENGINES:
            return self._raced(enter, images, file)
        name = known["engine"]
        try:
            run, _, report = enter(name)
            problem = report.problem
        except Exception as error:  # each engine has its own
            problem = str(error)
        if problem:
            self._tell(f"{name} was, but now {problem}")
            return self._raced(enter, images, file)
        self._tell(f"{name}, as a race on {known['date']} chose")
        return name, run

    def _raced(self, enter, images, file):
        """The same, after a race, whose result is kept in a file."""
        names = engines.entrants()
        entrants = {name: functools.partial(enter, name) for name in names}
        rows, best = racing.race(entrants, images, verbose=self._verbose)
        if best is None:
            raise ValueError(
                "Expected an engine that runs the model. Received: "
                + "; ".join(f"{row.engine}: {row.note}" for row in rows)
            )
        name = best.row.engine
        if self._verbose:
            shape = "×".join(map(str, images.shape[1:]))
            racing.show(rows, name, f"{len(images)} × {shape} on {cpu_name()}")
        if file:
            choices.write(file, name, racing.as_records(rows))
        return name, best.run

    def _entered(self, prepared, images, expected, name):
        """An engine's function, its quantization, and how near it is."""
        if problem := engines.obstacle(name):
            raise problem
        quantization = engines.quantization_of(name, self._plan.quantization)
        run = self._opened.get(name)
        run = run or engines.ENGINES[name].open(prepared, quantization)
        report = Report(Path(name), name, quantization, 0)
        outputs = run(images)
        if name != MODEL:  # GPUs round more than in the comparison
            outputs = {x: np.asarray(outputs[x]) for x in expected}
            units = self._plan.metadata["units"]
            report = verification.compared(report, [expected], [outputs], units)
        return run, quantization, report

    def _tell(self, text):
        if self._verbose:
            tell(f"engine: {text}")


def of_artifact(artifact, engine, size=None):
    """The `Artifact` of a Keras model, run by an engine.

    Args:
        artifact: of `running.of_model`; `ValueError` for an exported file.
        engine: as for `accelerate`.
        size: height and width of the images; the model's own if `None`.
    """
    one_of("engine", engine, (AUTO, *engines.ENGINES))
    model = artifact.model
    if engine == MODEL:
        return artifact if size is None else artifact.at_size(size)
    if model is None:
        raise ValueError(
            "`engine` is for models by name and `.keras` files: an exported "
            f"file has its own runtime. Received: engine={engine!r} for "
            f"{str(artifact.path)!r}. Leave it out"
        )
    if engine != AUTO and (problem := engines.obstacle(engine)):
        raise problem
    plan = Plan(model, size, None, None, _threads())
    return Artifact(
        artifact.path,
        embedded.of_model(model, size),
        Accelerated(model, plan, engine, cache=True, verbose=True).run,
        functools.partial(of_artifact, artifact, engine),
        model,
    )


def _threads():
    """As many as the variable says that others go by; 0 if it does not."""
    value = os.environ.get("OMP_NUM_THREADS", "")
    return int(value) if value.isdecimal() else 0
