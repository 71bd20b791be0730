"""What detectors compute between their heads: layers without weights.

All shapes are fixed: what is not there is a row of zeros, and marked as such.
Boxes are x1, y1, x2, y2 in pixels, float32 under every policy.
"""

import math

import keras
from keras import ops

from keras_convnext._util.serialization import register
from keras_convnext.layers import forms
from keras_convnext.tasks.detection import boxes as box_functions
from keras_convnext.tasks.detection import onnx_forms
from keras_convnext.tasks.detection import roi_align
from keras_convnext.tasks.detection.anchors import STRIDES
from keras_convnext.tasks.detection.anchors import anchors
from keras_convnext.tasks.detection.anchors import counts
from keras_convnext.tasks.detection.suppression import suppressed

# The coarsest stride of a ConvNeXt: images become multiples of it.
MULTIPLE = 32
# Of the anchors' deltas.
ANCHOR_STDS = (1.0, 1.0, 1.0, 1.0)


class BoxLayer(keras.layers.Layer):
    """A layer that gets float32 boxes, whatever its own policy is."""

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    # Without one of its own a layer with a dtype policy cannot be saved.
    def get_config(self):
        return super().get_config()


@register
class ImageSizes(BoxLayer):
    """Height and width of images that fill their tensor.

    Call arguments:
        images: tensor `(batch, height, width, channels)`.

    Returns:
        An int32 tensor `(batch, 2)`.
    """

    def call(self, images):
        batch, height, width = ops.shape(images)[:3]
        sides = ops.cast(ops.stack([height, width]), "int32")
        return ops.broadcast_to(sides[None], (batch, 2))

    def compute_output_spec(self, images):
        return keras.KerasTensor((images.shape[0], 2), "int32")


@register
class Padding(BoxLayer):
    """Pixels outside of an image become what the network sees as zero.

    Args:
        values: one number per channel, to be normalized to zero.
        **kwargs: `name`, `dtype` and so on.

    Call arguments:
        images: tensor `(batch, height, width, channels)`, whatever stands
            beside or below each image.
        sizes: int tensor `(batch, 2)`, heights and widths of the images.

    Returns:
        A tensor in the layer's dtype whose sides are multiples of 32, with
        `values` to the right of and below each image.
    """

    def __init__(self, values, **kwargs):
        super().__init__(**kwargs)
        self.values = [float(value) for value in values]

    def call(self, images, sizes):
        images = ops.cast(images, self.compute_dtype)
        height, width = ops.shape(images)[1:3]
        images = ops.pad(
            images,
            [(0, 0), (0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0)],
        )
        rows = _numbers(images, 1)[None, :] < sizes[:, :1]
        columns = _numbers(images, 2)[None, :] < sizes[:, 1:]
        inside = rows[:, :, None, None] & columns[:, None, :, None]
        values = ops.convert_to_tensor(self.values, self.compute_dtype)
        return ops.where(inside, images, values)

    def compute_output_spec(self, images, sizes):
        batch, height, width, channels = images.shape
        sides = (x and -(-x // MULTIPLE) * MULTIPLE for x in (height, width))
        return keras.KerasTensor((batch, *sides, channels), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "values": self.values}


@register
class Proposals(BoxLayer):
    """The best of all anchors, moved to where objects may be.

    Args:
        candidates: int, the best anchors that each level has at most.
        kept: int, rows of the result.
        iou_threshold: number from 0 to 1, of the suppression in each level.
        **kwargs: `name`, `dtype` and so on.

    Call arguments:
        map: the finest map, `(batch, height / 4, width / 4, channels)`, which
            tells the size of the images.
        scores: list of five tensors `(batch, anchors)`, logits.
        deltas: list of five tensors `(batch, anchors, 4)`.
        sizes: int tensor `(batch, 2)`, heights and widths to clip boxes to.

    Returns:
        Boxes `(batch, kept, 4)` by falling score, and booleans `(batch,
        kept)`, whether there is one.

    Source: `RPNHead` of mmdet 3, which drops boxes without area: there is
    nothing in them to look at. mmdet 2.11, of the official repository, leaves
    them in, two of a thousand in a photograph.
    """

    def __init__(self, candidates, kept, iou_threshold=0.7, **kwargs):
        super().__init__(**kwargs)
        self.candidates = candidates
        self.kept = kept
        self.iou_threshold = iou_threshold

    def call(self, map, scores, deltas, sizes):
        height, width = (STRIDES[0] * x for x in ops.shape(map)[1:3])
        dtype = keras.backend.standardize_dtype(
            box_functions.as_boxes(deltas[0]).dtype
        )
        every, start, levels = anchors(height, width, dtype), 0, []
        for count, level, moves in zip(counts(height, width), scores, deltas):
            own = every[start : start + count]
            levels.append(self._best(own, level, moves))
            start += count
        groups = [
            ops.full_like(best, level, dtype="int32")
            for level, (_, best) in enumerate(levels)
        ]
        boxes, best = (ops.concatenate(x, axis=1) for x in zip(*levels))
        boxes = box_functions.clip(boxes, sizes)
        has_area = ops.all(boxes[..., 2:] > boxes[..., :2], axis=-1)
        kept = suppressed(
            boxes,
            best,
            ops.concatenate(groups, axis=1),
            has_area & (best >= 0),
            self.iou_threshold,
            self.kept,
        )
        return rows_at(boxes, kept), kept >= 0

    def _best(self, own, scores, deltas):
        """Boxes of the best anchors of a level, and scores; −1 for none."""
        scores = ops.sigmoid(box_functions.as_boxes(scores))
        # There may be fewer anchors than candidates.
        none = ops.full((ops.shape(scores)[0], self.candidates), -1.0)
        none = ops.cast(none, scores.dtype)
        best, indices = ops.top_k(
            ops.concatenate([scores, none], axis=1), self.candidates
        )
        indices = ops.minimum(ops.cast(indices, "int32"), len_of(own) - 1)
        boxes = ops.take(own, indices, axis=0)
        moves = ops.take_along_axis(deltas, indices[:, :, None], axis=1)
        return box_functions.decode(boxes, moves, ANCHOR_STDS), best

    def compute_output_spec(self, map, scores, deltas, sizes):
        shape = (map.shape[0], self.kept)
        return (
            keras.KerasTensor((*shape, 4), "float32"),
            keras.KerasTensor(shape, "bool"),
        )

    def get_config(self):
        return {
            **super().get_config(),
            "candidates": self.candidates,
            "kept": self.kept,
            "iou_threshold": self.iou_threshold,
        }


@register
class RoIAlign(BoxLayer):
    """Features of boxes, each from the level that suits its size.

    Args:
        size: int, rows and columns of the features.
        **kwargs: `name`, `dtype` and so on.

    Call arguments:
        maps: list of four tensors `(batch, height, width, channels)` of
            strides 4 to 32.
        boxes: tensor `(batch, n, 4)`.
        classes: int tensor `(batch, n)`, −1 where there is nothing to look
            at, or `None`.

    Returns:
        A tensor `(batch · n, size, size, channels)`. On PyTorch, where shapes
        may differ from batch to batch, without those of no class.
    """

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, maps, boxes, classes=None):
        if classes is not None and keras.backend.backend() == "torch":
            images, rows = (classes >= 0).nonzero(as_tuple=True)
            return roi_align.pooled_rows(
                maps, boxes[images, rows], images, self.size
            )
        features = roi_align.pooled(maps, boxes, self.size)
        channels = maps[0].shape[-1]
        return ops.reshape(features, (-1, self.size, self.size, channels))

    def compute_output_spec(self, maps, boxes, classes=None):
        shape = (_merged(boxes), self.size, self.size, maps[0].shape[-1])
        return keras.KerasTensor(shape, maps[0].dtype)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@register
class MergedRows(BoxLayer):
    """Which rows of merged features are of boxes that there are.

    Call arguments:
        valid: bool tensor `(batch, n)`.

    Returns:
        A bool tensor `(batch · n, 1, 1)`, a mask of batch normalizations.
    """

    def call(self, valid):
        return ops.reshape(valid, (-1, 1, 1))

    def compute_output_spec(self, valid):
        return keras.KerasTensor((_merged(valid), 1, 1), "bool")


@register
class RefineBoxes(BoxLayer):
    """Boxes moved by the deltas of their best class.

    Args:
        stds: four numbers that deltas are multiplied with.
        **kwargs: `name`, `dtype` and so on.

    Call arguments:
        boxes: tensor `(batch, n, 4)`.
        logits: tensor `(batch · n, classes + 1)`, the last one of no class.
        deltas: tensor `(batch · n, 4 · classes)`.
        sizes: int tensor `(batch, 2)`, heights and widths to clip boxes to.

    Returns:
        A tensor `(batch, n, 4)`.
    """

    def __init__(self, stds, **kwargs):
        super().__init__(**kwargs)
        self.stds = list(stds)

    def call(self, boxes, logits, deltas, sizes):
        best = ops.argmax(logits[:, :-1], axis=-1)
        deltas = ops.reshape(deltas, (-1, logits.shape[-1] - 1, 4))
        moves = ops.take_along_axis(deltas, best[:, None, None], axis=1)
        moves = ops.reshape(moves, (-1, boxes.shape[1], 4))
        return box_functions.decode(boxes, moves, self.stds, sizes)

    def compute_output_spec(self, boxes, logits, deltas, sizes):
        return keras.KerasTensor(boxes.shape, boxes.dtype)

    def get_config(self):
        return {**super().get_config(), "stds": self.stds}


@register
class Detections(BoxLayer):
    """The final boxes: of every class those that no better one overlaps.

    Args:
        stds: four numbers that deltas are multiplied with.
        kept: int, rows of the result.
        score_threshold: number from 0 to 1, which scores exceed.
        iou_threshold: number from 0 to 1, of the suppression in each class.
        **kwargs: `name`, `dtype` and so on.

    Call arguments:
        boxes: tensor `(batch, n, 4)`.
        valid: bool tensor `(batch, n)`.
        logits: list of tensors `(batch · n, classes + 1)`, one of each stage,
            the last number of each row for no class. Their mean counts.
        deltas: tensor `(batch · n, 4 · classes)`.
        sizes, original_sizes: int tensors `(batch, 2)`, heights and widths of
            the images, and before they were resized.

    Returns:
        By falling score: boxes `(batch, kept, 4)` in pixels of the original
        images and in those of the images; scores `(batch, kept)`; classes
        `(batch, kept)`, int32, −1 where there is nothing.

    Source: `multiclass_nms` of mmdet.
    """

    def __init__(
        self, stds, kept, score_threshold, iou_threshold=0.5, **kwargs
    ):
        super().__init__(**kwargs)
        self.stds = list(stds)
        self.kept = kept
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold

    def call(self, boxes, valid, logits, deltas, sizes, original_sizes):
        count, classes = boxes.shape[1], logits[0].shape[-1] - 1
        mean = sum(box_functions.as_boxes(x) for x in logits) / len(logits)
        shares = ops.softmax(mean, axis=-1)[:, :-1]
        scores, best = ops.top_k(shares, self._classes_above(classes))
        best = ops.cast(best, "int32")
        deltas = ops.reshape(deltas, (-1, classes, 4))
        moves = ops.take_along_axis(deltas, best[:, :, None], axis=1)
        # From `(batch · n, above, …)` to `(batch, n, above, …)`.
        above = best.shape[1]
        moves = ops.reshape(moves, (-1, count, above, 4))
        moved = box_functions.decode(boxes[:, :, None], moves, self.stds, sizes)
        scale = _scale(sizes, original_sizes)
        every = ops.reshape(moved, (-1, count * above, 4))
        scale = ops.cast(scale, every.dtype)
        every = every / scale
        scores = ops.reshape(scores, (-1, count * above))
        best = ops.reshape(best, (-1, count * above))
        is_there = ops.repeat(valid, above, axis=1)
        kept = suppressed(
            every,
            scores,
            best,
            is_there & (scores > self.score_threshold),
            self.iou_threshold,
            self.kept,
        )
        found = rows_at(every, kept)
        classes = ops.where(kept >= 0, rows_at(best, kept), -1)
        return found, found * scale, rows_at(scores, kept), classes

    def _classes_above(self, classes):
        """How many classes of one box can exceed the threshold."""
        if self.score_threshold == 0:
            return classes
        return min(classes, math.ceil(1 / self.score_threshold))

    def compute_output_spec(
        self, boxes, valid, logits, deltas, sizes, original_sizes
    ):
        shape = (boxes.shape[0], self.kept)
        return (
            keras.KerasTensor((*shape, 4), boxes.dtype),
            keras.KerasTensor((*shape, 4), boxes.dtype),
            keras.KerasTensor(shape, boxes.dtype),
            keras.KerasTensor(shape, "int32"),
        )

    def get_config(self):
        return {
            **super().get_config(),
            "stds": self.stds,
            "kept": self.kept,
            "score_threshold": self.score_threshold,
            "iou_threshold": self.iou_threshold,
        }


@register
class ClassMasks(BoxLayer):
    """The masks of the classes that were found.

    Call arguments:
        logits: list of tensors `(batch · n, side, side, classes)`, one of each
            stage; on PyTorch of those rows that there are.
        classes: int tensor `(batch, n)`, −1 where there is nothing.

    Returns:
        A float32 tensor `(batch, n, side, side)`, the mean of the stages'
        probabilities.
    """

    def call(self, logits, classes):
        count, side = classes.shape[1], logits[0].shape[1]
        own = ops.reshape(classes, (-1, 1, 1, 1))
        if keras.backend.backend() == "torch":
            is_there = (own >= 0).flatten()
            masks = _own_masks(logits, own[is_there])
            every = masks.new_zeros((len(own), side, side, 1))
            mean = every.index_put((is_there,), masks)
        else:
            masks = _own_masks(logits, ops.maximum(own, 0))
            mean = ops.where(own >= 0, masks, ops.zeros_like(masks))
        return ops.reshape(mean, (-1, count, side, side))

    def compute_output_spec(self, logits, classes):
        side = logits[0].shape[1]
        return keras.KerasTensor((*classes.shape, side, side), "float32")


def _own_masks(logits, classes):
    """The mean of the stages' probabilities, `(r, side, side, 1)`."""
    masks = [
        ops.sigmoid(
            ops.take_along_axis(box_functions.as_boxes(x), classes, axis=3)
        )
        for x in logits
    ]
    return sum(masks) / len(masks)


def rows_at(x, indices):
    """Rows `(batch, k, …)` of `(batch, n, …)`, zeros where the index is −1."""
    places = indices
    if len(x.shape) == 3:
        places = places[:, :, None]
    rows = ops.take_along_axis(x, ops.maximum(places, 0), axis=1)
    return ops.where(places >= 0, rows, ops.zeros_like(rows))


def len_of(x):
    return ops.shape(x)[0]


def _numbers(images, axis):
    return ops.arange(ops.shape(images)[axis], dtype="int32")


def _scale(sizes, original_sizes):
    """`(batch, 1, 4)`: what pixels of the originals are multiplied with."""
    sizes, original = (ops.cast(x, "float32") for x in (sizes, original_sizes))
    scale = sizes / original
    return ops.stack([scale[:, 1], scale[:, 0]] * 2, axis=-1)[:, None]


def _merged(x):
    batch, count = x.shape[:2]
    return None if batch is None else batch * count


forms.add(Padding, onnx=onnx_forms.padding)
forms.add(Proposals, onnx=onnx_forms.proposals)
forms.add(RoIAlign, onnx=onnx_forms.roi_features)
forms.add(MergedRows, onnx=onnx_forms.merged_rows)
forms.add(RefineBoxes, onnx=onnx_forms.refined_boxes)
forms.add(Detections, onnx=onnx_forms.detections)
forms.add(ClassMasks, onnx=onnx_forms.class_masks)
forms.add(ImageSizes, onnx=onnx_forms.image_sizes)
