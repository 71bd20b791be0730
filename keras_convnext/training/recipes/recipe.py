"""A training recipe: figures, and the way from them to `compile` and `fit`."""

import functools
import warnings
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_convnext._util.annotations import BySize
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import one_of
from keras_convnext._util.image_layout import data_format
from keras_convnext._util.image_layout import to_layout
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import PartAboveZero
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import check_ordered
from keras_convnext._util.ranges import in_range
from keras_convnext.data.pipeline import EvalPipeline
from keras_convnext.data.pipeline import TrainPipeline
from keras_convnext.data.source import Source
from keras_convnext.facts.variants import VARIANTS
from keras_convnext.models.applications import create_model
from keras_convnext.models.builder import total_stride
from keras_convnext.models.model import ConvNeXtModel
from keras_convnext.training import freezing
from keras_convnext.training.distillation import distilled
from keras_convnext.training.optimizers.adamw import AdamW
from keras_convnext.training.optimizers.adamw import with_loss_scaling
from keras_convnext.training.optimizers.averaging import SwapAveragedWeights
from keras_convnext.training.optimizers.layer_decay import layer_decay_scales
from keras_convnext.training.recipes.base import EpochRecipe
from keras_convnext.training.recipes.base import check_drop_path
from keras_convnext.training.recipes.by_task import check_regression
from keras_convnext.training.recipes.by_task import loss_of
from keras_convnext.training.recipes.by_task import metrics_of
from keras_convnext.training.recipes.labels import check_labels
from keras_convnext.training.recipes.labels import watch
from keras_convnext.training.recipes.losses import OBJECTIVES
from keras_convnext.training.recipes.stages import RESIZES
from keras_convnext.training.recipes.stages import check_stages
from keras_convnext.training.recipes.weighting import check_weights
from keras_convnext.training.recipes.weighting import weights_for
from keras_convnext.training.teachers import teacher_of


@dataclass(frozen=True)
class Recipe(EpochRecipe):
    """How a model is trained: every figure, and nothing else.

    A field that differs between model sizes holds a dict from size
    (`"tiny"`) to value; `for_model` picks. The defaults are what all rows of
    the V1 paper's tables have in common.

    Attributes:
        name: how `get_recipe` finds it.
        summary: what it trains, from which weights.
        source: where the figures are from, and what was chosen where sources
            disagree.
        epochs: passes over the data.
        warmup_epochs: those of them in which the learning rate rises; may be
            a fraction.
        batch_size: images per optimizer step, over all devices and
            micro-batches.
        learning_rate: its maximum, absolute, for this batch size.
        minimum_learning_rate: where the cosine ends.
        warmup: kind of warm-up, see `WarmupCosine`.
        weight_decay: of AdamW, times the learning rate; not of biases and
            vectors.
        layer_decay: factor on the learning rate from a group of layers to the
            one before it; 1 for none.
        layer_decay_groups: what such a group is, see `layer_decay_scales`.
        drop_path_rate: stochastic depth of the last block.
        layer_scale_init_value: what layer scale begins at, in architectures
            that have it; `None` for their own.
        head_init_scale: factor on the initial weights of a fresh classifier.
        mixup_alpha: of the Beta distribution of Mixup's weights; 0 for no
            Mixup.
        cutmix_alpha: of the Beta distribution of CutMix' areas; 0 for no
            CutMix.
        switch_probability: part of the batches that get CutMix, where there
            are both.
        label_smoothing: part of the target that goes to all classes; with
            many labels, part of every label that becomes one half.
        loss: `"softmax"`, for one class in each image. For many labels, or
            none, with a sigmoid for each: `"binary"` cross-entropy,
            `"asymmetric"` (see `AsymmetricLoss`) or `"focal"`. For numbers in
            place of classes: `"squared"`, or `"huber"`, which grows linearly
            from an error of one standard deviation of the targets on.
        class_weight_exponent: weigh classes by inverse frequency to this
            power, 0 to 1: 0 for none. With one class in each image the weights
            are n/(K·nᶜ) at 1 (K classes, nᶜ of n images), and their mean over
            images is always 1. With many labels it is the part of a label's
            loss from images that have it which is weighed, by n/nᶜ - 1 at 1.
        class_weights: dict from names of classes to weights in place of
            those; others weigh 1. `None` for none.
        class_sampling_exponent: draw images of rare classes more often, by
            inverse frequency to this power: 0 as they are, 1 every class
            equally often. An epoch has as many draws as there are images.
        rand_augment: configuration as timm writes it, see `RandAugment`;
            `None` for none.
        random_erasing: probability of erasing a rectangle.
        horizontal_flip: probability of a mirrored image.
        crop_scale: least and largest area of a training crop, as parts of the
            image; `None` for images that come in `image_size` already.
        crop_ratio: least and largest aspect of a training crop.
        ema_decay: decay of the moving average of the weights per optimizer
            step; `None` for no average.
        image_size: height and width of the training crops, pixels.
        beta_1: decay of AdamW's mean of gradients.
        beta_2: decay of AdamW's mean of their squares.
        epsilon: of AdamW, in its denominator.
        global_clipnorm: limit of the norm over all gradients together; `None`
            for none.
        gradient_accumulation_steps: micro-batches per optimizer step, a
            divisor of `batch_size`.
        head_epochs: first epochs that train the head alone, the layers behind
            the backbone; after them all is trained, and compiled once more.
            The learning rate is one curve over both.
        freeze: the last part of the backbone that is not trained: `"stem"`,
            `"stage_0"` and so on, each with all before it; the last stage
            leaves the head. `None` trains all. Stochastic depth stays.
        lora_rank: rank of Keras' LoRA on the Dense layers of the backbone,
            but what is frozen: beside the head it alone is trained.
            `keras_convnext.train` saves ordinary models, in whose kernels it
            is merged. `None` for none.
        lora_alpha: LoRA is multiplied with it over its rank; the rank if
            `None`.
        image_sizes: sizes of the training crops one after another, each for
            an equal part of the epochs (`128,128,224`: two thirds at 128).
            The last is `image_size`, which validation has throughout. The
            step is compiled for each. `None` for one size.
        early_stopping_patience: epochs without a better figure on the held-out
            images after which a run ends, counted from the last change of
            size or of what is trained. `None` for all epochs.
        distillation_temperature: of a run with a teacher, what its logits and
            the student's are divided by before a softmax, or many sigmoids.
        distillation_weight: part of the loss that is the divergence from the
            teacher's softened answers, times the temperature squared (Hinton
            et al., arXiv:1503.02531); the rest is the loss of the labels. It
            and the temperature are by default those of Keras' `Distiller`.
        distillation_feature_weight: factor of the squared difference between
            the last feature maps, 0 for none. The teacher's are standardized
            over channels at every place. The student's pass a linear
            projection, which is thrown away after the run.

    Examples:
        >>> recipe = keras_convnext.recipes.imagenet1k.replace(epochs=100)
        >>> recipe.for_model("convnext_small").drop_path_rate
        0.4
    """

    BY_CLASS = ("class_weights",)

    epochs: Count | BySize
    warmup_epochs: NotNegative | BySize
    batch_size: Count
    learning_rate: Positive | BySize
    minimum_learning_rate: NotNegative = 1e-6
    warmup: str = "linspace"
    weight_decay: NotNegative | BySize = 0.05
    layer_decay: PartAboveZero | BySize = 1.0
    layer_decay_groups: str | BySize = "group"
    drop_path_rate: PartBelowOne | BySize = 0.0
    layer_scale_init_value: NotNegative | BySize | None = None
    head_init_scale: Positive = 1.0
    mixup_alpha: NotNegative | BySize = 0.8
    cutmix_alpha: NotNegative | BySize = 1.0
    switch_probability: Part = 0.5
    label_smoothing: PartBelowOne | BySize = 0.1
    loss: str = "softmax"
    class_weight_exponent: Part = 0.0
    class_weights: Mapping[str, NotNegative] | None = None
    class_sampling_exponent: Part = 0.0
    rand_augment: str | None = "rand-m9-mstd0.5-inc1"
    random_erasing: Part = 0.25
    horizontal_flip: Part = 0.5
    crop_scale: tuple[PartAboveZero, PartAboveZero] | None = (0.08, 1.0)
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    ema_decay: PartBelowOne | BySize | None = None
    image_size: Count = 224
    beta_1: PartBelowOne = 0.9
    beta_2: PartBelowOne = 0.999
    epsilon: Positive = 1e-8
    global_clipnorm: Positive | None = None
    gradient_accumulation_steps: Count = 1
    head_epochs: CountOrZero = 0
    freeze: str | None = None
    lora_rank: Count | None = None
    lora_alpha: Positive | None = None
    image_sizes: Sequence[Count] | None = None
    early_stopping_patience: Count | None = None
    distillation_temperature: Positive = 3.0
    distillation_weight: Part = 0.5
    distillation_feature_weight: NotNegative = 0.0

    def __post_init__(self):
        super().__post_init__()
        for name in ("crop_scale", "crop_ratio"):
            if getattr(self, name) is not None:
                check_ordered(name, getattr(self, name))
        one_of("loss", self.loss, OBJECTIVES)
        if self.is_regression:
            check_regression(self)
        check_weights(self)
        check_stages(self)

    @property
    def mixes(self) -> bool:
        """Whether batches are mixed, which makes their labels soft."""
        return bool(self.mixup_alpha or self.cutmix_alpha)

    @property
    def task(self) -> str:
        """The task that it trains for: that of the `Source`s it is for."""
        return OBJECTIVES[self.loss].task

    def trained_variables(self, model: keras.Model) -> list[keras.Variable]:
        """The variables of a model that a run by this recipe trains.

        Raises:
            ValueError: if the model has no part of the name in `freeze`.
        """
        return freezing.trained_variables(model, self)

    @in_range
    def adapted(
        self, model: keras.Model, seed: Seed = 0
    ) -> tuple[keras.Model, Callable[[], None]]:
        """The model that a run trains, and what brings back its weights.

        With a `lora_rank` one of the same weights with LoRA, and a function
        that merges it into the kernels of the model that was given.
        """
        return freezing.adapted(model, self, seed)

    @in_range
    def with_teacher(
        self,
        model: keras.Model,
        teacher: keras.Model,
        teacher_dtype: str | None = None,
        seed: Seed = 0,
    ) -> keras.Model:
        """A model for `compile` and `fit` that learns from a teacher, too.

        Args:
            model: the student, as for `compile`; the one to save afterwards.
            teacher: a classifier with a ConvNeXt of this package, as for
                `keras_convnext.train`. It is copied.
            teacher_dtype: `"bfloat16"` or `"float16"`, what the copy computes
                in; as the teacher does if `None`.
            seed: int that the weights of a projection follow from.

        Returns:
            A model of the student's layers and weights: training it trains
            the student.

        Raises:
            ValueError: for a teacher that does not fit.

        Examples:
            >>> recipe = keras_convnext.recipes.small_data
            >>> teacher = recipe.build("convnext_femto", classes=2)
            >>> student = recipe.build("convnext_atto", classes=2)
            >>> model = recipe.with_teacher(student, teacher)
            >>> model = recipe.compile(model, steps_per_epoch=10)
        """
        recipe = self.for_model(model)
        count, side = model.outputs[0].shape[-1], recipe.image_size
        names = getattr(model, "class_names", None)
        shape = side, side, model.inputs[0].shape[-1]
        names = names or [str(number) for number in range(count)]
        found = teacher_of(teacher, recipe, [shape], names, teacher_dtype)
        if found.model is None:
            raise ValueError(
                "What was exported answers in the loaders of "
                "`keras_convnext.train`, and not in `fit`. Received: teacher="
                f"{teacher!r}. Train by that, or pass a Keras model"
            )
        return distilled(model, found, recipe, seed)

    @property
    def weighs_classes(self) -> bool:
        """Whether some classes count more than others in the loss."""
        return bool(self.class_weight_exponent or self.class_weights)

    @property
    def smooths_in_loss(self) -> bool:
        """Whether the loss smooths labels; else mixing has done it already.

        Of many labels it always does, as they have no sum to keep, and of
        classes with weights, which are not to weigh what smoothing spreads.
        Numbers are never smoothed.
        """
        is_mixed_alike = self.task == "single-label" and not self.weighs_classes
        return not (is_mixed_alike and self.mixes)

    @in_range
    def build(
        self,
        name: str,
        classes: Count | Sequence[str] | None = None,
        weights: PathLike | None = None,
        **options: Any,
    ) -> ConvNeXtModel:
        """Builds a model that this recipe can train: logits, drop path.

        Args:
            name: an architecture, as for `create_model`.
            classes: int, or a list with the name of each; the number that the
                weights have if `None`.
            weights: as for `create_model`; none by default.
            options: further arguments of `create_model`.

        Examples:
            >>> recipe = keras_convnext.recipes.imagenet1k
            >>> model = recipe.build("convnext_tiny", classes=1000)
        """
        recipe = self.for_model(name)
        layout = data_format(options.get("data_format"))
        size = recipe.image_size
        variant = VARIANTS.get(name)  # `create_model` refuses others
        smallest = min(size, *(recipe.image_sizes or [size]))
        if variant and smallest < (least := total_stride(variant)):
            resizes = recipe.crop_scale is not None
            raise ValueError(
                f"`image_size` must be at least {least} for {name!r}: with "
                "fewer pixels nothing is left of the image at the last stage. "
                f"Received: image_size={smallest}, by the recipe "
                f"{recipe.name!r}. "
                f"Take image_size={least} or more"
                + ("" if resizes else f", and {RESIZES} to resize the images"),
            )
        has_scale = variant and variant.layer_scale_init_value
        side = None if recipe.image_sizes else size
        model = _with_new_head(
            name,
            **{
                "classes": classes,
                "weights": weights,
                "classifier_activation": None,
                "input_shape": to_layout(side, side, 3, layout),
                "drop_path_rate": recipe.drop_path_rate,
                "layer_scale_init_value": (
                    recipe.layer_scale_init_value if has_scale else None
                ),
                "head_init_scale": recipe.head_init_scale,
                **options,
            },
        )
        if recipe.image_sizes and "input_shape" not in options:
            preprocessing = model.preprocessing.at_size((size, size))
            model.update_info(preprocessing=preprocessing)
        return model

    @in_range
    def train_data(
        self, data: Any, classes: Count | None = None, **options: Any
    ) -> Any:
        """Batches to train on by `fit`: shuffled, augmented and mixed.

        Args:
            data: a pair of arrays `(images, labels)`; a `Source`; or a
                `tf.data.Dataset` of pairs, shuffled and of known length.
            classes: int; needed where the recipe mixes.
            options: `seed`, `mean` and `std`, as for `TrainPipeline`.

        Returns:
            A `keras.utils.PyDataset`, or a `tf.data.Dataset` of one.

        Examples:
            >>> recipe = keras_convnext.recipes.small_data
            >>> images = np.zeros((64, 80, 100, 3), "uint8")
            >>> train = recipe.train_data((images, np.arange(64) % 2))
            >>> len(train), train[0][0].shape
            (2, (32, 224, 224, 3))
        """
        if self.image_sizes:
            raise ValueError(
                "`fit` takes images of one size. Received: "
                f"image_sizes={self.image_sizes}. Train by "
                "`keras_convnext.train`, or take "
                "`recipe.replace(image_sizes=None)`"
            )
        return self.train_pipeline(classes, **options)(data)

    def eval_data(self, data: Any, shuffle: bool | None = None) -> Any:
        """Batches to validate on: every image, as evaluation sees it.

        Args:
            data: as for `train_data`.
            shuffle: whether to draw a new order of arrays every epoch, for
                training without augmentation.

        Returns:
            As for `train_data`.
        """
        return self.eval_pipeline()(data, shuffle=shuffle)

    @in_range
    def train_pipeline(
        self, classes: Count | None = None, seed: Seed = 0, **options: Any
    ) -> TrainPipeline:
        """Augmentation and mixing as a map over data; see `TrainPipeline`."""
        return TrainPipeline(self, classes, seed, **options)

    def eval_pipeline(self) -> EvalPipeline:
        """The evaluation transform as a map over data; see `EvalPipeline`."""
        return EvalPipeline(self)

    @in_range
    def compile(
        self,
        model: keras.Model,
        steps_per_epoch: Count,
        metrics: list[Any] | None = None,
        loss: Any = None,
        data: Source | None = None,
        **options: Any,
    ) -> keras.Model:
        """Compiles a model for this recipe; then train with `model.fit`.

        Args:
            model: a `keras.Model` that returns logits `(batch, classes)`, best
                from `build`; of a recipe for numbers one of `with_units`.
            steps_per_epoch: int, batches per epoch, as for `fit`; with
                gradient accumulation these are micro-batches.
            metrics: list; by default `accuracy`, and `top5_accuracy` for more
                than ten classes. For numbers `mae` and `rmse`, in their units.
                With a `loss` of your own and for many labels none.
            loss: as for `model.compile`; by default that of the recipe's
                field. Any other takes what labels and outputs it likes.
            data: the `Source` that is trained on; needed where the recipe
                weighs classes, whose images it counts.
            options: further arguments of `model.compile`.

        Returns:
            The model. The parts that the recipe freezes are not trainable any
            more, until `model.trainable` is set to `False` and to `True`
            again. Layers have the LoRA that it asks for. With `head_epochs`,
            `fit` needs `callbacks`.

        Raises:
            ValueError: if the model has an activation after its logits, one
                output for a softmax, or a drop path of another rate than the
                recipe. If it has none of the parts that the recipe freezes. If
                classes are to be weighed in a loss of your own, or without
                `data`. And in `fit`, if the labels of the first batch are
                other.

        Labels may be class numbers, one-hot or mixed; many labels are rows
        `(batch, classes)` of 0 to 1. Numbers are rows `(batch, targets)`.
        Weights of classes are part of the loss, a mean over images, also of
        one on several devices, and in validation.

        Examples:
            >>> recipe = keras_convnext.recipes.small_data
            >>> model = recipe.build("convnext_atto", classes=2)
            >>> model = recipe.compile(model, steps_per_epoch=10)
        """
        recipe = self.for_model(model)
        check_drop_path(model, recipe)
        if "optimizer" in options:
            raise ValueError(
                "The optimizer is the recipe's. Received: optimizer="
                f"{options['optimizer']!r}. For another call `model.compile`"
            )
        is_own = loss is not None
        weights = weights_for(recipe, model, data, is_own)
        if not is_own:
            loss = loss_of(recipe, model, weights)
        if metrics is None and not is_own:
            metrics = metrics_of(recipe, model)
        optimizer = recipe.optimizer(model, steps_per_epoch)
        freezing.enable_lora(model, recipe)
        trained = {id(x) for x in recipe.trained_variables(model)}
        for variable in model.trainable_variables:
            variable.trainable = id(variable) in trained
        model.compile(
            with_loss_scaling(optimizer, model),
            loss,
            metrics=metrics,
            auto_scale_loss=False,
            **options,
        )
        if not is_own:
            watch(
                model,
                functools.partial(check_labels, model=model, recipe=recipe),
            )
        return model

    @in_range
    def optimizer(self, model: keras.Model, steps_per_epoch: Count) -> AdamW:
        """The recipe's `AdamW` for a model, for loops of one's own."""
        recipe = self.for_model(model)
        accumulation = recipe.gradient_accumulation_steps
        first = recipe.head_epochs * steps_per_epoch // accumulation
        return recipe._adamw(
            steps_per_epoch,
            learning_rate_scales=layer_decay_scales(
                model, recipe.layer_decay, recipe.layer_decay_groups
            ),
            trained_from=(
                freezing.trained_from(model, first) if first else None
            ),
            use_ema=recipe.ema_decay is not None,
            ema_momentum=recipe.ema_decay or 0.0,
        )

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Callbacks for `fit`: validation with the averaged weights, the head
        first, and an early end, by `val_accuracy` or else `val_loss`.

        Other callbacks, `ModelCheckpoint` and `EarlyStopping` among them, see
        the averaged weights too, in any order. After `fit` the model has
        them. Without these callbacks, all of these have the raw weights.
        """
        chosen: list[keras.callbacks.Callback] = []
        if self.ema_decay is not None:
            chosen.append(SwapAveragedWeights())
        if self.head_epochs:
            chosen.append(freezing.HeadFirst(self.head_epochs))
        if self.early_stopping_patience is not None:
            is_one = self.task == "single-label"
            chosen.append(
                keras.callbacks.EarlyStopping(
                    "val_accuracy" if is_one else "val_loss",
                    patience=self.early_stopping_patience,
                    mode="max" if is_one else "min",
                    start_from_epoch=self.head_epochs,
                )
            )
        return chosen


def _with_new_head(*args, **kwargs):
    """`create_model`; another classifier is what was asked for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The classifier of ", UserWarning)
        return create_model(*args, **kwargs)
