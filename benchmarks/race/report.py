"""Results as JSON, as Markdown and as a chart."""

import json
import math
from pathlib import Path

from keras_convnext import visualize
from keras_convnext._util.writing import written_aside

FILES = ("results.json", "results.md", "results.png")
OURS, OTHERS = "tab:blue", "lightgrey"
COLUMNS = 2
# Of a bar, between groups.
GAP = 0.7


def folder(output, overwrite):
    """The path of the folder, which is there and may be written to.

    Raises:
        ValueError: if it is a file, or holds results.
        ImportError: without matplotlib: said before the work, not after it.
    """
    visualize.new_figure()
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise ValueError(
            f"The output must be a folder. Received: {str(output)!r}"
        )
    if not overwrite and any((output / name).exists() for name in FILES):
        raise ValueError(
            "The folder holds results: choose another one, or pass "
            "`overwrite=True` (`--force`) to replace them. Received: "
            f"{str(output)!r}"
        )
    output.mkdir(parents=True, exist_ok=True)
    return output


def write(results, output):
    """Writes all three files, each whole."""
    texts = {
        "results.json": json.dumps(results, indent=1) + "\n",
        "results.md": as_markdown(results),
    }
    for name, text in texts.items():
        with written_aside(output / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    visualize.written_figure(chart(results), output / "results.png")


def as_markdown(results):
    """Results as tables: figures of each, and ours beside each other."""
    return "\n".join(
        [
            f"# {results['model']}, {results['dtype']}, "
            f"{results['threads']} threads",
            "",
            *_conditions(results),
            *(line for task in results["tasks"] for line in _task(task)),
            *_left_out(results),
            "",
        ]
    )


def chart(results, figure=None):
    """Draws images per second as bars, grouped by what they run on.

    Args:
        results: of `race.run`.
        figure: matplotlib figure to draw into; a new one if `None`.

    Returns:
        The figure: one panel for each task, ours in blue; a whisker is the
        interval of the median.
    """
    tasks = results["tasks"]
    height = max(_places(_measured(task))[-1] for task in tasks)
    columns = min(len(tasks), COLUMNS)
    rows = math.ceil(len(tasks) / columns)
    figure = figure or visualize.new_figure(
        figsize=(1 + 4.5 * columns, 0.5 + (1.2 + 0.27 * height) * rows)
    )
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, task in zip(panels, tasks):
        _bars(axes, _measured(task))
        axes.set_ylim(height, -1)
        axes.set_title(_title(task), fontsize="medium")
        axes.set_xlabel("images/s")
    for axes in panels[len(tasks) :]:
        axes.remove()
    machine = results["machine"]["cpu"]
    if results["ceiling"]["device"] != "CPU":
        machine = results["ceiling"]["device"]
    figure.suptitle(
        f"{results['model']}, {results['dtype']}, {machine}, "
        f"{results['threads']} threads",
        fontsize="medium",
    )
    return figure


def _places(records):
    """Where the bars are, from the top, with a gap between the groups, and
    where they end."""
    place, places, previous = 0.0, [], None
    for record in records:
        if previous not in (None, record["runs_on"]):
            place += GAP
        places.append(place)
        place, previous = place + 1, record["runs_on"]
    return [*places, place]


def _bars(axes, records):
    *places, _ = _places(records)
    speeds = [x["images_per_second"] for x in records]
    ends = [x["images_per_second_interval"] for x in records]
    axes.barh(
        places,
        speeds,
        xerr=[
            [speed - low for speed, (low, _) in zip(speeds, ends)],
            [high - speed for speed, (_, high) in zip(speeds, ends)],
        ],
        color=[OURS if x["is_ours"] else OTHERS for x in records],
        capsize=2,
    )
    for y, speed, (_, high) in zip(places, speeds, ends):
        axes.text(high, y, f" {speed:.1f}", va="center", fontsize="small")
    axes.set_yticks(places, [x["name"] for x in records], fontsize="small")
    axes.margins(x=0.15)


def _measured(task):
    """Records with a figure, by what they run on, ours first in each."""
    records = [x for x in task["contestants"] if "images_per_second" in x]
    order = list(dict.fromkeys(x["runs_on"] for x in records))
    return sorted(
        records, key=lambda x: (order.index(x["runs_on"]), not x["is_ours"])
    )


def _conditions(results):
    machine, ceiling = results["machine"], results["ceiling"]
    memory = machine["memory_bytes"]
    versions = ", ".join(f"{k} {v}" for k, v in results["versions"].items())
    device = ceiling["device"]
    yield (
        f"`{results['command']}`, {results['date']}, {machine['cpu']}, "
        f"{results['threads']} of {machine['usable_cores']} cores"
        + (f", {memory / 2**30:.0f} GiB" if memory else "")
        + (f", {device}" if device != "CPU" else "")
        + f", {machine['os']}."
    )
    yield ""
    yield f"{versions}."
    yield ""
    yield (
        f"A product of two large matrices reaches {ceiling['gflops']:.0f} "
        f"GFLOP/s ({ceiling['backend']}). Figures are medians of "
        f"{results['pairs']} or more runs, with an interval that holds the "
        f"median with a probability of {_coverage(results)}."
    )


def _coverage(results):
    from race import ratios

    return f"{ratios.interval(range(results['pairs']))[2]:.1%}"


def _task(task):
    yield ""
    yield f"## {_title(task)}"
    yield ""
    yield (
        "| | images/s | build, s | first call, s | peak memory, MB "
        "| beyond imports | GFLOP/s | of the ceiling |"
    )
    yield "| --- |" + " ---: |" * 7
    for record in _measured(task):
        cells = (
            _with_interval(
                record["images_per_second"],
                record["images_per_second_interval"],
                ".1f",
            ),
            f"{record['build_seconds']:.2f}",
            f"{record['first_call_seconds']:.2f}",
            f"{_peak(record) / 1e6:.0f}",
            f"{_beyond_imports(record) / 1e6:.0f}",
            _shown(record.get("gflops"), ".0f"),
            _shown(record.get("part_of_ceiling"), ".0%"),
        )
        yield f"| {record['name']} | {' | '.join(cells)} |"
    yield from _comparisons(task)
    failed = [x for x in task["contestants"] if x["failure"]]
    if failed:
        yield ""
    for record in failed:
        yield f"- {record['name']}: {record['failure']}"


def _comparisons(task):
    if not task["comparisons"]:
        return
    records = {x["name"]: x for x in task["contestants"]}
    yield ""
    yield (
        "| ours | other | times as fast, pair by pair | build, ours / other "
        "| first call | peak memory | beyond imports |"
    )
    yield "| --- | --- |" + " ---: |" * 5
    for found in task["comparisons"]:
        own, other = records[found["ours"]], records[found["theirs"]]
        cells = (
            _with_interval(found["median"], found["interval"], ".2f"),
            *(
                f"{own[key] / other[key]:.2f}"
                for key in ("build_seconds", "first_call_seconds")
            ),
            *(
                f"{bytes_of(own) / bytes_of(other):.2f}"
                for bytes_of in (_peak, _beyond_imports)
            ),
        )
        yield (f"| {found['ours']} | {found['theirs']} | {' | '.join(cells)} |")


def _left_out(results):
    if not results["missing"]:
        return
    yield ""
    yield "Not installed:"
    yield ""
    for name, modules in results["missing"].items():
        yield f"- {name}, which takes {', '.join(modules)}"


def _peak(record):
    """Bytes, on the accelerator where there is one."""
    return record["device_peak_bytes"] or record["peak_bytes"]


def _beyond_imports(record):
    """The same without what the libraries take before they do anything."""
    if record["device_peak_bytes"]:
        return record["device_peak_bytes"]
    return record["peak_bytes"] - record["imported_bytes"]


def _title(task):
    return (
        f"{task['mode']}, batch {task['batch_size']}, {task['image_size']} px"
    )


def _with_interval(value, ends, form):
    low, high = (format(x, form) for x in ends)
    return f"{value:{form}} ({low}–{high})"


def _shown(value, form):
    return "–" if value is None else format(value, form)
