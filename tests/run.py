"""Runs the tests on several backends, two processes side by side.

Usage: python tests/run.py [--long] [BACKEND ...] [-- PYTEST ARGUMENTS]

Keras fixes its backend at import, so each backend has processes of its own:
three, with every third file each, for both cores to end at the same time.
Pytest arguments are for one process of each backend. `--long` runs the long
proofs instead, and writes the rows of those that ran to `tests/LONG.md`, as
each process ends: what a run that is stopped had proved is not lost.
"""

import argparse
import datetime
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import as_completed
from pathlib import Path

BACKENDS = ("jax", "tensorflow", "torch")
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
    own, pytest_arguments = split(sys.argv[1:])
    arguments = parser.parse_args(own)
    unknown = set(arguments.backends) - set(BACKENDS)
    if unknown:
        parser.error(f"backends are {BACKENDS}. Received: {sorted(unknown)}")
    parts = [pytest_arguments] if pytest_arguments else thirds()
    selection = ["-m", "long"] if arguments.long else []
    # Now: the report itself makes the tree dirty.
    origin = f"{datetime.date.today()}, `{commit()}`"

    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            (name, [*selection, *part], Path(folder) / f"{name}_{number}.xml")
            for name in arguments.backends
            for number, part in enumerate(parts)
        ]
        statuses = []
        with ThreadPoolExecutor(max_workers=2) as pool:
            running = {pool.submit(run, *job): job for job in jobs}
            for ended in as_completed(running):
                statuses.append(ended.result())
                if arguments.long:
                    write_report(*running[ended], origin)
    # A process that a signal ended has a negative status.
    sys.exit(max(map(abs, statuses)))


def thirds():
    files = sorted(map(str, ROOT.glob("tests/test_*.py")))
    return [files[i::3] for i in range(3)]


def split(words):
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def run(backend, pytest_arguments, report):
    start = time.monotonic()
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--quiet",
            "--durations=5",
            f"--junitxml={report}",
            *pytest_arguments,
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # Two processes with a thread for every core each spend their
            # time waiting for one another.
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seconds = time.monotonic() - start
    print(
        f"===== {backend}: {seconds:.0f} s =====\n{result.stdout}", flush=True
    )
    return result.returncode


def write_report(backend, arguments, report, origin):
    """Renews the rows of the tests that ran, and leaves the others'."""
    if not report.exists():
        print(f"{backend}: pytest ended without a report", flush=True)
        return
    rows = rows_of(REPORT.read_text()) if REPORT.exists() else {}
    results = rows.setdefault(backend, {})
    gone = {file_of(name) for name in results}
    gone -= {path.stem for path in ROOT.glob("tests/test_*.py")}
    if "-k" not in arguments:  # all tests of these files
        gone |= {Path(x).stem for x in arguments if x.endswith(".py")}
    for name in [x for x in results if file_of(x) in gone]:
        del results[name]
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("skipped") is None:
            name = f"`{case.get('classname')[6:]}::{case.get('name')}`"
            results[name] = [*result_of(case), origin]
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
    return name[1:].split("::")[0]


def rows_of(text):
    """By backend, and by test: what the other columns hold."""
    rows = {}
    for section in text.split("\n## ")[1:]:
        backend, *lines = section.splitlines()
        cells = [x[2:-2].split(" | ") for x in lines if x.startswith("| `")]
        rows[backend] = {name: rest for name, *rest in cells}
    return rows


def result_of(case):
    failed = any(case.find(x) is not None for x in ("failure", "error"))
    measured = "; ".join(
        f"{item.get('name')} {item.get('value')}"
        for item in case.iter("property")
    )
    seconds = f"{float(case.get('time')):.1f}"
    return ["FAILED" if failed else "passed", measured, seconds]


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
