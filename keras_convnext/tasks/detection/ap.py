"""Average precision of boxes and masks, as COCO counts it: by pycocotools."""

import contextlib
import io
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np

from keras_convnext._util.annotations import Images
from keras_convnext._util.checks import some
from keras_convnext._util.progress import progress
from keras_convnext._util.ranges import Whole
from keras_convnext._util.ranges import in_range
from keras_convnext._util.requirements import require
from keras_convnext._util.tables import new_console
from keras_convnext.data.objects.source import Objects
from keras_convnext.data.objects.source import ObjectSource
from keras_convnext.data.objects.source import ObjectSubset
from keras_convnext.data.reading import Reader

PURPOSE = "average precision"
# What COCO's table of twelve figures has in which row.
FIGURES = {
    **{"ap": 0, "ap50": 1, "ap75": 2},
    **{"ap_small": 3, "ap_medium": 4, "ap_large": 5, "recall": 8},
}
NAMES = {
    **{"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_small": "AP, small"},
    **{"ap_medium": "AP, medium", "ap_large": "AP, large", "recall": "AR"},
}
KINDS = {"boxes": "bbox", "masks": "segm"}
SHOWN = 10


@dataclass(frozen=True)
class AveragePrecision:
    """How good detections are, by COCO's rules.

    Figures are parts of 1, `None` where there is nothing to find. `ap` is the
    mean over ten overlaps of 0.5 to 0.95, beside `ap50` and `ap75`. `ap_small`,
    `ap_medium` and `ap_large` are by area below and above 32² and 96² pixels.
    `recall` is of 100 detections in an image.

    Attributes:
        images: int, how many were searched.
        boxes: dict of the figures.
        masks: the same, or `None` where there are no masks.
        classes: list with `class`, `objects`, and `boxes` and `masks`, each a
            dict of `ap` and `ap50`.
        published: dict of `boxes`, `masks`, both dicts, and `source`; `None`
            where nothing is known.
        unreadable: dict from names of images that do not count to reasons.
        seconds: for reading and detecting; `None` if that was done before.
    """

    images: int
    boxes: dict[str, float | None]
    masks: dict[str, float | None] | None
    classes: list[dict[str, Any]]
    published: dict[str, Any] | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return asdict(self)

    def print(self) -> None:
        """Prints the figures, and the classes with the lowest."""
        console = new_console()
        rate = ""
        if self.seconds is not None:
            rate = f"; {self.images / self.seconds:.1f} images/s"
        console.print(f"{self.images} images{rate}")
        if self.unreadable:
            names = some(list(self.unreadable), SHOWN)
            console.print(
                f"{len(self.unreadable)} images could not be read: {names}"
            )
        columns: dict[str, Any] = {"boxes": self.boxes, "masks": self.masks}
        if self.published:
            source = self.published["source"]
            for name in KINDS:
                title = f"{name}, published ({source})"
                columns[title] = self.published.get(name)
        columns = {name: x for name, x in columns.items() if x}
        rows = [
            (name, *(_percent(x.get(key)) for x in columns.values()))
            for key, name in NAMES.items()
        ]
        console.print(_table(("", *columns), rows))
        kinds = [name for name in KINDS if getattr(self, name)]
        lowest = sorted(
            (x for x in self.classes if x["boxes"]["ap"] is not None),
            key=lambda x: x["boxes"]["ap"],
        )
        rows = [
            (
                x["class"],
                str(x["objects"]),
                *(_percent(x[name]["ap"]) for name in kinds),
            )
            for x in lowest[:SHOWN]
        ]
        titles = ("lowest classes", "objects", *(f"{x}, AP" for x in kinds))
        console.print(_table(titles, rows))


def measure(
    find: Callable[[Images], Any],
    source: ObjectSource | ObjectSubset,
    class_ids: Sequence[int | None] | None = None,
    published: dict[str, Any] | None = None,
    verbose: bool = True,
) -> AveragePrecision:
    """Looks for objects in all images of a source, and counts what is right.

    Args:
        find: function from a `uint8` image `(height, width, 3)` to what
            `results_of` takes, such as `Detections`.
        source: an `ObjectSource`, or a part of one.
        class_ids: the data's id of each class that is found, `None` for one
            that does not count; the data's own in order if `None`.
        published: what to show beside it, see `AveragePrecision`.
        verbose: whether to show progress on stderr.

    Raises:
        ValueError: if no image can be read.
        ImportError: if pycocotools is not installed.
    """
    require("pycocotools", PURPOSE)  # before the hours that it takes
    class_ids = source.class_ids if class_ids is None else class_ids
    reader = Reader(source, "skip")
    results, read = [], []
    started = time.perf_counter()
    with progress("detecting", len(source), "images", verbose) as advance:
        for number, id in enumerate(source.ids):
            found = reader.read(number, lambda image, _: find(_pixels(image)))
            if found is not None:
                read.append(number)
                results += results_of(found, id, class_ids)
            advance()
    seconds = time.perf_counter() - started
    if not read:
        raise reader.none_of(range(len(source)))
    with progress("counting what is right", None, verbose=verbose):
        counted = average_precision(ObjectSubset(source, read), results)
    return AveragePrecision(
        counted.images,
        counted.boxes,
        counted.masks,
        counted.classes,
        published,
        reader.skipped,
        seconds,
    )


@in_range
def results_of(
    found: Any, image_id: Any, class_ids: Sequence[Whole | None]
) -> list[dict[str, Any]]:
    """Detections in one image in COCO's result format.

    Args:
        found: has arrays `boxes` `(n, 4)` of x1, y1, x2, y2, `scores` and
            `classes`, and `rles`, a list of COCO's runs, or `None`.
        image_id: of the image in the results.
        class_ids: of each class in the results; those of `None` are left out.

    Returns:
        List of dicts: `image_id`, `category_id`, `bbox` as x, y, width and
        height, `score`, and `segmentation` where there are masks.
    """
    boxes = np.asarray(found.boxes, "float64").reshape(-1, 4)
    rles: list[dict[str, Any]] = [{}] * len(boxes)
    if found.rles is not None:
        rles = [{"segmentation": x} for x in found.rles]
    return [
        {
            "image_id": image_id,
            "category_id": class_ids[int(label)],
            "bbox": [left, top, right - left, bottom - top],
            "score": float(score),
            **rle,
        }
        for (left, top, right, bottom), score, label, rle in zip(
            boxes.tolist(), found.scores, found.classes, rles
        )
        if class_ids[int(label)] is not None
    ]


def average_precision(
    source: ObjectSource | ObjectSubset, results: Sequence[Mapping[str, Any]]
) -> AveragePrecision:
    """How good detections are that are there already.

    Args:
        source: an `ObjectSource`, or a part of one. Its crowds do not count,
            and neither does what is found in them.
        results: list of COCO's results, see `results_of`. Masks are measured
            if all have a `segmentation` and the source has masks.

    Raises:
        ValueError: for results of images and classes that are not there.
        ImportError: if pycocotools is not installed.

    Examples:
        >>> source = keras_convnext.data.read_coco(
        ...     "coco/annotations/instances_val2017.json"
        ... )  # doctest: +SKIP
        >>> found = average_precision(source, [])  # doctest: +SKIP
        >>> found.boxes["ap"]  # doctest: +SKIP
        0.0
    """
    for key, known in (
        ("image_id", source.ids),
        ("category_id", source.class_ids),
    ):
        if unknown := {x[key] for x in results} - set(known):
            raise ValueError(
                f"Expected results with the data's `{key}`s. Received: "
                f"{some(sorted(unknown))}, which the data does not have"
            )
    has_masks = source.has_all_masks and all(
        "segmentation" in x for x in results
    )
    figures, by_class = {}, {}
    for name, kind in KINDS.items():
        if name == "boxes" or has_masks:
            judge = _judged(source, results, kind)
            figures[name] = {
                key: _part(judge.stats[row]) for key, row in FIGURES.items()
            }
            # By overlap, recall, class, area and number of detections.
            by_class[name] = judge.eval["precision"][:, :, :, 0, -1]
    counted = source.all_objects()
    labels = counted["class"][~counted["is_crowd"]]
    counts = np.bincount(labels, minlength=len(source.classes))
    classes = [
        {
            "class": name,
            "objects": int(counts[label]),
            **{
                kind: {
                    "ap": _mean(precision[:, :, label]),
                    "ap50": _mean(precision[0, :, label]),
                }
                for kind, precision in by_class.items()
            },
        }
        for label, name in enumerate(source.classes)
    ]
    return AveragePrecision(
        len(source), figures["boxes"], figures.get("masks"), classes
    )


def _judged(source, results, kind):
    """pycocotools' own object, with all of its figures."""
    require("pycocotools", PURPOSE)
    from pycocotools import mask as coco_mask
    from pycocotools.cocoeval import COCOeval

    found = []
    for number, row in enumerate(results, 1):
        if kind == "bbox":
            area = row["bbox"][2] * row["bbox"][3]
        else:  # not that of the box, or sizes would be those of boxes
            area = float(coco_mask.area(row["segmentation"]))
        found.append({**row, "id": number, "area": area, "iscrowd": 0})
    there = []
    for number, id in enumerate(source.ids):
        there += _annotations(source.objects(number), id, source, kind)
    # An id of 0 would count as a detection that has found nothing.
    there = [{**x, "id": number} for number, x in enumerate(there, 1)]
    # Its figures are printed by `AveragePrecision`.
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(_coco(source, there), _coco(source, found), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


def _annotations(objects: Objects, id: Any, source: Any, kind: str) -> list:
    boxes = objects.boxes
    sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    masks: list[dict[str, Any]] = [{}] * len(objects)
    if kind == "segm":
        masks = [{"segmentation": x} for x in objects.rles()]
    return [
        {
            "image_id": id,
            "category_id": source.class_ids[label],
            "bbox": box,
            "area": float(area),
            "iscrowd": int(is_crowd),
            **mask,
        }
        for box, label, area, is_crowd, mask in zip(
            sides.tolist(),
            objects.classes,
            objects.areas,
            objects.is_crowd,
            masks,
        )
    ]


def _coco(source, annotations):
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": id, "height": int(height), "width": int(width)}
            for id, (height, width) in zip(source.ids, source.sizes)
        ],
        "categories": [{"id": x} for x in source.class_ids],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _part(value):
    """pycocotools writes -1 where there is nothing to find."""
    return None if value < 0 else float(value)


def _mean(precision):
    there = precision[precision > -1]
    return float(there.mean()) if there.size else None


def _pixels(image):
    return image if isinstance(image, np.ndarray) else image.pixels()


def _percent(value):
    return "–" if value is None else f"{100 * value:.1f}"


def _table(titles, rows):
    from rich.table import Table

    drawn = Table()
    for place, title in enumerate(titles):
        drawn.add_column(
            title, justify="right" if place else "left", overflow="fold"
        )
    for row in rows:
        drawn.add_row(*row)
    return drawn
