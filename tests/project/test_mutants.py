"""The table of mutants fits the package, so that all of them can be run."""

from collections import Counter
from pathlib import Path

import mutants
import pytest

pytestmark = pytest.mark.once
ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "keras_convnext"
# Nothing in them computes or decides.
EMPTY = {"__init__", "__main__", "_api", "typing", "version"}
TABLE = mutants.table()


def test_every_anchor_is_in_its_file_once():
    texts = {x["file"]: (ROOT / x["file"]).read_text() for x in TABLE}
    found = {x["name"]: texts[x["file"]].count(x["find"]) for x in TABLE}
    assert {name: n for name, n in found.items() if n != 1} == {}
    assert all(x["find"] != x["replace"] for x in TABLE)


def test_names_are_unique_and_tests_exist():
    counts = Counter(x["name"] for x in TABLE)
    assert [name for name, count in counts.items() if count > 1] == []
    claims = {y for x in TABLE for y in x["tests"] if y.startswith("tests/")}
    for claim in claims:
        file, _, test = claim.partition("::")
        name = test.partition("[")[0]
        assert f"def {name}" in (ROOT / file).read_text(), claim


def test_every_room_of_the_package_has_a_mutant():
    rooms = {x.stem for x in PACKAGE.iterdir() if x.suffix == ".py"}
    rooms |= {x.parent.name for x in PACKAGE.glob("*/*.py")}
    mutated = {Path(x["file"]).parts[1].removesuffix(".py") for x in TABLE}
    assert rooms - EMPTY - mutated == set()


def test_a_report_keeps_the_columns_of_other_runs(tmp_path):
    table = [{"name": "a", "file": "f.py", "find": "x | y", "replace": "x"}]
    options = mutants.parsed(["--report", str(tmp_path / "report.md")])
    for column, verdict in (("before", "SURVIVED"), ("after", "killed")):
        options.column = column
        found = {"a": mutants.result(verdict, 1.0)}
        mutants.write_report(options, table, found)
    *_, row = options.report.read_text().splitlines()
    name, file, change, before, after = row[2:-2].split(" | ")
    assert (name, file, change) == ("`a`", "f.py", "`x \\| y` → `x`")
    assert (before, after) == ("SURVIVED, 1.0 s", "killed, 1.0 s")
