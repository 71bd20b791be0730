"""What a user is told beside the result, in one line."""

import sys


def tell(text: str) -> None:
    """Says on stderr what was done other than asked for by default."""
    print(text, file=sys.stderr)
