"""All measurements on a GPU: the commands exist, and time ends them."""

import shlex
import sys
import time

import gpu
import pytest
import race
from race import contestants
from test_benchmark import parsed

pytestmark = pytest.mark.once


def test_what_it_runs_exists(tmp_path):
    steps = {x.name: [*map(str, x.words)] for x in gpu.steps(tmp_path)}
    assert len(steps) == 3 + 3 * 2 + 3
    for name, (first, *words) in steps.items():
        if name.startswith("two_steps"):
            compile(*words, name, "exec")
        elif name.startswith("depthwise"):
            assert first.endswith("depthwise.py")
        else:
            options = parsed(shlex.join(words))
            assert options["model"] in name and options["force"]
            assert options["dtype"] == "mixed_bfloat16"
            chosen = {x.name for x in race.select(options["contestants"])}
            assert {"ours/torch", "timm/compiled"} <= chosen
    sizes = parsed(shlex.join(steps["convnext_base_inference"][1:]))
    assert list(sizes["batch_sizes"]) == [1, 64, 256]
    assert {x.against for x in contestants.CONTESTANTS.values()} > {None}


def test_each_step_is_told_and_time_ends_them(tmp_path, monkeypatch, capsys):
    slow = "import time; print('begun', flush=True); time.sleep(600)"
    codes = {"good": "print('a|b')", "bad": "exit(3)", "slow": slow, "late": ""}
    found = [gpu.Step(x, ("-c", code)) for x, code in codes.items()]
    monkeypatch.setattr(gpu, "steps", lambda output: found)
    options = ["--minutes", "0.05", "--output", str(tmp_path / "gpu")]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *options])
    start = time.monotonic()
    assert gpu.main() == 1
    assert time.monotonic() - start < 60
    text = (tmp_path / "gpu" / "summary.md").read_text()
    rows = [x[2:-2].split(" | ") for x in text.splitlines() if "`" in x]
    assert [(x[0], x[1], x[3]) for x in rows] == [
        ("`good`", "passed", "a/b"),
        ("`bad`", "FAILED", ""),
        ("`slow`", "stopped", "begun"),
        ("`late`", "no time left", ""),
    ]
    assert "stopped" in capsys.readouterr().out
