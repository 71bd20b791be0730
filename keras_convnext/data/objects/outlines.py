"""The masks that polygons and runs stand for."""

import numpy as np

from keras_convnext._util.requirements import require
from keras_convnext.images import rle

# Numbers of the least polygon: three corners. pycocotools takes four numbers
# for a box.
LEAST = 6


def rle_of(outline, height, width):
    """An outline as COCO's dict of runs.

    Args:
        outline: list of polygons, each a list of x, y, x, y … in pixels, which
            pycocotools fills; COCO's dict of runs; or `None` for nothing.
        height, width: ints, pixels of the image.

    Raises:
        ValueError: for what is neither, of another size, or far outside.
        ImportError: for polygons, if pycocotools is not installed.
    """
    if isinstance(outline, dict):
        counts = rle.counts_of(outline)
        if list(outline["size"]) != [height, width]:
            raise ValueError(
                f"Expected a mask of the image's {height}×{width} pixels. "
                f"Received: one of {'×'.join(map(str, outline['size']))}"
            )
        return {"size": [height, width], "counts": rle.text_of(counts)}
    polygons = [_checked(x, height, width) for x in outline or ()]
    polygons = [x for x in polygons if len(x) >= LEAST]
    if not polygons:
        return rle.encode(np.zeros((height, width), bool))
    coco = require("pycocotools.mask", "polygons of objects")
    merged = coco.merge(coco.frPyObjects(polygons, height, width))
    return {"size": [height, width], "counts": merged["counts"].decode()}


def _checked(polygon, height, width):
    """Finite pairs, and none so far away that filling would take forever."""
    try:
        corners = np.asarray(polygon, "float64")
    except (TypeError, ValueError):
        corners = np.zeros(1)
    if corners.ndim != 1 or len(corners) % 2:
        raise ValueError(
            "Expected polygons that are lists of x, y, x, y … Received: "
            f"{str(polygon)[:60]}"
        )
    size = np.tile([width, height], len(corners) // 2)
    if not ((corners >= -size) & (corners <= 2 * size)).all():
        raise ValueError(
            f"Expected polygons in an image of {height}×{width} pixels. "
            f"Received: corners from {corners.min()} to {corners.max()}"
        )
    return corners.tolist()
