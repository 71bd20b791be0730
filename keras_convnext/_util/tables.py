"""Tables and lines, cut to the width of a terminal alone.

`rich` is imported where something is printed: `import keras_convnext` does
without.
"""

import sys

# Files and pipes are of any width; a row is one line there, for `grep`.
ANY_WIDTH = 100_000


def new_console(is_aside=False):
    """A `rich` console for stdout, which takes text as it is.

    Names of classes and files may hold brackets and colons.

    Args:
        is_aside: whether it is for stderr.
    """
    from rich.console import Console

    # Terminals have the width that they tell, or that of COLUMNS.
    stream = sys.stderr if is_aside else sys.stdout
    return Console(
        width=None if stream.isatty() else ANY_WIDTH,
        markup=False,
        emoji=False,
        highlight=False,
        stderr=is_aside,
    )
