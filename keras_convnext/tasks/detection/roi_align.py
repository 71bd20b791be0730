"""RoIAlign: the mean of a feature map over each cell of a grid on a box.

Every bin of a box takes the mean of samples, each interpolated from four pixels
of the map. Bins are rectangles, so the share of a pixel is the share of its row
times the share of its column, and n × m samples touch (n + 1) × (m + 1) pixels
alone. `roi_grid.py` computes the shares along either axis, and `roi_sums.py`
adds up the pixels, in the form that is fast on each backend.
"""

from keras import ops

from keras_convnext._util.annotations import ArrayLike
from keras_convnext._util.annotations import Tensor
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import in_range
from keras_convnext.tasks.detection import roi_grid
from keras_convnext.tasks.detection import roi_sums
from keras_convnext.tasks.detection.boxes import area
from keras_convnext.tasks.detection.boxes import as_boxes

STRIDES = (4, 8, 16, 32)
SCALES = [1 / stride for stride in STRIDES]
# Side of a box that still belongs to the first level, pixels: `2 * FINEST`.
FINEST = 56


@in_range
def roi_align(
    features: ArrayLike | Tensor,
    boxes: ArrayLike | Tensor,
    size: Count,
    scale: Positive = 1.0,
    sampling_ratio: CountOrZero = 0,
) -> Tensor:
    """Features of boxes on a grid, each cell the mean of its samples.

    Half-pixel centers (`aligned=True`). Samples more than one pixel outside
    the map are 0 and count. Gradients flow to the features only.

    Args:
        features: float array `(batch, height, width, channels)`.
        boxes: float array `(batch, n, 4)`, x1, y1, x2, y2 in pixels of the
            image. A box without width or height, or with NaN, gives 0.
        size: int, rows and columns of the grid.
        scale: positive number, pixels of the map for one of the image.
        sampling_ratio: int, samples along each side of a cell; 0 for one for
            every pixel of the map or part of it.

    Returns:
        A tensor `(batch, n, size, size, channels)` in the dtype of
        `features`, summed in float32 at least.

    Raises:
        ValueError: for arrays of other shapes.

    Source: arXiv:1703.06870; `roi_align(aligned=True)` of torchvision and
    mmcv, the operator `RoiAlign` of ONNX.

    Examples:
        >>> ramp = np.arange(16.0, dtype="float32").reshape(1, 4, 4, 1)
        >>> box = np.array([[[0.0, 0.0, 4.0, 4.0]]])
        >>> out = keras_convnext.detection.roi_align(ramp, box, size=2)
        >>> [float(x) for x in out[0, 0, :, :, 0].flatten()]
        [2.5, 4.5, 10.5, 12.5]
    """
    features, boxes = ops.convert_to_tensor(features), as_boxes(boxes)
    if len(features.shape) != 4 or tuple(boxes.shape[2:]) != (4,):
        raise ValueError(
            "Expected `features` of shape (batch, height, width, channels), "
            "and `boxes` of shape (batch, n, 4). Received: "
            f"{tuple(features.shape)}, {tuple(boxes.shape)}"
        )
    levels = ops.zeros(ops.shape(boxes)[:2], dtype="int32")
    return _by_image([features], boxes, levels, [scale], size, sampling_ratio)


def pooled(maps, boxes, size):
    """RoIAlign from the level that suits the size of each box.

    Args:
        maps: list of four float tensors `(batch, height, width, channels)`,
            of stride 4, 8, 16 and 32.
        boxes: float tensor `(batch, n, 4)`, pixels of the image.
        size: int, rows and columns of the grid.

    Returns:
        A tensor `(batch, n, size, size, channels)`.

    Examples:
        >>> maps = [np.ones((1, 64 // s, 64 // s, 2)) for s in (4, 8, 16, 32)]
        >>> out = pooled(maps, np.array([[[0.0, 0.0, 60.0, 60.0]]]), 7)
        >>> keras.ops.shape(out)
        (1, 1, 7, 7, 2)
    """
    maps = [ops.convert_to_tensor(x) for x in maps]
    boxes = as_boxes(boxes)
    return _by_image(maps, boxes, levels(boxes), SCALES, size, 0)


def pooled_rows(maps, boxes, images, size):
    """`pooled` of boxes in one list, each with the number of its image.

    Args:
        maps, size: as for `pooled`.
        boxes: float tensor `(r, 4)`, pixels of the images.
        images: int tensor `(r,)`.

    Returns:
        A tensor `(r, size, size, channels)`.
    """
    return _aligned(maps, boxes, images, levels(boxes), SCALES, size, 0)


def aligned_masks(masks, boxes, owners, size):
    """RoIAlign of one of many masks for each box.

    Args:
        masks: bool or uint8 tensor `(count, height, width)`.
        boxes: float tensor `(r, 4)`, pixels of the mask.
        owners: int tensor `(r,)`, the mask of each box.
        size: int, rows and columns of the grid.

    Returns:
        A float tensor `(r, size, size)`.

    Examples:
        >>> masks = np.array([[[0, 0]], [[0, 1]]], "uint8")
        >>> box = np.array([[0.0, 0.0, 2.0, 1.0]])
        >>> [float(x) for x in aligned_masks(masks, box, [1], 2)[0, 0]]
        [0.0, 1.0]
    """
    maps = [ops.cast(ops.convert_to_tensor(masks), "uint8")[..., None]]
    owners = ops.cast(ops.convert_to_tensor(owners), "int32")
    levels = ops.zeros_like(owners)
    boxes = as_boxes(boxes)
    return _aligned(maps, boxes, owners, levels, [1.0], size, 0)[..., 0]


def levels(boxes):
    """The level of each box, 0 to 3: under 112 pixels of mean side 0, then
    one more each time that it doubles.

    Source: `SingleRoIExtractor.map_roi_levels` of mmdet, without its
    logarithm, which XLA rounds otherwise.

    Examples:
        >>> boxes = np.array([[0, 0, 112, 111], [0, 0, 112, 112]])
        >>> [int(x) for x in levels(boxes)]
        [0, 1]
    """
    side = ops.sqrt(area(as_boxes(boxes)))[..., None]
    ends = ops.cast((2, 4, 8), side.dtype)
    return ops.sum(ops.cast(side / FINEST + 1e-6 >= ends, "int32"), axis=-1)


def _by_image(maps, boxes, levels, scales, size, sampling_ratio):
    """`(batch, n, size, size, channels)`, each box from its own image."""
    batch, count = ops.shape(boxes)[:2]
    images = ops.repeat(ops.arange(batch, dtype="int32"), count)
    flat = ops.reshape(boxes, (-1, 4)), images, ops.reshape(levels, (-1,))
    aligned = _aligned(maps, *flat, scales, size, sampling_ratio)
    shape = (batch, count, size, size, maps[0].shape[-1])
    return ops.reshape(aligned, shape)


def _aligned(maps, boxes, images, levels, scales, size, sampling_ratio):
    """`(r, size, size, channels)`, each box from one level of one image."""
    channels = maps[0].shape[-1]
    if boxes.shape[0] == 0:
        return ops.zeros((0, size, size, channels), dtype=maps[0].dtype)
    # JAX could not turn the loop over pixels around, and needs not.
    boxes, levels = ops.stop_gradient(boxes), ops.stop_gradient(levels)
    table = [ops.reshape(x, (-1, channels)) for x in maps]
    table = table[0] if len(table) == 1 else ops.concatenate(table, axis=0)
    of_box = _of_level(maps, scales, levels, boxes.dtype)
    scaled = boxes * of_box["scale"][:, None] - 0.5
    axes = {
        name: roi_grid.axis(
            scaled[:, i], scaled[:, i + 2], of_box[limit], size, sampling_ratio
        )
        for i, (name, limit) in enumerate((("x", "width"), ("y", "height")))
    }
    first = of_box["start"] + images * of_box["height"] * of_box["width"]
    rois = {**axes, "first": first}
    sums = roi_sums.sums(table, rois, size, sampling_ratio)
    return ops.reshape(sums, (-1, size, size, channels))


def _of_level(maps, scales, levels, dtype):
    """Of each box: scale, height and width of its map, and where the map
    begins in a table of the pixels of all maps, image after image."""
    heights, widths, starts, start = [], [], [], 0
    for x in maps:
        batch, height, width = ops.shape(x)[:3]
        heights.append(height)
        widths.append(width)
        starts.append(start)
        start = start + batch * height * width
    columns = {"height": heights, "width": widths, "start": starts}
    of_box = {
        name: ops.take(ops.cast(ops.stack(values), "int32"), levels)
        for name, values in columns.items()
    }
    return {
        **of_box,
        "scale": ops.take(ops.convert_to_tensor(scales, dtype), levels),
    }
