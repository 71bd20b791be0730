"""What processes that this package starts are told."""

import os
from pathlib import Path

# The folder that holds this package.
ROOT = Path(__file__).parents[2]


def environment(backend, **variables):
    """Variables for a process on a backend that finds this very package."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **variables,
    }
