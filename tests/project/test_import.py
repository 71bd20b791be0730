"""What `import keras_convnext` drags in beside Keras: next to nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras

import keras_convnext
from keras_convnext._util import subprocesses

SCRIPT = """
import json, sys
import keras
before = set(sys.modules)
import keras_convnext
added = {name.split(".")[0] for name in set(sys.modules) - before}
read = keras_convnext.facts.labels.label_set.cache_info().currsize
print(json.dumps([keras.backend.backend(), read, sorted(added)]))
"""
# All else that it takes Keras has taken already.
FEW = {"PIL", "keras_convnext", "safetensors"}


def test_other_processes_find_this_very_package(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/of/another")
    paths = subprocesses.environment("jax")["PYTHONPATH"].split(os.pathsep)
    here = Path(keras_convnext.__file__).parent.parent
    assert paths == [str(here), "/of/another"]


def test_import_adds_no_framework_and_little_else():
    """Run under `KERAS_BACKEND` as it is."""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=True,
    )
    backend, read, added = json.loads(run.stdout.splitlines()[-1])
    assert backend == keras.backend.backend()
    assert read == 0, "the names of classes are read when they are asked for"
    assert set(added) - set(sys.stdlib_module_names) <= FEW
