"""Sections: how a run went, on what, and by which settings."""

from keras_convnext.evaluation.pages.markup import folded
from keras_convnext.evaluation.pages.markup import join
from keras_convnext.evaluation.pages.markup import name_of
from keras_convnext.evaluation.pages.markup import number
from keras_convnext.evaluation.pages.markup import pairs
from keras_convnext.evaluation.pages.markup import plot
from keras_convnext.evaluation.pages.markup import table
from keras_convnext.evaluation.pages.markup import tag
from keras_convnext.training.settings import flat
from keras_convnext.visualize import learning_curves

# Rows that are shown before a click.
SHOWN = 40


def progress_of(content):
    """How far the run came, and its best figures."""
    if content.run is None:
        return None
    summary = content.run.summary
    best = [
        (f"best {name}", number(value, f"{value:.4f}"))
        for name, value in summary["best"].items()
    ]
    told = ("status", "reason", "started", "written", "epochs", "step")
    skipped = summary.get("skipped") or {}
    return pairs(
        [
            *((name, summary.get(name)) for name in told),
            *best,
            ("images skipped in training", len(skipped) or None),
        ]
    )


def curves(content):
    """The learning curves."""
    if content.run is None or not content.run.history:
        return None
    return plot(
        learning_curves(content.run.history),
        "Learning curves: loss and figures of training and of held-out images",
    )


def counts(content):
    """How many images of each class are trained on, and held out."""
    if content.run is None:
        return None
    data, validation = content.run.data, content.run.validation
    sources = {"trained on": data}
    if validation is not None:
        sources["held out"] = validation
    total = ", ".join(f"{key}: {len(x):,}" for key, x in sources.items())
    totals = tag("p", f"Images {total}.")
    if data.is_regression:
        return join([totals, _targets(sources)])
    numbers = [x.counts().tolist() for x in sources.values()]
    rows = [
        (name_of(name), *of_class)
        for name, *of_class in zip(data.classes, *numbers)
    ]
    columns = ("class", *sources)
    rest = rows[SHOWN:]
    return join(
        [
            totals,
            table(columns, rows[:SHOWN]),
            folded(f"{len(rest)} more", table(columns, rest)) if rest else None,
        ]
    )


def _targets(sources):
    """Of which numbers each target is."""
    columns = ("target", "", "lowest", "mean", "highest")
    rows = [
        (
            name_of(name),
            key,
            *(
                number(float(x), f"{x:.4g}")
                for x in (values.min(), values.mean(), values.max())
            ),
        )
        for key, source in sources.items()
        for name, values in zip(source.classes, source.labels.T)
    ]
    return table(columns, rows)


def settings(content):
    """All settings of the run."""
    if content.run is None:
        return None
    rows = flat(content.run.summary["settings"]).items()
    return folded("all settings", pairs((key, str(x)) for key, x in rows))
