"""Sections: which classes are told apart, and how well each is known."""

import numpy as np

from keras_convnext.evaluation.pages.markup import folded
from keras_convnext.evaluation.pages.markup import join
from keras_convnext.evaluation.pages.markup import name_of
from keras_convnext.evaluation.pages.markup import number
from keras_convnext.evaluation.pages.markup import table
from keras_convnext.evaluation.pages.markup import tag
from keras_convnext.evaluation.report import named
from keras_convnext.evaluation.report import text_of

# With more classes a matrix cannot be read: the pairs most often confused are.
MATRIX = 40
PAIRS = 40
# Rows that are shown before a click.
SHOWN = 20
# Of colors in `page.css`.
SHADES = 10
# Columns of a class, and how they are written.
COLUMNS = {
    "images": ",d",
    "accuracy": ".1%",
    "average_precision": ".1%",
    "threshold": ".3f",
    "precision": ".1%",
    "recall": ".1%",
    "f1": ".1%",
}
TITLES = {"average_precision": "AP", "f1": "F1"}


def confusion(content):
    """The confusion matrix, or the pairs that are confused most often."""
    measured = content.measured
    if measured is None or measured.truth is None:
        return None
    if measured.truth.is_by_image:  # which may have several right classes
        return None
    if len(measured.result.classes) > MATRIX:
        return _pairs(measured)
    return _matrix(measured)


def counts_of(measured):
    """How often each class was taken for which.

    Returns:
        int array `(classes, classes + 1)`; in the last column are answers that
        are no class of the data.
    """
    truth, each = measured.truth, measured.each
    count = len(truth.columns)
    labels = np.full(len(truth.competes), count)
    labels[truth.columns] = np.arange(count)
    result = np.zeros((count, count + 1), "int64")
    np.add.at(result, (each["label"], labels[each["output"]]), 1)
    return result


def _matrix(measured):
    counts = counts_of(measured)
    names = [_name(x) for x in measured.result.classes]
    heads = [*names, "other"]
    if not counts[:, -1].any():
        counts, heads = counts[:, :-1], names
    sums = np.maximum(counts.sum(axis=1), 1)
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            *(
                _shaded(count, count / sums[row], row == column)
                for column, count in enumerate(counts[row].tolist())
            ),
        )
        for row, name in enumerate(names)
    ]
    whole = tag(
        "table",
        tag(
            "thead",
            tag(
                "tr",
                tag("td", "true ↓ predicted →"),
                *(tag("th", x, scope="col") for x in heads),
            ),
        ),
        tag("tbody", *rows),
        class_="matrix",
    )
    return join(
        [
            tag("div", whole, class_="wide"),
            tag(
                "p",
                "Counts of images; colors are parts of a row.",
                class_="quiet",
            ),
        ]
    )


def _shaded(count, part, is_right):
    """A cell, the darker the larger its part of the row."""
    shade = int(np.ceil(SHADES * part))
    kind = "right" if is_right else "wrong"
    return tag("td", count or "", class_=f"{kind}{shade}" if shade else None)


def _pairs(measured):
    """The pairs of a class and what it was taken for, most frequent first."""
    each, outputs = measured.each, measured.outputs
    wrong = ~each["right"]
    both = np.stack([each["label"][wrong], each["output"][wrong]], axis=1)
    found, counts = np.unique(both, axis=0, return_counts=True)
    rows = []
    for index in np.argsort(-counts, kind="stable")[:PAIRS]:
        label, output = found[index]
        id, name = outputs[output]
        rows.append(
            (
                _name(measured.result.classes[label]),
                name_of(named(name, id)),
                int(counts[index]),
            )
        )
    return join(
        [
            table(("most confused", "taken for", "images"), rows),
            tag(
                "p",
                f"A matrix of more than {MATRIX} classes cannot be read.",
                class_="quiet",
            ),
        ]
    )


def by_class(content):
    """The figures of each class, the lowest first."""
    classes = getattr(content.result, "classes", None)
    if not classes:
        return None
    names = [x for x in COLUMNS if x in classes[0]]
    by = "accuracy" if "accuracy" in names else "average_precision"
    # At the end those that have no images.
    ordered = sorted(
        classes, key=lambda x: (not x["images"], x[by] if x["images"] else 0)
    )
    columns = ("class", *(TITLES.get(x, x) for x in names))
    rows = [
        (
            _name(row),
            *(number(row[x], text_of(row[x], COLUMNS[x])) for x in names),
        )
        for row in ordered
    ]
    rest = rows[SHOWN:]
    return join(
        [
            table(columns, rows[:SHOWN]),
            folded(f"{len(rest)} more", table(columns, rest)) if rest else None,
            tag("p", "The lowest first.", class_="quiet"),
        ]
    )


def _name(row):
    return name_of(named(row["class"], row["id"]))
