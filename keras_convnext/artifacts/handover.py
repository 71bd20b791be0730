"""Work for a backend that does not run here: a fresh process does it.

The model, its options and the calibration images go into a folder; the process
reads them, writes the artifact, or the error that it met.
"""

import builtins
import importlib
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

from keras_convnext._util import subprocesses
from keras_convnext.artifacts.exportable import Exportable
from keras_convnext.artifacts.formats import FORMATS
from keras_convnext.artifacts.options import Options
from keras_convnext.facts.info import as_record

PASSED_ON = (ValueError, ImportError, OSError, NotImplementedError)


def write_here(exportable, path, images):
    """Writes an artifact on the running backend."""
    name = FORMATS[exportable.options.format].writer
    writer = importlib.import_module(f"keras_convnext.artifacts.{name}")
    writer.write(exportable, path, images)


def write(backend, exportable, path, images):
    """`write_here` in a process on another backend."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        exportable.lean.save(folder / "model.keras")
        job = {
            "options": asdict(exportable.options),
            "metadata": exportable.metadata,
            "path": str(path.absolute()),
        }
        (folder / "job.json").write_text(json.dumps(job))
        if images is not None:
            np.save(folder / "images.npy", images)
        done = subprocess.run(
            [sys.executable, "-m", "keras_convnext.artifacts", str(folder)],
            env=environment(backend),
            capture_output=True,
            text=True,
        )
        error = folder / "error.json"
        if error.exists():
            known = json.loads(error.read_text())
            raise getattr(builtins, known["type"])(known["message"])
    if done.returncode:
        lines = done.stderr.strip().splitlines()[-12:]
        raise RuntimeError(
            f"The process on {backend} ended with status {done.returncode}:\n"
            + "\n".join(lines)
        )


def environment(backend):
    """For a process on another backend, which leaves the GPU to this one."""
    return subprocesses.environment(backend, CUDA_VISIBLE_DEVICES="")


def work(folder):
    """What the other process does with the folder."""
    folder = Path(folder)
    job = json.loads((folder / "job.json").read_text())
    images = folder / "images.npy"
    try:
        exportable = Exportable(
            as_record(Options, job["options"]),
            job["metadata"],
            keras.saving.load_model(folder / "model.keras", compile=False),
        )
        images = np.load(images) if images.exists() else None
        write_here(exportable, Path(job["path"]), images)
    except PASSED_ON as error:
        kind = next(x for x in PASSED_ON if isinstance(error, x))
        known = {"type": kind.__name__, "message": str(error)}
        (folder / "error.json").write_text(json.dumps(known))
        sys.exit(1)
