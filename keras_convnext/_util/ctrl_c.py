"""Ctrl-C ends `keras-convnext` without a word from the first import on.

This is imported first, and imports nothing that takes time.
"""

import os
import signal
import sys


def is_command() -> bool:
    """Whether this process is `keras-convnext`, or `-m keras_convnext`."""
    program = sys.argv[0] if getattr(sys, "argv", None) else ""
    if program == "-m":  # Python is still looking for the module
        program = sys.orig_argv[-len(sys.argv)].removeprefix("-m")
    # A worker of such a command has its arguments, too.
    is_child = "--multiprocessing-fork" in sys.orig_argv
    name = os.path.splitext(os.path.basename(program))[0]
    name = name.removesuffix("-script").replace("_", "-")
    return name == "keras-convnext" and not is_child


def _begin():
    # Who started this may have it ignore Ctrl-C.
    before = signal.getsignal(signal.SIGINT)
    if is_command() and before is signal.default_int_handler:
        # Nothing was begun: there is nothing to put away, and nothing that is
        # being imported can catch this.
        signal.signal(signal.SIGINT, lambda number, _: os._exit(128 + number))


_begin()
