"""The layers without weights as ONNX: with NonMaxSuppression and RoiAlign.

Each function adds the nodes of one layer to a `Graph` (`artifacts/
onnx_graph.py`), and returns the name of its output, or a tuple of names. Counts
that depend on the images' size are computed in the graph.
"""

import numpy as np

from keras_convnext.tasks.detection.anchors import STRIDES
from keras_convnext.tasks.detection.anchors import around_zero
from keras_convnext.tasks.detection.boxes import LIMIT
from keras_convnext.tasks.detection.roi_align import FINEST

# Images become multiples of it.
MULTIPLE = 32
# A score below all others, and what lies between.
NOTHING, ABOVE_NOTHING = np.float32(-1), np.float32(-0.5)
FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def image_sizes(g, layer, images):
    """Height and width of every image of a batch."""
    sides = _sides(g, images)
    batch = g.add("Shape", images, start=0, end=1)
    shape = g.add("Concat", batch, [2], axis=0)
    return g.add("Expand", sides, shape)


def padding(g, layer, images, sizes):
    sides = _sides(g, images)
    more = g.add("Mod", g.add("Neg", sides), [MULTIPLE])
    pads = g.add("Concat", [0, 0, 0, 0, 0], more, [0], axis=0)
    x = g.add("Pad", images, pads)
    sizes = g.cast(sizes, "int64")
    inside = []
    for axis in (0, 1):
        side = _number(g, x, axis + 1)
        size = g.add("Slice", sizes, [axis], [axis + 1], [1])
        inside.append(g.add("Less", g.add("Range", 0, side, 1), size))
    rows, columns = inside
    inside = g.add(
        "And",
        g.add("Unsqueeze", rows, [2, 3]),
        g.add("Unsqueeze", columns, [1, 3]),
    )
    return g.add("Where", inside, x, np.float32(layer.values))


def proposals(g, layer, map, scores, deltas, sizes):
    boxes, values = [], []
    rows, columns = (
        g.add("Mul", _number(g, map, axis), STRIDES[0]) for axis in (1, 2)
    )
    for stride, level, moves in zip(STRIDES, scores, deltas):
        own = _anchors(g, stride, rows, columns)
        level = g.add("Sigmoid", level)
        count = g.add("Min", g.add("Shape", level, start=1), [layer.candidates])
        best, index = g.add("TopK", level, count, outputs=2)
        own = g.add("Gather", own, index)
        moved = _decoded(g, own, _rows_at(g, moves, index), (1.0,) * 4, sizes)
        has_area = _has_area(g, moved)
        best = g.add("Where", has_area, best, NOTHING)
        values.append(_kept(g, layer, moved, best))
        boxes.append(moved)
    boxes = g.add("Concat", *boxes, axis=1)
    best, index = _best(g, g.add("Concat", *values, axis=1), layer.kept)
    is_there = g.add("Greater", best, ABOVE_NOTHING)
    return _masked(g, _rows_at(g, boxes, index), is_there), is_there


def roi_features(g, layer, maps, boxes, classes=None):
    """Each level looks at its own boxes, and all are put in order again."""
    batch = g.add("Shape", boxes, start=0, end=1)
    count = g.add("Shape", boxes, start=1, end=2)
    images = g.add("Range", 0, g.add("Squeeze", batch), 1)
    images = g.add("Unsqueeze", images, [1])
    images = g.add("Expand", images, g.add("Concat", batch, count, axis=0))
    images = g.add("Reshape", images, [-1])
    rois = g.add("Reshape", boxes, [-1, 4])
    level = _levels(g, rois)
    features, places = [], []
    for number, (stride, map) in enumerate(zip(STRIDES, maps)):
        own = g.add("Equal", level, np.int64(number))
        own = g.add("Reshape", g.add("NonZero", own), [-1])
        places.append(own)
        features.append(
            g.add(
                "RoiAlign",
                g.add("Transpose", map, perm=FIRST),
                g.add("Gather", rois, own),
                g.add("Gather", images, own),
                coordinate_transformation_mode="half_pixel",
                mode="avg",
                output_height=layer.size,
                output_width=layer.size,
                sampling_ratio=0,
                spatial_scale=1 / stride,
            )
        )
    features = g.add("Concat", *features, axis=0)
    places = g.add("Unsqueeze", g.add("Concat", *places, axis=0), [1])
    features = g.add(
        "ScatterND", g.add("Mul", features, np.float32(0)), places, features
    )
    return g.add("Transpose", features, perm=LAST, name=layer.name)


def merged_rows(g, layer, valid):
    return g.add("Reshape", valid, [-1, 1, 1])


def refined_boxes(g, layer, boxes, logits, deltas, sizes):
    best = g.add("ArgMax", _without_last(g, logits), axis=1, keepdims=1)
    deltas = g.add("Reshape", deltas, [0, -1, 4])
    moves = g.add("GatherND", deltas, best, batch_dims=1)
    moves = g.add("Reshape", moves, g.add("Shape", boxes))
    return _decoded(g, boxes, moves, layer.stds, sizes)


def detections(g, layer, boxes, valid, logits, deltas, sizes, originals):
    scale = _scale(g, sizes, originals)
    scores, moved = _of_classes(g, layer, boxes, logits, deltas, sizes)
    moved = g.add("Div", moved, g.add("Unsqueeze", scale, [1]))
    is_there = g.add(
        "And",
        g.add("Unsqueeze", valid, [2]),
        g.add("Greater", scores, np.float32(layer.score_threshold)),
    )
    scores = g.add("Where", is_there, scores, NOTHING)
    scores, classes = _kept_by_class(g, layer, moved, scores)
    best, index = _best(g, scores, layer.kept)
    is_there = g.add("Greater", best, ABOVE_NOTHING)
    found = _rows_at(g, g.add("Reshape", moved, [0, -1, 4]), index)
    found = _masked(g, found, is_there)
    classes = g.add("Where", is_there, g.add("Mod", index, classes), -1)
    return (
        found,
        g.add("Mul", found, scale),
        g.add("Where", is_there, best, np.float32(0)),
        g.cast(classes, "int32"),
    )


def _of_classes(g, layer, boxes, logits, deltas, sizes):
    """Scores `(batch, n, classes)`, and the box of each."""
    mean = g.add("Mean", *logits)
    scores = _without_last(g, g.add("Softmax", mean, axis=-1))
    rows = g.add("Shape", boxes, start=0, end=2)
    scores = g.add("Reshape", scores, g.add("Concat", rows, [-1], axis=0))
    shape = g.add("Concat", g.add("Shape", scores), [4], axis=0)
    deltas = g.add("Reshape", deltas, shape)
    boxes = g.add("Unsqueeze", boxes, [2])
    return scores, _decoded(g, boxes, deltas, layer.stds, sizes, rank=4)


def _kept_by_class(g, layer, boxes, scores):
    """Scores `(batch, n · classes)`, −1 where suppressed; how many classes.

    Every class of every image is suppressed as if it was an image of its own.
    """
    scores = g.add("Transpose", scores, perm=(0, 2, 1))
    shape = g.add("Shape", scores)
    count = g.add("Slice", shape, [2], [3])
    flat = g.add("Reshape", scores, g.add("Concat", [-1], count, axis=0))
    boxes = g.add("Transpose", boxes, perm=(0, 2, 1, 3))
    boxes_shape = g.add("Concat", [-1], count, [4], axis=0)
    boxes = g.add("Reshape", boxes, boxes_shape)
    scores = g.add("Reshape", _kept(g, layer, boxes, flat), shape)
    scores = g.add("Transpose", scores, perm=(0, 2, 1))
    return g.add("Reshape", scores, [0, -1]), g.add("Slice", shape, [1], [2])


def class_masks(g, layer, logits, classes):
    classes = g.cast(classes, "int64")
    own = g.add("Reshape", classes, [-1, 1])
    index = g.add("Max", own, 0)
    masks = [
        g.add(
            "Sigmoid",
            g.add(
                "GatherND",
                g.add("Transpose", x, perm=FIRST),
                index,
                batch_dims=1,
            ),
        )
        for x in logits
    ]
    is_there = g.add("GreaterOrEqual", g.add("Unsqueeze", own, [2]), 0)
    masks = g.add("Where", is_there, g.add("Mean", *masks), np.float32(0))
    sides = g.add("Shape", logits[0], start=1, end=3)
    shape = g.add("Concat", g.add("Shape", classes), sides, axis=0)
    return g.add("Reshape", masks, shape, name=layer.name)


def _anchors(g, stride, height, width):
    """Those of one level, `(n, 4)`; see `anchors.py`."""
    places = []
    for side, others in ((height, [1, 2, 3]), (width, [0, 2, 3])):
        cells = g.add("Div", g.add("Add", side, stride - 1), stride)
        place = g.add("Mul", g.add("Range", 0, cells, 1), stride)
        places.append(g.add("Unsqueeze", g.cast(place, "float32"), others))
    y, x = places
    centers = g.add(
        "Add",
        g.add("Mul", x, np.float32([1, 0, 1, 0])),
        g.add("Mul", y, np.float32([0, 1, 0, 1])),
    )
    boxes = g.add("Add", centers, around_zero(stride).astype("float32"))
    return g.add("Reshape", boxes, [-1, 4])


def _decoded(g, boxes, deltas, stds, sizes, rank=3):
    """What `boxes.decode` computes."""
    starts, ends = _halves(g, boxes)
    center = g.add("Mul", g.add("Add", starts, ends), np.float32(0.5))
    sides = g.add("Sub", ends, starts)
    shift, growth = _halves(g, g.add("Mul", deltas, np.float32(stds)))
    center = g.add("Add", center, g.add("Mul", sides, shift))
    limit = np.float32(LIMIT)
    growth = g.add("Exp", g.add("Clip", growth, -limit, limit))
    half = g.add("Mul", g.add("Mul", sides, np.float32(0.5)), growth)
    moved = g.add(
        "Concat",
        g.add("Sub", center, half),
        g.add("Add", center, half),
        axis=-1,
    )
    limits = _widths_and_heights(g, sizes, rank)
    return g.add("Min", g.add("Max", moved, np.float32(0)), limits)


def _widths_and_heights(g, sizes, rank):
    sizes = g.cast(g.add("Gather", sizes, [1, 0, 1, 0], axis=1), "float32")
    return g.add("Unsqueeze", sizes, list(range(1, rank - 1)))


def _scale(g, sizes, originals):
    return g.add(
        "Div",
        _widths_and_heights(g, sizes, 3),
        _widths_and_heights(g, originals, 3),
    )


def _halves(g, x):
    return tuple(
        g.add("Slice", x, [start], [start + 2], [-1]) for start in (0, 2)
    )


def _has_area(g, boxes):
    starts, ends = _halves(g, boxes)
    least = g.add("ReduceMin", g.add("Sub", ends, starts), [-1], keepdims=0)
    return g.add("Greater", least, np.float32(0))


def _kept(g, layer, boxes, scores):
    """Scores `(batch, n)` of what is not suppressed, and of all else −1."""
    selected = g.add(
        "NonMaxSuppression",
        boxes,
        g.add("Unsqueeze", scores, [1]),
        layer.kept,
        np.float32(layer.iou_threshold),
        ABOVE_NOTHING,
    )
    places = g.add("Gather", selected, [0, 2], axis=1)
    nothing = g.add("Expand", NOTHING, g.add("Shape", scores))
    values = g.add("GatherND", scores, places)
    return g.add("ScatterND", nothing, places, values)


def _best(g, scores, count):
    """The best scores of each image, and where; −1 behind the last."""
    last = g.add("Sub", _number(g, scores, 1), 1)
    more = g.add("Pad", scores, [0, 0, 0, count], NOTHING)
    best, index = g.add("TopK", more, [count], outputs=2)
    return best, g.add("Min", index, last)


def _rows_at(g, x, index):
    index = g.add("Unsqueeze", index, [2])
    return g.add("GatherND", x, index, batch_dims=1)


def _masked(g, rows, is_there):
    is_there = g.add("Unsqueeze", is_there, [2])
    return g.add("Where", is_there, rows, np.float32(0))


def _levels(g, rois):
    """What `roi_align.levels` computes."""
    starts, ends = _halves(g, rois)
    area = g.add("ReduceProd", g.add("Sub", ends, starts), [1], keepdims=1)
    side = g.add("Div", g.add("Sqrt", area), np.float32(FINEST))
    side = g.add("Add", side, np.float32(1e-6))
    above = g.add("GreaterOrEqual", side, np.float32([2, 4, 8]))
    return g.add("ReduceSum", g.cast(above, "int64"), [1], keepdims=0)


def _without_last(g, x):
    return g.add("Slice", x, [0], [-1], [-1])


def _sides(g, images):
    return g.add("Shape", images, start=1, end=3)


def _number(g, x, axis):
    return g.add("Squeeze", g.add("Shape", x, start=axis, end=axis + 1))
