"""Choices of earlier races, one small file each in the package's cache."""

import contextlib
import datetime
import hashlib
import json
import math
import os

import keras
import numpy as np

from keras_convnext._util.backend_choice import cache_folder
from keras_convnext._util.json_files import read_object
from keras_convnext._util.machine import cpu_name
from keras_convnext._util.machine import usable_cores
from keras_convnext._util.requirements import COMPUTING
from keras_convnext._util.requirements import versions
from keras_convnext._util.writing import make_folder
from keras_convnext._util.writing import written_aside

FIELDS = {"engine": str, "date": str, "rows": list}
PACKAGES = (*COMPUTING, "onnx", "onnxruntime", "onnxruntime-gpu", "openvino")
# How many weights are looked at for a change, and how large they may be.
SAMPLED, SMALL = 8, 2**14


def digest_of(model):
    """What tells a model from others: its structure and all its weights."""
    digest = hashlib.blake2b(model.to_json().encode(), digest_size=16)
    for variable in model.weights:
        values = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(values.view("uint8").data)
    return digest.hexdigest()


def sample_of(model):
    """The values of some small weights, spread over the model.

    Training, loading and assigning change them. Kernels are left out: to read
    a part of one takes TensorFlow milliseconds.
    """
    small = [x for x in model.weights if math.prod(x.shape) <= SMALL]
    step = max(1, len(small) // SAMPLED)
    # From the last one back: a new head alone may be trained.
    chosen = small[::-1][::step]
    return b"".join(keras.ops.convert_to_numpy(x).tobytes() for x in chosen)


def file_of(*facts):
    """The path for what was chosen by these facts, on this machine."""
    here = {
        "processor": cpu_name(),
        "cores": len(usable_cores()),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "versions": versions(PACKAGES),
    }
    text = json.dumps([facts, here], sort_keys=True)
    name = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return cache_folder() / "engines" / f"{name}.json"


def read(file):
    """The choice in a file, a dict of `FIELDS`; `None` if there is none."""
    with contextlib.suppress(OSError, ValueError):
        return read_object(file, FIELDS)
    return None


def write(file, engine, rows):
    """Keeps a choice; where nothing can be written, the next process races."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    choice = {"engine": engine, "date": date, "rows": rows}
    with contextlib.suppress(OSError, ValueError):
        make_folder(file.parent)
        with written_aside(file) as unfinished:
            unfinished.write_text(json.dumps(choice, indent=1))
