"""Where a run is logged beside its folder: a class for each tracker.

To add one: a class with `begin`, `epoch` and `end`, its row of `TRACKERS`, and
in `_util/requirements.py` the package that it takes.
"""

import os
import sys
import time
import types
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_convnext._util.checks import one_of
from keras_convnext._util.requirements import is_installed
from keras_convnext._util.requirements import require

# By which a run of ours is found again: the tracker may have made it, and the
# process been killed before it knew.
TAG = "keras_convnext.run"
# Of a call of MLflow, and of a value.
PARAMETERS, CHARACTERS = 100, 500
# Columns of `history.csv` that are no curves.
COUNTERS = ("epoch", "step")


@dataclass(frozen=True)
class Facts:
    """What trackers are told of a run when it begins.

    Attributes:
        identity: hexadecimal digits; the same after a kill and resumption.
        folder: path of the run's output.
        parameters: dict of numbers and texts.
    """

    identity: str
    folder: Path
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """What trackers get when a run is complete.

    Attributes:
        files: paths of pictures and tables.
        model: path of the best model.
        card: path of the page that describes it.
    """

    files: Sequence[Path]
    model: Path
    card: Path


class Tracker:
    """One tracker. Its methods may raise: the run goes on without it.

    Attributes:
        title: how messages call it.
        takes_results: whether it keeps files and models.
    """

    title = ""
    takes_results = True

    def begin(self, facts: Facts, logged: int) -> int:
        """Makes a run, or goes on with that of the same identity.

        Args:
            facts: of the run.
            logged: epochs that were noted as logged.

        Returns:
            How many epochs are logged.
        """
        raise NotImplementedError

    def epoch(self, row: Mapping[str, float]) -> None:
        """Logs a row of `history.csv`."""
        raise NotImplementedError

    def end(self, status: str, results: Results | None) -> None:
        """Ends the run, or this process' part of it.

        Args:
            status: "complete", "stopped" or "failed".
            results: of a complete run, else `None`.
        """
        raise NotImplementedError


class TensorBoard(Tracker):
    """Curves, in the folder `tensorboard` of the run.

    Keras' own callback needs TensorFlow; this one only `tensorboard`.
    """

    title = "TensorBoard"
    takes_results = False

    def begin(self, facts, logged):
        self.folder, self.writer = facts.folder / "tensorboard", None
        return logged

    def epoch(self, row):
        self.writer = self.writer or _new_writer(self.folder)
        for name, value in row.items():
            if name in COUNTERS:
                continue
            is_validation = name.startswith("val_")
            group = "validation" if is_validation else "training"
            tag = f"{group}/{name.removeprefix('val_')}"
            self.writer.add_scalar(tag, value, step=row["epoch"])
        self.writer.flush()

    def end(self, status, results):
        if self.writer is not None:
            self.writer.close()


def _new_writer(folder):
    # Unless it finds this module TensorBoard imports TensorFlow, if that is
    # installed: some seconds and 400 MB, to write a few numbers.
    if "tensorflow" not in sys.modules:
        name = "tensorboard.compat.notf"
        sys.modules.setdefault(name, types.ModuleType(name))
    from tensorboard.summary import Writer

    return Writer(str(folder))


class MLflow(Tracker):
    """A run of the server or store that MLflow is set to."""

    title = "MLflow"
    STATUSES = {"complete": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}

    def begin(self, facts, logged):
        import mlflow

        self.client = mlflow.MlflowClient()
        found = mlflow.search_runs(
            filter_string=f"tags.`{TAG}` = '{facts.identity}'",
            search_all_experiments=True,
            output_format="list",
            max_results=1,
        )
        if found:
            (run,) = found
            self.client.update_run(run.info.run_id, status="RUNNING")
        else:
            run = self.client.create_run(
                self._experiment(),
                tags={TAG: facts.identity},
                run_name=facts.folder.name,
            )
        self.id = run.info.run_id
        # They never change there, not even to the same value in other words.
        parameters = [
            mlflow.entities.Param(name, str(value)[:CHARACTERS])
            for name, value in facts.parameters.items()
            if name not in run.data.params
        ]
        for first in range(0, len(parameters), PARAMETERS):
            self.client.log_batch(
                self.id, params=parameters[first : first + PARAMETERS]
            )
        steps = self.client.get_metric_history(self.id, "loss")
        return max((x.step for x in steps), default=0)

    def _experiment(self):
        """The id of the one that MLflow's variables name, as it does."""
        if "MLFLOW_EXPERIMENT_ID" in os.environ:
            return os.environ["MLFLOW_EXPERIMENT_ID"]
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
        found = self.client.get_experiment_by_name(name)
        if found is None:
            return self.client.create_experiment(name)
        return found.experiment_id

    def epoch(self, row):
        from mlflow.entities import Metric

        now, epoch = int(time.time() * 1000), row["epoch"]
        self.client.log_batch(
            self.id,
            metrics=[
                Metric(name, value, now, epoch)
                for name, value in row.items()
                if name not in COUNTERS
            ],
        )

    def end(self, status, results):
        if results is not None:
            for path in results.files:
                self.client.log_artifact(self.id, str(path))
            for path in (results.model, results.card):
                self.client.log_artifact(self.id, str(path), "model")
        self.client.set_terminated(self.id, self.STATUSES[status])


class WeightsAndBiases(Tracker):
    """A run of Weights & Biases, online or as `WANDB_MODE` says."""

    title = "Weights & Biases"

    def begin(self, facts, logged):
        import wandb

        self.folder = facts.folder
        self.run = wandb.init(
            id=facts.identity,
            resume="allow",
            name=facts.folder.name,
            config=dict(facts.parameters),
            allow_val_change=True,
            # A run that the caller has open is none of ours.
            reinit="create_new",
            settings=wandb.Settings(console="off"),
        )
        return logged

    def epoch(self, row):
        values = {x: y for x, y in row.items() if x not in COUNTERS}
        self.run.log(values, step=row["epoch"], commit=True)

    def end(self, status, results):
        import wandb

        if results is not None:
            for path in results.files:
                self.run.save(
                    str(path), base_path=str(self.folder), policy="now"
                )
            model = wandb.Artifact(
                f"model-{self.run.id}",
                type="model",
                description=results.card.read_text(),
            )
            for path in (results.model, results.card):
                model.add_file(str(path))
            self.run.log_artifact(model)
        self.run.finish(exit_code=0 if status == "complete" else 1)


# By the module that each takes, which is also how it is asked for.
TRACKERS = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WeightsAndBiases,
}


def check_trackers(log_to: Sequence[str] | str) -> None:
    """Raises before any work what would keep a run from being logged.

    Raises:
        ValueError: for names that `TRACKERS` has not.
        ImportError: for packages that are missing.
    """
    for name in _as_names(log_to):
        one_of("log_to", name, TRACKERS)
        require(name, f"logs of {TRACKERS[name].title}")


def chosen_trackers(log_to: Sequence[str] | str) -> list[str]:
    """Those asked for; TensorBoard's logs are written wherever they can be."""
    usual = ["tensorboard"] if is_installed("tensorboard") else []
    return list(dict.fromkeys([*usual, *_as_names(log_to)]))


def _as_names(log_to):
    return (log_to,) if isinstance(log_to, str) else tuple(log_to)
