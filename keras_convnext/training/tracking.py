"""Logs a run to trackers, each epoch exactly once, whatever fails or is killed.

`trackers.json` in the run's folder has the identity by which trackers find
the run again, and how many epochs each has. It is written before the first
log. The rows come from the history that checkpoints keep: what a tracker lacks
after a resumption is in there.
"""

import contextlib
import json
import os
import re
import uuid
import warnings

import keras

from keras_convnext._util.json_files import check_fields
from keras_convnext._util.json_files import read_object
from keras_convnext._util.requirements import versions
from keras_convnext._util.writing import written_aside
from keras_convnext.training.card import card_of
from keras_convnext.training.run import status_of
from keras_convnext.training.trackers import TRACKERS
from keras_convnext.training.trackers import Facts
from keras_convnext.training.trackers import Results
from keras_convnext.training.trackers import chosen_trackers

NOTE = "trackers.json"
FIELDS = {"identity": str, "logged": dict, "ended": list}
# Those that there are.
FILES = ("curves.png", "history.csv", "run.json", "report.html")
# The first of them, or the last model.
BEST = ("best.keras", "last_averaged.keras")
SECRET = re.compile("key|token|password|secret|credential", re.IGNORECASE)


class Tracking(keras.callbacks.Callback):
    """Logs the finished epochs of a run; as a context, its end too.

    Args:
        run: the `Run`. Only its writer logs.
        model: the one that is saved.
        log_to: names of trackers.
    """

    def __init__(self, run, model, log_to=()):
        super().__init__()
        self.run, self.saved = run, model
        self.names = chosen_trackers(log_to) if run.cluster.is_writer else []
        self.trackers = {}

    def begin(self):
        """Makes the run in all trackers, or goes on with it."""
        if not self.names:
            return
        with self._surviving(*self.names):
            self.note = self._read()
            self._write()
            facts = Facts(
                self.note["identity"],
                self.run.output.resolve(),
                _parameters({**self.run.settings, "versions": versions()}),
            )
            self.trackers = {
                name: TRACKERS[name]()
                for name in self.names
                if name not in self.note["ended"]
            }
        for name, tracker in list(self.trackers.items()):
            logged = self.note["logged"]
            with self._surviving(name):
                logged[name] = tracker.begin(facts, logged.get(name, 0))
        self._catch_up()

    def on_epoch_end(self, epoch, logs=None):
        self._catch_up()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        status = "complete" if error is None else status_of(error)
        self._catch_up()
        results = None
        taking = [x for x, y in self.trackers.items() if y.takes_results]
        if status == "complete" and taking:
            with self._surviving(*taking):
                results = self._results()
        for name, tracker in list(self.trackers.items()):
            with self._surviving(name):
                tracker.end(status, results)
                if status == "complete":
                    self.note["ended"].append(name)
                    self._write()

    def _catch_up(self):
        """Logs the epochs of the history that a tracker has not."""
        for name, tracker in list(self.trackers.items()):
            logged = self.note["logged"]
            with self._surviving(name):
                for row in self.run.history:
                    if row["epoch"] > logged[name]:
                        tracker.epoch(row)
                        logged[name] = row["epoch"]
                        self._write()

    def _read(self):
        path = self.run.output / NOTE
        note = None
        if path.exists():
            note = read_object(path, FIELDS)
            check_fields(note["logged"], {}, NOTE)
        # Where checkpoints were removed another run begins.
        if note is None or (not self.run.step and any(note["logged"].values())):
            return {"identity": uuid.uuid4().hex, "logged": {}, "ended": []}
        return note

    def _write(self):
        with written_aside(self.run.output / NOTE) as unfinished:
            unfinished.write_text(json.dumps(self.note, indent=1) + "\n")

    def _results(self):
        folder = self.run.output.resolve()
        summary = json.loads((folder / "run.json").read_text())
        model = next(
            (x for x in BEST if (folder / x).exists()), self.run.result
        )
        card = folder / "card.md"
        with written_aside(card) as unfinished:
            unfinished.write_text(card_of(summary, self.saved, model))
        files = [folder / x for x in FILES if (folder / x).exists()]
        return Results(files, folder / model, card)

    @contextlib.contextmanager
    def _surviving(self, *names):
        """Leaves these trackers alone once something fails."""
        try:
            yield
        except Exception as error:
            for name in names:
                self.trackers.pop(name, None)
            titles = " and ".join(TRACKERS[x].title for x in names)
            reason = without_secrets(f"{type(error).__name__}: {error}")
            warnings.warn(
                f"{titles} failed, and training goes on without: {reason}. "
                "The same command, given again after this run's end, logs what "
                "is missing there",
                stacklevel=2,
            )


def _parameters(settings):
    """Numbers and texts by name; of the settings' parts with a dot between."""
    result = {}
    for name, value in settings.items():
        part = value if isinstance(value, dict) else {"": value}
        for field, of_field in part.items():
            is_plain = isinstance(of_field, (bool, int, float, str))
            text = of_field if is_plain else json.dumps(of_field)
            result[f"{name}.{field}".rstrip(".")] = text
    return result


def without_secrets(text: str) -> str:
    """The first line of an error, without passwords and keys.

    Those in addresses, and values of environment variables named after what
    must stay secret.
    """
    secrets = [x for name, x in os.environ.items() if SECRET.search(name) and x]
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    text = re.sub(r"://[^/\s@]+@", "://***@", text)
    return next(iter(text.strip().splitlines()), "")[:300].rstrip(". ")
