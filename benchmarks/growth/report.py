"""The points as a table and as a chart."""

from growth.points import BACKENDS
from growth.points import SWEEPS_OF
from growth.points import WAYS
from growth.points import sweep
from keras_convnext import visualize
from keras_convnext._util.writing import written_aside

TITLES = {
    "batch_size": "images in a batch",
    "image_size": "pixels a side",
    "model": "GMACs of the model",
}
COLORS = dict(zip(BACKENDS, ("tab:red", "tab:orange", "tab:blue")))
STYLES = dict(zip(WAYS, ("-", "--", ":")))
PER = {"time": "a multiply-add", "memory": "a further pixel"}
# From here on cost is called rising.
RISING = 1.1
HEAD = """\
# How cost grows

Written by `python benchmarks/growth`: ConvNeXt in float32, each point in a \
process of its own. A cell has the cost of one image, and in brackets its \
ratio to the first row of the group. Time is a median of calls after warming \
up, in milliseconds. Memory is the peak of the process beyond its imports, \
divided by the images of a batch, in MB. Weights and the first call's \
compilation are in it. MACs are those of one image, by the first row's.
"""


def write(results, folder):
    """Writes `results.md` and `results.png`."""
    done = {key: x for key, x in results.items() if not x["failure"]}
    if not done:
        return
    with written_aside(folder / "results.md") as unfinished:
        unfinished.write_text(as_markdown(results), encoding="utf-8")
    visualize.written_figure(chart(done), folder / "results.png")


def as_markdown(results):
    done = {key: x for key, x in results.items() if not x["failure"]}
    lines = [HEAD, _conditions(done)]
    for way, names in SWEEPS_OF.items():
        lines += ["", f"## {way.capitalize()}", ""]
        lines.append(f"| {' | '.join(['', 'MACs', *_heads()])} |")
        lines.append("| --- |" + " ---: |" * (1 + 2 * len(BACKENDS)))
        for name in names:
            lines += _group(done, way, name)
    lines += ["", "## Where it rises", "", *_told(rises(done))]
    lines += [
        f"- {key}: not measured, {x['failure']}"
        for key, x in results.items()
        if x["failure"]
    ]
    return "\n".join(lines) + "\n"


def _conditions(done):
    rows = list(done.values())
    dates = sorted({x["date"] for x in rows})
    processors = sorted(
        {f"{x['cores']} cores of {x['processor']}" for x in rows}
    )
    named = dict(x for row in rows for x in row["versions"].items())
    versions = ", ".join(
        f"{name} {named[name]}"
        for name in ("keras", *BACKENDS)
        if name in named
    )
    days = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return f"Measured on {days} on {' and '.join(processors)}; {versions}."


def _heads():
    return [f"{x}, {unit}" for x in BACKENDS for unit in ("ms", "MB")]


def _group(done, way, name):
    """Rows of one sweep, with a cell for each backend and cost."""
    columns = [
        [done.get(str(point)) for point in sweep(backend, way, name)]
        for backend in BACKENDS
    ]
    for number, point in enumerate(sweep(BACKENDS[0], way, name)):
        rows = [column[number] for column in columns]
        first, here = _first_with_both(columns, number)
        if here is None:
            continue
        cells = [_label(point, name), f"{here['macs'] / first['macs']:.3g}"]
        for column, row in zip(columns, rows):
            for cost in (milliseconds, megabytes):
                cells.append(_cell(column[0], row, cost))
        yield f"| {' | '.join(cells)} |"


def _first_with_both(columns, number):
    """The first and this row of one backend: all have the same MACs."""
    for column in columns:
        if column[0] and column[number]:
            return column[0], column[number]
    return None, None


def _label(point, name):
    return {
        "batch_size": f"batch {point.batch_size}",
        "image_size": f"{point.image_size} px",
        "model": point.model,
    }[name] + f" ({_rest(point, name)})"


def _rest(point, name):
    """What the sweep does not change."""
    parts = {
        "model": point.model.removeprefix("convnext_").capitalize(),
        "image_size": f"{point.image_size} px",
        "batch_size": f"batch {point.batch_size}",
    }
    return ", ".join(text for key, text in parts.items() if key != name)


def _cell(first, row, cost):
    if row is None:
        return "–"
    ratio = f" ({cost(row) / cost(first):.2f})" if first else ""
    value = cost(row)
    return f"{value:{'.0f' if value >= 100 else '.3g'}}{ratio}"


def milliseconds(row):
    """Of one image."""
    return 1e3 * row["seconds"] / row["batch_size"]


def megabytes(row):
    """Of one image."""
    return row["bytes"] / row["batch_size"] / 1e6


def rises(done):
    """Where cost grows faster than work: `(point, which, times)`.

    Time for one multiply-add is compared with the least of the points before
    it in the sweep. Memory is compared by what each further image or pixel
    takes, with the first step of the sweep; models have other weights, and
    are not compared.
    """
    for backend in BACKENDS:
        for way, names in SWEEPS_OF.items():
            for name in names:
                rows = [
                    (str(point), done[str(point)])
                    for point in sweep(backend, way, name)
                    if str(point) in done
                ]
                yield from _rises_in_time(rows)
                if name != "model":
                    yield from _rises_in_memory(rows)


def _rises_in_time(rows):
    least = None
    for key, row in rows:
        cost = milliseconds(row) / row["macs"]
        if least and cost > RISING * least:
            yield key, "time", cost / least
        least = min(cost, least or cost)


def _rises_in_memory(rows):
    first = None
    for (_, before), (key, row) in zip(rows, rows[1:]):
        work = _pixels(row) - _pixels(before)
        cost = (row["bytes"] - before["bytes"]) / work
        if first and cost > RISING * first:
            yield key, "memory", cost / first
        first = first or max(cost, 0)


def _pixels(row):
    return row["batch_size"] * row["image_size"] ** 2


def _told(found):
    told = [
        f"- {key}: {kind} of {PER[kind]} is {times:.2f} times that of earlier "
        "points"
        for key, kind, times in found
    ]
    return told or ["Nowhere by more than a tenth."]


def chart(done, figure=None):
    """Draws both costs of all sweeps, a line for each backend and way."""
    figure = figure or visualize.new_figure(figsize=(13, 8))
    panels = figure.subplots(2, len(TITLES), squeeze=False)
    for column, (name, title) in enumerate(TITLES.items()):
        for axes, (cost, unit) in zip(
            panels[:, column],
            (
                (milliseconds, "ms an image"),
                (total, "MB of a process"),
            ),
        ):
            _lines(axes, done, name, cost)
            axes.set(xlabel=title, ylabel=unit)
            axes.grid(alpha=0.3, which="both")
    handles = {x.get_label(): x for axes in panels.flat for x in axes.lines}
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=3
    )
    return figure


def total(row):
    """Megabytes of the whole batch."""
    return row["bytes"] / 1e6


def _lines(axes, done, name, cost):
    ticks = set()
    for backend, color in COLORS.items():
        for way, style in STYLES.items():
            points = sweep(backend, way, name) if name in SWEEPS_OF[way] else []
            rows = [done[x] for x in map(str, points) if x in done]
            if not rows:
                continue
            at = [x["macs"] / 1e9 if name == "model" else x[name] for x in rows]
            values = [cost(row) for row in rows]
            label = f"{backend}, {way}"
            axes.loglog(at, values, style, color=color, marker=".", label=label)
            ticks.update(at)
    shown = []
    for tick in sorted(ticks):
        # Those of two close models would be written over one another.
        if not shown or tick > 1.2 * shown[-1]:
            shown.append(tick)
    if shown:
        axes.set_xticks(shown, [f"{x:.3g}" for x in shown])
        axes.tick_params(axis="x", which="minor", labelbottom=False)
