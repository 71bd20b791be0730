"""One step of training a detector: what its heads are shown, and the losses.

The layers are those of the whole model, which is Functional and ends in
detections. Training cuts it where regions are chosen: there they are what is
proposed, here they are drawn from the proposals and the objects themselves.
"""

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import check_fields
from keras_convnext.tasks.detection import boxes as box_functions
from keras_convnext.tasks.detection import matching
from keras_convnext.tasks.detection import objective
from keras_convnext.tasks.detection.anchors import STRIDES
from keras_convnext.tasks.detection.anchors import anchors
from keras_convnext.tasks.detection.layers import Proposals
from keras_convnext.tasks.detection.roi_align import pooled
from keras_convnext.training.distribution.shared_draws import with_shared_draws

LEVELS = len(STRIDES)
TARGETS = ("boxes", "classes", "valid")


@dataclass(frozen=True)
class Sampling:
    """How many boxes learn in a step, of each image.

    Attributes:
        anchors, anchor_positives: anchors, and the most that have an object.
        candidates: the best anchors of each level, for proposals.
        proposals: how many stay of them; `None` for the published number.
        regions, region_positives: regions that the heads learn from, and the
            most that have an object, which are those that masks learn from.

    Source: `train_cfg` of mmdet's `mask_rcnn_r50_fpn.py`.
    """

    anchors: Count = 256
    anchor_positives: Count = 128
    candidates: Count = 2000
    proposals: Count | None = None
    regions: Count = 512
    region_positives: Count = 128

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class Objective:
    """In what the training of the two detectors differs.

    Attributes:
        proposals: the published number for each image.
        inside: whether anchors that leave the image take no part.
        beta: see `objective.smooth_l1`, for the boxes of anchors.
        giou: whether moved boxes are compared, and not deltas.
        thresholds, weights: `matching.Thresholds` of the regions of each
            stage, and what its losses are multiplied with.
    """

    proposals: int
    inside: bool
    beta: float
    giou: bool
    thresholds: tuple[matching.Thresholds, ...]
    weights: tuple[float, ...]


MASK_RCNN = Objective(1000, False, 0.0, False, (matching.REGIONS,), (1.0,))
CASCADE = Objective(2000, True, 1 / 9, True, matching.STAGES, (1.0, 0.5, 0.25))


def loss_names(stages):
    """The names of all losses; `stages` as `DetectionModel.stages`."""
    parts = ("class_loss", "box_loss", "mask_loss")
    of_stages = [f"{part}{stage}" for stage in stages for part in parts]
    return ["anchor_class_loss", "anchor_box_loss", *of_stages]


class Parts:
    """The pieces of a detector that training runs one by one.

    Args:
        model: a `DetectionModel`.

    Attributes:
        stages: as `DetectionModel.stages`.
        replicas: as `DetectionModel.replicas`.
        objective: an `Objective`.
        stds: what the deltas of each stage are multiplied with.
        trunk: a model from a dict of images and their sizes to a dict of
            `maps`, `scores` and `deltas`.
        box_heads, mask_heads: models from the features of regions.
    """

    def __init__(self, model):
        self._model = model
        self.stages = model.stages
        self.replicas = model.replicas
        self.objective = MASK_RCNN if len(self.stages) == 1 else CASCADE
        refining = [f"box{stage}_boxes" for stage in self.stages[1:]]
        layers = [self._layer(x) for x in (*refining, "detections")]
        self.stds = [layer.stds for layer in layers]
        inputs = {x.name: x for x in model.inputs}
        trunk = keras.Model(
            {name: inputs[name] for name in ("images", "image_sizes")},
            {
                name: [self._output(f"{start}_{i}") for i in range(LEVELS)]
                for name, start in (
                    ("maps", "fpn_output"),
                    ("scores", "rpn_scores"),
                    ("deltas", "rpn_deltas"),
                )
            },
        )
        # Its stochastic depth alone draws in the layers.
        self.trunk = (
            trunk
            if self.replicas.count == 1
            else with_shared_draws(trunk, self.replicas)
        )
        self.box_heads = [self._box_head(stage) for stage in self.stages]
        features = self._output("mask_roi_align")
        self.mask_heads = [
            keras.Model(features, self._output(f"mask{stage}_classifier"))
            for stage in self.stages
        ]
        self.box_side, self.mask_side = (
            self._layer(f"{name}_roi_align").size
            for name in (f"box{self.stages[0]}", "mask")
        )

    def _box_head(self, stage):
        inputs = [self._output(f"box{stage}_roi_align")]
        if len(self.stages) > 1:  # whose batch norms count rows
            inputs.append(self._output("box_rows"))
        names = ("classifier", "deltas")
        outputs = [self._output(f"box{stage}_{name}") for name in names]
        return keras.Model(inputs, outputs)

    def _layer(self, name):
        return self._model.get_layer(f"{self._model.prefix}{name}")

    def _output(self, name):
        return self._layer(name).output


def check_targets(targets):
    """Raises `ValueError` unless targets are a dict with all that is needed."""
    names = targets if isinstance(targets, dict) else ()
    missing = [x for x in TARGETS if x not in names]
    if missing:
        raise ValueError(
            f"Detectors learn from a dict of {', '.join(map(repr, TARGETS))} "
            "and perhaps 'masks', as `data.ObjectLoader` gives it. Received: "
            f"{sorted(names) or type(targets).__name__}"
        )


def check_objects(targets, classes):
    """Raises `ValueError` for targets that a detector cannot learn.

    Args:
        targets: dict of arrays.
        classes: int, how many the detector has.
    """
    check_targets(targets)
    boxes, numbers, valid = (
        np.asarray(ops.convert_to_numpy(targets[name])) for name in TARGETS
    )
    boxes, numbers = boxes[valid > 0], numbers[valid > 0]
    others = np.unique(numbers[(numbers < 0) | (numbers >= classes)])
    if others.size:
        raise ValueError(
            f"The detector knows the classes 0 to {classes - 1}. Received: "
            f"{others[:5].tolist()}. Count the classes from 0, or build the "
            "model for all"
        )
    is_box = np.isfinite(boxes).all(1) & (boxes[:, 2:] >= boxes[:, :2]).all(1)
    if not is_box.all():
        raise ValueError(
            "Boxes are x1, y1, x2, y2 in pixels, with x1 <= x2 and y1 <= y2. "
            f"Received: {boxes[~is_box][0].tolist()}. Add the corner to a "
            "width and a height"
        )


class Step:
    """The losses of one batch.

    Args:
        parts: `Parts`.
        sampling: a `Sampling`.
        sizes: int tensor `(batch, 2)`, heights and widths of the images.
        targets: dict of `boxes` `(batch, g, 4)` in pixels of the images,
            `classes` and `valid` `(batch, g)`, and perhaps `masks` `(batch, g,
            height, width)` of the canvas, and `masked` `(batch, g)` if they
            are not of all.
        seed: function without arguments that returns a new seed of `draws`.
        training: bool, whether heads run as in training.
    """

    def __init__(self, parts, sampling, sizes, targets, seed, training):
        check_targets(targets)
        self.parts, self.sampling = parts, sampling
        self.objective = parts.objective
        self.sizes, self.seed, self.training = sizes, seed, training
        self.objects = box_functions.as_boxes(targets["boxes"])
        self.classes = ops.cast(targets["classes"], "int32")
        self.present = ops.cast(targets["valid"], "bool")
        self.masks = targets.get("masks")
        self.masked = targets.get("masked")
        self.images = parts.replicas.places(ops.shape(sizes)[0])

    def losses(self, maps, scores, deltas):
        """By name, from what the trunk returns."""
        dtype = box_functions.as_boxes(deltas[0]).dtype
        self.objects = ops.cast(self.objects, dtype)
        values = [*self._of_anchors(maps[0], scores, deltas)]
        found = (
            ops.stop_gradient(maps[0]),
            *([ops.stop_gradient(x) for x in y] for y in (scores, deltas)),
        )
        propose = Proposals(
            self.sampling.candidates,
            self.sampling.proposals or self.objective.proposals,
        )
        regions = propose(*found, self.sizes)
        for stage, weight in enumerate(self.objective.weights):
            of_stage, regions = self._of_stage(stage, maps[:4], *regions)
            values += [weight * x for x in of_stage]
        return dict(zip(loss_names(self.parts.stages), values))

    def _of_anchors(self, finest, scores, deltas):
        height, width = (STRIDES[0] * x for x in ops.shape(finest)[1:3])
        dtype = keras.backend.standardize_dtype(self.objects.dtype)
        every = anchors(height, width, dtype)
        scores, deltas = (ops.concatenate(x, 1) for x in (scores, deltas))
        valid = ops.ones_like(scores, dtype="bool")
        if self.objective.inside:
            edges = ops.cast(ops.flip(self.sizes, axis=1), every.dtype)
            edges = edges[:, None]
            valid = ops.all(every[None, :, 2:] < edges, axis=-1)
            valid = valid & ops.all(every[None, :, :2] >= 0, axis=-1)
        found = matching.assigned(
            every[None], valid, self.objects, self.present, matching.ANCHORS
        )
        samples = self._sampled(
            found, self.sampling.anchors, self.sampling.anchor_positives
        )
        return objective.anchor_losses(
            ops.take_along_axis(scores, samples.index, axis=1),
            _rows(deltas, samples.index),
            ops.take(every, samples.index, axis=0),
            self._at_objects(self.objects, found, samples),
            samples,
            self.objective.beta,
            self.parts.replicas,
        )

    def _of_stage(self, stage, maps, proposals, valid):
        """Losses of a stage, and the regions of the next one."""
        assigned = matching.assigned(
            proposals,
            valid,
            self.objects,
            self.present,
            self.objective.thresholds[stage],
        )
        # The objects themselves are regions, too: there may be no others that
        # are near them.
        count = self.objects.shape[1]
        own = ops.arange(count, dtype="int32")
        own = ops.where(self.present, own, matching.NEITHER)
        found = ops.concatenate([own, assigned], axis=1)
        boxes = ops.concatenate(
            [self.objects, ops.cast(proposals, self.objects.dtype)], axis=1
        )
        samples = self._sampled(
            found, self.sampling.regions, self.sampling.region_positives
        )
        boxes = _rows(boxes, samples.index)
        labels = self._at_objects(self.classes, found, samples)
        logits, deltas = self._heads(stage, maps, boxes, samples.valid)
        of_boxes = objective.region_losses(
            logits,
            deltas,
            boxes,
            self._at_objects(self.objects, found, samples),
            labels,
            samples,
            self.parts.stds[stage],
            self.objective.giou,
            self.parts.replicas,
        )
        of_mask = self._of_masks(stage, maps, boxes, found, labels, samples)
        moved = self._moved(stage, boxes, logits, deltas, labels, samples)
        is_proposal = samples.valid & (samples.index >= count)
        return (*of_boxes, of_mask), (moved, is_proposal)

    def _heads(self, stage, maps, boxes, valid):
        features = pooled(maps, boxes, self.parts.box_side)
        inputs = [_merged(features)]
        if len(self.parts.stages) > 1:
            inputs.append(ops.reshape(valid, (-1, 1, 1)))
        outputs = self.parts.box_heads[stage](inputs, training=self.training)
        shape = (-1, boxes.shape[1])
        return [ops.reshape(x, (*shape, x.shape[-1])) for x in outputs]

    def _of_masks(self, stage, maps, boxes, found, labels, samples):
        if self.masks is None:
            return ops.zeros((), dtype=self.objects.dtype)
        most = min(self.sampling.region_positives, boxes.shape[1])
        boxes, labels = boxes[:, :most], labels[:, :most]
        objects = ops.take_along_axis(found, samples.index[:, :most], axis=1)
        positive = samples.positive[:, :most]
        if self.masked is not None:
            known = ops.cast(self.masked, "bool")
            owners = ops.maximum(objects, 0)
            known = ops.take_along_axis(known, owners, axis=1)
            positive = positive & known
        features = _merged(pooled(maps, boxes, self.parts.mask_side))
        return objective.mask_loss(
            self.parts.mask_heads[stage](features, training=self.training),
            self.masks,
            boxes,
            ops.maximum(objects, 0),
            labels,
            positive,
            self.parts.replicas,
        )

    def _moved(self, stage, boxes, logits, deltas, labels, samples):
        """Regions as the next stage gets them: by the deltas of their class,
        or of the likeliest one where they have none."""
        likeliest = ops.cast(ops.argmax(logits[..., :-1], axis=-1), "int32")
        labels = ops.where(samples.positive, labels, likeliest)
        moves = ops.stop_gradient(objective.class_deltas(deltas, labels))
        stds = self.parts.stds[stage]
        return box_functions.decode(boxes, moves, stds, self.sizes)

    def _sampled(self, found, count, positives):
        seed = self.seed()
        return matching.sampled(found, count, positives, seed, self.images)

    def _at_objects(self, values, found, samples):
        """What is known of the object of each sample, or of any."""
        objects = ops.take_along_axis(found, samples.index, axis=1)
        objects = ops.maximum(objects, 0)
        if len(values.shape) == 2:
            return ops.take_along_axis(values, objects, axis=1)
        return _rows(values, objects)


def _rows(x, index):
    """Rows of `(batch, n, k)` by numbers `(batch, m)`."""
    return ops.take_along_axis(x, index[..., None], axis=1)


def _merged(features):
    return ops.reshape(features, (-1, *features.shape[2:]))
