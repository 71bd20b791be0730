"""The code of every notebook runs, without Jupyter.

On the one backend that compiles nothing: what they use has tests of its own on
all three.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

NOTEBOOKS = sorted(Path(__file__).parents[2].glob("notebooks/*.ipynb"))


def code_cells(path):
    cells = json.loads(path.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.once
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_with_their_pictures(path):
    outputs = [
        output for cell in code_cells(path) for output in cell["outputs"]
    ]
    assert not [x for x in outputs if x["output_type"] == "error"]
    assert any("image/png" in x.get("data", {}) for x in outputs)


@pytest.mark.long
@pytest.mark.parametrize(
    "path",
    NOTEBOOKS if keras.backend.backend() == "torch" else [],
    ids=lambda path: path.stem,
)
def test_notebooks_run(path, tmp_path):
    code = "\n\n".join("".join(cell["source"]) for cell in code_cells(path))
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={
            **os.environ,
            "MPLBACKEND": "Agg",
            # Notebooks import what lies beside them.
            "PYTHONPATH": os.pathsep.join(
                filter(None, (str(path.parent), os.environ.get("PYTHONPATH")))
            ),
            # Trainings of minutes are cut to a few steps.
            "QUICK": "1",
        },
        check=True,
    )
