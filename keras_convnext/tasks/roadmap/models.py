"""The networks between ResNet and ConvNeXt, as Functional models.

How the paper is read where it does not say:

- ResNet's stride is in the spatial convolution of a stage's first block, as
  in torchvision; so it stays until downsampling is separate.
- A projection is on the shortcut where shape or width change: from the
  inverted bottleneck on not in the first stage.
- The patchify stem keeps batch norm and activation of the stem before; the
  activation goes with those of the blocks.
- One norm remains behind the depthwise convolution, one activation between
  the two 1×1 convolutions.
- Layer scale and the norms before the downsampling and the head come with the
  last step, which is the ConvNeXt of this package.

With this reading the multiply-adds are the paper's within 1 %, but for one
misprint, see `steps.py`.
"""

from collections.abc import Callable
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from keras_convnext._util import checks
from keras_convnext.facts.info import ModelInfo
from keras_convnext.facts.layer_names import LayerName
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.variants import VARIANTS
from keras_convnext.facts.variants import Variant
from keras_convnext.images.geometry import official_crop
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.layers import DepthwiseConv2D
from keras_convnext.layers import ImageNormalization
from keras_convnext.layers.norms import LayerNormalization
from keras_convnext.layers.plain import Add
from keras_convnext.layers.plain import Conv2D
from keras_convnext.models import arguments
from keras_convnext.models import construction
from keras_convnext.models.builder import initializer
from keras_convnext.models.model import ConvNeXtModel
from keras_convnext.models.model import ModelCard
from keras_convnext.tasks.roadmap.steps import REGIMES
from keras_convnext.tasks.roadmap.steps import STEPS
from keras_convnext.tasks.roadmap.steps import design_of

EXPANSION = 4
# The last step of these is an architecture with a name.
NAMED = {"tiny": "convnext_tiny", "base": "convnext_base"}


def build(
    step: str,
    regime: str = "tiny",
    input_shape: Sequence[int] | None = None,
    classes: int | Sequence[str] | None = None,
    classifier_activation: str | Callable | None = "softmax",
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    drop_path_rate: float = 0.0,
    layer_scale_init_value: float | None = None,
    name: str | None = None,
) -> ConvNeXtModel:
    """Builds the network after a step of the roadmap.

    Args:
        step: one of `keras_convnext.roadmap.STEPS`.
        regime: `"tiny"` (ResNet-50 to ConvNeXt-T), `"base"` (ResNet-200 to
            ConvNeXt-B), or `"small"` (ours, for images of 32 pixels).
        input_shape: `(height, width, channels)`; defaults to the regime's
            size and three channels.
        classes: int, or a list with the name of each; 1000 if `None`.
        classifier_activation, mean, std, drop_path_rate, name: as for
            `ConvNeXtTiny`.
        layer_scale_init_value: as there; only the last step has it.

    Returns:
        A `ConvNeXtModel` with random weights, which takes pixels of 0–255.

    Raises:
        ValueError: for unknown steps and regimes.

    Source: V1 paper, section 2.

    Examples:
        >>> model = keras_convnext.roadmap.build("resnet", classes=10)
        >>> model.count_params()
        23581642
    """
    checks.one_of("step", step, STEPS)
    checks.one_of("regime", regime, REGIMES)
    checks.rate("drop_path_rate", drop_path_rate)
    design, sizes = design_of(step), REGIMES[regime]
    depths, width = sizes.depths[design.stage_ratio], sizes.widths[design.width]
    widths = tuple(width * 2**stage for stage in range(len(depths)))
    shape = tuple(input_shape or (sizes.image_size, sizes.image_size, 3))
    name = name or f"{regime}_{step}"
    if design.separate_downsampling:
        variant = Variant(regime, depths, widths)
        if regime in NAMED:
            variant = VARIANTS[NAMED[regime]]
        return construction.build(
            variant,
            weights=None,
            input_shape=shape,
            classes=classes,
            classifier_activation=classifier_activation,
            mean=mean,
            std=std,
            drop_path_rate=drop_path_rate,
            layer_scale_init_value=layer_scale_init_value,
            data_format="channels_last",
            name=name,
        )
    count, class_names = arguments.classes_and_names(classes)
    means, stds = arguments.mean_and_std(mean, std, shape[2], True)
    crop_pct, crop_mode = official_crop(shape[:2])
    preprocessing = Preprocessing(
        shape[:2], crop_pct, crop_mode, mean=means, std=stds
    )
    info = ModelInfo(preprocessing=preprocessing, class_names=class_names)
    image = keras.Input(shape, name=str(Part.IMAGE), dtype="float32")
    x = ModelCard(info, name=str(Part.CARD), dtype="float32")(image)
    x = ImageNormalization(means, stds, name=str(Part.NORMALIZATION))(x)
    network = _Network(design)
    x = network.stem(x, width)
    rates = iter(np.linspace(0.0, drop_path_rate, sum(depths)).tolist())
    for stage, depth in enumerate(depths):
        for block in range(depth):
            place = LayerName("", stage, block)
            strides = 2 if stage and not block else 1
            x = network.block(x, place, widths[stage], strides, next(rates))
    x = layers.GlobalAveragePooling2D(
        name=str(Part.HEAD_POOL), data_format="channels_last"
    )(x)
    x = layers.Dense(
        count or 1000,
        name=str(Part.HEAD_CLASSIFIER),
        kernel_initializer=initializer(),
    )(x)
    if classifier_activation is not None:
        x = layers.Activation(
            classifier_activation, name=str(Part.HEAD_ACTIVATION)
        )(x)
    return ConvNeXtModel(image, x, name=name)


class _Network:
    """Creates the stem and the blocks of a design, in channels_last."""

    def __init__(self, design):
        self.design = design

    def stem(self, x, width):
        stem = LayerName()
        is_patch = self.design.stem == "patch"
        size, strides = (4, 4) if is_patch else (7, 2)
        x = self.conv(x, stem.of(Part.STEM_CONV), width, size, strides)
        x = self.norm(x, stem.of(Part.STEM_NORM))
        if not self.design.few_activations:
            x = self.activation(x, stem.of(Part.STEM_ACTIVATION))
        if is_patch:
            return x
        name = stem.of(Part.STEM_POOL)
        pool = layers.MaxPooling2D(
            3, 2, name=str(name), data_format="channels_last"
        )
        return pool(_padded(x, name, 1))

    def block(self, x, place, width, strides, drop_path_rate):
        design = self.design
        inner, outer = width, EXPANSION * width
        if design.inverted:
            inner, outer = outer, inner
        has_norms = not design.few_norms
        shortcut = x
        if strides > 1 or x.shape[-1] != outer:
            name = place.of(Part.SHORTCUT)
            shortcut = self.conv(x, name, outer, 1, strides, has_norms)
            if has_norms:
                shortcut = self.norm(shortcut, name.beside(Part.NORM))
        order = [Part.EXPAND, Part.SPATIAL, Part.PROJECT]
        if design.depthwise_first:
            order = [Part.SPATIAL, Part.EXPAND, Part.PROJECT]
        active = [Part.EXPAND]
        if not design.few_activations:
            active.append(Part.SPATIAL)
        for part in order:
            name = place.of(part)
            has_norm = has_norms or part == Part.SPATIAL
            if part != Part.SPATIAL:
                channels = inner if part == Part.EXPAND else outer
                x = self.conv(x, name, channels, has_norm=has_norm)
            elif design.depthwise:
                x = self.depthwise(x, name, strides)
            else:
                x = self.conv(x, name, inner, design.kernel_size, strides)
            if has_norm:
                x = self.norm(x, name.beside(Part.NORM))
            if part in active:
                x = self.activation(x, name.beside(Part.ACTIVATION))
        if drop_path_rate:
            x = layers.Dropout(
                drop_path_rate,
                noise_shape=(None, 1, 1, 1),
                name=str(place.of(Part.DROP_PATH)),
            )(x)
        x = Add(name=str(place.of(Part.ADD)))([shortcut, x])
        if not design.few_activations:
            x = self.activation(x, place.of(Part.ACTIVATION))
        return x

    def conv(self, x, name, filters, size=1, strides=1, has_norm=True):
        if size % 2 and size > 1:
            x = _padded(x, name, size // 2)
        return Conv2D(
            filters,
            size,
            strides,
            name=str(name),
            use_bias=self.use_bias(has_norm),
            data_format="channels_last",
            kernel_initializer=initializer(),
        )(x)

    def depthwise(self, x, name, strides):
        size = self.design.kernel_size
        options = {
            "name": str(name),
            "use_bias": self.use_bias(has_norm=True),
            "data_format": "channels_last",
            "depthwise_initializer": initializer(),
        }
        if strides == 1:
            return DepthwiseConv2D(size, **options)(x)
        x = _padded(x, name, size // 2)
        return layers.DepthwiseConv2D(size, strides, **options)(x)

    def use_bias(self, has_norm):
        """Batch norm would take a bias away again."""
        return not has_norm or self.design.norm != "batch_norm"

    def norm(self, x, name):
        if self.design.norm == "layer_norm":
            return LayerNormalization(epsilon=1e-6, name=str(name))(x)
        return layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, name=str(name)
        )(x)

    def activation(self, x, name):
        return layers.Activation(self.design.activation, name=str(name))(x)


def _padded(x, name, amount):
    # `padding="same"` would pad even sizes on one side only.
    name = str(name.beside(Part.PAD))
    return layers.ZeroPadding2D(amount, name=name, data_format="channels_last")(
        x
    )
