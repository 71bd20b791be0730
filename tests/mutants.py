"""Breaks the package in known ways, one by one, and sees who notices.

Usage: python tests/mutants.py [options] [NAME ...]

Each entry of `tests/mutants.toml` is one small wrong change, and the tests
that claim what it breaks. They are run on a copy of the tree with that change
alone: a mutant that they pass has survived, and a test is missing. NAMEs are
patterns of the shell, such as 'grn_*'.

The status is 1 if a mutant survives that gives no reason, if its anchor is not
found exactly once, or if its tests do not pass without it.
"""

import argparse
import fnmatch
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from forked_pytest import Forks
from mutants_report import write_report

TESTS = Path(__file__).parent
KILLED, SURVIVED, BROKEN = "killed", "SURVIVED", "BROKEN"
# A mutant that takes so many times as long as none hangs.
PATIENCE, LEAST_SECONDS = 10, 60
LONGEST = 900
stopped = threading.Event()
running = []


def main():
    options = parsed(sys.argv[1:])
    mutants = chosen(options.names)
    groups = {}  # by what is run: its tests must pass without a mutant, too
    for mutant in mutants:
        key = mutant["backend"], tuple(mutant["tests"])
        groups.setdefault(key, []).append(mutant)
    waiting = iter(sorted(groups.items()))  # one for all workers
    results = {}
    begun = time.monotonic()
    # As Ctrl-C does, so that no process is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            jobs = [
                pool.submit(work, options.tree, waiting, results)
                for _ in range(options.jobs)
            ]
            for job in jobs:
                job.result()
        finally:
            stopped.set()
            for forks in running:
                forks.end()
            # Also of a run that is stopped.
            if options.report:
                write_report(options, table(), results)
            if options.json:
                text = json.dumps(results, indent=1)
                options.json.write_text(text + "\n")
    found = [x["result"] for x in results.values()]
    counts = ", ".join(f"{found.count(x)} {x}" for x in sorted({*found}))
    print(f"{counts} in {time.monotonic() - begun:.0f} s")
    excused = {x["name"] for x in mutants if "survives" in x}
    return any(
        x["result"] == BROKEN or (x["result"] == SURVIVED and n not in excused)
        for n, x in results.items()
    )


def parsed(words):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="patterns")
    parser.add_argument("--jobs", type=int, default=2, help="side by side")
    parser.add_argument(
        "--tree",
        type=Path,
        default=TESTS.parent,
        help="a checkout with the package and its tests; this one by default",
    )
    parser.add_argument("--json", type=Path, help="file for all results")
    parser.add_argument("--report", type=Path, help="Markdown to add them to")
    parser.add_argument("--column", help="of the report; the commit by default")
    return parser.parse_args(words)


def table():
    """All mutants, with their defaults."""
    entries = tomllib.loads((TESTS / "mutants.toml").read_text())["mutant"]
    return [{"backend": "torch", **entry} for entry in entries]


def chosen(patterns):
    found = [
        mutant
        for mutant in table()
        if any(fnmatch.fnmatch(mutant["name"], x) for x in patterns or "*")
    ]
    if not found:
        sys.exit(f"NAME must match a mutant. Received: {' '.join(patterns)}")
    return found


def work(tree, waiting, results):
    """Takes groups of mutants, on a copy of the tree of its own."""
    with tempfile.TemporaryDirectory(prefix="mutants_") as folder:
        copy = Path(folder).resolve() / "tree"
        copy_files(tree, copy)
        forks = None
        try:
            for (backend, tests), mutants in waiting:
                if stopped.is_set():
                    break
                if forks is None or forks.backend != backend:
                    if forks is not None:
                        forks.end()
                    forks = Forks(copy, backend)
                    running.append(forks)
                run_group(forks, tests, mutants, results)
        finally:
            if forks is not None:
                forks.end()


def run_group(forks, tests, mutants, results):
    """Mutants of the same tests, which must pass without any of them."""
    status, seconds, output = forks.run(tests, LONGEST)
    limit = max(PATIENCE * seconds, LEAST_SECONDS)
    for mutant in mutants:
        found = result(BROKEN, 0.0, f"fails without it\n{output}")
        if status == 0:
            found = judged(forks, mutant, limit)
        if stopped.is_set():
            return
        results[mutant["name"]] = found
        told = f"{found['result']:8} {found['seconds']:6.1f} s"
        print(told, mutant["name"], found["why"], flush=True)


def copy_files(tree, copy):
    command = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
    names = subprocess.run(command, cwd=tree, capture_output=True, check=True)
    for name in filter(None, names.stdout.decode().split("\0")):
        if (tree / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tree / name, copy / name)


def judged(forks, mutant, limit):
    """Whether the tests notice a mutant."""
    path = forks.folder / mutant["file"]
    text = path.read_text() if path.exists() else ""
    times = text.count(mutant["find"])
    if times != 1:
        why = f"its anchor is {times} times in {mutant['file']}, not once"
        return result(BROKEN, 0.0, why)
    write(path, text.replace(mutant["find"], mutant["replace"]))
    status, seconds, output = forks.run(mutant["tests"], limit)
    write(path, text)
    if status is None:
        return result(KILLED, seconds, "by timeout")
    if status not in (0, 1):  # none collected, for instance
        return result(BROKEN, seconds, f"status {status}\n{output}")
    return result(KILLED if status else SURVIVED, seconds)


def result(verdict, seconds, why=""):
    return {"result": verdict, "seconds": seconds, "why": why}


def write(path, text):
    """Without what was compiled before: its date may be of the same second."""
    path.write_text(text)
    compiled = Path(importlib.util.cache_from_source(path))
    compiled.unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
