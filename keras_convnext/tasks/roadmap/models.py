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
from keras import layers

from keras_convnext._util import checks
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Finite
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import in_range
from keras_convnext.facts.info import ModelInfo
from keras_convnext.facts.layer_names import LayerName
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.variants import VARIANTS
from keras_convnext.facts.variants import Variant
from keras_convnext.images.geometry import official_crop
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.layers import DepthwiseConv2D
from keras_convnext.layers.plain import Add
from keras_convnext.layers.plain import GlobalAveragePooling2D
from keras_convnext.models import arguments
from keras_convnext.models import construction
from keras_convnext.models.builder import Builder
from keras_convnext.models.builder import initializer
from keras_convnext.models.model import ConvNeXtModel
from keras_convnext.tasks.roadmap.steps import REGIMES
from keras_convnext.tasks.roadmap.steps import STEPS
from keras_convnext.tasks.roadmap.steps import design_of

EXPANSION = 4
# The last step of these is an architecture with a name.
NAMED = {"tiny": "convnext_tiny", "base": "convnext_base"}


@in_range
def build(
    step: str,
    regime: str = "tiny",
    input_shape: Sequence[Count] | None = None,
    classes: Count | Sequence[str] | None = None,
    classifier_activation: str | Callable | None = "softmax",
    mean: Finite | Sequence[Finite] | None = None,
    std: Positive | Sequence[Positive] | None = None,
    drop_path_rate: PartBelowOne = 0.0,
    layer_scale_init_value: NotNegative | None = None,
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
    design, sizes = design_of(step), REGIMES[regime]
    depths, width = sizes.depths[design.stage_ratio], sizes.widths[design.width]
    widths = tuple(width * 2**stage for stage in range(len(depths)))
    variant = Variant(regime, depths, widths, activation=design.activation)
    shape = tuple(input_shape or (sizes.image_size, sizes.image_size, 3))
    name = name or f"{regime}_{step}"
    if design.separate_downsampling:
        return construction.build(
            VARIANTS[NAMED[regime]] if regime in NAMED else variant,
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
    options = arguments.checked(
        variant,
        arguments.Options(
            classes=count or 1000,
            classifier_activation=classifier_activation,
            data_format="channels_last",
            drop_path_rate=drop_path_rate,
        ),
    )
    means, stds = arguments.mean_and_std(mean, std, shape[2], True)
    crop_pct, crop_mode = official_crop(shape[:2])
    preprocessing = Preprocessing(
        (shape[0], shape[1]), crop_pct, crop_mode, mean=means, std=stds
    )
    info = ModelInfo(preprocessing=preprocessing, class_names=class_names)
    image = keras.Input(shape, name=str(Part.IMAGE), dtype=options.image_dtype)
    network = _Network(variant, options, design)
    return ConvNeXtModel(image, network.outputs(image, info), name=name)


class _Network(Builder):
    """Creates the layers of a design where it is no ConvNeXt yet."""

    def __init__(self, variant, options, design):
        super().__init__(variant, options)
        self.design = design

    def stem(self, x):
        name, width = self.name, self.variant.dims[0]
        is_patch = self.design.stem == "patch"
        size, strides = (4, 4) if is_patch else (7, 2)
        x = self.convolved(x, name.of(Part.STEM_CONV), width, size, strides)
        x = self.norm(name.of(Part.STEM_NORM))(x)
        if not self.design.few_activations:
            x = self.activation(name.of(Part.STEM_ACTIVATION))(x)
        if is_patch:
            return x
        name = name.of(Part.STEM_POOL)
        x = self.padded(x, name, 1)
        return self.named(
            layers.MaxPooling2D, name, 3, 2, data_format="channels_last"
        )(x)

    def downsample(self, x, stage):
        """Nothing: the first block of a stage has the strides."""
        return x

    def block(self, x, stage, block):
        design, place = self.design, LayerName("", stage, block)
        strides = 2 if stage and not block else 1
        inner = self.variant.dims[stage]
        outer = EXPANSION * inner
        if design.inverted:
            inner, outer = outer, inner
        has_norms = not design.few_norms
        shortcut = x
        if strides > 1 or x.shape[-1] != outer:
            name = place.of(Part.SHORTCUT)
            shortcut = self.convolved(x, name, outer, 1, strides, has_norms)
            if has_norms:
                shortcut = self.norm(name.beside(Part.NORM))(shortcut)
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
                x = self.convolved(x, name, channels, has_norm=has_norm)
            elif design.depthwise:
                x = self.depthwise(x, name, strides)
            else:
                x = self.convolved(x, name, inner, design.kernel_size, strides)
            if has_norm:
                x = self.norm(name.beside(Part.NORM))(x)
            if part in active:
                x = self.activation(name.beside(Part.ACTIVATION))(x)
        rate = self.drop_path_rates[sum(self.variant.depths[:stage]) + block]
        if rate:
            noise_shape = (None, 1, 1, 1)
            drop_path = place.of(Part.DROP_PATH)
            x = self.named(layers.Dropout, drop_path, rate, noise_shape)(x)
        x = self.named(Add, place.of(Part.ADD))([shortcut, x])
        if not design.few_activations:
            x = self.activation(place.of(Part.ACTIVATION))(x)
        return x

    def features(self, x, pooling):
        return self.named(
            GlobalAveragePooling2D,
            self.name.of(Part.HEAD_POOL),
            data_format="channels_last",
            dtype=self.head_dtype,
        )(x)

    def norm(self, name, dtype=None):
        if self.design.norm == "layer_norm":
            return super().norm(name, dtype)
        options = {"momentum": 0.9, "epsilon": 1e-5}
        return self.named(layers.BatchNormalization, name, **options)

    def convolved(self, x, name, filters, size=1, strides=1, has_norm=True):
        if size % 2 and size > 1:
            x = self.padded(x, name, size // 2)
        use_bias = self.use_bias(has_norm)
        return self.conv(name, filters, size, strides, use_bias=use_bias)(x)

    def depthwise(self, x, name, strides):
        size = self.design.kernel_size
        options = {
            "use_bias": self.use_bias(has_norm=True),
            "depthwise_initializer": initializer(),
            "data_format": "channels_last",
        }
        if strides == 1:
            return self.named(DepthwiseConv2D, name, size, **options)(x)
        x = self.padded(x, name, size // 2)
        strided = layers.DepthwiseConv2D
        return self.named(strided, name, size, strides, **options)(x)

    def use_bias(self, has_norm):
        """Batch norm would take a bias away again."""
        return not has_norm or self.design.norm != "batch_norm"

    def padded(self, x, name, amount):
        # `padding="same"` would pad even sizes on one side only.
        return self.named(
            layers.ZeroPadding2D,
            name.beside(Part.PAD),
            amount,
            data_format="channels_last",
        )(x)
