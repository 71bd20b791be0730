"""What a user is told beside the result, in one line."""

import sys

# Of several processes that train one model, one speaks.
_speaks = True
# As who types `--quiet` or `--verbose` wants it.
_amount = "usual"


def let_speak(speaks: bool) -> None:
    """Whether this process is the one that speaks."""
    global _speaks
    _speaks = speaks


def choose_amount(quiet: bool, verbose: bool) -> None:
    """How much this process tells beside its results, warnings and errors."""
    global _amount
    if quiet and verbose:
        raise ValueError("Choose one of `quiet` and `verbose`. Received: both")
    _amount = "quiet" if quiet else "verbose" if verbose else "usual"


def is_quiet() -> bool:
    """Whether there is to be neither progress nor notes."""
    return _amount == "quiet"


def is_verbose() -> bool:
    """Whether errors are told with the place in the code, and warnings too."""
    return _amount == "verbose"


def tell(text: str) -> None:
    """Says on stderr what was done other than asked for by default."""
    if _speaks and not is_quiet():
        print(text, file=sys.stderr)
