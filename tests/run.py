"""Runs the tests on several backends, one after the other, on all cores.

Usage: python tests/run.py [--long] [BACKEND ...] [-- PYTEST ARGUMENTS]

Keras fixes its backend at import, so each backend has processes of its own: as
many as there are cores, which take tests from one another as they end. Tests
marked `once` run on the first of the backends only. `--long` runs the long
proofs instead, and writes their rows to `tests/LONG.md` as each backend ends,
also by Ctrl-C; proofs that passed on this very commit are not run again.
"""

import argparse
import collections
import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The first has the tests marked `once`: it compiles nothing.
BACKENDS = ("torch", "tensorflow", "jax")
ROOT = Path(__file__).parent.parent
REPORT = ROOT / "tests" / "LONG.md"
HEAD = (
    "| test | result | measured | seconds | run |",
    "| --- | --- | --- | ---: | --- |",
)
PACKAGES = ("keras", "jax", "tensorflow-cpu", "torch", "timm", "transformers")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backends", nargs="*", default=BACKENDS)
    parser.add_argument("--long", action="store_true")
    options, pytest_arguments = split(sys.argv[1:])
    arguments = parser.parse_args(options)
    unknown = set(arguments.backends) - set(BACKENDS)
    if unknown:
        parser.error(f"backends are {BACKENDS}. Received: {sorted(unknown)}")
    # In the order above, whatever the order on the command line.
    backends = [name for name in BACKENDS if name in arguments.backends]
    # Now: the report itself makes the tree dirty.
    origin = f"{datetime.date.today()}, `{commit()}`"

    statuses, seconds = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for backend in backends:
            report = Path(folder) / f"{backend}.jsonl"
            report.touch()
            words = [f"--report-lines={report}", *pytest_arguments]
            if backend != backends[0]:
                words.append("--skip-once")
            if arguments.long:
                words += ["--long", *passed_now(backend, origin)]
            start = time.monotonic()
            try:
                statuses[backend] = run(backend, words)
            finally:
                seconds[backend] = time.monotonic() - start
                cases = list(map(json.loads, report.open()))
                if arguments.long:
                    write_report(backend, cases, origin)
            print_files(backend, cases)
    print_summary(statuses, seconds)
    # A process that a signal ended has a negative status.
    sys.exit(max(map(abs, statuses.values())))


def split(words):
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def run(backend, words):
    print(f"===== {backend} =====", flush=True)
    command = [sys.executable, "-m", "pytest", "--quiet", "--durations=10"]
    command += ["--numprocesses", str(os.cpu_count()), "--dist", "worksteal"]
    command += words
    environment = variables_of(backend)
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


def variables_of(backend):
    return {
        **os.environ,
        "KERAS_BACKEND": backend,
        # Processes with a thread for every core each spend their time waiting
        # for one another.
        "OMP_NUM_THREADS": "1",
    }


def print_files(backend, cases):
    """The files that took most, in seconds of all processes."""
    seconds = collections.Counter()
    for case in cases:
        seconds[file_of(case["name"])] += case["seconds"]
    print(f"{backend}: {seconds.total():.0f} s in tests, by file:")
    for name, value in seconds.most_common():
        if value >= 1:
            print(f"  {value:6.1f} {name}")


def print_summary(statuses, seconds):
    for backend, status in statuses.items():
        result = "passed" if status == 0 else f"FAILED with status {status}"
        print(f"{backend:10} {result} in {seconds[backend]:.0f} s")
    total = sum(seconds.values())
    print(f"all        {total:.0f} s ({total / 60:.1f} minutes)", flush=True)


def passed_now(backend, origin):
    """Options that leave out proofs that passed on this very commit."""
    if origin.endswith("-dirty`") or not REPORT.exists():
        return []
    results = rows_of(REPORT.read_text()).get(backend, {})
    done = [
        name.strip("`")
        for name, (result, *_, when) in results.items()
        if result == "passed" and when == origin
    ]
    return [f"--deselect={nodeid_of(name)}" for name in done]


def nodeid_of(name):
    """What pytest calls the test of a row."""
    file, _, test = name.partition("::")
    (path,) = ROOT.glob(f"tests/*/{file}.py")
    return f"{path.relative_to(ROOT)}::{test}"


def write_report(backend, cases, origin):
    """Renews the rows of the tests that ran, and leaves the others'."""
    rows = rows_of(REPORT.read_text()) if REPORT.exists() else {}
    results = rows.setdefault(backend, {})
    gone = {file_of(name) for name in results}
    gone -= {path.stem for path in ROOT.glob("tests/*/test_*.py")}
    for name in [x for x in results if file_of(x) in gone]:
        del results[name]
    for case in cases:
        if case["result"] != "skipped":
            measured = "; ".join(f"{k} {v}" for k, v in case["measured"])
            cells = [case["result"], measured, f"{case['seconds']:.1f}"]
            results[f"`{case['name']}`"] = [*cells, origin]
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in PACKAGES
    )
    lines = [
        "# Long proofs",
        "",
        f"Written by `make test-long`, on CPU, at last with {versions}. Parts "
        "can be run anew: each row has its date and commit.",
    ]
    for backend, results in sorted(rows.items()):
        lines += ["", f"## {backend}", "", *HEAD]
        lines += [as_row([name, *x]) for name, x in sorted(results.items())]
    REPORT.write_text("\n".join(lines) + "\n")
    print(f"wrote {REPORT}", flush=True)


def file_of(name):
    return name.strip("`").split("::")[0]


def rows_of(text):
    """By backend, and by test: what the other columns hold."""
    rows = {}
    for section in text.split("\n## ")[1:]:
        backend, *lines = section.splitlines()
        cells = [x[2:-2].split(" | ") for x in lines if x.startswith("| `")]
        rows[backend] = {name: rest for name, *rest in cells}
    return rows


def as_row(cells):
    return f"| {' | '.join(cells)} |"


def commit():
    return subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout.strip()


if __name__ == "__main__":
    main()
