"""What a data set of objects holds, before anything is trained on it."""

from dataclasses import asdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_convnext._util.tables import new_console
from keras_convnext.data.objects.choosing import why_dropped
from keras_convnext.data.objects.source import ObjectSource
from keras_convnext.data.objects.source import ObjectSubset

# Areas below which COCO calls objects small, and medium, pixels.
SMALL, MEDIUM = 32**2, 96**2
SHOWN = 100


@dataclass(frozen=True)
class ObjectSummary:
    """Counts of images and objects.

    Attributes:
        images, without_objects: ints; the second are those with none at all.
        objects, crowds: ints; crowds are none of the objects.
        with_masks: int, how many of the objects have one.
        classes: list with `class`, `images` and `objects` of each.
        objects_per_image: dict of `least`, `median`, `mean` and `most`.
        sizes: dict of how many objects are `small`, `medium` and `large`, by
            COCO's bounds of 32² and 96² pixels.
        image_sizes: dict of `least`, `median` and `most`, each height and
            width in pixels.
        dropped: dict from why objects are left out of training to how many.
    """

    images: int
    without_objects: int
    objects: int
    crowds: int
    with_masks: int
    classes: list[dict[str, Any]]
    objects_per_image: dict[str, float]
    sizes: dict[str, int]
    image_sizes: dict[str, list[int]]
    dropped: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return asdict(self)

    def print(self) -> None:
        """Prints all of it, with the classes in a table."""
        console = new_console()
        crowds = f" and {self.crowds} crowds" if self.crowds else ""
        masks = {0: "boxes alone", self.objects: "with masks"}.get(
            self.with_masks, f"{self.with_masks} of them with masks"
        )
        console.print(
            f"{self.images} images, {self.without_objects} without objects; "
            f"{self.objects} objects{crowds}, {masks}"
        )
        sizes = {
            key: "×".join(map(str, x)) for key, x in self.image_sizes.items()
        }
        for title, values in (
            ("images", sizes),
            ("objects per image", self.objects_per_image),
            ("objects by size", self.sizes),
            ("left out of training", self.dropped),
        ):
            text = ", ".join(f"{key} {x}" for key, x in values.items())
            console.print(f"{title}: {text or 'none'}")
        console.print(self._table())

    def _table(self):
        from rich.table import Table

        drawn = Table()
        drawn.add_column("class", overflow="fold")
        for name in ("images", "objects"):
            drawn.add_column(name, justify="right")
        for row in self.classes[:SHOWN]:
            drawn.add_row(*map(str, row.values()))
        if len(self.classes) > SHOWN:
            drawn.add_row(f"… {len(self.classes) - SHOWN} more", "", "")
        return drawn


def summarize_objects(source: ObjectSource | ObjectSubset) -> ObjectSummary:
    """Counts what a source holds; no image is opened.

    Args:
        source: an `ObjectSource`, or a part of one.

    Returns:
        An `ObjectSummary`.

    Examples:
        >>> train, _ = keras_convnext.data.open_objects(
        ...     "coco"
        ... )  # doctest: +SKIP
        >>> summary = summarize_objects(train)  # doctest: +SKIP
        >>> summary.objects_per_image["most"]  # doctest: +SKIP
        93
    """
    columns = source.all_objects()
    heights, widths = source.sizes[columns["image"]].T
    reasons = why_dropped(columns["box"], columns["area"], heights, widths)
    is_crowd = columns["is_crowd"]
    images, labels, areas = (
        columns[key][~is_crowd] for key in ("image", "class", "area")
    )
    per_image = np.bincount(images, minlength=len(source))
    count = len(source.classes)
    pairs = np.unique(np.stack([labels, images]), axis=1)[0]
    in_images, in_all = (
        np.bincount(x, minlength=count) for x in (pairs, labels)
    )
    return ObjectSummary(
        images=len(source),
        without_objects=int((per_image == 0).sum()),
        objects=len(labels),
        crowds=int(is_crowd.sum()),
        with_masks=int(columns["is_masked"][~is_crowd].sum()),
        classes=[
            {"class": name, "images": int(x), "objects": int(y)}
            for name, x, y in zip(source.classes, in_images, in_all)
        ],
        objects_per_image=_spread(per_image, mean=True),
        sizes={
            "small": int((areas < SMALL).sum()),
            "medium": int(((areas >= SMALL) & (areas < MEDIUM)).sum()),
            "large": int((areas >= MEDIUM).sum()),
        },
        image_sizes=_spread(source.sizes),
        dropped={
            name: int((is_reason & ~is_crowd).sum())
            for name, is_reason in reasons.items()
            if (is_reason & ~is_crowd).any()
        },
    )


def _spread(values, mean=False):
    if not len(values):
        return {}
    spread = {
        "least": values.min(axis=0).tolist(),
        "median": np.median(values, axis=0).astype(int).tolist(),
        "most": values.max(axis=0).tolist(),
    }
    return (
        {**spread, "mean": round(float(values.mean()), 2)} if mean else spread
    )
