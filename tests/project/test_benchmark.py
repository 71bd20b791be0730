"""The benchmark's rules, with contestants that pretend and with real ones."""

import functools
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import peers
import pytest
import race
import torch
import typer
from conftest import long_where_compiled
from race import command
from race import contestants
from race import in_keras
from race import process
from race import ratios
from race import report
from race import starter
from race import turn
from race import worker
from race.contestants import Artifact
from race.contestants import Contestant
from scipy import stats

import keras_convnext
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD

pytestmark = pytest.mark.once

FAKES = str(Path(__file__).parents[1] / "fake_contestants.py")
ROOT = Path(__file__).parents[2]
SURVEY = {
    "macs": {"32": 2_000_000_000},
    "ceiling": {
        "backend": "torch",
        "device": "CPU",
        "gflops": 40.0,
        "raw_gflops": [40.0],
    },
}
TASK = race.Task("inference", 2, 32)


def fake(name, kind, against=None, **options):
    return Contestant(
        *(name, f"{FAKES}:{kind}", "torch", (), against), **options
    )


OURS = fake("ours/a", "Fake")
PEER = fake("peer/a", "Peer", "ours/a")


@pytest.fixture
def log(tmp_path, monkeypatch):
    """What the fake contestants did, as lists of words."""
    path = tmp_path / "log.txt"
    path.touch()
    monkeypatch.setenv("BENCHMARK_LOG", str(path))
    return lambda: [line.split() for line in path.read_text().splitlines()]


@pytest.fixture
def run(log, tmp_path, monkeypatch):
    """Runs fake contestants, without the seconds that the ceiling takes."""
    if keras.backend.backend() != "torch":
        pytest.skip("no Keras takes part")
    monkeypatch.setattr(starter.Starter, "survey", lambda *_: SURVEY)
    monkeypatch.setattr(turn, "SETTLE_SECONDS", 0.0)

    def run(*contestants, tasks=(TASK,), pairs=2):
        return race.run(
            tmp_path / "output",
            contestants,
            tasks,
            "test_convnext",
            pairs=pairs,
            overwrite=True,
            verbose=False,
        )

    return run


def record_of(results, name):
    (record,) = (
        x for x in results["tasks"][0]["contestants"] if x["name"] == name
    )
    return record


@pytest.mark.parametrize("count", [6, 9, 15, 16, 31])
def test_intervals_are_those_of_scipy(count):
    values = np.random.default_rng(count).normal(size=count).tolist()
    test = stats.quantile_test(values, p=0.5)
    expected = test.confidence_interval(0.95)
    low, high, coverage = ratios.interval(values)
    assert (low, high) == (expected.low, expected.high)
    rank = sorted(values).index(low)
    inside = stats.binom.cdf(count - rank - 1, count, 0.5)
    inside -= stats.binom.cdf(rank, count, 0.5)
    assert coverage == pytest.approx(inside)


def test_few_values_cover_less_and_say_so():
    assert ratios.interval([3.0]) == (3.0, 3.0, 0.0)
    assert ratios.interval([2, 9]) == (2, 9, 0.5)
    assert ratios.interval([4, 1, 3]) == (1, 4, 0.75)


def test_ratios_are_taken_pair_by_pair():
    # The ratio of the medians would be 4 / 3.
    pairs = [(1.0, 2.0), (4.0, 4.0), (3.0, 9.0)]
    found = ratios.compared([{"ours": a, "theirs": b} for a, b in pairs])
    assert found["ratios"] == [2.0, 1.0, 3.0]
    assert found["median"] == 2.0
    assert found["interval"] == [1.0, 3.0]


def test_they_take_turns_and_never_run_at_once(run, log):
    results = run(OURS, PEER, pairs=3)
    steps = [words for words in log() if words[0] != "build"]
    for begin, end in zip(steps[::2], steps[1::2]):
        assert (begin[0], end[0]) == ("begin", "end")
        assert begin[1] == end[1]
    # Two calls make half a second; those before are the first and warm-up.
    ran = [words[1] for words in steps[::2]]
    assert ran[:6] == ["fake"] * 3 + ["peer"] * 3
    a, b = ["fake"] * 2, ["peer"] * 2
    assert ran[6:] == a + b + b + a + a + b
    (comparison,) = results["tasks"][0]["comparisons"]
    firsts = [pair["first"] for pair in comparison["pairs"]]
    assert firsts == ["ours/a", "peer/a", "ours/a"]
    for pair, ratio in zip(comparison["pairs"], comparison["ratios"]):
        assert ratio == pair["theirs"] / pair["ours"]
    assert [pair["ours"] for pair in comparison["pairs"]] == record_of(
        results, "ours/a"
    )["seconds"]
    assert all(pair["ours"] >= 0.3 for pair in comparison["pairs"])


@pytest.mark.long
def test_the_fastest_of_both_meet_at_last(run, log):
    other = fake("ours/b", "Quick")
    swin = fake("swin/a", "Quick", "ours/a", is_same_network=False)
    results = run(OURS, PEER, other, swin, pairs=1)
    met = [(x["ours"], x["theirs"]) for x in results["tasks"][0]["comparisons"]]
    assert met == [
        ("ours/a", "peer/a"),
        ("ours/a", "swin/a"),
        ("ours/b", "peer/a"),
    ]
    assert len(record_of(results, "ours/b")["seconds"]) == 2
    assert "gflops" not in record_of(results, "swin/a")


@pytest.mark.long
def test_peers_run_without_ours_and_only_in_their_modes(run, log):
    tasks = (TASK, race.Task("training", 2, 32))
    only = fake("peer/b", "Peer", "ours/b", modes=("inference",))
    results = run(OURS, only, tasks=tasks, pairs=1)
    names = [[x["name"] for x in t["contestants"]] for t in results["tasks"]]
    assert names == [["ours/a", "peer/b"], ["ours/a"]]
    # They meet as the fastest, then once more.
    (comparison,) = results["tasks"][0]["comparisons"]
    assert (comparison["ours"], comparison["theirs"]) == ("ours/a", "peer/b")
    assert results["tasks"][1]["comparisons"] == []


@pytest.mark.long
def test_who_fails_is_reported_and_the_rest_goes_on(run):
    reasons = {
        "Raises": "RuntimeError: no such operation",
        "Dies": "the process ended with status 3: last words",
        "DiesWaiting": "the process ended with status 4: it said nothing",
        "GivesNan": "ValueError: expected finite outputs of shape (2, 1000)",
        "GivesFeatures": "Received: 10 finite ones of shape (2, 5)",
        "NoSuchClass": "AttributeError",
    }
    bad = [fake(f"peer/{x}", x, "ours/a") for x in reasons]
    results = run(OURS, *bad, PEER, pairs=1)
    page = report.as_markdown(results)
    for kind, reason in reasons.items():
        failure = record_of(results, f"peer/{kind}")["failure"]
        assert reason in failure and "\n" not in failure
        assert f"- peer/{kind}: {failure}" in page
    (comparison,) = results["tasks"][0]["comparisons"]
    assert comparison["theirs"] == "peer/a"


@pytest.mark.long
def test_without_ours_the_peers_run_alone(run):
    results = run(fake("ours/a", "Raises"), PEER)
    assert len(record_of(results, "peer/a")["seconds"]) == 2
    assert results["tasks"][0]["comparisons"] == []


@pytest.mark.long
def test_nobody_is_waited_for_for_ever(run, monkeypatch):
    monkeypatch.setattr(process, "TIMEOUT_SECONDS", 1)
    results = run(fake("ours/a", "Hangs"))
    assert record_of(results, "ours/a")["failure"] == "no answer in 1 s"
    assert "images_per_second" not in record_of(results, "ours/a")


@pytest.mark.long
def test_a_process_that_cannot_start_says_why(run, monkeypatch, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit('no such thing')")
    monkeypatch.setattr(process, "SCRIPT", script)
    results = run(OURS)
    assert record_of(results, "ours/a")["failure"] == (
        "the process ended with status 1: no such thing"
    )


def test_who_is_not_installed_is_left_out(run):
    missing = Contestant("peer/x", "none.py:X", "torch", ("no_such",), "ours/a")
    results = run(OURS, missing)
    assert results["missing"] == {"peer/x": ["no_such"]}
    assert "- peer/x, which takes no_such" in report.as_markdown(results)


@pytest.mark.long
def test_models_that_a_peer_lacks_are_no_error(run):
    peer = fake("peer/a", "Peer", "ours/a", models={"convnext_tiny": "T"})
    results = run(OURS, peer)
    failure = record_of(results, "peer/a")["failure"]
    assert failure == "it has no test_convnext"


@pytest.mark.long
def test_processes_are_pinned_told_and_measured_alone(run, monkeypatch, log):
    held = np.ones(400 * 2**20 // 8)  # by this process, not by that one
    monkeypatch.setitem(
        contestants.ARTIFACTS, "text", Artifact(f"{FAKES}:write_text", (), "")
    )
    one = fake("ours/a", "Describes", artifact="text")
    two = fake("ours/b", "Describes", artifact="text")
    results = race.run(
        *(os.environ["BENCHMARK_LOG"] + ".d", [one, two], [TASK]),
        *("test_convnext", "float32", 1, 1),
        verbose=False,
    )
    record = record_of(results, "ours/b")
    known = json.loads(record["device"])
    assert known == {
        "cores": sorted(os.sched_getaffinity(0))[:1],
        "threads": "1",
        "backend": "torch",
        "keras": False,
        "text": "for 32 px",
    }
    assert log().count(["write", "32"]) == 1
    assert record["peak_bytes"] - record["imported_bytes"] > 100 * 2**20
    assert record["peak_bytes"] < held.nbytes


def test_figures_follow_from_the_times(run):
    results = run(OURS)
    record = record_of(results, "ours/a")
    speeds = [2 / seconds for seconds in record["seconds"]]
    assert record["images_per_second"] == pytest.approx(np.median(speeds))
    assert record["images_per_second_interval"] == [min(speeds), max(speeds)]
    # 2 operations in each of 2e9 multiply-adds, of a ceiling of 40 GFLOP/s.
    expected = 4 * np.median(speeds)
    assert record["gflops"] == pytest.approx(expected)
    assert record["part_of_ceiling"] == pytest.approx(expected / 40)
    task = race.Task("training", 2, 32)
    record = record_of(run(OURS, tasks=[task]), "ours/a")
    expected = 3 * 4 * record["images_per_second"]
    assert record["gflops"] == pytest.approx(expected)


RESULTS = {
    "date": "2026-11-21T00:00:00+00:00",
    "command": "python benchmarks/race",
    "model": "convnext_tiny",
    "dtype": "float32",
    "pairs": 3,
    "threads": 2,
    "machine": {
        "cpu": "Some Processor",
        "usable_cores": 4,
        "memory_bytes": 8 * 2**30,
        "os": "Linux",
    },
    "versions": {"keras": "3.15"},
    "missing": {},
    **SURVEY,
    "tasks": [
        {
            "mode": "inference",
            "batch_size": 8,
            "image_size": 224,
            "contestants": [
                {
                    "name": name,
                    "runs_on": runs_on,
                    "is_ours": name.startswith("ours"),
                    "failure": None,
                    "images_per_second": speed,
                    "images_per_second_interval": [speed - 1, speed + 2],
                    "build_seconds": build,
                    "first_call_seconds": 3 * build,
                    "peak_bytes": peak,
                    "imported_bytes": 1e9,
                    "device_peak_bytes": None,
                    "gflops": 20.0,
                    "part_of_ceiling": 0.5,
                }
                for name, runs_on, speed, build, peak in (
                    ("ours/torch", "torch", 16.0, 0.5, 3e9),
                    ("ours/jax", "jax", 12.0, 1.5, 3e9),
                    ("timm/eager", "torch", 8.0, 2.0, 2e9),
                )
            ],
            "comparisons": [
                {
                    "ours": "ours/torch",
                    "theirs": "timm/eager",
                    "median": 2.0,
                    "interval": [1.5, 2.25],
                }
            ],
        }
    ],
}


def test_the_page_holds_the_figures():
    page = report.as_markdown(RESULTS)
    for line in (
        "# convnext_tiny, float32, 2 threads",
        "## inference, batch 8, 224 px",
        "| ours/torch | 16.0 (15.0–18.0) | 0.50 | 1.50 | 3000 | 2000 | 20 "
        "| 50% |",
        "| ours/torch | timm/eager | 2.00 (1.50–2.25) | 0.25 | 0.25 | 1.50 "
        "| 2.00 |",
    ):
        assert line in page.splitlines()
    for text in ("Some Processor, 2 of 4 cores, 8 GiB", "75.0%", "40 GFLOP/s"):
        assert text in page


def test_the_chart_has_a_bar_for_each_grouped_by_backend():
    (axes,) = report.chart(RESULTS).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["ours/torch", "timm/eager", "ours/jax"]
    assert [bar.get_width() for bar in axes.patches] == [16.0, 8.0, 12.0]
    colors = [bar.get_facecolor() for bar in axes.patches]
    assert colors[0] == colors[2] != colors[1]
    tops = [bar.get_y() for bar in axes.patches]
    assert tops[2] - tops[1] > tops[1] - tops[0]
    tasks = 2 * RESULTS["tasks"] + [{**RESULTS["tasks"][0], "contestants": []}]
    panels = report.chart({**RESULTS, "tasks": tasks}).axes
    assert [len(axes.patches) for axes in panels] == [3, 3, 0]


# What follows builds models.


def job(mode="inference", image_size=32, **options):
    variant = keras_convnext.VARIANTS["test_convnext"]
    return {
        "mode": mode,
        "batch_size": 2,
        "image_size": image_size,
        "model": "test_convnext",
        "their_model": "test_convnext",
        "variant": variant.__dict__,
        "dtype": "float32",
        "threads": 1,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        **options,
    }


@pytest.fixture(scope="module")
def in_torch():
    peers.import_timm()
    return importlib.import_module("race.in_torch")


@pytest.fixture(scope="module")
def in_runtimes():
    return importlib.import_module("race.in_runtimes")


def outputs(model, mode="inference"):
    """Of the first call, as the worker makes it."""
    known = job(mode)
    result = model.prepare(*worker.batch(known, model.takes_normalized))()
    worker.check(result, known)
    return result


@long_where_compiled
def test_ours_and_timm_do_the_same_work(in_torch):
    ours, theirs = in_keras.Ours(job()), in_torch.Timm(job())
    peers.randomize(theirs.model)
    peers.load_peer(ours.model, theirs.model, "timm")
    logits = torch.from_numpy(outputs(theirs))
    expected = torch.softmax(logits, 1).numpy()
    assert expected.std() > 1e-4
    np.testing.assert_allclose(outputs(ours), expected, atol=1e-5)


@pytest.mark.long
def test_optimized_ours_gives_the_same():
    keras.utils.set_random_seed(0)
    expected = outputs(in_keras.Ours(job()))
    keras.utils.set_random_seed(0)
    found = outputs(in_keras.OursOptimized(job()))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.long
def test_training_steps_begin_alike_and_move_every_weight(in_torch):
    ours = in_keras.Ours(job("training"))
    theirs = in_torch.Timm(job("training"))
    # Not the same memory, where JAX would leave the weights.
    source = peers.randomize(in_torch.Timm(job()).model)
    theirs.model.load_state_dict(source.state_dict())
    peers.load_peer(ours.model, source, "timm")
    weights = ours.model.trainable_weights
    before = [keras.ops.copy(x) for x in weights]
    parameters = [x.detach().clone() for x in theirs.model.parameters()]
    loss = outputs(theirs, "training")
    assert outputs(ours, "training") == pytest.approx(loss, rel=1e-4)
    ours.finish()
    for weight, old in zip(weights, before):
        assert keras.ops.any(weight != old), weight.path
    for weight, old in zip(theirs.model.parameters(), parameters):
        assert (weight != old).any()


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_what_is_timed(in_torch, dtype):
    ours = in_keras.Ours(job(dtype=dtype))
    computed = {layer.compute_dtype for layer in ours.model.layers}
    assert dtype.removeprefix("mixed_") in computed
    outputs(ours)
    theirs = in_torch.Timm(job(dtype=dtype))
    seen = []
    theirs.model.head.fc.register_forward_hook(
        lambda module, inputs, output: seen.append(str(output.dtype))
    )
    outputs(theirs)
    assert seen == [f"torch.{dtype.removeprefix('mixed_')}"]


@pytest.mark.long
@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="the files are the same"
)
def test_our_exported_files_give_what_was_exported(in_runtimes, tmp_path):
    for ending, runtime in (
        (".onnx", in_runtimes.OnnxRuntimeOurs),
        (".xml", in_runtimes.OpenvinoOurs),
    ):
        path = str(tmp_path / f"ours{ending}")
        keras.utils.set_random_seed(0)
        expected = outputs(in_keras.Ours(job()))
        keras.utils.set_random_seed(0)
        in_keras.write_ours(job(path=path))
        found = outputs(runtime(job(path=path)))
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.long
@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="no Keras takes part"
)
def test_timms_exported_files_give_what_was_exported(
    in_torch, in_runtimes, tmp_path
):
    pytest.importorskip("onnxscript")
    path = str(tmp_path / "timm.onnx")
    torch.manual_seed(0)
    expected = outputs(in_torch.Timm(job()))
    torch.manual_seed(0)
    in_torch.write_timm(job(path=path))
    for runtime in (in_runtimes.OnnxRuntimeTimm, in_runtimes.OpenvinoTimm):
        found = outputs(runtime(job(path=path)))
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.fixture
def run_race(run_main):
    """Runs the command as a shell would: `(status, stdout, stderr)`."""
    return functools.partial(run_main, command.main, "benchmarks/race")


@pytest.mark.long
def test_real_contestants_from_the_command_line(run_race, tmp_path):
    output, backend = tmp_path / "new" / "speed", keras.backend.backend()
    peers_too = ("--contestant", "timm/eager") if backend == "torch" else ()
    arguments = (
        *("--model", "test_convnext", "--mode", "inference"),
        *("--batch-size", 2, "--image-size", 32, "--pairs", 2),
        *("--contestant", f"ours/{backend}", "--output", output),
        *("--contestant", f"keras.applications/{backend}", *peers_too),
    )
    status, printed, errors = run_race(*arguments)
    assert status == 0, errors
    assert printed.startswith((output / "results.md").read_text())
    results = json.loads((output / "results.json").read_text())
    assert (output / "results.png").stat().st_size > 5000
    assert sorted(x.name for x in output.iterdir()) == sorted(report.FILES)
    assert results["command"].startswith("python benchmarks/race --model")
    model = keras_convnext.create_model(
        "test_convnext", weights=None, input_shape=(32, 32, 3)
    )
    assert results["macs"]["32"] == keras_convnext.profile(model).macs
    assert results["ceiling"]["gflops"] == max(results["ceiling"]["raw_gflops"])
    assert results["versions"]["keras"] == keras.__version__
    assert results["machine"]["usable_cores"] == len(os.sched_getaffinity(0))
    measured = [x for x in results["tasks"][0]["contestants"] if x["seconds"]]
    for record in measured:
        assert record["failure"] is None
        assert record["build_seconds"] > 0 < record["first_call_seconds"]
        assert record["images_per_second"] > 0 < record["part_of_ceiling"]
    failed = record_of(results, f"keras.applications/{backend}")
    assert failed["failure"] == "it has no test_convnext"
    pairs = results["tasks"][0]["comparisons"]
    met = [(x["ours"], x["theirs"]) for x in pairs]
    assert met == ([("ours/torch", "timm/eager")] if backend == "torch" else [])
    assert len(measured) == len(met) + 1

    # What is there stays.
    status, printed, errors = run_race(*arguments)
    assert (status, printed) == (2, "")
    assert "--force" in errors
    assert json.loads((output / "results.json").read_text()) == results


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--contestant", "tim/*"), "`contestant` must be the name of one"),
        (("--mode", "play"), "`mode` must be one of"),
        (("--model", "convnext_tinny"), "Did you mean convnext_tiny"),
        (("--dtype", "float8"), "`dtype` must be one of"),
        (("--image-size", "16"), "must have at least 32 pixels"),
        (("--threads", "4096"), "`threads` must be from 1 to"),
        (("--pairs", "0"), "'--pairs'"),
        (("--batch-size", "0"), "'--batch-size'"),
        (("--output", __file__), "The output must be a folder"),
    ],
)
def test_bad_options_start_nothing(
    run_race, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(starter, "started", None)
    status, printed, errors = run_race(*arguments)
    assert status == 2
    assert message in " ".join(errors.split())
    assert list(tmp_path.iterdir()) == []


def test_the_list_says_who_is_missing(run_race, monkeypatch):
    missing = Contestant("peer/x", "none.py:X", "torch", ("no_such",), "ours/a")
    monkeypatch.setitem(contestants.CONTESTANTS, "peer/x", missing)
    printed = run_race("--list")[1]
    assert all(name in printed for name in contestants.CONTESTANTS)
    assert "no_such" in printed
    rows = json.loads(run_race("--list", "--json", "--contestant", "peer/*")[1])
    assert [row["missing"] for row in rows] == [["no_such"]]


@pytest.mark.long
def test_the_folder_runs_from_anywhere_on_the_package_beside_it(tmp_path):
    """Whichever is installed; and it takes its own examples."""
    (tmp_path / "keras_convnext.py").write_text("raise SystemExit('another')")
    result = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "race", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    start = "Example: python benchmarks/race "
    _, *examples = command.benchmark.__doc__.split(start)
    assert result.stdout.count(start) == len(examples) == 2
    for example in examples:
        parsed(example)


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_passes_options_that_there_are():
    result = subprocess.run(
        ["make", "--dry-run", "benchmark"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = re.findall(r" benchmarks/race (.+)", result.stdout)
    speed = parsed(line)
    assert str(speed["output"]) == "benchmarks/speed" and speed["force"]


def parsed(options):
    """Of a line, as the shell would, without being run."""
    known = typer.main.get_command(command.app)
    return known.make_context("race", shlex.split(options)).params


def test_every_peer_has_its_own_of_ours():
    for peer in contestants.CONTESTANTS.values():
        if not peer.is_ours:
            ours = contestants.CONTESTANTS[peer.against]
            assert ours.is_ours and ours.runs_on == peer.runs_on
            assert set(peer.modes) <= set(ours.modes)
