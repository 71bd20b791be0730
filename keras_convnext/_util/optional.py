"""Packages that work can do without."""

import importlib.util
import sys


def is_installed(package):
    return importlib.util.find_spec(package) is not None


def tell_left_out(made):
    """Says on stderr what there will not be for want of packages.

    Hours of work are not to end for want of a picture.

    Args:
        made: dict from packages to what they make.
    """
    for package, what in made.items():
        if not is_installed(package):
            print(
                f"No {what} without {package}: "
                'pip install "keras-convnext[train]"',
                file=sys.stderr,
            )
