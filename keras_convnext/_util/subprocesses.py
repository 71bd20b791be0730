"""Processes that this package starts: what they are told, and their end."""

import os
from pathlib import Path

from keras_convnext._util import child

# The folder that holds this package.
ROOT = Path(__file__).parents[2]


def program(*arguments):
    """What Python is given to run a program that does not outlive this process.

    Args:
        *arguments: a file, `-m` and a module, or `-c` and code; and its own.
    """
    return [child.__file__, str(os.getpid()), *map(str, arguments)]


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
