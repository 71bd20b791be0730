"""Work for a backend that does not run here: a fresh process does it.

The model and what else the writer needs go into a folder; the process reads
them, writes the artifact, or the error that it met.
"""

import importlib
import pickle
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import keras

from keras_convnext._util import subprocesses
from keras_convnext._util.writing import NotWritten
from keras_convnext._util.writing import writing
from keras_convnext.artifacts.exportable import Exportable

PASSED_ON = (
    NotWritten,
    ValueError,
    ImportError,
    OSError,
    NotImplementedError,
)
PROGRAM = """
import sys
from keras_convnext.artifacts import handover
handover.work(sys.argv[1])
"""


def write_here(exportable, path, images):
    """Writes an artifact on the running backend; returns the name of a
    converter of the whole model, if the format has one and took it."""
    writer = importlib.import_module(
        f"keras_convnext.artifacts.{exportable.format}"
    )
    return writer.write(exportable, path, images)


def write(backend, exportable, path, images):
    """`write_here` in a process on another backend."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        job = (exportable.format, exportable.metadata, path.absolute(), images)
        with writing(folder):
            exportable.lean.save(folder / "model.keras")
            (folder / "job").write_bytes(pickle.dumps(job))
        run(backend, "-c", PROGRAM, folder)
        error = folder / "error"
        if error.exists():
            raise pickle.loads(error.read_bytes())


def work(folder):
    """What the other process does with the folder."""
    folder = Path(folder)
    format, metadata, path, images = pickle.loads((folder / "job").read_bytes())
    try:
        lean = _loaded(folder / "model.keras")
        write_here(Exportable(format, metadata, lean), path, images)
    except PASSED_ON as error:
        # Subclasses may take other arguments than one message.
        kind = next(x for x in PASSED_ON if isinstance(error, x))
        passed = kind(str(error))
        vars(passed).update(vars(error))
        (folder / "error").write_bytes(pickle.dumps(passed))


def _loaded(path):
    try:
        return keras.saving.load_model(path, compile=False)
    except TypeError as error:  # Keras' for classes that it cannot find
        reason = " ".join(str(error).split())
        found = re.search(r"Could not locate \w+ '\w+'", reason)
        reason = found[0] if found else reason[-300:]
        raise ValueError(
            "Expected layers that another process can import. Received: "
            f"{reason}. Define their classes in a module on PYTHONPATH, "
            f"or run on KERAS_BACKEND={keras.backend.backend()}"
        ) from error


def run(backend, *arguments):
    """Runs Python in a process on another backend, until it ends well."""
    done = subprocess.run(
        [sys.executable, *subprocesses.program(*arguments)],
        env=environment(backend),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()[-12:]
        raise RuntimeError(
            f"The process on {backend} ended with status {done.returncode}:\n"
            + "\n".join(lines)
        )


def environment(backend):
    """For a process on another backend, which leaves the GPU to this one."""
    return subprocesses.environment(backend, CUDA_VISIBLE_DEVICES="")
