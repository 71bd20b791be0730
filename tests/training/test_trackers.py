"""Runs are in trackers once, whatever kills them and whichever tracker fails.

Stand-ins first, which are killed at every moment; then the clients themselves.
"""

import csv
import json
import signal
import struct
import sys

import numpy as np
import pytest
from conftest import long_where_compiled
from conftest import random_images
from runs import RECIPE
from runs import SIZE
from runs import command
from runs import new_model
from runs import start
from runs import write_photographs

from keras_convnext import training
from keras_convnext._util import requirements
from keras_convnext.data import Arrays
from keras_convnext.training import callbacks
from keras_convnext.training import trackers
from keras_convnext.training import tracking as tracking_module
from keras_convnext.training.run import Run
from keras_convnext.training.tracking import Tracking
from keras_convnext.training.tracking import without_secrets

EPOCHS = 3
SETTINGS = {"recipe": {"epochs": EPOCHS, "crop": (0.5, 1.0)}, "seed": 0}
SHORT = RECIPE.replace(epochs=2, warmup_epochs=1)


class Killed(BaseException):
    """Stands for the end of a process."""


class StandIn(trackers.Tracker):
    """A tracker like MLflow: its store outlives the process, and is asked.

    Attributes:
        store: dict from identities to lists of epochs and of statuses.
        failure: what each call raises, or `None`.
    """

    title = "Stand-in"
    store: dict = {}
    failure = None

    def begin(self, facts, logged):
        self._fail()
        self.told = self.store.setdefault(
            facts.identity, {"epochs": [], "ends": [], **facts.parameters}
        )
        return len(self.told["epochs"])

    def epoch(self, row):
        self._fail()
        self.told["epochs"].append(row["epoch"])

    def end(self, status, results):
        self._fail()
        self.told["ends"].append(status)
        self.told["files"] = results and [x.name for x in results.files]

    def _fail(self):
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr(StandIn, "store", {})
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", StandIn)
    monkeypatch.setattr(tracking_module, "card_of", lambda *_: "a card")
    return StandIn


def go(folder, log_to=("mlflow",), until=EPOCHS, is_writer=True):
    """A process: all epochs that the run's checkpoint has not, and their logs.

    `step.txt` stands for the checkpoint, which has a row before trackers do.
    """
    run = Run(folder, SETTINGS)
    run.cluster.process_index = 0 if is_writer else 1
    saved = folder / "step.txt"
    run.step = int(saved.read_text()) if saved.exists() else 0
    run.history = [row(x) for x in range(1, run.step + 1)]
    with Tracking(run, None, log_to) as tracking:
        tracking.begin()
        while run.step < until:
            run.step += 1
            run.history.append(row(run.step))
            saved.write_text(str(run.step))
            tracking.on_epoch_end(run.step - 1)
        (folder / "best.keras").write_text("a model")
        run.write_summary("complete")
    return run


def row(epoch):
    return {
        "epoch": epoch,
        "step": 9 * epoch,
        "learning_rate": 1e-3,
        "loss": 1 / epoch,
        "val_accuracy": epoch / 10,
    }


def killing(monkeypatch, moment, is_after):
    """Ends the process at its so manyth call of the tracker or the note."""
    count = 0

    def deadly(method):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == moment and not is_after:
                raise Killed
            result = method(*args, **kwargs)
            if count == moment:
                raise Killed
            return result

        return call

    for name in ("begin", "epoch"):
        monkeypatch.setattr(StandIn, name, deadly(getattr(StandIn, name)))
    monkeypatch.setattr(Tracking, "_write", deadly(Tracking._write))
    # The process does not see its own end.
    monkeypatch.setattr(Tracking, "__exit__", lambda *_: None)


@pytest.mark.once
@pytest.mark.parametrize("is_after", [False, True])
def test_a_run_is_logged_once_whenever_it_is_killed(
    is_after, stand_in, tmp_path, monkeypatch
):
    for moment in range(1, 2 + 2 * EPOCHS):
        folder = tmp_path / str(moment)
        folder.mkdir()
        stand_in.store.clear()
        with monkeypatch.context() as patch:
            killing(patch, moment, is_after)
            with pytest.raises(Killed):
                go(folder)
        go(folder)
        (told,) = stand_in.store.values()
        assert told["epochs"] == [1, 2, 3], moment
        assert told["ends"] == ["complete"]
        assert told["recipe.crop"] == "[0.5, 1.0]" and told["seed"] == 0
        assert told["versions.keras_convnext"]
        # Once more, and nothing is left to do.
        go(folder)
        assert told["ends"] == ["complete"]


@pytest.mark.once
def test_a_tracker_that_fails_ends_no_training(stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "s3cr3t")
    monkeypatch.setattr(
        stand_in,
        "failure",
        ConnectionError("no http://me:pass@host with s3cr3t\nand more"),
    )
    with pytest.warns(UserWarning) as told:
        go(tmp_path)
    (warning,) = told
    message = str(warning.message)
    assert message.startswith(
        "Stand-in failed, and training goes on without: ConnectionError: no "
        "http://***@host with ***. The same command"
    )
    assert not stand_in.store
    # It is there again, and gets what it lacks.
    monkeypatch.setattr(stand_in, "failure", None)
    go(tmp_path)
    (told,) = stand_in.store.values()
    assert told["epochs"] == [1, 2, 3] and told["ends"] == ["complete"]
    assert told["files"] == ["run.json"]


@pytest.mark.once
def test_one_tracker_fails_and_the_other_goes_on(
    stand_in, tmp_path, monkeypatch
):
    class Broken(StandIn):
        title = "Broken"

        def epoch(self, row):
            raise OSError(28, "No space left on device")

    monkeypatch.setitem(trackers.TRACKERS, "wandb", Broken)
    with pytest.warns(UserWarning, match="^Broken failed.*No space") as told:
        go(tmp_path, ("wandb", "mlflow"))
    assert len(told) == 1
    note = json.loads((tmp_path / "trackers.json").read_text())
    assert note["logged"] == {"tensorboard": 3, "wandb": 0, "mlflow": 3}
    assert note["ended"] == ["tensorboard", "mlflow"]


@pytest.mark.once
def test_a_damaged_note_ends_no_training(stand_in, tmp_path):
    (tmp_path / "trackers.json").write_text("{")
    with pytest.warns(UserWarning, match="trackers.json holds no JSON"):
        go(tmp_path)
    assert not stand_in.store


@pytest.mark.once
def test_stopped_runs_are_called_so_and_go_on(stand_in, tmp_path, monkeypatch):
    def stopped(self, epoch, logs=None):
        raise training.Interrupted(143)

    with monkeypatch.context() as patch:
        patch.setattr(Tracking, "on_epoch_end", stopped)
        with pytest.raises(training.Interrupted):
            go(tmp_path)
    (told,) = stand_in.store.values()
    # The epoch that had ended is logged at the last moment.
    assert (told["epochs"], told["ends"]) == ([1], ["stopped"])
    assert told["files"] is None
    go(tmp_path)
    assert (told["epochs"], told["ends"]) == (
        [1, 2, 3],
        ["stopped", "complete"],
    )


@pytest.mark.once
def test_another_run_in_the_folder_is_another_in_the_tracker(
    stand_in, tmp_path
):
    go(tmp_path)
    (tmp_path / "step.txt").unlink()
    go(tmp_path)
    assert [x["epochs"] for x in stand_in.store.values()] == 2 * [[1, 2, 3]]


@pytest.mark.once
def test_only_the_writer_logs(stand_in, tmp_path):
    go(tmp_path, is_writer=False)
    assert not stand_in.store
    assert not (tmp_path / "trackers.json").exists()
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.once
def test_secrets_are_not_told(monkeypatch):
    for name in ("WANDB_API_KEY", "A_token", "DB_PASSWORD", "MY_SECRET"):
        monkeypatch.setenv(name, f"value-of-{name}")
    monkeypatch.setenv("EMPTY_KEY", "")
    text = "a value-of-WANDB_API_KEY, b value-of-A_token, value-of-DB_PASSWORD"
    assert without_secrets(text) == "a ***, b ***, ***"
    assert without_secrets("postgresql://u:p@h/db") == "postgresql://***@h/db"
    assert without_secrets("\nfirst.\nsecond") == "first"


@pytest.mark.once
@pytest.mark.parametrize("name", ["mlflow", "wandb", "tensorboard"])
def test_missing_packages_are_told_before_training(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    package, extra = requirements.PACKAGES[name]
    with pytest.raises(ImportError, match=rf"^{package} is not .*\[{extra}\]"):
        training.train(None, None, None, tmp_path / "run", log_to=[name])
    assert not (tmp_path / "run").exists()


@pytest.mark.once
def test_unknown_trackers_are_told_before_training(tmp_path, run_command):
    with pytest.raises(ValueError, match="mean mlflow.*`log_to` must be one"):
        training.train(None, None, None, tmp_path / "run", log_to="mlfow")
    status, _, error = run_command(
        *("train", "--data", "nowhere", "--output", tmp_path / "run"),
        *("--log-to", "tensorboard", "--log-to", "mlfow"),
    )
    assert status == 2 and "`--log-to` must be one of" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.once
def test_tensorboard_has_the_curves_once(tmp_path):
    from tensorboard.backend.event_processing import event_accumulator

    go(tmp_path, (), until=2)
    note = json.loads((tmp_path / "trackers.json").read_text())
    # As if killed before the end.
    note["ended"] = []
    (tmp_path / "trackers.json").write_text(json.dumps(note))
    go(tmp_path, ())
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["tensors"]) == {
        *("training/loss", "training/learning_rate", "validation/accuracy")
    }
    loss = events.Tensors("training/loss")
    assert [x.step for x in loss] == [1, 2, 3]
    values = [x.tensor_proto.float_val[0] for x in loss]
    assert values == pytest.approx([1, 1 / 2, 1 / 3], rel=1e-6, abs=0)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """MLflow makes a store in a second of work, and then it can be copied."""
    mlflow = pytest.importorskip("mlflow")
    path = tmp_path_factory.mktemp("mlflow") / "store.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}")
    return path.read_bytes()


@pytest.fixture
def store(empty_store, tmp_path, monkeypatch):
    """The client of an MLflow store of its own, in this folder."""
    import mlflow

    (tmp_path / "store.db").write_bytes(empty_store)
    address = f"sqlite:///{tmp_path}/store.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "flowers")
    client = mlflow.MlflowClient(tracking_uri=address)
    client.create_experiment("flowers", f"file://{tmp_path}/artifacts")
    return client


def only_run(client):
    """The one run that there is, in all experiments."""
    ids = [x.experiment_id for x in client.search_experiments()]
    (run,) = client.search_runs(ids)
    return run


def curve(client, run, name):
    points = client.get_metric_history(run.info.run_id, name)
    return [(x.step, x.value) for x in points]


@pytest.mark.once
def test_mlflow_has_a_run_once(store, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking_module, "card_of", lambda *_: "a card")
    folder = tmp_path / "run"
    folder.mkdir()
    # As often killed as there are moments at which it goes on otherwise:
    # after the run is made, and after an epoch is logged.
    for name in ("begin", "epoch"):
        with monkeypatch.context() as patch:
            method = getattr(trackers.MLflow, name)

            def deadly(self, *args, method=method):
                method(self, *args)
                raise Killed

            patch.setattr(trackers.MLflow, name, deadly)
            patch.setattr(Tracking, "__exit__", lambda *_: None)
            with pytest.raises(Killed):
                go(folder)
    assert only_run(store).info.status == "RUNNING"
    go(folder)
    run = only_run(store)
    assert run.info.status == "FINISHED" and run.info.run_name == "run"
    assert run.data.params["recipe.epochs"] == "3"
    assert run.data.params["versions.keras_convnext"]
    for name in ("loss", "val_accuracy"):
        expected = [(x, row(x)[name]) for x in (1, 2, 3)]
        assert curve(store, run, name) == expected
    listed = store.list_artifacts(run.info.run_id)
    assert [x.path for x in listed] == ["model", "run.json"]


@pytest.mark.once
def test_mlflow_without_a_server_is_warned_of(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:s3cr3t@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.warns(UserWarning, match="^MLflow failed, and") as told:
        run = go(tmp_path)
    (message,) = [str(x.message) for x in told if x.category is UserWarning]
    assert "s3cr3t" not in message
    assert run.step == EPOCHS


def wandb_records(path):
    """What Weights & Biases wrote: records in LevelDB's log format."""
    from wandb.proto import wandb_internal_pb2

    content, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, size, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


@pytest.mark.once
def test_wandb_has_a_run_once(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setattr(tracking_module, "card_of", lambda *_: "a card")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("DIR", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))
    folder = tmp_path / "run"
    folder.mkdir()

    def stopped(self, epoch, logs=None):
        raise training.Interrupted(143)

    with monkeypatch.context() as patch:
        patch.setattr(Tracking, "on_epoch_end", stopped)
        with pytest.raises(training.Interrupted):
            go(folder, "wandb")
    go(folder, "wandb")
    identity = json.loads((folder / "trackers.json").read_text())["identity"]
    files = sorted(tmp_path.glob(f"wandb/offline-run-*/run-{identity}.wandb"))
    records = [x for path in files for x in wandb_records(path)]
    # Two parts, which `wandb sync` makes one run of.
    ids = [x.run.run_id for x in records if x.HasField("run")]
    assert set(ids) == {identity} and 1 <= len(files) <= 2
    logged = [
        {x.key or x.nested_key[0]: json.loads(x.value_json) for x in y}
        for y in (x.history.item for x in records if x.HasField("history"))
    ]
    assert [x["_step"] for x in logged] == [1, 2, 3]
    assert [x["loss"] for x in logged] == [row(x)["loss"] for x in (1, 2, 3)]
    config = {
        x.key: json.loads(x.value_json)
        for record in records
        for x in record.run.config.update
    }
    assert config["recipe.epochs"] == 3
    artifacts = [x.artifact for x in records if x.HasField("artifact")]
    described = [(x.type, x.description) for x in artifacts]
    assert described == [("model", "a card")]


@long_where_compiled
def test_a_stopped_run_is_in_mlflow_once(store, tmp_path, monkeypatch):
    output, count = tmp_path / "run", callbacks.Checkpointing.on_train_batch_end
    images = random_images((8, SIZE, SIZE, 3)).astype("uint8")
    data = Arrays(images, np.arange(8) % 2, ("cat", "dog"))

    def stopping(self, batch, logs=None):
        count(self, batch, logs)
        if self.run.step == 3:  # in the second epoch
            raise ArithmeticError

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Checkpointing, "on_train_batch_end", stopping)
        with pytest.raises(ArithmeticError):
            training.train(
                *(new_model(), SHORT, data, output, data),
                checkpoint_steps=1,
                log_to="mlflow",
            )
    assert only_run(store).info.status == "FAILED"
    training.train(
        *(new_model(), SHORT, data, output, data),
        log_to="mlflow",
        finish=lambda: (output / "report.html").write_text("a page"),
    )
    run = only_run(store)
    assert run.info.status == "FINISHED"
    with open(output / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for name in rows[0].keys() - {"epoch", "step"}:
        expected = [(int(x["epoch"]), float(x[name])) for x in rows]
        assert curve(store, run, name) == expected
    folder = tmp_path / "artifacts" / run.info.run_id / "artifacts"
    copied = (folder / "model" / "best.keras").read_bytes()
    assert copied == (output / "best.keras").read_bytes()
    card = (folder / "model" / "card.md").read_text()
    assert "| Architecture | small |" in card
    assert "| Trained on | 8 images |" in card
    assert "| gradient_accumulation_steps | 2 |" in card
    best = json.loads((output / "run.json").read_text())["best"]
    assert f"| val_accuracy | {best['val_accuracy']:.4g} |" in card
    names = sorted(x.name for x in folder.iterdir())
    assert names == [
        *("curves.png", "history.csv", "model", "report.html", "run.json")
    ]


@pytest.mark.long
def test_a_killed_process_is_in_mlflow_once(store, tmp_path):
    """Killed while it writes the checkpoints of its first epochs."""
    new_model().save(tmp_path / "model.keras")
    photographs, output = write_photographs(tmp_path / "photos"), "run"
    arguments = command(photographs, "model.keras", output)
    arguments += ["--loader", "python", "--log-to", "mlflow"]
    for kill_in_save in (1, 2, 2):
        process = start(arguments, kill_in_save=kill_in_save)
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, printed
    process = start(arguments)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    run = only_run(store)
    assert run.info.status == "FINISHED"
    with open(tmp_path / output / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [(int(x["epoch"]), float(x["loss"])) for x in rows]
    assert curve(store, run, "loss") == expected
    assert len(expected) == RECIPE.epochs
