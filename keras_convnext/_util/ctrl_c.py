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
    folder, file = os.path.split(program)
    name = os.path.splitext(file)[0]
    if name == "__main__":  # Python has found it
        name = os.path.basename(folder)
    name = name.removesuffix("-script").replace("_", "-")
    return name == "keras-convnext" and not is_child


def end_at_once_by_ctrl_c():
    """For as long as nothing was begun that would have to be put away."""
    # Nothing that is being imported can catch this.
    signal.signal(signal.SIGINT, lambda number, _: os._exit(128 + number))


def _begin():
    # Who started this may have it ignore Ctrl-C.
    before = signal.getsignal(signal.SIGINT)
    if is_command() and before is signal.default_int_handler:
        end_at_once_by_ctrl_c()


_begin()
