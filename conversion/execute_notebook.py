"""Executes a notebook in place, and writes into it what that took.

    export KERAS_BACKEND=torch OMP_NUM_THREADS=1
    python conversion/execute_notebook.py NAME

takes `pip install -e '.[notebooks]'`. The notebook runs in an empty folder.
Its first cell holds the sentence `COSTS`, which is written anew. The time is
that of the processor, so other work on the machine hardly matters.
"""

import argparse
import datetime
import math
import os
import platform
import re
import resource
import sys
import tempfile
from pathlib import Path

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
COSTS = (
    "This took {time} of one core of an {processor}, and {gigabytes:.1f} GB of "
    "memory ({backend}, measured on {date})."
)
SENTENCE = re.compile(
    r"This took \d+ \w+ of one core of an [^\n]*?, measured on [\d-]+\)\."
)
BACKENDS = {"torch": "PyTorch", "tensorflow": "TensorFlow", "jax": "JAX"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=names())
    import nbformat  # not where the tests import this file

    path = NOTEBOOKS / f"{parser.parse_args().name}.ipynb"
    notebook = executed(path)
    costs = sentence(*costs_of_processes())
    first = notebook["cells"][0]
    if not SENTENCE.search(first["source"]):
        first["source"] += f"\n\n{costs}"
    first["source"] = SENTENCE.sub(costs, first["source"], count=1)
    without_progress(notebook)
    nbformat.write(notebook, path)
    print(f"{path.name}: {costs}")


def names():
    return sorted(x.stem for x in NOTEBOOKS.glob("*.ipynb"))


def executed(path):
    """The notebook with its outputs."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    # Notebooks import what lies beside them.
    others = filter(None, (str(NOTEBOOKS), os.environ.get("PYTHONPATH")))
    os.environ["PYTHONPATH"] = os.pathsep.join(others)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as folder:
        nbclient.NotebookClient(
            notebook,
            timeout=None,
            record_timing=False,
            resources={"metadata": {"path": folder}},
        ).execute()
    return notebook


def costs_of_processes():
    """Seconds of all that have ended, and bytes of the largest of them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    return used.ru_utime + used.ru_stime, used.ru_maxrss * unit


def sentence(seconds, peak):
    return COSTS.format(
        processor=processor(),
        time=words_of(seconds),
        gigabytes=peak / 1e9,
        backend=BACKENDS[os.environ.get("KERAS_BACKEND", "tensorflow")],
        date=datetime.date.today(),
    )


def words_of(seconds):
    """Rounded up: to tens of seconds, or from 90 seconds on to minutes."""
    if seconds < 90:
        return f"{10 * math.ceil(seconds / 10)} seconds"
    return f"{math.ceil(seconds / 60)} minutes"


def processor():
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    found = re.search(r"model name\s*: (.*)", text)
    name = found[1] if found else platform.processor() or platform.machine()
    return re.sub(r"\(R\)|\(TM\)|\s+Processor.*", "", name).strip()


def without_progress(notebook):
    """Leaves out what libraries said on their standard error, and epochs."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [x for x in cell["outputs"] if not is_progress(x)]
            cell["metadata"] = {}


def is_progress(output):
    if output.get("name") == "stderr":
        return True
    text = output.get("data", {}).get("text/plain", "")
    return "".join(text).startswith("epoch ")


if __name__ == "__main__":
    main()
