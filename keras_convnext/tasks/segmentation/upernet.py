"""UperNet on a ConvNeXt, the paper's model for semantic segmentation."""

import contextlib
import math
from collections.abc import Sequence

from keras import layers

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.ranges import Several
from keras_convnext._util.ranges import in_range
from keras_convnext.layers import Normal
from keras_convnext.layers.initializers import skip_random_numbers
from keras_convnext.layers.plain import Add
from keras_convnext.layers.plain import Conv2D
from keras_convnext.models import arguments
from keras_convnext.models import inspection
from keras_convnext.models.model import ConvNeXtModel
from keras_convnext.models.model import ModelCard
from keras_convnext.tasks import backbones
from keras_convnext.tasks.segmentation import weights as weights_module
from keras_convnext.tasks.segmentation.model import AUXILIARY
from keras_convnext.tasks.segmentation.model import CARD
from keras_convnext.tasks.segmentation.model import DECODE
from keras_convnext.tasks.segmentation.model import SegmentationModel
from keras_convnext.tasks.segmentation.resampling import BilinearResize
from keras_convnext.tasks.segmentation.resampling import GridAveragePooling

CLASSES = 150  # of ADE20K
CHANNELS = 512
CROP = 512
POOL_SIZES = (1, 2, 3, 6)
# PyTorch's, whose momentum is one minus Keras'.
BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5}


@in_range
def UperNet(
    model: ConvNeXtModel,
    classes: Count | Sequence[str] | None = None,
    weights: PathLike | None = None,
    channels: Several | None = None,
    auxiliary: bool = True,
    dropout_rate: PartBelowOne = 0.1,
    crop: Count | None = None,
    name: str = "upernet",
) -> SegmentationModel:
    """Builds an UperNet on a ConvNeXt: logits for every pixel.

    Pyramid pooling over the last stage, a feature pyramid over all four, and
    their fusion; a second, small head on the third stage helps to train.
    Layers and weights are shared with `model`: `weights` are loaded into it,
    too.

    Args:
        model: a `ConvNeXtModel` of four stages in `channels_last`, such as
            `ConvNeXtTiny(include_top=False)`, which takes images of any size
            from 32 pixels on. Drop path is its own.
        classes: int, or a list with the name of each; `None` for as many as
            the weights have, 150 without weights.
        weights: `None` for random heads; `"ade20k"` or another tag of
            `segmentation.CHECKPOINTS`; a URL, `"hf://org/repo[@revision]"`,
            or a file of this package, of the official repository (mmseg) or
            of transformers' `UperNetForSemanticSegmentation`.
        channels: width of the decode head, the auxiliary one has half of it;
            `None` for that of the weights, 512 without weights.
        auxiliary: whether there is the auxiliary head. Leave it out for
            inference.
        dropout_rate: of whole channels, before each classifier.
        crop: side in pixels of the images that it is trained on, for
            `segment`; `None` for the input size of `model`, if it has one,
            that of published weights, or 512.
        name: name of the model.

    Returns:
        A `SegmentationModel`, a Functional `keras.Model`. With `auxiliary` it
        returns a dict of `"decode"` and `"auxiliary"`, else the first alone:
        logits `(batch, height, width, classes)` in the size of the images,
        float32 under mixed policies.

    Raises:
        ValueError: if `model` cannot carry an UperNet, for arguments out of
            range, and for weights that do not fit: every tensor of a file is
            used exactly once.

    Source: arXiv:1807.10221, arXiv:2201.03545 §4, and the official
    repository's `semantic_segmentation/configs`.

    Examples:
        >>> backbone = keras_convnext.ConvNeXtAtto(
        ...     weights=None, include_top=False
        ... )
        >>> model = keras_convnext.segmentation.UperNet(
        ...     backbone, classes=5, channels=32, auxiliary=False
        ... )
        >>> keras.ops.shape(model(keras.ops.zeros((1, 64, 96, 3))))
        (1, 64, 96, 5)
    """
    backbone = backbones.Backbone.of(model, "UperNet")
    source = weights_module.find(model.variant, weights)
    saved_classes, saved_channels, saved_crop = CLASSES, CHANNELS, CROP
    if source:
        saved_classes, saved_channels = weights_module.sizes(source)
        if source.info.preprocessing:
            saved_crop = source.info.preprocessing.image_size[0]
    classes, class_names = arguments.classes_and_names(classes)
    classes = classes or saved_classes
    channels = backbones.at_least(
        2, "channels", channels, saved_channels, CHANNELS
    )
    crop = backbones.at_least(32, "crop", crop, saved_crop, CROP)
    size = (x or crop for x in inspection.image_shape(model)[:2])
    info = backbone.info(source, class_names, size)
    image, maps = backbone.pyramid.input, backbone.maps()
    skipping = skip_random_numbers() if source else contextlib.nullcontext()
    with skipping:
        heads = Heads(backbone, dropout_rate)
        outputs = heads.logits(
            DECODE, heads.decode(maps, channels), image, classes, info
        )
        if auxiliary:
            x = heads.convolution(AUXILIARY, maps[2], channels // 2, 3)
            helping = heads.logits(AUXILIARY, x, image, classes)
            outputs = {DECODE: outputs, AUXILIARY: helping}
    segmenter = SegmentationModel(image, outputs, name=name)
    if source:
        weights_module.load(segmenter, source, backbone.prefix)
    return segmenter


class Heads(backbones.Heads):
    """Creates the layers of both heads."""

    def __init__(self, backbone, dropout_rate):
        super().__init__(backbone)
        self.dropout_rate = dropout_rate

    def decode(self, maps, channels):
        """The fused map, in the size of the first of four."""
        *lower, last = maps
        pooled = [last]
        for index, size in enumerate(POOL_SIZES):
            name = f"decode_psp_{index}"
            x = self.named(GridAveragePooling, f"{name}_pool", size)(last)
            x = self.convolution(name, x, channels, 1)
            pooled.append(self.resize(f"{name}_resize", x, last))
        x = self.concatenation("decode_psp", pooled)
        x = self.convolution("decode_bottleneck", x, channels, 3)

        outputs = [x]
        for stage in (2, 1, 0):
            name = f"decode_lateral_{stage}"
            lateral = self.convolution(name, lower[stage], channels, 1)
            above = self.resize(f"{name}_resize", x, lateral)
            x = self.named(Add, f"{name}_add")([lateral, above])
            name = f"decode_fpn_{stage}"
            outputs.insert(0, self.convolution(name, x, channels, 3))
        outputs[1:] = [
            self.resize(f"decode_fpn_{stage}_resize", x, outputs[0])
            for stage, x in enumerate(outputs[1:], start=1)
        ]
        x = self.concatenation("decode_fpn", outputs)
        return self.convolution("decode_fusion", x, channels, 3)

    def convolution(self, name, x, filters, kernel_size):
        """Convolution, batch normalization and ReLU."""
        # He's normal initialization over the outputs, as in mmseg.
        deviation = math.sqrt(2 / (kernel_size**2 * filters))
        x = self.named(
            Conv2D,
            f"{name}_conv",
            filters,
            kernel_size,
            padding="same",
            use_bias=False,
            data_format="channels_last",
            kernel_initializer=Normal(stddev=deviation),
        )(x)
        x = self.named(layers.BatchNormalization, f"{name}_norm", **BATCH_NORM)(
            x
        )
        return self.named(layers.ReLU, f"{name}_relu")(x)

    def logits(self, name, x, image, classes, info=None):
        """The classifier of a head, in the size of the image."""
        if self.dropout_rate:
            x = self.named(
                layers.SpatialDropout2D,
                f"{name}_dropout",
                self.dropout_rate,
                data_format="channels_last",
            )(x)
        dtype = self.logits_dtype
        x = self.named(
            Conv2D,
            f"{name}_classifier",
            classes,
            1,
            data_format="channels_last",
            kernel_initializer=Normal(stddev=0.01),
            dtype=dtype,
        )(x)
        if info is not None:
            x = self.named(ModelCard, CARD, info, dtype=dtype)(x)
        return self.resize(name, x, image, dtype)

    def resize(self, name, x, like, dtype=None):
        return self.named(BilinearResize, name, dtype=dtype)([x, like])

    def concatenation(self, name, maps):
        return self.named(layers.Concatenate, f"{name}_concatenation")(maps)
