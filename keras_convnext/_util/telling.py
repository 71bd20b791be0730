"""What a user is told beside the result, in one line."""

import sys

# Of several processes that train one model, one speaks.
_speaks = True


def let_speak(speaks: bool) -> None:
    """Whether this process is the one that speaks."""
    global _speaks
    _speaks = speaks


def tell(text: str) -> None:
    """Says on stderr what was done other than asked for by default."""
    if _speaks:
        print(text, file=sys.stderr)
