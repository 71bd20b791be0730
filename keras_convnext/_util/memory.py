"""Memory that was freed is kept for the next layer, on Linux."""

import ctypes
import os

# Of glibc's `mallopt`, from malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
# Larger arrays go back to the system at once.
KEPT_BYTES = 2**30
# With which users decide this themselves.
VARIABLES = (
    "GLIBC_TUNABLES",
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
)


def keep_freed_memory() -> bool:
    """Keeps memory that was freed in this process, for faster models on CPUs.

    Left to itself, glibc gives each array of 32 MB or more back to the system,
    and most smaller ones of other threads. The next layer takes new memory,
    which the system first fills with zeros. Call this before the first model
    runs. Up to 1 GiB that is free then stays with the process, and arrays of
    more than 1 GiB are given back as before. The commands do this themselves.

    Returns:
        bool, whether it took effect: not without glibc, as on macOS, Windows
        and Alpine, and not if `GLIBC_TUNABLES` or one of glibc's `MALLOC_…`
        variables is set, which then count.

    Source: `man 3 mallopt`. `benchmarks/NOTES.md`, "Freed memory", has times.

    Examples:
        >>> kept = keras_convnext.keep_freed_memory()
    """
    if any(name in os.environ for name in VARIABLES):
        return False
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # on Windows
        return False
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # Without arenas of their own, threads share what is kept.
    settings = {
        ARENA_MAX: 1,
        MMAP_THRESHOLD: KEPT_BYTES,
        TRIM_THRESHOLD: KEPT_BYTES,
    }
    return all([library.mallopt(*one) for one in settings.items()])
