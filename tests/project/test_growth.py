"""How cost grows: the points, resuming, and what the table says of them."""

import contextlib
import dataclasses
import json

import pytest
from growth import command
from growth import report
from growth.points import BACKENDS
from growth.points import SWEEPS
from growth.points import SWEEPS_OF
from growth.points import Point
from growth.points import points
from growth.points import sweep
from race.process import Failure

pytestmark = pytest.mark.once
ONE = ["--backend", "torch", "--way", "rematerialized"]
BATCHES = [str(x) for x in sweep("torch", "rematerialized", "batch_size")]


def test_a_sweep_changes_one_thing_and_no_point_is_measured_twice():
    every = points()
    assert len(every) == len(set(every))
    for backend in BACKENDS:
        for way, names in SWEEPS_OF.items():
            for name in names:
                found = sweep(backend, way, name)
                assert set(found) <= set(every)
                assert [getattr(x, name) for x in found] == [*SWEEPS[name]]
                others = {
                    dataclasses.replace(x, **{name: SWEEPS[name][0]})
                    for x in found
                }
                assert len(others) == 1


class FakeProcess:
    """Answers as `race/worker.py` does."""

    def __init__(self, task):
        self.task = task

    def answer(self):
        return {"first_call_seconds": 9.0, "imported_bytes": 1_000_000}

    def run(self):
        count = self.task.batch_size
        return {
            "seconds": 2.0 * count,
            "peak_bytes": (1 + 3 * count) * 10**6,
        }


@pytest.fixture
def started(monkeypatch):
    """Tasks of the processes that were started; none is."""
    found = []

    @contextlib.contextmanager
    def start(self, contestant, task):
        found.append(task)
        if task.batch_size in broken:
            raise Failure("no memory")
        yield FakeProcess(task)

    broken = set()
    monkeypatch.setattr(command.Starter, "start", start)
    monkeypatch.setattr(command, "macs", lambda model, size: 10**9)
    return found, broken


def test_points_are_measured_once_and_failed_ones_again(started, tmp_path):
    tasks, broken = started
    broken.add(64)
    command.main([*ONE, "--output", str(tmp_path)])
    assert [x.batch_size for x in tasks] == [1, 4, 16, 64]
    assert {(x.mode, x.image_size) for x in tasks} == {("training", 128)}
    text = (tmp_path / "results.md").read_text()
    assert f"- {BATCHES[3]}: not measured, no memory" in text
    broken.clear()
    command.main([*ONE, "--output", str(tmp_path)])
    assert [x.batch_size for x in tasks[4:]] == [64]
    results = json.loads((tmp_path / "results.json").read_text())
    assert [*results] == BATCHES
    row = results[BATCHES[2]]
    assert (row["seconds"], row["bytes"]) == (32.0, 48_000_000)
    assert row["runs"] == [32.0, 32.0]
    text = (tmp_path / "results.md").read_text()
    row = "| batch 16 (Tiny, 128 px) | 1 | 2000 (1.00) | 3 (1.00) | – | – |"
    assert row in text and "no memory" not in text
    assert (tmp_path / "results.png").stat().st_size > 5000
    command.main([*ONE, "--output", str(tmp_path)])
    assert len(tasks) == 5


def test_nothing_starts_after_the_time_is_over(started, tmp_path, capsys):
    tasks, _ = started
    command.main([*ONE, "--minutes", "-1", "--output", str(tmp_path)])
    assert not tasks and "start it again" in capsys.readouterr().out
    assert [*tmp_path.iterdir()] == []


def rows(way, name, seconds, megabytes, macs=(1e9,) * 4):
    """Rows of one sweep on torch, as `results.json` has them."""
    return {
        str(point): {
            **dataclasses.asdict(point),
            "failure": None,
            "seconds": seconds[i],
            "bytes": megabytes[i] * 1e6,
            "macs": macs[i],
            "date": f"2026-12-0{i + 1}",
            "processor": "Some Processor",
            "cores": 2,
            "versions": {"keras": "3.15", "torch": "2.13"},
        }
        for i, point in enumerate(sweep("torch", way, name))
    }


def test_what_rises_is_told():
    batches = rows(
        *("inference", "batch_size"), (1, 2, 8, 48), (100, 130, 250, 1210)
    )
    found = {(key, kind): times for key, kind, times in report.rises(batches)}
    sixteen, most = (
        str(Point("torch", "inference", batch_size=x)) for x in (16, 64)
    )
    # 10 MB for each of the images up to the 16th, then 20; 0.5 s, then 0.75.
    assert found == {
        (most, "time"): pytest.approx(1.5),
        (most, "memory"): pytest.approx(2.0),
    }
    text = report.as_markdown(batches)
    assert f"- {most}: time of a multiply-add is 1.50 times" in text
    assert f"- {sixteen}" not in text
    # 1 MB for each 1000 pixels beyond those before.
    sides = rows("inference", "image_size", (1, 2, 8), (66.4, 100.2, 312.1))
    assert "memory" not in [kind for _, kind, _ in report.rises(sides)]
    # As much as there is more work: nothing to tell.
    models = rows(*("training", "model"), (1, 2, 4), (1, 9, 90), (1, 2, 4))
    assert [*report.rises(models)] == []


def test_the_chart_has_a_line_for_each_backend_and_way():
    done = rows("inference", "image_size", (4, 8, 16), (1, 2, 3))
    time, memory = (report.chart(done).axes[i] for i in (1, 4))
    (line,) = time.lines
    assert line.get_label() == "torch, inference"
    assert [*line.get_xdata()] == [128, 224, 512]
    assert [*line.get_ydata()] == [1000, 2000, 4000]
    (line,) = memory.lines
    assert [*line.get_ydata()] == [1, 2, 3]
