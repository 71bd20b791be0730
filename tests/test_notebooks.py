"""The code of every notebook runs, without Jupyter.

The first on every backend, the others on the one that compiles nothing, or
that they need: what they use has tests of its own on all three.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from conftest import LONG_WHERE_COMPILED

NOTEBOOKS = sorted(Path(__file__).parent.parent.glob("notebooks/*.ipynb"))

BACKENDS = {
    "quickstart": {"tensorflow", "jax", "torch"},
    # On torch keras-cv chooses boxes by compiled operators of torchvision.
    "detection": {"tensorflow"},
}
# Where models are compiled the README's code says as much as the quickstart.
LONG = {"quickstart"}
NOTEBOOKS = [
    pytest.param(path, marks=LONG_WHERE_COMPILED if path.stem in LONG else [])
    for path in NOTEBOOKS
    if keras.backend.backend() in BACKENDS.get(path.stem, {"torch"})
]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_shows_pictures(path, tmp_path):
    cells = [
        cell
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    committed = [output for cell in cells for output in cell["outputs"]]
    assert not [x for x in committed if x["output_type"] == "error"]
    assert any("image/png" in x.get("data", {}) for x in committed)
    code = "\n\n".join("".join(cell["source"]) for cell in cells)
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        # Trainings of minutes are cut to a few steps.
        env={**os.environ, "MPLBACKEND": "Agg", "QUICK": "1"},
        check=True,
    )
