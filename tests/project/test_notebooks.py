"""The code of every notebook runs, without Jupyter.

On the one backend that compiles nothing: what they use has tests of its own on
all three.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import execute_notebook
import keras
import pytest

from keras_convnext.artifacts import onnxruntime_web

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


SCRIPT = re.compile(r"As a script: \[[^\]]+\]\(\.\./(docs/[\w/]+\.md)\)")


@pytest.mark.once
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_say_what_they_take_and_name_a_script(path):
    first = "".join(json.loads(path.read_text())["cells"][0]["source"])
    script = path.parents[1] / SCRIPT.search(first)[1]
    assert "```" in script.read_text()
    (costs,) = execute_notebook.SENTENCE.findall(first)
    seconds, gigabytes = re.search(
        r"took (\d+) .*, and ([\d.]+) GB", costs
    ).groups()
    assert int(seconds) > 0 and float(gigabytes) > 0.1


@pytest.mark.once
@pytest.mark.parametrize(
    "seconds, words",
    [
        (1, "10 seconds"),
        (61, "70 seconds"),
        (95, "2 minutes"),
        (361, "7 minutes"),
    ],
)
def test_the_sentence_of_a_notebook_is_found_again(seconds, words, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    told = execute_notebook.sentence(seconds, 1.26e9)
    assert f"This took {words} of one core of an " in told
    assert ", and 1.3 GB of memory (PyTorch, measured on 2" in told
    assert execute_notebook.SENTENCE.fullmatch(told)
    assert not execute_notebook.SENTENCE.search(
        told.replace("measured", "seen")
    )


# These download what they take.
NEEDED = {"export": onnxruntime_web.fetch}


@pytest.mark.long
@pytest.mark.parametrize(
    "path",
    NOTEBOOKS if keras.backend.backend() == "torch" else [],
    ids=lambda path: path.stem,
)
def test_notebooks_run(path, tmp_path):
    try:
        NEEDED.get(path.stem, str)()
    except ValueError as error:
        pytest.skip(str(error))
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
