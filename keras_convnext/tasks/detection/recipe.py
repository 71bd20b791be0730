"""How detectors are trained: the official figures, and `compile`."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras_convnext._util.annotations import BySize
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import one_of
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import PartAboveZero
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.ranges import PartBetween
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import in_range
from keras_convnext.tasks.detection import weights as weights_module
from keras_convnext.tasks.detection.cascade import CascadeMaskRCNN
from keras_convnext.tasks.detection.mask_rcnn import MaskRCNN
from keras_convnext.tasks.detection.model import DetectionModel
from keras_convnext.tasks.detection.model import check_detector
from keras_convnext.tasks.detection.training import Sampling
from keras_convnext.tasks.detection.training import check_objects
from keras_convnext.tasks.recipe import StepRecipe
from keras_convnext.training.optimizers.adamw import AdamW
from keras_convnext.training.optimizers.adamw import with_loss_scaling
from keras_convnext.training.optimizers.layer_decay import layer_decay_scales
from keras_convnext.training.optimizers.schedules import WarmupStep
from keras_convnext.training.recipes.base import check_drop_path
from keras_convnext.training.recipes.labels import watch

DETECTORS = {"mask_rcnn": MaskRCNN, "cascade_mask_rcnn": CascadeMaskRCNN}


@dataclass(frozen=True)
class DetectionRecipe(StepRecipe):
    """How a detector is trained: every figure, and nothing else.

    A field that differs between model sizes holds a dict from size
    (`"tiny"`) to value; `for_model` picks.

    Attributes:
        name, summary, source: what it is, what for, and where it is from.
        detector: `"mask_rcnn"` or `"cascade_mask_rcnn"`.
        steps, warmup_steps: optimizer steps in all, and those of them in
            which the learning rate rises.
        warmup_ratio, drop_factor: see `WarmupStep`.
        drops: parts of all steps after which the learning rate falls.
        batch_size: images per optimizer step.
        learning_rate: the highest, for this batch size.
        weight_decay, beta_1, beta_2, global_clipnorm: see `AdamW`; biases
            and vectors, norms among them, are not decayed.
        layer_decay: see `layer_decay_scales`.
        drop_path_rate: stochastic depth of the last block.
        anchors, anchor_positives: anchors that learn in a step, of each
            image, and the most of them that have an object.
        candidates, proposals: the best anchors of each level, and how many of
            them stay as proposals.
        regions, region_positives: proposals and objects that the heads learn
            from, and the most of them that have an object.

    Examples:
        >>> recipe = keras_convnext.detection.coco_cascade
        >>> recipe.for_model("convnext_large").layer_decay
        0.7
    """

    layer_scales = staticmethod(layer_decay_scales)

    detector: str
    learning_rate: Positive | BySize
    drop_path_rate: PartBelowOne | BySize
    layer_decay: PartAboveZero | BySize
    proposals: Count
    # 36 epochs of 7,330 batches; the rate falls after 27 and after 33 epochs.
    steps: Count = 263_880
    warmup_steps: CountOrZero = 500
    warmup_ratio: Part = 1e-3
    drops: Sequence[PartBetween] = (27 / 36, 33 / 36)
    drop_factor: PartAboveZero = 0.1
    batch_size: Count = 16
    weight_decay: NotNegative = 0.05
    beta_1: PartBelowOne = 0.9
    beta_2: PartBelowOne = 0.999
    global_clipnorm: Positive | None = None
    anchors: Count = 256
    anchor_positives: Count = 128
    candidates: Count = 2000
    regions: Count = 512
    region_positives: Count = 128

    def __post_init__(self):
        super().__post_init__()
        one_of("detector", self.detector, DETECTORS)

    @in_range
    def build(
        self,
        name: str,
        classes: Count | Sequence[str],
        weights: PathLike | None = None,
        dtype: Any = None,
        **options: Any,
    ) -> DetectionModel:
        """Builds a detector that this recipe can train.

        Args:
            name: the backbone's architecture, as for `create_model`.
            classes: int, or a list of names.
            weights: of the backbone, as for `create_model`; or of the whole
                detector: `"coco"` or another tag of `detection.CHECKPOINTS`,
                a file or an address. For other classes the last layers of
                the heads start from random numbers, and a warning says so.
            dtype: as for `create_model`.
            options: further arguments of `MaskRCNN` or `CascadeMaskRCNN`.

        Examples:
            >>> recipe = keras_convnext.detection.coco_mask_rcnn
            >>> model = recipe.build("convnext_tiny", classes=80)
        """
        recipe = self.for_model(name)
        of_all, of_backbone = weights_module.told_apart(name, weights)
        backbone = recipe._backbone(name, of_backbone, dtype)
        build = DETECTORS[recipe.detector]
        return build(backbone, classes, of_all, **options)

    def compile(self, model: DetectionModel, **options: Any) -> DetectionModel:
        """Compiles a model for this recipe; then train with `model.fit`.

        Args:
            model: a `DetectionModel`, best from `build`.
            options: further arguments of `model.compile`.

        Returns:
            The model. Its data are pairs of dicts, as `data.ObjectLoader`
            gives them; see `DetectionModel.losses_of`.

        Raises:
            ValueError: if the model is none, or has a drop path of another
                rate than the recipe. And in `fit`, if the first targets lack
                something, or hold other classes or boxes.

        Examples:
            >>> recipe = keras_convnext.detection.coco_mask_rcnn.replace(
            ...     drop_path_rate=0.0, learning_rate=1e-4, layer_decay=1.0
            ... )
            >>> model = recipe.build(
            ...     "convnext_atto", classes=2, channels=16, units=16
            ... )
            >>> model = recipe.compile(model)
        """
        check_detector(model)
        recipe = self.for_model(model)
        check_drop_path(model, recipe)
        model.sampling = Sampling(
            recipe.anchors,
            recipe.anchor_positives,
            recipe.candidates,
            recipe.proposals,
            recipe.regions,
            recipe.region_positives,
        )
        model.compile(
            with_loss_scaling(recipe.optimizer(model), model),
            **{"auto_scale_loss": False, **options},
        )
        check = functools.partial(check_objects, classes=model.classes)
        watch(model, check, dicts=True)
        return model

    def optimizer(self, model: DetectionModel) -> AdamW:
        """The recipe's `AdamW` for a model, for loops of one's own."""
        return self._optimizer(model)

    def schedule(self) -> WarmupStep:
        """The recipe's `WarmupStep`."""
        return WarmupStep(
            self.learning_rate,
            self.warmup_steps,
            self.steps,
            tuple(round(part * self.steps) for part in self.drops),
            self.drop_factor,
            self.warmup_ratio,
        )


coco_mask_rcnn = DetectionRecipe(
    "coco_mask_rcnn",
    "Mask R-CNN on COCO, from ImageNet-1k",
    "arXiv:2201.03545 §A.3; official object_detection/configs. Published for "
    "Tiny alone.",
    detector="mask_rcnn",
    learning_rate={"tiny": 1e-4},
    drop_path_rate={"tiny": 0.4},
    layer_decay={"tiny": 0.95},
    proposals=1000,
)

coco_cascade = DetectionRecipe(
    "coco_cascade",
    "Cascade Mask R-CNN on COCO, from ImageNet",
    "arXiv:2201.03545 §A.3; official object_detection/configs. Large and "
    "XLarge start from ImageNet-22k; Base from there has learning_rate=1e-4 "
    "and drop_path_rate=0.6.",
    detector="cascade_mask_rcnn",
    learning_rate={
        "tiny": 2e-4,
        "small": 2e-4,
        "base": 2e-4,
        "large": 1e-4,
        "xlarge": 1e-4,
    },
    drop_path_rate={
        "tiny": 0.4,
        "small": 0.6,
        "base": 0.7,
        "large": 0.7,
        "xlarge": 0.8,
    },
    layer_decay={
        "tiny": 0.7,
        "small": 0.7,
        "base": 0.8,
        "large": 0.7,
        "xlarge": 0.7,
    },
    proposals=2000,
)
