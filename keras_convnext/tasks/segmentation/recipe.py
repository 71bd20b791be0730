"""How segmenters are trained: the official figures, and `compile`."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras_convnext._util.annotations import BySize
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import PartAboveZero
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import in_range
from keras_convnext.tasks.recipe import StepRecipe
from keras_convnext.tasks.segmentation.layer_decay import stage_wise_scales
from keras_convnext.tasks.segmentation.model import AUXILIARY
from keras_convnext.tasks.segmentation.model import DECODE
from keras_convnext.tasks.segmentation.model import SegmentationModel
from keras_convnext.tasks.segmentation.model import check_segmenter
from keras_convnext.tasks.segmentation.objective import check_masks
from keras_convnext.tasks.segmentation.objective import mean_iou
from keras_convnext.tasks.segmentation.objective import pixel_cross_entropy
from keras_convnext.tasks.segmentation.upernet import UperNet
from keras_convnext.training.optimizers.adamw import AdamW
from keras_convnext.training.optimizers.adamw import with_loss_scaling
from keras_convnext.training.optimizers.schedules import WarmupPoly
from keras_convnext.training.recipes.base import check_drop_path
from keras_convnext.training.recipes.labels import check_classes
from keras_convnext.training.recipes.labels import watch


@dataclass(frozen=True)
class SegmentationRecipe(StepRecipe):
    """How a segmenter is trained: every figure, and nothing else.

    A field that differs between model sizes holds a dict from size
    (`"tiny"`) to value; `for_model` picks.

    Attributes:
        name, summary, source: what it is, what for, and where it is from.
        steps, warmup_steps: optimizer steps in all, and those of them in
            which the learning rate rises.
        warmup_ratio, power: see `WarmupPoly`.
        batch_size: images per optimizer step.
        crop: side of the training crops, pixels.
        learning_rate: the highest, for this batch size.
        weight_decay, beta_1, beta_2, global_clipnorm: see `AdamW`; biases
            and vectors, norms among them, are not decayed.
        layer_decay: see `stage_wise_scales`.
        drop_path_rate: stochastic depth of the last block.
        dropout_rate: of whole channels, before each classifier.
        auxiliary_weight: of the auxiliary loss, where the main one's is 1.

    Examples:
        >>> recipe = keras_convnext.segmentation.ade20k.replace(crop=640)
        >>> recipe.for_model("convnext_xlarge").learning_rate
        8e-05
    """

    layer_scales = staticmethod(stage_wise_scales)

    steps: Count
    warmup_steps: CountOrZero
    batch_size: Count
    crop: Count
    learning_rate: Positive | BySize
    drop_path_rate: PartBelowOne | BySize
    warmup_ratio: Part = 1e-6
    power: Positive = 1.0
    weight_decay: NotNegative = 0.05
    beta_1: PartBelowOne = 0.9
    beta_2: PartBelowOne = 0.999
    global_clipnorm: Positive | None = None
    layer_decay: PartAboveZero = 0.9
    dropout_rate: PartBelowOne = 0.1
    auxiliary_weight: NotNegative = 0.4

    @in_range
    def build(
        self,
        name: str,
        classes: Count | Sequence[str],
        weights: PathLike | None = None,
        **options: Any,
    ) -> SegmentationModel:
        """Builds an UperNet that this recipe can train.

        Args:
            name: the backbone's architecture, as for `create_model`.
            classes: int, or a list of names.
            weights: of the backbone, as for `create_model`.
            options: further arguments of `UperNet`.

        Examples:
            >>> recipe = keras_convnext.segmentation.ade20k
            >>> model = recipe.build("convnext_tiny", classes=150)
        """
        recipe = self.for_model(name)
        backbone = recipe._backbone(name, weights)
        figures = {"dropout_rate": recipe.dropout_rate, "crop": recipe.crop}
        return UperNet(backbone, classes, **{**figures, **options})

    def compile(
        self,
        model: SegmentationModel,
        metrics: list[Any] | None = None,
        **options: Any,
    ) -> SegmentationModel:
        """Compiles a model for this recipe; then train with `model.fit`.

        Args:
            model: a `SegmentationModel`, best from `build`.
            metrics: list, for the main output; by default `mean_iou`.
            options: further arguments of `model.compile`, a `loss` of your
                own among them.

        Returns:
            The model. Its data are images with masks: class numbers `(batch,
            height, width)`, 255 where a pixel does not count.

        Raises:
            ValueError: if the model is none, has one class, or a drop path of
                another rate than the recipe. And in `fit`, if the first masks
                hold other numbers.

        Examples:
            >>> recipe = keras_convnext.segmentation.ade20k.replace(
            ...     drop_path_rate=0.0, learning_rate=1e-3
            ... )
            >>> model = recipe.build("convnext_atto", classes=2, channels=16)
            >>> model = recipe.compile(model)
        """
        check_segmenter(model)
        recipe = self.for_model(model)
        check_drop_path(model, recipe)
        is_own = options.get("loss") is not None
        if not is_own:
            check_classes(model, recipe)
        if metrics is None:
            metrics = [mean_iou(model.outputs[0].shape[-1])]
        if isinstance(model.output, dict):
            names = (DECODE, AUXILIARY)
            weights = (1.0, recipe.auxiliary_weight)
            losses: dict[str, Any] = {
                "loss": {name: pixel_cross_entropy() for name in names},
                "loss_weights": dict(zip(names, weights)),
                "metrics": {DECODE: metrics},
            }
        else:
            losses = {"loss": pixel_cross_entropy(), "metrics": metrics}
        model.compile(
            with_loss_scaling(recipe.optimizer(model), model),
            auto_scale_loss=False,
            **{**losses, **options},
        )
        if not is_own:
            watch(model, functools.partial(check_masks, model=model))
        return model

    def optimizer(self, model: SegmentationModel) -> AdamW:
        """The recipe's `AdamW` for a model, for loops of one's own."""
        return self._optimizer(model)

    def schedule(self) -> WarmupPoly:
        """The recipe's `WarmupPoly`."""
        return WarmupPoly(
            self.learning_rate,
            self.warmup_steps,
            self.steps,
            self.power,
            self.warmup_ratio,
        )


ade20k = SegmentationRecipe(
    "ade20k",
    "UperNet on ADE20K, from ImageNet",
    "arXiv:2201.03545 §A.3; official semantic_segmentation/configs. 640 pixels "
    "for backbones from ImageNet-22k.",
    steps=160_000,
    warmup_steps=1500,
    batch_size=16,
    crop=512,
    learning_rate={
        "tiny": 1e-4,
        "small": 1e-4,
        "base": 1e-4,
        "large": 1e-4,
        "xlarge": 8e-5,
    },
    drop_path_rate={
        "tiny": 0.4,
        "small": 0.3,
        "base": 0.4,
        "large": 0.4,
        "xlarge": 0.4,
    },
)
