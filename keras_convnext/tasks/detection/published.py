"""Average precision that others published for the same weights on COCO."""

from keras_convnext.facts import coco
from keras_convnext.weights.registry import checkpoints

TASKS = ("mask_rcnn", "cascade_mask_rcnn")
SOURCE = "COCO val2017"
# Percent, of boxes and of masks, at an overlap of 0.5 and of 0.75: Liu et al.,
# "A ConvNet for the 2020s", arXiv:2201.03545, table 3. The means over all
# overlaps are in the registry.
OVERLAPS = {
    "convnext_tiny.fb_in1k_coco_mask": (67.9, 50.8, 65.0, 44.9),
    "convnext_tiny.fb_in1k_coco_cascade": (69.1, 54.8, 66.5, 47.3),
    "convnext_small.fb_in1k_coco_cascade": (70.8, 56.5, 68.4, 49.1),
    "convnext_base.fb_in1k_coco_cascade": (71.3, 57.2, 68.9, 49.5),
    "convnext_base.fb_in22k_coco_cascade": (73.1, 58.8, 70.6, 51.3),
    "convnext_large.fb_in22k_coco_cascade": (73.8, 59.8, 71.3, 51.7),
    "convnext_xlarge.fb_in22k_coco_cascade": (74.2, 59.9, 71.6, 52.2),
}


def find(name, classes):
    """Published figures, or `None` where there are none.

    Args:
        name: of the backbone and the weights, with a dot between.
        classes: names of the data's classes.

    Returns:
        A dict of `boxes` and `masks`, with `ap` and perhaps `ap50` and `ap75`
        (0–1), and `source`.
    """
    rows = [x for task in TASKS for x in checkpoints(task) if x.name == name]
    if not rows or tuple(classes) != coco.NAMES:
        return None
    (row,) = rows
    overlaps = [x / 100 for x in OVERLAPS.get(name, ())]
    halves = overlaps[:2], overlaps[2:]
    return {
        kind: {"ap": ap / 100, **dict(zip(("ap50", "ap75"), values))}
        for kind, ap, values in zip(
            ("boxes", "masks"), (row.box_ap, row.mask_ap), halves
        )
    } | {"source": SOURCE}
