"""The chart of the model zoo: accuracy by multiply-adds and by parameters."""

import io
import re

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from matplotlib.ticker import StrMethodFormatter

OTHERS = ("others", "#9e9e9e")
# The papers' checkpoints of each size, by their tag: name and color.
SERIES = {
    "fb_in1k": ("ConvNeXt, ImageNet-1k", "#00897b"),
    "fb_in22k_ft_in1k": ("ConvNeXt, from ImageNet-22k", "#1e88e5"),
    "fcmae_ft_in1k": ("ConvNeXt V2, ImageNet-1k", "#d81b60"),
}
# Matplotlib writes colors; this one becomes that of the page's text.
TEXT = "#010203"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "model zoo",
    "text.color": TEXT,
    "axes.edgecolor": TEXT,
    "axes.labelcolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "font.size": 11,
}


def draw(points, anchor):
    """The chart as SVG for a page, in the colors of its text.

    Args:
        points: triples of a checkpoint, its 10⁹ multiply-adds and its millions
            of parameters.
        anchor: from a checkpoint to the name of its place in the page.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(11, 4.8), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for ax, index, label in zip(
            axes, (1, 2), ("10⁹ multiply-adds", "millions of parameters")
        ):
            draw_panel(ax, [(p[0], p[index]) for p in points], anchor)
            ax.set_xlabel(label)
        axes[0].set_ylabel("top-1 on ImageNet-1k, %")
        axes[1].legend(loc="lower right", frameon=False, fontsize=10)
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None}
        )
    svg = buffer.getvalue()[buffer.getvalue().index("<svg") :]
    # In Markdown an empty line would end the picture.
    svg = re.sub(r"\n\s*\n", "\n", svg).replace(TEXT, "currentColor")
    return re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)


def draw_panel(ax, points, anchor):
    groups = {series: [] for series in (OTHERS, *SERIES.values())}
    for row, cost in points:
        groups[series_of(row)].append((cost, row.top1, row))
    for (name, color), group in groups.items():
        costs, accuracies, rows = zip(*sorted(group, key=lambda x: x[:2]))
        marks = ax.scatter(costs, accuracies, s=26, color=color, zorder=3)
        marks.set_urls([f"#{anchor(row)}" for row in rows])
        marks.set_label(name)
        if name != OTHERS[0]:
            ax.plot(costs, accuracies, color=color)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.minorticks_off()
    ax.grid(color="#9e9e9e", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


def series_of(row):
    if row.model.startswith("convnext_isotropic"):
        return OTHERS
    return SERIES.get(row.tag, OTHERS)
