"""`keras-convnext weights`: which published weights there are."""

from rich.table import Column

from keras_convnext._util.checks import did_you_mean
from keras_convnext.cli import options
from keras_convnext.cli.models import print_listing
from keras_convnext.weights import registry

# To be copied, and searched for.
WHOLE = ("model", "tag")
COLUMNS = ("model", "tag", "size", "classes", "top-1 %", "license")


def weights(
    pattern: options.Pattern = "*",
    as_json: options.Json = False,
) -> None:
    """List the published weights: tag, size, classes, top-1, license.

    Example: keras-convnext weights 'convnext_tiny.fb_*'
    """

    checkpoints = registry.matching(pattern)
    columns = [Column(name, no_wrap=name in WHOLE) for name in COLUMNS]
    rows = (
        (
            row.model,
            row.tag,
            str(row.image_size),
            str(row.classes or "–"),
            "–" if row.top1 is None else f"{row.top1:.1f}",
            row.license,
        )
        for row in checkpoints
    )
    names = registry.list_weights()
    missing = f"no weights match {pattern!r}{did_you_mean(pattern, names)}"
    print_listing(checkpoints, missing, as_json, columns, rows)
