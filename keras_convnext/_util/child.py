"""Runs a Python program that ends when the process that started it does.

    python child.py PARENT PROGRAM ARGUMENTS

PARENT is the number of that process, and PROGRAM a file, `-m MODULE` or
`-c CODE`. It is run by its path, so that nothing is imported before.
"""

import os
import runpy
import sys
import threading
import time

SECONDS = 0.5
STATUS = 1


def end_with_parent(parent):
    """Ends this process soon after its parent, however that ends.

    A process whose parent is gone gets another one. (Not on Windows, where
    nothing happens.) Linux' own signal would come when the parent's *thread*
    ends, and other systems have none.

    Args:
        parent: its number.
    """
    if os.name != "posix":
        return
    first = os.getppid()

    def watch():
        # It may be gone already; and between the two there may be a shell.
        while os.getppid() == first and _is_there(parent):
            time.sleep(SECONDS)
        os._exit(STATUS)

    threading.Thread(target=watch, daemon=True).start()


def _is_there(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def main(parent, program, *arguments):
    end_with_parent(int(parent))
    # The folder of this file, whose modules have common names.
    if not sys.flags.safe_path:
        sys.path[0] = os.getcwd()
    if program == "-m":
        module, *arguments = arguments
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    elif program == "-c":
        code, *arguments = arguments
        sys.argv = ["-c", *arguments]
        exec(code, {"__name__": "__main__"})
    else:
        sys.argv = [program, *arguments]
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
