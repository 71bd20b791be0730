"""Runs the tests that a change can reach, the nearest first, for 65 seconds.

Usage: python tests/check.py [BACKEND] [--since REVISION] [--list]

A test file reaches what it imports, and what that imports, to the end. Names
that a package's `__init__.py` takes from its modules lead to these modules
alone. Fewer imports between a test and a change are nearer. What has not begun
after 65 seconds is skipped and counted: `make test` runs all.
"""

import argparse
import ast
import functools
import os
import subprocess
import sys
from pathlib import Path

from run import BACKENDS
from run import ROOT
from run import variables_of

PACKAGE = "keras_convnext"
# Folders on the path of imports.
ON_PATH = ("tests", "conversion", "benchmarks", "notebooks")
SECONDS = 65
# What every test stands on.
EVERYTHING = ("pyproject.toml", "constraints.txt", "tests/conftest.py")
EVERYTHING += ("tests/environment.py",)
# Files that tests read, by the beginning of their path.
READ_BY = {
    "README.md": ("test_docs", "test_prose"),
    "docs/": ("test_docs", "test_prose"),
    "notebooks/": ("test_notebooks",),
    "conversion/": ("test_conversion_tools",),
    "Makefile": ("test_benchmark", "test_packaging"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backend", nargs="?", default="torch", choices=BACKENDS)
    parser.add_argument("--since", default="origin/main", metavar="REVISION")
    parser.add_argument("--list", action="store_true", help="run nothing")
    parser.add_argument("--files", nargs="+", help="instead of what git tells")
    arguments = parser.parse_args()
    changed = arguments.files or changed_since(arguments.since)
    tests = reached(changed)
    print(
        f"{len(changed)} changed files reach {len(tests)} test files:", *tests
    )
    if tests and not arguments.list:
        sys.exit(run(arguments.backend, tests))


def run(backend, tests):
    command = [sys.executable, "-m", "pytest", "--quiet", *tests]
    command += [f"--numprocesses={os.cpu_count()}", f"--seconds={SECONDS}"]
    # One test at a time, in the order given.
    command += ["--dist=load", "--maxschedchunk=1", "-r", "fE"]
    environment = variables_of(backend)
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


def changed_since(revision):
    """Paths that differ from a revision, and new ones."""
    if not git("rev-parse", "--quiet", "--verify", revision):
        sys.exit(
            f"`--since` must be a revision that git knows: try --since HEAD~1. "
            f"Received: --since {revision}"
        )
    new = git("ls-files", "--others", "--exclude-standard")
    return sorted({*git("diff", "--name-only", revision), *new})


def git(*words):
    result = subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True
    )
    return result.stdout.splitlines()


def reached(changed):
    """Test files, relative to the project."""
    if set(changed) & set(EVERYTHING):
        return ["tests"]
    modules = {x for path in changed for x in modules_of(path)}
    nearest = {}
    for test in sorted((ROOT / "tests").rglob("test_*.py")):
        found = distances(module_name(test))
        far = [found[x] for x in modules if x in found]
        reads = [p for p, names in READ_BY.items() if test.stem in names]
        if any(path.startswith(tuple(reads)) for path in changed):
            far.append(0)
        if far:
            nearest[str(test.relative_to(ROOT))] = min(far)
    rooms = {Path(path).parts[1:2] for path in changed}
    return sorted(
        nearest, key=lambda x: (nearest[x], Path(x).parts[1:2] not in rooms)
    )


def modules_of(path):
    """The modules of a changed path: data belong to all of their folder."""
    path = ROOT / path
    if path.suffix == ".py":
        return [module_name(path)]
    if PACKAGE not in path.parts:
        return []
    return [module_name(x) for x in path.parent.glob("*.py")]


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] in ON_PATH:
        parts = parts[1:]
    return ".".join(parts).removesuffix(".__init__")


@functools.cache
def sources():
    files = [
        path
        for folder in (PACKAGE, *ON_PATH)
        for path in (ROOT / folder).rglob("*.py")
    ]
    return {module_name(path): path for path in files}


@functools.cache
def imports(module):
    """What a module imports: `(module, name)`, a name of `None` for all."""
    found = []
    for node in ast.walk(ast.parse(sources()[module].read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.module, alias.name) for alias in node.names]
    return found


def target(module, name):
    """The module that an imported name comes from, or `None`."""
    if f"{module}.{name}" in sources():
        return f"{module}.{name}"
    if module in sources() and sources()[module].stem == "__init__":
        for origin, exported in imports(module):
            if exported == name and origin != module:
                return target(origin, name)
    return module if module in sources() else None


def distances(module):
    """How many imports lie between a module and each that it reaches."""
    found, ring, distance = {}, {module}, 0
    while ring:
        found |= dict.fromkeys(ring, distance)
        reached = {target(*x) for each in ring for x in imports(each)}
        # What all tests share says nothing of a single one.
        ring = reached - found.keys() - {None, "conftest"}
        distance += 1
    return found


if __name__ == "__main__":
    main()
