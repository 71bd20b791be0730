"""What `import keras_convnext` costs, and drags in: next to nothing."""

import json
import subprocess
import sys

import keras

FRAMEWORKS = ("jax", "tensorflow", "torch")
SCRIPT = """
import json, sys, time
import keras
before = set(sys.modules)
start = time.perf_counter()
import keras_convnext
seconds = time.perf_counter() - start
added = {name.split(".")[0] for name in set(sys.modules) - before}
print(json.dumps({
    "backend": keras.backend.backend(),
    "seconds": seconds,
    "added": sorted(added),
}))
"""


def test_import_adds_no_framework_and_little_time():
    """Run under `KERAS_BACKEND` as it is; the fastest of three imports, as
    the bound is on the work and not on a busy machine."""
    runs = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", SCRIPT],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()[-1]
        )
        for _ in range(3)
    ]
    assert runs[0]["backend"] == keras.backend.backend()
    assert not set(runs[0]["added"]) & set(FRAMEWORKS)
    assert not set(runs[0]["added"]) & {"sklearn", "matplotlib", "typer"}
    assert min(run["seconds"] for run in runs) <= 0.3
