"""How masked autoencoders are trained: the official figures, and `compile`."""

from dataclasses import dataclass
from typing import Any

import keras

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import PartAboveZero
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import check_ordered
from keras_convnext._util.ranges import in_range
from keras_convnext.data.pipeline import TrainPipeline
from keras_convnext.data.source import Source
from keras_convnext.facts.layer_names import Part as LayerPart
from keras_convnext.models.applications import create_model
from keras_convnext.tasks.pretraining.loader import MaskedLoader
from keras_convnext.tasks.pretraining.model import FCMAE
from keras_convnext.tasks.pretraining.model import MaskedAutoencoder
from keras_convnext.tasks.pretraining.model import check_autoencoder
from keras_convnext.training.optimizers.adamw import AdamW
from keras_convnext.training.optimizers.adamw import with_loss_scaling
from keras_convnext.training.recipes.base import EpochRecipe

# Vectors here, of more axes in the official code, whose rule for the weight
# decay counts axes.
DECAYED = (f"_{LayerPart.GRN}/", "mask_token/")


@dataclass(frozen=True)
class PretrainingRecipe(EpochRecipe):
    """How a masked autoencoder is trained: every figure, and nothing else.

    Attributes:
        name, summary, source: what it is, what for, and where it is from.
        epochs: passes over the data.
        warmup_epochs: those of them in which the learning rate rises; may be
            a fraction.
        batch_size: images per optimizer step, over all devices and
            micro-batches.
        learning_rate: its maximum, absolute, for this batch size.
        minimum_learning_rate: where the cosine ends.
        warmup: kind of warm-up, see `WarmupCosine`.
        weight_decay: of AdamW, times the learning rate; of kernels, GRN and
            the mask token.
        mask_ratio: part of the patches that are hidden.
        decoder_width: channels of the decoder.
        grn_statistics: `"image"` or `"batch"`, see `FCMAE`.
        image_size: height and width of the training crops, pixels.
        crop_scale: least and largest area of a training crop, as parts of the
            image; `None` for images that come in `image_size` already.
        crop_ratio: least and largest aspect of a training crop.
        horizontal_flip: probability of a mirrored image.
        beta_1, beta_2, epsilon, global_clipnorm: see `AdamW`.
        gradient_accumulation_steps: micro-batches per optimizer step, a
            divisor of `batch_size`.

    Examples:
        >>> recipe = keras_convnext.pretraining.v2_pretrain
        >>> round(recipe.with_batch_size(256).learning_rate, 8)
        0.00015
    """

    epochs: Count
    warmup_epochs: NotNegative
    batch_size: Count
    learning_rate: Positive
    minimum_learning_rate: NotNegative = 0.0
    warmup: str = "exclusive"
    weight_decay: NotNegative = 0.05
    mask_ratio: Part = 0.6
    decoder_width: Count = 512
    grn_statistics: str = "image"
    image_size: Count = 224
    crop_scale: tuple[PartAboveZero, PartAboveZero] | None = (0.2, 1.0)
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    horizontal_flip: Part = 0.5
    beta_1: PartBelowOne = 0.9
    beta_2: PartBelowOne = 0.95
    epsilon: Positive = 1e-8
    global_clipnorm: Positive | None = None
    gradient_accumulation_steps: Count = 1

    # Of a pipeline that trains classifiers: there is none here.
    rand_augment = None
    random_erasing = 0.0
    mixes = False
    class_sampling_exponent = 0.0

    def __post_init__(self):
        super().__post_init__()
        for name in ("crop_scale", "crop_ratio"):
            if getattr(self, name) is not None:
                check_ordered(name, getattr(self, name))

    def build(
        self, name: str, weights: PathLike | None = None, **options: Any
    ) -> MaskedAutoencoder:
        """Builds a masked autoencoder that this recipe can train.

        Args:
            name: the encoder's architecture, as for `create_model`.
            weights: of the encoder, as for `create_model`; none by default.
            options: further arguments of `create_model`.

        Examples:
            >>> recipe = keras_convnext.pretraining.v2_pretrain
            >>> model = recipe.build("convnextv2_atto")
            >>> model.encoder.name
            'convnextv2_atto'
        """
        defaults = {"include_top": False, "data_format": "channels_last"}
        encoder = create_model(name, weights=weights, **{**defaults, **options})
        return self.on(encoder)

    def on(self, encoder: keras.Model) -> MaskedAutoencoder:
        """The masked autoencoder of this recipe on an encoder; see `FCMAE`."""
        return FCMAE(
            encoder,
            self.image_size,
            self.mask_ratio,
            self.decoder_width,
            self.grn_statistics,
        )

    @in_range
    def train_pipeline(self, seed: Seed = 0, **options: Any) -> TrainPipeline:
        """Augmentation as a map over data; see `TrainPipeline`."""
        return TrainPipeline(self, None, seed, **options)

    @in_range
    def train_data(
        self,
        data: Source,
        model: MaskedAutoencoder,
        seed: Seed = 0,
        **options: Any,
    ) -> MaskedLoader:
        """Batches to train on by `fit`, or from any step on.

        Args:
            data: a `Source` of images.
            model: the `MaskedAutoencoder`.
            seed: int that order, augmentation and masks follow from.
            options: further arguments of `TrainLoader`.

        Examples:
            >>> recipe = keras_convnext.pretraining.v2_pretrain.replace(
            ...     image_size=64, batch_size=4
            ... )
            >>> images = np.zeros((8, 80, 100, 3), "uint8")
            >>> source = keras_convnext.data.Arrays(images, [0] * 8)
            >>> model = recipe.build("convnextv2_atto")
            >>> len(recipe.train_data(source, model))
            2
        """
        check_autoencoder(model)
        colors: Any = model.info.preprocessing
        rows, columns = model.grid
        return MaskedLoader(
            data,
            self.train_pipeline(seed, mean=colors.mean, std=colors.std),
            self.epochs,
            patches=rows * columns,
            count=model.visible_count,
            seed=seed,
            **options,
        )

    @in_range
    def compile(
        self, model: MaskedAutoencoder, steps_per_epoch: Count, **options: Any
    ) -> MaskedAutoencoder:
        """Compiles a model for this recipe; then train with `model.fit`.

        Args:
            model: a `MaskedAutoencoder`, best from `build`.
            steps_per_epoch: int, batches per epoch, as for `fit`; with
                gradient accumulation these are micro-batches.
            options: further arguments of `model.compile`.

        Returns:
            The model. `fit` takes its inputs alone, see `MaskedAutoencoder`;
            `train_data` makes them.

        Raises:
            ValueError: if the model is none.

        Examples:
            >>> recipe = keras_convnext.pretraining.v2_pretrain.replace(
            ...     epochs=1, warmup_epochs=0, batch_size=2, image_size=64
            ... )
            >>> model = recipe.build("convnextv2_atto")
            >>> model = recipe.compile(model, steps_per_epoch=1)
        """
        check_autoencoder(model)
        model.compile(
            with_loss_scaling(self.optimizer(model, steps_per_epoch), model),
            **{"auto_scale_loss": False, **options},
        )
        return model

    @in_range
    def optimizer(
        self, model: MaskedAutoencoder, steps_per_epoch: Count
    ) -> AdamW:
        """The recipe's `AdamW` for a model, for loops of one's own."""
        return self._adamw(steps_per_epoch, decayed=DECAYED)


v2_pretrain = PretrainingRecipe(
    "v2_pretrain",
    "V2 on images without labels, by a masked autoencoder (FCMAE)",
    "arXiv:2301.00808, Section 3 and Appendix; official TRAINING.md and "
    "main_pretrain.py: base rate 1.5e-4 per 256 images. The paper also has "
    "800 epochs.",
    epochs=1600,
    warmup_epochs=40,
    batch_size=4096,
    learning_rate=2.4e-3,
)

RECIPES = {v2_pretrain.name: v2_pretrain}
