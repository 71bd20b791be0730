"""Runs the tests on several backends, two processes side by side.

Usage: python tests/run.py [--long] [BACKEND ...] [-- PYTEST ARGUMENTS]

Keras fixes its backend at import, so each backend has processes of its own:
three, with every third file each, for both cores to end at the same time.
Pytest arguments are for one process of each backend. `--long` runs the long
proofs instead, and writes their tables to `tests/LONG.md`: those of the
backends that run, each with date and commit.
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
from pathlib import Path

BACKENDS = ("jax", "tensorflow", "torch")
ROOT = Path(__file__).parent.parent
REPORT = ROOT / "tests" / "LONG.md"
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

    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            (name, [*selection, *part], Path(folder) / f"{name}_{number}.xml")
            for name in arguments.backends
            for number, part in enumerate(parts)
        ]
        with ThreadPoolExecutor(max_workers=2) as pool:
            statuses = list(pool.map(lambda job: run(*job), jobs))
        if arguments.long:
            write_report(jobs)
    sys.exit(max(statuses))


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


def write_report(jobs):
    """Renews the parts of the backends that ran, and leaves the others'."""
    parts = parts_of(REPORT.read_text()) if REPORT.exists() else {}
    for backend in dict.fromkeys(backend for backend, *_ in jobs):
        reports = [report for name, _, report in jobs if name == backend]
        parts[backend] = part(reports)
    lines = ["# Long proofs", "", "Written by `make test-long`, on CPU.", ""]
    for backend, text in sorted(parts.items()):
        lines += [f"## {backend}", "", text, ""]
    REPORT.write_text("\n".join(lines))
    print(f"wrote {REPORT}")


def parts_of(text):
    """A dict from backends to the texts below their headings."""
    found = (part.partition("\n") for part in text.split("\n## ")[1:])
    return {backend: rest.strip() for backend, _, rest in found}


def part(reports):
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout.strip()
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in PACKAGES
    )
    lines = [
        f"{datetime.date.today()} at commit `{commit}`, with {versions}.",
        "",
        "| test | result | measured | seconds |",
        "| --- | --- | --- | ---: |",
    ]
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            if case.find("skipped") is not None:
                continue
            failed = case.find("failure") is not None
            failed = failed or case.find("error") is not None
            measured = "; ".join(
                f"{item.get('name')} {item.get('value')}"
                for item in case.iter("property")
            )
            lines.append(
                f"| `{case.get('name')}` | "
                f"{'FAILED' if failed else 'passed'} | {measured} | "
                f"{float(case.get('time')):.1f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
