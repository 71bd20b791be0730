"""What a page is made from."""

from dataclasses import dataclass
from typing import Any

from keras_convnext.data.source import Source
from keras_convnext.evaluation.per_image import Measured


@dataclass(frozen=True)
class RunFolder:
    """A run that has ended, and what it was trained on.

    Attributes:
        summary: what `run.json` holds.
        history: rows of `history.csv`, with numbers.
        data, validation: the sources; the second may be `None`.
    """

    summary: dict[str, Any]
    history: list[dict[str, Any]]
    data: Source
    validation: Source | None


@dataclass(frozen=True)
class Content:
    """What the sections of a page tell.

    Attributes:
        measured: a `Measured`, or `None`.
        run: a `RunFolder`, or `None`.
        command: what to run to have it again, or `None`.
        examples: int, how many images of each kind to show.
        verbose: whether to show progress.
    """

    measured: Measured | None
    run: RunFolder | None = None
    command: str | None = None
    examples: int = 12
    verbose: bool = True

    @property
    def result(self) -> Any:
        """The evaluation, or `None`."""
        return self.measured and self.measured.result
