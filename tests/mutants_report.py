"""What became of mutants, as a table with a column for each run."""

import datetime
import re
import subprocess

TITLES = ("mutant", "file", "change")
HEAD = (
    "# Mutants",
    "",
    "Written by `make mutants`: small wrong changes to the package, and "
    "whether the tests that claim what they break notice. Seconds are those "
    "of the mutant's tests, with the import of the package.",
    "",
)


def write_report(options, mutants, results):
    """Adds a column to the file, or fills it in; others stay."""
    columns, known = read(options.report)
    column = (
        f"{options.column or commit(options.tree)}, {datetime.date.today()}"
    )
    if column not in columns:
        columns.append(column)
    rows = []
    for mutant in mutants:
        name = f"`{mutant['name']}`"
        cells = known.get(name, {})
        if found := results.get(mutant["name"]):
            why = found["why"].partition("\n")[0].replace("|", "/")
            verdict = f"{found['result']} {why}".strip()
            cells[column] = f"{verdict}, {found['seconds']:.1f} s"
        file = mutant["file"].removeprefix("keras_convnext/")
        shown = [cells.get(x, "–") for x in columns]
        rows.append([name, file, change(mutant), *shown])
    lines = [*HEAD]
    for number, title in enumerate(columns, start=len(TITLES)):
        verdicts = [re.match(r"\w+|–", row[number])[0] for row in rows]
        counts = [(verdicts.count(x), x) for x in sorted({*verdicts} - {"–"})]
        text = ", ".join(f"{count} {verdict}" for count, verdict in counts)
        lines.append(f"- {title}: {text}")
    rows = [[*TITLES, *columns], ["---"] * (len(TITLES) + len(columns)), *rows]
    lines += ["", *(f"| {' | '.join(row)} |" for row in rows)]
    options.report.write_text("\n".join(lines) + "\n")
    print(f"wrote {options.report}")


def read(path):
    """The columns there are, and by mutant what they hold."""
    if not path.exists():
        return [], {}
    lines = [x for x in path.read_text().splitlines() if x.startswith("| ")]
    titles, _, *rows = (x[2:-2].split(" | ") for x in lines)
    columns = titles[len(TITLES) :]
    return columns, {
        row[0]: dict(zip(columns, row[len(TITLES) :])) for row in rows
    }


def commit(tree):
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    return found.stdout.strip()


def change(mutant):
    """What differs, on one line."""
    texts = (" ".join(mutant[x].split()) for x in ("find", "replace"))
    old, new = (x.replace("|", "\\|").replace("`", "'") for x in texts)
    return f"`{old}` → `{new}`"
