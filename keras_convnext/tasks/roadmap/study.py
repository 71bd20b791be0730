"""The roadmap in figures: its costs, and what it reaches on one's own data."""

import json
import sys
from collections.abc import Iterable
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_convnext import training
from keras_convnext import visualize
from keras_convnext._util.annotations import Figure
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import one_of
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import in_range
from keras_convnext._util.requirements import is_installed
from keras_convnext._util.requirements import tell_left_out
from keras_convnext._util.writing import written_aside
from keras_convnext.data.source import Source
from keras_convnext.models.profiling import profile
from keras_convnext.models.profiling import without_numbers
from keras_convnext.tasks.roadmap.models import build
from keras_convnext.tasks.roadmap.steps import REGIMES
from keras_convnext.tasks.roadmap.steps import STEPS
from keras_convnext.training.recipes.recipe import Recipe
from keras_convnext.training.recipes.records import small_data

# One recipe for all steps, as the paper has it: from random weights, on
# images that need not be photographs.
RECIPE = small_data.replace(
    name="roadmap",
    summary="every step of the roadmap, from random weights",
    source="Ours, for small images that need not be photographs.",
    learning_rate=2e-3,
    layer_decay=1.0,
    layer_scale_init_value=0.1,
    head_init_scale=1.0,
    horizontal_flip=0.0,
    rand_augment=None,
    random_erasing=0.0,
    crop_scale=(0.8, 1.0),
)


def table(
    regime: str = "tiny", steps: Iterable[str] | None = None
) -> list[dict[str, Any]]:
    """Costs of each step, and what the paper reports.

    Args:
        regime: `"tiny"`, `"base"` or `"small"`.
        steps: names of steps; all if `None`.

    Returns:
        List of dicts: `step`, `title`, `kept`, `parameters`, `macs`, and of
        the paper `accuracy` (percent; for `"small"` that of `"tiny"`) and
        `gflops` (for `"small"` `None`).

    Raises:
        ValueError: for unknown steps and regimes.

    Examples:
        >>> rows = keras_convnext.roadmap.table("small", ["resnet"])
        >>> rows[0]["parameters"], rows[0]["accuracy"]
        (1024216, 76.13)
    """
    rows = []
    for name in _checked(regime, steps):
        with without_numbers():
            cost = profile(build(name, regime))
        step = STEPS[name]
        rows.append(
            {
                "step": name,
                "title": step.title,
                "kept": step.kept,
                "parameters": cost.parameters,
                "macs": cost.macs,
                "accuracy": step.accuracy.get(regime, step.accuracy["tiny"]),
                "gflops": step.gflops.get(regime),
            }
        )
    return rows


@in_range
def study(
    data: Source,
    validation: Source,
    output: PathLike,
    regime: str = "small",
    steps: Iterable[str] | None = None,
    epochs: Count = 20,
    seeds: Count = 3,
    recipe: Recipe = RECIPE,
) -> list[dict[str, Any]]:
    """Trains every step with one recipe and several seeds.

    Interrupted, it goes on: a finished training is not repeated, and one that
    was begun goes on from its last checkpoint.

    Args:
        data, validation: sources, see `keras_convnext.data.open_splits`.
        output: folder for a run of each step and seed, `roadmap.json`,
            `roadmap.md` and, with matplotlib, `roadmap.png`.
        regime: see `table`.
        steps: names of steps; all if `None`. Such as change no layer are left
            out.
        epochs: int, for each training.
        seeds: int, trainings of each step.
        recipe: a `Recipe`; its image size is the regime's.

    Returns:
        The rows of `table` with `measured`: accuracies on `validation` of
        0–1, one for each seed.

    Raises:
        ValueError: for unknown steps and regimes, and what `train` raises.

    Examples:
        >>> data, validation = keras_convnext.data.open_splits("digits")
        >>> rows = keras_convnext.roadmap.study(
        ...     data, validation, "roadmap", epochs=2, seeds=1
        ... )  # doctest: +SKIP
    """
    names = [
        x for x in _checked(regime, steps) if x == "resnet" or STEPS[x].change
    ]
    size = REGIMES[regime].image_size
    warmup = recipe.warmup_epochs / recipe.epochs
    recipe = recipe.replace(
        epochs=epochs, warmup_epochs=warmup * epochs, image_size=size
    )
    output = Path(output)
    tell_left_out({"matplotlib": "roadmap.png"})
    rows = table(regime, names)
    for row in rows:
        row["measured"] = []
        for seed in range(seeds):
            print(f"{row['step']}, seed {seed}", file=sys.stderr, flush=True)
            keras.utils.set_random_seed(seed)
            model = build(
                row["step"],
                regime,
                classes=len(data.classes),
                classifier_activation=None,
                drop_path_rate=recipe.drop_path_rate,
                layer_scale_init_value=recipe.layer_scale_init_value,
            )
            result = training.train(
                model,
                recipe,
                data,
                output / row["step"] / f"seed_{seed}",
                validation,
                seed=seed,
                keep=1,
            )
            row["measured"].append(result["metrics"]["val_accuracy"])
            keras.utils.clear_session()
        _write(rows, output, recipe)
    return rows


def as_markdown(rows: Iterable[dict[str, Any]]) -> str:
    """Rows of `table` or `study` as a Markdown table."""
    lines = [
        "| step | parameters | GMACs | paper | paper's GFLOPs | measured |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        title = row["title"] if row["kept"] else f"({row['title']})"
        gflops = "–" if row["gflops"] is None else f"{row['gflops']:.2f}"
        measured = "–"
        if row.get("measured"):
            percent = 100 * np.array(row["measured"])
            measured = f"{percent.mean():.2f}"
            if len(percent) > 1:
                measured += f" ± {percent.std():.2f}"
        lines.append(
            f"| {title} | {row['parameters'] / 1e6:.2f} M | "
            f"{row['macs'] / 1e9:.4g} | {row['accuracy']:.2f} | "
            f"{gflops} | {measured} |"
        )
    return "\n".join(lines) + "\n"


def chart(
    rows: Sequence[dict[str, Any]], figure: Figure | None = None
) -> Figure:
    """Draws the accuracy after each step as bars, like the paper's figure 2.

    Args:
        rows: of `table` or `study`.
        figure: matplotlib figure to draw into; a new one if `None`.

    Returns:
        The figure: on the left what the paper reports; on the right the mean
        and the spread of what was measured, if all rows have that.

    Examples:
        >>> figure = keras_convnext.roadmap.chart(
        ...     keras_convnext.roadmap.table("tiny", ["resnet", "kernel_7"])
        ... )
    """
    panels: dict[str, list[Any]] = {
        "ImageNet-1k top-1 in the paper, %": [[x["accuracy"]] for x in rows]
    }
    if all(row.get("measured") for row in rows):
        panels["measured here, %"] = [
            100 * np.array(row["measured"]) for row in rows
        ]
    figure = figure or visualize.new_figure(
        figsize=(2.5 + 4 * len(panels), 1.2 + 0.3 * len(rows))
    )
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    colors = ["tab:blue" if row["kept"] else "lightgrey" for row in rows]
    for axis, (title, values) in zip(axes, panels.items()):
        means, spreads = np.mean(values, axis=1), np.std(values, axis=1)
        bars = axis.barh(range(len(rows)), means, xerr=spreads, color=colors)
        axis.bar_label(bars, fmt=" %.1f")
        low, high = (means - spreads).min(), (means + spreads).max()
        margin = max(high - low, 1.0)
        axis.set_xlim(max(low - margin, 0), high + margin / 3)
        axis.set_title(title)
    axes[0].set_yticks(range(len(rows)), [row["title"] for row in rows])
    axes[0].invert_yaxis()
    return figure


def _write(rows, output, recipe):
    done = [row for row in rows if row.get("measured")]
    contents = {
        "roadmap.json": json.dumps(
            {"rows": done, "versions": training.versions()}, indent=1
        ),
        "roadmap.md": f"{as_markdown(done)}\n```\n{recipe}\n```\n",
    }
    for name, content in contents.items():
        with written_aside(output / name) as unfinished:
            unfinished.write_text(content)
    if is_installed("matplotlib"):
        visualize.written_figure(chart(done), output / "roadmap.png")


def _checked(regime, steps):
    """The names of the steps, after a check of them and of the regime."""
    one_of("regime", regime, REGIMES)
    names = list(steps or STEPS)
    for name in names:
        one_of("step", name, STEPS)
    return names
