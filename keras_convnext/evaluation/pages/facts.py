"""Sections: figures, what was evaluated, and how to repeat it."""

from keras_convnext._util.requirements import versions
from keras_convnext.evaluation.pages.markup import folded
from keras_convnext.evaluation.pages.markup import join
from keras_convnext.evaluation.pages.markup import name_of
from keras_convnext.evaluation.pages.markup import number
from keras_convnext.evaluation.pages.markup import pairs
from keras_convnext.evaluation.pages.markup import plot
from keras_convnext.evaluation.pages.markup import shortened
from keras_convnext.evaluation.pages.markup import table
from keras_convnext.evaluation.pages.markup import tag
from keras_convnext.evaluation.report import figure_of
from keras_convnext.evaluation.report import text_of
from keras_convnext.evaluation.report import title_of
from keras_convnext.evaluation.rules import RULES
from keras_convnext.visualize import predicted_against_true
from keras_convnext.visualize import reliability_diagram

# So many images that cannot be read are named.
NAMED = 100


def figures(content):
    """The headline figures, with their intervals, beside the published."""
    result = content.result
    if result is None:
        return None
    columns = [("measured", result.measured, result.intervals)]
    if getattr(result, "at_thresholds", None):
        columns = [
            ("at 0.5", result.measured, result.intervals),
            (
                "at the model's thresholds",
                result.at_thresholds,
                result.intervals_at_thresholds or {},
            ),
        ]
    if getattr(result, "published", None):
        published = dict(result.published)
        source = published.pop("source")
        columns.append((f"published ({source})", published, {}))
    rows = [
        (title_of(key), *(_cell(key, x, y) for _, x, y in columns))
        for key in dict.fromkeys(key for _, x, _ in columns for key in x)
    ]
    how = result.bootstrap
    return join(
        [
            table(("", *(x for x, _, _ in columns)), rows),
            tag(
                "p",
                f"In brackets: the {how['level']:.0%} interval of a "
                f"{how['method']}, {how['draws']} draws. The ECE has none.",
                class_="quiet",
            ),
            _targets(result),
            _corruptions(result),
        ]
    )


def _cell(key, values, intervals):
    """A figure, and its interval, with all digits."""
    value, interval = values.get(key), intervals.get(key)
    figure = number(value, figure_of(key, value))
    if value is None or interval is None:
        return figure
    text = figure_of(key, value, interval)
    low, high = text.partition("(")[2].strip(")").split("–")
    return join(
        [
            figure,
            " (",
            number(interval[0], low),
            "–",
            number(interval[1], high),
            ")",
        ]
    )


def _targets(result):
    """The figures of each of several targets."""
    targets = getattr(result, "targets", ())
    if len(targets) < 2:
        return None
    names = list(result.figures)
    rows = [
        (
            name_of(row["target"]),
            *(number(row[x], figure_of(x, row[x])) for x in names),
        )
        for row in targets
    ]
    return table(("target", *map(title_of, names)), rows)


def _corruptions(result):
    rows = getattr(result, "corruptions", None)
    if not rows:
        return None
    return table(
        ("corruption", "mean error", "CE"),
        [
            (
                row["corruption"],
                number(row["error"], text_of(row["error"], ".1%")),
                number(row["ce"], figure_of("mce", row["ce"])),
            )
            for row in rows
        ],
    )


def subject(content):
    """What was evaluated, on which images."""
    result = content.result
    if result is None:
        return None
    seen = result.preprocessing
    size = " × ".join(map(str, seen.image_size))
    names = getattr(result, "targets", None) or result.classes
    kind = "targets" if hasattr(result, "targets") else "classes"
    temperature = result.temperature
    return join(
        [
            pairs(
                [
                    ("model", result.model),
                    ("file", result.file and name_of(result.file)),
                    ("weights", result.weights and name_of(result.weights)),
                    ("license", result.license),
                    ("quantization", result.quantization),
                    ("temperature", temperature and f"{temperature:.4g}"),
                    ("rule", RULES[result.rule].title),
                    ("images", number(result.images, f"{result.images:,}")),
                    (
                        kind,
                        f"{len(names)}, found by {result.matched_by} among "
                        f"{result.outputs} outputs",
                    ),
                    (
                        "preprocessing",
                        f"{size} pixels, {seen.crop_mode} {seen.crop_pct:g}, "
                        f"{seen.interpolation}, mean {_list(seen.mean)}, "
                        f"standard deviation {_list(seen.std)}",
                    ),
                    (
                        "EXIF orientation",
                        "applied" if result.applies_exif else "ignored",
                    ),
                    ("test-time augmentation", result.tta),
                    ("without labels", getattr(result, "unlabeled", 0) or None),
                    ("could not be read", len(result.unreadable)),
                ]
            ),
            _unreadable(result.unreadable),
        ]
    )


def _list(numbers):
    return ", ".join(f"{x:g}" for x in numbers)


def _unreadable(reasons):
    """Which images could not be read, and why."""
    if not reasons:
        return None
    rows = [(name_of(x), y) for x, y in list(reasons.items())[:NAMED]]
    more = len(reasons) - len(rows)
    return folded(
        f"{len(reasons)} images that could not be read",
        table(("image", "why"), rows),
        tag("p", f"and {more} more") if more else None,
    )


def calibration(content):
    """How often scores are right, by how high they are."""
    bins = getattr(content.result, "reliability", None)
    if bins is None:
        return None
    result, found = content.result, content.result.calibration
    parts = [
        tag("p", line) for line in (found.lines() if found is not None else ())
    ]
    if found is not None:
        rows = [
            (title_of(x), *(number(y[x], figure_of(x, y[x])) for y in both))
            for both in [(found.before, found.after)]
            for x in found.before
        ]
        parts.append(table(("", "before", "after"), rows))
        bins = found.reliability_before
    after = found and found.reliability_after
    text = (
        f"Reliability diagram: ECE {figure_of('ece', result.ece)}, Brier score "
        f"{figure_of('brier', result.brier)}"
    )
    return join(
        [
            *parts,
            plot(reliability_diagram(bins, after), text),
            tag(
                "p",
                "Bars below the diagonal are scores that promise too much. "
                f"{text}.",
                class_="quiet",
            ),
        ]
    )


def scatter(content):
    """Predicted against true numbers."""
    if not hasattr(content.result, "targets"):
        return None
    result = content.result
    names = [shortened(row["target"]) for row in result.targets]
    figure = predicted_against_true(result.true, result.predicted, names)
    return plot(figure, "Scatter plot of predicted against true numbers")


def repetition(content):
    """How to have the same page again."""
    command = content.command
    return pairs(
        [
            ("command", command and tag("code", command)),
            *versions().items(),
        ]
    )
