"""Hides packages from a process, as where they are not installed.

Python imports this as it starts. Keras imports every backend that it finds as
it saves a model, which takes seconds.
"""

import os
import sys
from importlib.machinery import PathFinder

ABSENT = os.environ["ABSENT"].split()


class Finder(PathFinder):
    """As Python's own, but for these packages."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in ABSENT else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
