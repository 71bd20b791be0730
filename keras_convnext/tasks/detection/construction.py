"""From a ConvNeXt, sizes and weights to a detector; both kinds alike."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import keras

from keras_convnext.facts import coco
from keras_convnext.facts.layer_names import LayerName
from keras_convnext.facts.layer_names import Part
from keras_convnext.layers.initializers import skip_random_numbers
from keras_convnext.models import arguments
from keras_convnext.models import inspection
from keras_convnext.models.model import ModelCard
from keras_convnext.tasks import backbones
from keras_convnext.tasks.detection import weights as weights_module
from keras_convnext.tasks.detection.heads import Heads
from keras_convnext.tasks.detection.layers import ClassMasks
from keras_convnext.tasks.detection.layers import Detections
from keras_convnext.tasks.detection.layers import Padding
from keras_convnext.tasks.detection.layers import Proposals
from keras_convnext.tasks.detection.layers import RoIAlign
from keras_convnext.tasks.detection.model import CARD
from keras_convnext.tasks.detection.model import IMAGES
from keras_convnext.tasks.detection.model import ORIGINAL_SIZES
from keras_convnext.tasks.detection.model import SIZES
from keras_convnext.tasks.detection.model import DetectionModel

# Of COCO and the published detectors.
CLASSES, CHANNELS, UNITS = len(coco.NAMES), 256, 1024
SHORT_SIDE = 800
# The long side is at most five thirds of the short one: 1333 for 800.
LONGER = 5 / 3
BOX_SIDE, MASK_SIDE = 7, 14
CANDIDATES = 1000  # of each level, for proposals
STRIDE = 32


@dataclass(frozen=True)
class Options:
    """The arguments of the constructors of both detectors; see `MaskRCNN`."""

    classes: int | Sequence[str] | None
    weights: object
    channels: int | None
    units: int | None
    short_side: int | None
    proposals: int
    detections: int
    score_threshold: float
    name: str


@dataclass(frozen=True)
class Regions:
    """What heads of boxes work on.

    Attributes:
        heads: creates the layers.
        maps: the four finest of the feature pyramid.
        boxes, valid: the proposals, and whether there are.
        sizes: of the images.
    """

    heads: Heads
    maps: list
    boxes: keras.KerasTensor
    valid: keras.KerasTensor
    sizes: keras.KerasTensor

    def features(self, name, side, *of_boxes):
        return self.heads.named(RoIAlign, name, side)(self.maps, *of_boxes)


def build(task, model, options, of_boxes):
    """Builds a detector, and loads its weights.

    Args:
        task: a key of `weights.NAMES`.
        model: a `ConvNeXtModel`.
        options: an `Options`.
        of_boxes: function of `Regions` that returns boxes, logits of each
            stage, the last deltas, and what these are multiplied with.
    """
    backbone = backbones.Backbone.of(model, weights_module.NAMES[task])
    _check_stride(backbone)
    source = weights_module.find(model.variant, options.weights, task)
    saved_classes, saved_channels, saved_units = CLASSES, CHANNELS, UNITS
    saved_side = SHORT_SIDE
    if source:
        saved = weights_module.sizes(source, task)
        saved_classes, saved_channels, saved_units = saved
        if source.info.preprocessing:
            saved_side = source.info.preprocessing.image_size[0]
    classes, class_names = arguments.classes_and_names(options.classes)
    if source and classes is None:
        class_names = _names_in(source, saved_classes)
    classes = classes or saved_classes
    channels = backbones.at_least(
        1, "channels", options.channels, saved_channels, CHANNELS
    )
    units = backbones.at_least(1, "units", options.units, saved_units, UNITS)
    side = backbones.at_least(
        STRIDE, "short_side", options.short_side, saved_side, SHORT_SIDE
    )
    info = backbone.info(source, class_names, (side, int(side * LONGER)))
    skipping = skip_random_numbers() if source else contextlib.nullcontext()
    with skipping:
        heads = Heads(backbone, classes, channels, units)
        inputs, outputs = _graph(backbone, heads, info, options, of_boxes)
    detector = DetectionModel(inputs, outputs, name=options.name)
    if source:
        weights_module.load(detector, source, backbone.prefix, task)
    return detector


def _graph(backbone, heads, info, options, of_boxes):
    """Inputs and outputs of the whole model."""
    images = keras.Input(inspection.image_shape(backbone.model), name=IMAGES)
    sizes, original_sizes = (
        keras.Input((2,), dtype="int32", name=name)
        for name in (SIZES, ORIGINAL_SIZES)
    )
    padded = heads.named(
        Padding, "padding", _zeros(backbone.model), dtype=heads.logits_dtype
    )(images, sizes)
    maps = heads.feature_pyramid(backbone.maps_of(padded))
    scores, deltas = heads.proposals(maps)
    boxes, valid = heads.named(
        Proposals, "proposals", CANDIDATES, options.proposals
    )(maps[0], scores, deltas, sizes)
    regions = Regions(heads, maps[:4], boxes, valid, sizes)
    boxes, logits, deltas, stds = of_boxes(regions)
    found, inside, scores, classes = heads.named(
        Detections,
        "detections",
        stds,
        options.detections,
        options.score_threshold,
    )(boxes, valid, logits, deltas, sizes, original_sizes)
    scores = heads.named(ModelCard, CARD, info, dtype=heads.logits_dtype)(
        scores
    )
    features = regions.features("mask_roi_align", MASK_SIDE, inside, classes)
    stages = [""] if len(logits) == 1 else [f"_{k}" for k in range(len(logits))]
    masks = [heads.masks(stage, features) for stage in stages]
    masks = heads.named(ClassMasks, "masks")(masks, classes)
    inputs = {IMAGES: images, SIZES: sizes, ORIGINAL_SIZES: original_sizes}
    return inputs, {
        "boxes": found,
        "scores": scores,
        "classes": classes,
        "masks": masks,
    }


def _zeros(model):
    """The pixel that the model normalizes to zero."""
    if not inspection.normalizes(model):
        return [0.0] * inspection.image_shape(model)[2]
    return [255 * x for x in model.preprocessing.mean]


def _names_in(source, classes):
    """Names of the classes in weights: COCO's, in mmdet's files of 80."""
    is_foreign = source.info.variant is None
    names = coco.NAMES if is_foreign and classes == CLASSES else None
    return source.info.class_names or names


def _check_stride(backbone):
    """Whether every stage has half the pixels of the one before it."""
    for stage in (1, 2, 3):
        name = LayerName(backbone.prefix, stage, None, Part.DOWNSAMPLE_CONV)
        strides = backbone.model.get_layer(str(name)).strides
        if strides != (2, 2):
            raise ValueError(
                "Detectors take models whose last map has stride 32: build it "
                "without `output_stride`. Received: the model "
                f"{backbone.model.name!r} with {str(name)!r} of strides "
                f"{strides}"
            )
