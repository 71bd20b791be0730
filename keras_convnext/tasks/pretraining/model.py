"""The class of masked autoencoders, and how one is built on an encoder."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_convnext._util.checks import one_of
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import in_range
from keras_convnext._util.serialization import register
from keras_convnext.facts.info import ModelInfo
from keras_convnext.facts.variants import Variant
from keras_convnext.layers import ImageNormalization
from keras_convnext.models import arguments
from keras_convnext.models import inspection
from keras_convnext.models.builder import Builder
from keras_convnext.models.model import ConvNeXtModel
from keras_convnext.tasks.pretraining import encoder as encoders
from keras_convnext.tasks.pretraining import objective
from keras_convnext.tasks.pretraining.layers import AsOneImage
from keras_convnext.tasks.pretraining.layers import MaskToken
from keras_convnext.tasks.pretraining.masks import check_visible
from keras_convnext.tasks.pretraining.masks import visible_count
from keras_convnext.training.distribution.replicas import ALONE
from keras_convnext.training.distribution.replicas import Replicas

# Keys of the inputs.
IMAGES, VISIBLE = "images", "visible"
SIZE = 224  # pixels, of encoders for any size


@register
class MaskedAutoencoder(keras.Model):
    """A Functional model that predicts the hidden patches of images.

    `FCMAE` returns one, whose first layers are those of the encoder.

    Args:
        inputs, outputs, name: as for `keras.Model`.

    Call arguments:
        A dict. `images`: `(batch, height, width, channels)` of 0–255.
        `visible`: int array `(batch, count)`, the numbers of the patches that
        are seen, each once; patches count row by row from the upper left.

    Returns:
        Float tensor `(batch, rows, columns, values)`, float32 under mixed
        policies. It has the pixels of every patch in the order of row, column
        and channel, normalized to a mean of 0 and a variance of 1 in each.

    Examples:
        >>> encoder = keras_convnext.ConvNeXtV2Atto(
        ...     weights=None, include_top=False
        ... )
        >>> model = keras_convnext.pretraining.FCMAE(encoder, image_size=64)
        >>> model.encoder is encoder, model.grid
        (True, (2, 2))
    """

    # By exactly these names Keras recognizes a Functional model.
    def __init__(
        self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any
    ):
        super().__init__(inputs, outputs, name=name, **kwargs)
        self.replicas = ALONE

    @property
    def encoder(self) -> ConvNeXtModel:
        """The model that `FCMAE` was given, with the weights of this one."""
        if "_encoder" not in vars(self):
            raise ValueError(
                "A masked autoencoder from a file has the weights of its "
                "encoder, and not the encoder. Build both by "
                "`pretraining.FCMAE(encoder)`, and load the weights into that. "
                f"Received: {self.name!r}"
            )
        return vars(self)["_encoder"]

    @property
    def info(self) -> ModelInfo:
        """The `ModelInfo` of the encoder."""
        return inspection.info_of(self)

    @property
    def variant(self) -> Variant:
        """The `Variant` of the encoder."""
        return self.info.variant  # type: ignore[return-value]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return tuple(self.output_shape[1:3])

    @property
    def visible_count(self) -> int:
        """How many patches of an image are seen."""
        return self.input[VISIBLE].shape[1]

    @property
    def decoder_width(self) -> int:
        """How many channels the decoder has."""
        return self.layers[-1].kernel.shape[0]

    @property
    def grn_statistics(self) -> str:
        """`"image"` or `"batch"`, see `FCMAE`."""
        is_batch = any(isinstance(x, AsOneImage) for x in self.layers)
        return "batch" if is_batch else "image"

    def normalized(self, images: Any) -> Any:
        """Images of 0–255 as the encoder normalizes them."""
        layer = next(
            x for x in self.layers if isinstance(x, ImageNormalization)
        )
        return layer(images)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As of `keras.Model`; `visible` is checked where it is an array.

        Raises:
            ValueError: for numbers that are no patches, or come twice.
        """
        if isinstance(x, dict) and isinstance(x.get(VISIBLE), np.ndarray):
            count = len(x[IMAGES])
            check_visible(x[VISIBLE], count, self.visible_count, self.grid)
        return super().fit(x, *args, **kwargs)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        images, visible = (
            ops.convert_to_tensor(x[name]) for name in (IMAGES, VISIBLE)
        )
        loss = objective.reconstruction_loss(
            y_pred, self.normalized(images), visible, self.grid
        )
        return loss * self.replicas.weight

    @contextlib.contextmanager
    def shared_by(self, replicas: Replicas) -> Iterator[None]:
        """A context in which each of several programs has a part of a batch.

        Args:
            replicas: the `Replicas`, as of a `Cluster`.
        """
        self.replicas = replicas
        try:
            yield
        finally:
            self.replicas = ALONE


@in_range
def FCMAE(
    encoder: ConvNeXtModel,
    image_size: Count | None = None,
    mask_ratio: Part = 0.6,
    width: Count = 512,
    grn_statistics: str = "image",
    name: str | None = None,
) -> MaskedAutoencoder:
    """A fully convolutional masked autoencoder on a ConvNeXt V2.

    The encoder computes the visible patches alone, by its own layers: what
    the paper's sparse convolutions return, at less than the cost of the whole
    image. A patch is what one position of the last feature map spans, 32
    pixels. The decoder is one block of V2.

    Args:
        encoder: a `ConvNeXtModel` of V2, best `include_top=False`. Its layers
            and weights are used, not copied. For images of any size, it has
            `image_size` in its `preprocessing` from here on.
        image_size: int, side of the images in pixels; that of `encoder` if
            `None`, or 224.
        mask_ratio: part of the patches that are hidden; at least one is, and
            at least one is not.
        width: int, channels of the decoder.
        grn_statistics: `"image"`: GRN takes its norms over the visible
            positions of each image, as the paper's JAX code and fine-tuning
            do. `"batch"`: over those of the whole batch, as the official
            sparse code does.
        name: name of the model.

    Returns:
        A `MaskedAutoencoder`, a Functional `keras.Model`.

    Raises:
        ValueError: for an encoder that is no V2 or looks beyond patches, and
            for sizes and ratios that leave no whole number of patches, none
            hidden or none visible.

    Source: arXiv:2301.00808, Section 3, and the official `models/fcmae.py`.
    Weights begin as those of this package's models, normal with a standard
    deviation of 0.02.

    Examples:
        >>> encoder = keras_convnext.ConvNeXtV2Atto(
        ...     weights=None, include_top=False
        ... )
        >>> model = keras_convnext.pretraining.FCMAE(encoder)
        >>> model.visible_count, model.output_shape
        (19, (None, 7, 7, 3072))
    """
    encoders.check_encoder(encoder)
    one_of("grn_statistics", grn_statistics, encoders.STATISTICS)
    height, _, channels = inspection.image_shape(encoder)
    size, patch = image_size or height or SIZE, encoders.patch_size(encoder)
    if size % patch:
        raise ValueError(
            f"`image_size` must be a multiple of {patch}, the side of a patch "
            f"of {encoder.name!r}. Received: image_size={size}. Take "
            f"image_size={max(round(size / patch), 2) * patch}"
        )
    grid = size // patch, size // patch
    count = visible_count(grid[0] * grid[1], mask_ratio)
    dtype = encoder.input.dtype
    images = keras.Input((size, size, channels), name=IMAGES, dtype=dtype)
    visible = keras.Input((count,), name=VISIBLE, dtype="int32")
    maps = encoders.masked(encoder, images, visible, grid, grn_statistics)
    outputs = _decoded(encoder, maps, visible, grid, width, patch, channels)
    model = MaskedAutoencoder(
        {IMAGES: images, VISIBLE: visible},
        outputs,
        name=name or f"{encoder.name}_autoencoder",
    )
    if height is None:
        # What evaluates the encoder is to do so at the size it learned at.
        sized = encoder.preprocessing.at_size((size, size))
        encoder.update_info(preprocessing=sized)
    # Beside Keras, which would count layers of the head to this model.
    model.__dict__["_encoder"] = encoder
    return model


def _decoded(encoder, maps, visible, grid, width, patch, channels):
    """Predictions for all patches from what the encoder saw."""
    variant = Variant(
        "decoder",
        (1,),
        (width,),
        kernel_sizes=(7,),
        grn=True,
        layer_scale_init_value=0.0,
    )
    end = encoder.get_layer(encoders.end_of(encoder))
    prefix = f"{encoders.prefix_of(encoder)}decoder_"
    options = arguments.Options(
        dtype=end.dtype_policy,
        data_format="channels_last",
        layer_prefix=prefix,
    )
    builder = Builder(variant, arguments.checked(variant, options))
    x = builder.dense(f"{prefix}embedding", width)(maps)
    token = builder.named(MaskToken, f"{prefix}mask_token", *grid)
    x = builder.block(token([x, visible]), 0, 0)
    values = patch * patch * channels
    predict = builder.dense(
        f"{prefix}prediction", values, dtype=builder.head_dtype
    )
    return predict(x)


def check_autoencoder(model):
    """Raises `ValueError` for a model that is none."""
    if not isinstance(model, MaskedAutoencoder):
        raise ValueError(
            "Expected a masked autoencoder, as `pretraining.FCMAE` returns it. "
            f"Received: {model!r}"
        )
