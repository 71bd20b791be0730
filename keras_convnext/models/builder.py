"""From a `Variant` and options to a Functional model: the topology."""

from dataclasses import replace

import keras
import numpy as np
from keras import layers

from keras_convnext.facts.layer_names import LayerName
from keras_convnext.facts.layer_names import Part
from keras_convnext.layers import DepthwiseConv2D
from keras_convnext.layers import GlobalResponseNormalization
from keras_convnext.layers import ImageNormalization
from keras_convnext.layers import LayerScale
from keras_convnext.layers import Normal
from keras_convnext.layers import gelu_tanh
from keras_convnext.layers import norms
from keras_convnext.layers import plain
from keras_convnext.layers.activations import gelu
from keras_convnext.models.model import ModelCard

MLP_RATIO = 4

NORMS = {
    "layer_norm": norms.LayerNormalization,
    "rms_norm": norms.RMSNormalization,
    "simple_norm": norms.SimpleNormalization,
}
STEMS = ("patch", "overlap", "overlap_tiered", "overlap_act")
HEADS = ("pool_norm", "norm_pool")
POOLINGS = {
    "avg": plain.GlobalAveragePooling2D,
    "max": layers.GlobalMaxPooling2D,
}


class Builder:
    """Creates the layers of one model; every layer's name starts at `prefix`.

    Everything runs in channels_last: Keras' `LayerNormalization(axis=1)` is
    wrong on the torch backend (Keras 3.15), and transposing once at the door
    costs less than twice in every block.
    """

    def __init__(self, variant, options):
        self.variant = variant
        self.options = options
        self.dtype, self.head_dtype = options.policies
        self.name = LayerName(options.layer_prefix)
        # Linear from 0 at the first block to the full rate at the last.
        rates = np.linspace(0.0, options.drop_path_rate, sum(variant.depths))
        self.drop_path_rates = rates.tolist()
        # Each downsampling that loses its stride doubles the spacing of the
        # kernels behind it (`ConvNeXt.__init__` in timm/models/convnext.py).
        strides = stage_strides(variant)
        self.dilations = [max(1, x // options.output_stride) for x in strides]

    def outputs(self, image, info):
        """The whole graph, from the image to the outputs of the model."""
        options, name = self.options, self.name
        dtype = options.image_dtype
        x = self.named(ModelCard, name.of(Part.CARD), info, dtype=dtype)(image)
        if options.channels_first:
            to_last = name.of(Part.TO_CHANNELS_LAST)
            x = self.named(layers.Permute, to_last, (2, 3, 1))(x)
        if options.include_preprocessing:
            x = self.named(
                ImageNormalization,
                name.of(Part.NORMALIZATION),
                info.preprocessing.mean,
                info.preprocessing.std,
                dtype=dtype,
            )(x)
        x = self.stages(self.stem(x))
        if options.include_top:
            return self.classifier(self.features(x, "avg"))
        x = self.features(x, options.pooling)
        if options.pooling is None and options.channels_first:
            to_first = name.of(Part.TO_CHANNELS_FIRST)
            x = self.named(layers.Permute, to_first, (3, 1, 2))(x)
        return x

    def named(self, layer_class, name, *args, dtype=None, **kwargs):
        return layer_class(
            *args, name=str(name), dtype=dtype or self.dtype, **kwargs
        )

    def norm(self, name, dtype=None):
        return self.named(
            NORMS[self.variant.norm],
            name,
            epsilon=self.variant.epsilon,
            dtype=dtype,
        )

    def activation(self, name, activation=None, dtype=None):
        activation = activation or self.variant.activation
        functions = {"gelu": gelu, "gelu_tanh": gelu_tanh}
        activation = functions.get(activation, activation)
        return self.named(layers.Activation, name, activation, dtype=dtype)

    def conv(self, name, filters, kernel_size, strides, **kwargs):
        return self.named(
            plain.Conv2D,
            name,
            filters,
            kernel_size,
            strides=strides,
            data_format="channels_last",
            kernel_initializer=initializer(),
            **kwargs,
        )

    def dense(self, name, units, dtype=None, scale=1.0):
        return self.named(
            plain.Dense,
            name,
            units,
            dtype=dtype,
            kernel_initializer=initializer(scale),
        )

    def stem(self, x):
        variant, name = self.variant, self.name
        width = variant.dims[0]
        if variant.stem == "patch":
            size = variant.patch_size
            x = self.conv(name.of(Part.STEM_CONV), width, size, size)(x)
        else:
            first = width
            if variant.stem == "overlap_tiered":
                first = divisible_by_8(width // 2)
            x = self.overlapping_conv(name.of(Part.STEM_CONV_0), x, first)
            if variant.stem == "overlap_act":
                x = self.activation(name.of(Part.STEM_ACTIVATION))(x)
            x = self.overlapping_conv(name.of(Part.STEM_CONV_1), x, width)
        if variant.stem_norm:
            x = self.norm(name.of(Part.STEM_NORM))(x)
        return x

    def overlapping_conv(self, name, x, filters):
        # `padding="same"` would pad even sizes on one side only.
        x = self.named(
            layers.ZeroPadding2D,
            name.beside(Part.PAD),
            padding=1,
            data_format="channels_last",
        )(x)
        return self.conv(name, filters, 3, 2)(x)

    def downsample(self, x, stage):
        name = replace(self.name, stage=stage)
        x = self.norm(name.of(Part.DOWNSAMPLE_NORM))(x)
        form = {"strides": 2}
        if self.dilations[stage] > 1:
            # Spread by the strides lost before this one, not by its own.
            form = {
                "strides": 1,
                "padding": "same",
                "dilation_rate": self.dilations[stage] // 2,
            }
        width = self.variant.dims[stage]
        return self.conv(name.of(Part.DOWNSAMPLE_CONV), width, 2, **form)(x)

    def block(self, x, stage, block):
        variant = self.variant
        dim = variant.dims[stage]
        name = replace(self.name, stage=stage, block=block)
        shortcut = x
        x = self.named(
            DepthwiseConv2D,
            name.of(Part.DEPTHWISE),
            variant.kernel_sizes[stage],
            dilation_rate=self.dilations[stage],
            depthwise_initializer=initializer(),
        )(x)
        x = self.norm(name.of(Part.NORM))(x)
        x = self.dense(name.of(Part.EXPAND), MLP_RATIO * dim)(x)
        x = self.activation(name.of(Part.ACTIVATION))(x)
        if variant.grn:
            x = self.named(GlobalResponseNormalization, name.of(Part.GRN))(x)
        x = self.dense(name.of(Part.PROJECT), dim)(x)
        if variant.layer_scale_init_value:
            x = self.named(
                LayerScale,
                name.of(Part.LAYER_SCALE),
                variant.layer_scale_init_value,
            )(x)
        rate = self.drop_path_rates[sum(variant.depths[:stage]) + block]
        if rate:
            # One draw per sample for the whole branch: stochastic depth.
            x = self.named(
                layers.Dropout,
                name.of(Part.DROP_PATH),
                rate,
                noise_shape=(None, 1, 1, 1),
            )(x)
        return self.named(plain.Add, name.of(Part.ADD))([shortcut, x])

    def stages(self, x):
        for stage, depth in enumerate(self.variant.depths):
            if stage:
                x = self.downsample(x, stage)
            for block in range(depth):
                x = self.block(x, stage, block)
        return x

    def features(self, x, pooling):
        """Pooling and normalization, and the hidden layer where there is one.

        A pooled vector is computed in the head's precision: a sum over many
        positions overflows in float16.
        """
        name = self.name
        dtype = self.head_dtype if pooling else self.dtype
        norm = self.norm(name.of(Part.HEAD_NORM), dtype=dtype)
        if pooling is None:
            x = norm(x)
        else:
            pool = self.named(
                POOLINGS[pooling],
                name.of(Part.HEAD_POOL),
                data_format="channels_last",
                dtype=dtype,
            )
            pool_first = self.variant.head == "pool_norm"
            x = norm(pool(x)) if pool_first else pool(norm(x))
        size = self.variant.head_hidden_size
        if size:
            x = self.dense(name.of(Part.HEAD_HIDDEN), size, dtype)(x)
            name = name.of(Part.HEAD_HIDDEN_ACTIVATION)
            x = self.activation(name, "gelu", dtype)(x)
        return x

    def classifier(self, x):
        options = self.options
        if options.dropout_rate:
            x = self.named(
                layers.Dropout,
                self.name.of(Part.HEAD_DROPOUT),
                options.dropout_rate,
                dtype=self.head_dtype,
            )(x)
        x = self.dense(
            self.name.of(Part.HEAD_CLASSIFIER),
            options.classes,
            dtype=self.head_dtype,
            scale=options.head_init_scale,
        )(x)
        # A layer of its own, so that the logits have a name.
        if options.classifier_activation is not keras.activations.linear:
            x = self.named(
                layers.Activation,
                self.name.of(Part.HEAD_ACTIVATION),
                options.classifier_activation,
                dtype=self.head_dtype,
            )(x)
        return x


def initializer(scale=1.0):
    """Normal with standard deviation 0.02 (times `scale`).

    The paper's truncated normal cuts at ±2, a hundred deviations away. A new
    object each time: one initializer gives every layer the same numbers.
    """
    return Normal(stddev=0.02 * scale)


def divisible_by_8(width):
    """`width` rounded to a multiple of 8, at most 10 % below (as in timm)."""
    rounded = max(8, (width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


def stage_strides(variant):
    """How many input pixels one step of each stage's feature map spans."""
    stem = variant.patch_size if variant.stem == "patch" else 4
    return [stem * 2**stage for stage in range(len(variant.depths))]


def total_stride(variant):
    """How many input pixels one step of the last feature map spans."""
    return stage_strides(variant)[-1]


def pyramid_levels(variant, prefix=""):
    """Name of each stage's last layer by level: P2 is stride 4.

    Strides that are no power of two have no level.
    """
    first = stage_strides(variant)[0]
    if first & (first - 1):
        return {}
    level = first.bit_length() - 1
    return {
        f"P{level + stage}": str(LayerName(prefix, stage, depth - 1, Part.ADD))
        for stage, depth in enumerate(variant.depths)
    }
