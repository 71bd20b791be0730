"""Tables and lines on stdout, cut to the width of a terminal alone.

`rich` is imported where something is printed: `import keras_convnext` does
without.
"""

import sys

# Files and pipes are of any width; a row is one line there, for `grep`.
ANY_WIDTH = 100_000


def new_console():
    """A `rich` console for stdout, which takes text as it is.

    Names of classes and files may hold brackets and colons.
    """
    from rich.console import Console

    # Terminals have the width that they tell, or that of COLUMNS.
    width = None if sys.stdout.isatty() else ANY_WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)
