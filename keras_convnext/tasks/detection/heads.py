"""The layers of detectors that have weights, each with a flat name."""

import math

from keras import layers

from keras_convnext.layers import Normal
from keras_convnext.layers.initializers import GlorotUniform
from keras_convnext.layers.plain import Add
from keras_convnext.layers.plain import Conv2D
from keras_convnext.layers.plain import Conv2DTranspose
from keras_convnext.layers.plain import Dense
from keras_convnext.layers.plain import RowBatchNormalization
from keras_convnext.tasks import backbones
from keras_convnext.weights.detection_tables import CONVOLUTIONS

RATIOS = 3  # anchors at every place of a map
# PyTorch's, whose momentum is one minus Keras'.
BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5}


class Heads(backbones.Heads):
    """Creates the layers of one detector.

    Args:
        backbone: a `Backbone`.
        classes: int.
        channels: of the feature pyramid and of all convolutions.
        units: of the fully connected layers.
    """

    def __init__(self, backbone, classes, channels, units):
        super().__init__(backbone)
        self.classes = classes
        self.channels = channels
        self.units = units

    def feature_pyramid(self, maps):
        """Five maps of equal width, of strides 4 to 64, from the stages' four.

        Source: arXiv:1612.03144; the fifth is every second pixel of the fourth.
        """
        laterals = [
            self.convolution(
                f"fpn_lateral_{i}", 1, kernel_initializer=GlorotUniform()
            )(x)
            for i, x in enumerate(maps)
        ]
        for i in (2, 1, 0):
            above = self.named(
                layers.UpSampling2D,
                f"fpn_lateral_{i}_above",
                interpolation="nearest",
                data_format="channels_last",
            )(laterals[i + 1])
            laterals[i] = self.named(Add, f"fpn_lateral_{i}_add")(
                [laterals[i], above]
            )
        outputs = [
            self.convolution(
                f"fpn_output_{i}", 3, kernel_initializer=GlorotUniform()
            )(x)
            for i, x in enumerate(laterals)
        ]
        coarsest = self.named(
            layers.MaxPooling2D,
            "fpn_output_4",
            pool_size=1,
            strides=2,
            data_format="channels_last",
        )(outputs[-1])
        return [*outputs, coarsest]

    def proposals(self, maps):
        """Scores and deltas of the anchors of each map, by the same layers.

        Logits `(batch, anchors)` and numbers `(batch, anchors, 4)`, each in
        the order of rows, columns and forms.
        """
        small = {"kernel_initializer": Normal(stddev=0.01)}
        shared = self.convolution("rpn_conv", 3, activation="relu", **small)
        features = [shared(x) for x in maps]
        outputs = []
        for name, numbers in (("rpn_scores", ()), ("rpn_deltas", (4,))):
            filters = RATIOS * math.prod(numbers)
            predict = self.convolution(
                name, 1, filters, self.logits_dtype, **small
            )
            flat = [
                self.named(
                    layers.Reshape,
                    f"{name}_{i}",
                    (-1, *numbers),
                    dtype=self.logits_dtype,
                )
                for i in range(len(maps))
            ]
            outputs.append(
                [reshape(predict(x)) for reshape, x in zip(flat, features)]
            )
        return outputs

    def boxes(
        self, stage, features, fully_connected, convolutions=0, rows=None
    ):
        """Logits of the classes and of none, and deltas of each class.

        Args:
            stage: what stands in the names for it: `""`, `"_0"`.
            features: `(regions, 7, 7, channels)`.
            fully_connected, convolutions: numbers of hidden layers.
            rows: booleans `(regions, 1, 1)`, which of the regions count in
                the statistics of batch normalizations.
        """
        x = features
        for i in range(convolutions):
            name = f"box{stage}_conv_{i}"
            x = self.convolution(name, 3, use_bias=False)(x)
            norm = self.named(
                RowBatchNormalization, f"{name}_norm", **BATCH_NORM
            )
            x = self.named(layers.ReLU, f"{name}_relu")(norm(x, rows))
        x = self.named(
            layers.Flatten, f"box{stage}_flat", data_format="channels_last"
        )(x)
        for i in range(fully_connected):
            x = self.named(
                Dense,
                f"box{stage}_fc_{i}",
                self.units,
                activation="relu",
                kernel_initializer=GlorotUniform(),
            )(x)
        return tuple(
            self.named(
                Dense,
                f"box{stage}_{name}",
                units,
                kernel_initializer=Normal(stddev=deviation),
                dtype=self.logits_dtype,
            )(x)
            for name, units, deviation in (
                ("classifier", self.classes + 1, 0.01),
                ("deltas", 4 * self.classes, 0.001),
            )
        )

    def masks(self, stage, features):
        """Logits of each class's mask, `(regions, 28, 28, classes)`."""
        x = features
        for i in range(CONVOLUTIONS):
            x = self.convolution(f"mask{stage}_conv_{i}", 3, activation="relu")(
                x
            )
        x = self.named(
            Conv2DTranspose,
            f"mask{stage}_upsample",
            self.channels,
            2,
            strides=2,
            activation="relu",
            data_format="channels_last",
            kernel_initializer=he_normal(2, self.channels),
        )(x)
        return self.convolution(
            f"mask{stage}_classifier", 1, self.classes, self.logits_dtype
        )(x)

    def convolution(
        self, name, kernel_size, filters=None, dtype=None, **kwargs
    ):
        filters = filters or self.channels
        kwargs.setdefault("kernel_initializer", he_normal(kernel_size, filters))
        return self.named(
            Conv2D,
            name,
            filters,
            kernel_size,
            padding="same",
            data_format="channels_last",
            dtype=dtype,
            **kwargs,
        )


def he_normal(kernel_size, filters):
    """He's normal initialization over the outputs, as in mmdet."""
    return Normal(stddev=math.sqrt(2 / (kernel_size**2 * filters)))
