"""Checkpoints that survive whatever kills the run that writes them.

Orbax and Keras' callback for it know neither checksums nor a full disk, and
want JAX beside every backend; `BackupAndRestore` forgets metrics, random
state and the place within an epoch. So tensors go into a safetensors file
and all else into a JSON file beside it, which holds the checksum of the first
and is written last: without it there is no checkpoint.
"""

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save_file

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.json_files import read_object
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import in_range
from keras_convnext._util.startup import WentWrong
from keras_convnext._util.writing import NotWritten
from keras_convnext._util.writing import make_folder
from keras_convnext._util.writing import remove_unfinished
from keras_convnext._util.writing import sha256_of
from keras_convnext._util.writing import written_aside

# What reading a damaged checkpoint ends in.
DAMAGES = (OSError, ValueError, LookupError, TypeError, SafetensorError)
FIELDS = {"sha256": str, "step": int, "record": dict}


class CheckpointError(WentWrong, OSError):
    """A checkpoint cannot be written, or none of those there can be read."""


class Checkpoints:
    """The last checkpoints of a run in a folder.

    Args:
        folder: path; made when the first is written.
        keep: int, how many of the last ones stay.

    Examples:
        >>> checkpoints = Checkpoints("run/checkpoints")  # doctest: +SKIP
        >>> checkpoints.save(10, {"w": np.zeros(3)}, {})  # doctest: +SKIP
        >>> step, tensors, record = checkpoints.latest()  # doctest: +SKIP
    """

    @in_range
    def __init__(self, folder: PathLike, keep: Count = 3):
        self.folder = Path(folder)
        self.keep = keep

    def save(
        self, step: int, tensors: dict[str, Array], record: dict[str, Any]
    ) -> None:
        """Writes a checkpoint, then removes those that are too many.

        Args:
            step: int; names the checkpoint.
            tensors: dict of arrays.
            record: dict of JSON's types.

        Raises:
            CheckpointError: if it cannot be written; those there stay.
        """
        tensor_file, record_file = self._files(step)
        try:
            make_folder(self.folder)
            with written_aside(tensor_file) as unfinished:
                save_file(tensors, unfinished)
                checksum = sha256_of(unfinished)
            with written_aside(record_file) as unfinished:
                text = {"sha256": checksum, "step": step, "record": record}
                text["seal"] = _seal(text)
                unfinished.write_text(json.dumps(text, indent=1))
        except NotWritten as error:
            raise CheckpointError(
                f"The checkpoint of step {step} could not be written to "
                f"{str(self.folder)!r}: {error.reason}. {self._last_good()}"
            ) from error
        for old in self.steps()[: -self.keep]:
            for file in reversed(self._files(old)):
                file.unlink(missing_ok=True)

    def latest(
        self, check: Callable[[dict[str, Any]], Any] = lambda record: None
    ) -> tuple[int, dict[str, Array], dict[str, Any]] | None:
        """The last checkpoint that is whole.

        Those that are not are named in a warning, and the one before them is
        taken.

        Args:
            check: function that raises `ValueError` for a record that cannot
                be used.

        Returns:
            `(step, tensors, record)`, or `None` where there are none.

        Raises:
            CheckpointError: if there are some and none is whole.
        """
        damages = []
        for step in reversed(self.steps()):
            try:
                checkpoint = self._read(step)
                check(checkpoint[2])
            except DAMAGES as error:
                damages.append(f"step {step}: {error}")
                continue
            for damage in damages:
                warnings.warn(
                    f"A checkpoint in {str(self.folder)!r} is damaged, and "
                    f"the one of step {step} is used instead. {damage}",
                    stacklevel=2,
                )
            return checkpoint
        if damages:
            raise CheckpointError(
                f"All checkpoints in {str(self.folder)!r} are damaged: "
                f"{'; '.join(damages)}. Remove the folder to start anew"
            )
        return None

    def clear_away(self) -> None:
        """Removes what killed saves left, for whom alone may write here."""
        for file in self.folder.glob(f"step_{10 * '[0-9]'}.safetensors"):
            if not file.with_suffix(".json").exists():
                file.unlink()
        remove_unfinished(self.folder)
        # Of versions that wrote without a folder, and without a lock.
        for path in self.folder.glob("unfinished_step_*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()

    def steps(self) -> list[int]:
        """Steps of the checkpoints there, ascending."""
        names = (path.name for path in self.folder.glob("step_*.json"))
        matches = (re.fullmatch(r"step_(\d+)\.json", name) for name in names)
        return sorted(int(match[1]) for match in matches if match)

    def _read(self, step):
        tensor_file, record_file = self._files(step)
        text = read_object(record_file, FIELDS)
        # Those of before have none.
        if text.pop("seal", None) not in (None, _seal(text)):
            raise ValueError(f"{record_file.name} is not what was written")
        if text["step"] != step:
            raise ValueError(
                f"{record_file.name} is the checkpoint of step {text['step']}"
            )
        if sha256_of(tensor_file) != text["sha256"]:
            raise ValueError(
                f"{tensor_file.name} is not what was written (SHA-256 differs)"
            )
        return step, load_file(tensor_file), text["record"]

    def _files(self, step):
        stem = self.folder / f"step_{step:010d}"
        return stem.with_suffix(".safetensors"), stem.with_suffix(".json")

    def _last_good(self):
        steps = self.steps()
        if not steps:
            return "There is none before it"
        return (
            f"The last good one is that of step {steps[-1]}: make room, and "
            "run the same command again to go on from there"
        )


def _seal(text):
    content = json.dumps(text).encode()
    return hashlib.sha256(content).hexdigest()
