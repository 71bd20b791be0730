"""Checks of the constructors' arguments."""

import numbers
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import KW_ONLY
from dataclasses import dataclass
from dataclasses import fields
from dataclasses import replace

import keras

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.annotations import Tensor
from keras_convnext._util.checks import is_positive_int
from keras_convnext._util.checks import one_of
from keras_convnext._util.image_layout import data_format
from keras_convnext._util.image_layout import from_layout
from keras_convnext._util.image_layout import to_layout
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Finite
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import check_fields
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD
from keras_convnext.models.builder import HEADS
from keras_convnext.models.builder import NORMS
from keras_convnext.models.builder import POOLINGS
from keras_convnext.models.builder import STEMS
from keras_convnext.models.builder import stage_strides


@dataclass(frozen=True)
class Options:
    """All constructors take the same arguments.

    The model takes images in RGB with values of 0–255 (`uint8` or float) and
    normalizes them itself, unless `include_preprocessing=False`. The first
    nine arguments are those of `keras.applications.ConvNeXtTiny`.

    Args:
        include_top: whether the model ends in a classifier. Without one it
            returns the last feature map, normalized, or with `pooling` a
            vector.
        include_preprocessing: whether the model normalizes its input. If not,
            images are expected normalized by `mean` and `std`.
        weights: `None` for random weights; an alias (`"imagenet"`,
            `"imagenet22k"`, `"imagenet22k_ft_imagenet"`, `…_384`) or tag of
            `keras_convnext.list_weights()`; `"hf://org/repository[@revision]"`;
            or a URL. Or a file, index or folder of this package, the official
            repositories, timm, transformers, torchvision, mmpretrain or
            keras.applications. `#name` behind it chooses one of several
            models. Tensors that are no part of the model are left out, with a
            warning, where the classifier is not the file's.
        input_tensor: a Keras tensor to build upon, possibly the output of
            another layer, in place of a new input.
        input_shape: shape of one image; height and width may be `None` for
            any size. Defaults to the variant's own size with three channels,
            and without top to any size. Published weights bring their own
            size.
        pooling: `None`, `"avg"` or `"max"`; only without top.
        classes: number of classes, or a list with the name of each; `None`
            for as many as the weights have, 1000 without weights.
        classifier_activation: activation of the classifier, or `None` for
            logits.
        name: name of the model. Layers are named independently of it.
        dtype: a dtype policy or its name, such as `"mixed_bfloat16"`;
            defaults to `keras.config.dtype_policy()`. Probabilities and
            logits of mixed policies are float32.
        data_format: `"channels_last"` or `"channels_first"`, the layout of
            the input and of returned feature maps; defaults to
            `keras.config.image_data_format()`.
        layer_prefix: put before every layer's name, for two towers in one
            model.
        drop_path_rate: stochastic depth of the last block, at least 0 and
            below 1; earlier blocks have linearly less, the first none.
        dropout_rate: dropout before the classifier.
        layer_scale_init_value: initial layer scale, 0 for none; `None` for
            the variant's own.
        head_init_scale: factor on the classifier's initial weights.
        kernel_size: depthwise kernel size, one odd int or one for each stage;
            `None` for the variant's own.
        mean, std: normalization, a number for each channel, for pixels scaled
            to 0–1; needed for inputs that do not have three channels.
            Default to ImageNet's.
        output_stride: pixels that one step of the last feature map spans:
            8, 16 or (`None`) 32, on other stems a quarter, half or all of
            the total stride. Stages above it keep the resolution and dilate
            their kernels, as timm's `output_stride` does; the weights are
            the same.

    Returns:
        A `ConvNeXtModel`, a Functional `keras.Model`.

    Raises:
        ValueError: for any argument that cannot be honored.
    """

    include_top: bool = True
    include_preprocessing: bool = True
    weights: PathLike | None = "imagenet"
    input_tensor: Tensor | None = None
    input_shape: Sequence[Count | None] | None = None
    pooling: str | None = None
    classes: Count | Sequence[str] | None = None
    classifier_activation: str | Callable | None = "softmax"
    name: str | None = None
    _: KW_ONLY
    dtype: str | keras.DTypePolicy | None = None
    data_format: str | None = None
    layer_prefix: str = ""
    drop_path_rate: PartBelowOne = 0.0
    dropout_rate: PartBelowOne = 0.0
    layer_scale_init_value: NotNegative | None = None
    head_init_scale: Positive = 1.0
    kernel_size: Count | Sequence[Count] | None = None
    mean: Finite | Sequence[Finite] | None = None
    std: Positive | Sequence[Positive] | None = None
    output_stride: Count | None = None

    @property
    def policies(self):
        """Dtype policies of the body and of the head."""
        return dtype_policy(self.dtype)

    @property
    def image_dtype(self):
        """Pixels are in at least float32, whatever the policy."""
        is_float64 = self.policies[0].compute_dtype == "float64"
        return "float64" if is_float64 else "float32"

    @property
    def channels_first(self):
        return self.data_format == "channels_first"


NAMES = {field.name for field in fields(Options)}


def checked(variant, options):
    """The options with the layout, function, policy and stride that they mean.

    Raises:
        ValueError: for a variant or options that cannot be built.
    """
    check_variant(variant)
    one_of("pooling", options.pooling, (None, *POOLINGS))
    check_fields(options)
    strides = stage_strides(variant)
    stride = options.output_stride
    stride = strides[-1] if stride is None else stride
    # The last two downsamplings can be dilated, as in timm.
    one_of("output_stride", stride, strides[:-4:-1])
    return replace(
        options,
        classifier_activation=activation(
            "classifier_activation", options.classifier_activation
        ),
        dtype=options.policies[0],
        data_format=data_format(options.data_format),
        output_stride=stride,
    )


def check_variant(variant):
    """Raises `ValueError` for a topology that cannot be built."""
    stages = len(variant.depths)
    for name in ("depths", "dims", "kernel_sizes"):
        sizes = getattr(variant, name)
        is_valid = sizes and all(is_positive_int(size) for size in sizes)
        if not is_valid or len(sizes) != stages:
            raise ValueError(
                f"`{name}` must hold positive integers, one entry for each of "
                f"the {stages} stages in `depths`. Received: {name}={sizes}"
            )
    check_fields(variant)
    one_of("stem", variant.stem, STEMS)
    one_of("norm", variant.norm, NORMS)
    one_of("head", variant.head, HEADS)
    if not isinstance(variant.activation, str):
        raise ValueError(
            "`activation` must be a name, so that saved models can tell it. "
            f"Received: activation={variant.activation!r}"
        )
    if variant.activation != "gelu_tanh":
        activation("activation", variant.activation)


def activation(name, value):
    """The function that a Keras activation identifier stands for."""
    try:
        return keras.activations.get(value)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"`{name}` must be the name of a Keras activation such as "
            "'gelu', 'relu', 'silu' or 'softmax', a callable, or None. "
            f"Received: {name}={value!r}"
        ) from error


def classes_and_names(classes):
    """The number of classes and their names, as far as they are given."""
    if isinstance(classes, (list, tuple)):
        names = tuple(str(name) for name in classes)
        number_of_classes(len(names))
        return len(names), names
    if classes is None:
        return None, None
    number_of_classes(classes)
    return int(classes), None  # Keras takes no other integers


def number_of_classes(value):
    if not is_positive_int(value):
        raise ValueError(
            "`classes` must be a positive int, a list of names, or None for "
            "as many as the weights have (1000 without weights). Received: "
            f"classes={value!r}"
        )


def input_shape(shape, options, default_size):
    """The full shape of one image, in the given layout.

    `None` stands for three channels of `default_size`, whose sides are `None`
    where any size will do.
    """
    data_format, stride = options.data_format, options.output_stride
    if shape is None:
        return to_layout(*default_size, 3, data_format)
    shape = tuple(shape)
    if len(shape) != 3 or not all(
        size is None or is_positive_int(size) for size in shape
    ):
        raise ValueError(
            "`input_shape` must be a tuple of three positive integers, height "
            "and width possibly None, without the batch. Received: "
            f"input_shape={shape}"
        )
    height, width, channels = from_layout(shape, data_format)
    if channels is None:
        names = ", ".join(to_layout("height", "width", "channels", data_format))
        raise ValueError(
            "The number of channels must be known: `input_shape` must be "
            f"({names}) under data_format={data_format!r}. Received: "
            f"input_shape={shape}"
        )
    for size in (height, width):
        if size is not None and size < stride:
            raise ValueError(
                f"The input must be at least {stride}x{stride} pixels, the "
                "total stride of this model; with fewer nothing is left of "
                "the image at the last stage. Use larger images, or a custom "
                "`keras_convnext.ConvNeXt` with fewer stages or a smaller "
                f"`patch_size`. Received: input_shape={shape} under "
                f"data_format={data_format!r}"
            )
    return shape


def mean_and_std(mean, std, channels, include_preprocessing):
    """One mean and one standard deviation for each channel.

    The defaults, ImageNet's, exist for three channels only.
    """
    if (mean is None) != (std is None):
        raise ValueError(
            "`mean` and `std` must be given together. Received: "
            f"mean={mean}, std={std}"
        )
    if mean is None:
        if channels == 3:
            return IMAGENET_MEAN, IMAGENET_STD
        if not include_preprocessing:
            return (), ()
        raise ValueError(
            f"Inputs of {channels} channels have no default normalization. "
            "Pass `mean` and `std` with one number for each channel, for "
            "pixels scaled to 0–1, or `include_preprocessing=False` and "
            f"normalize the images yourself. Received: {channels} channels"
        )
    mean, std = (_per_channel(values, channels) for values in (mean, std))
    if len(mean) != channels or len(std) != channels:
        raise ValueError(
            "`mean` and `std` must hold one number for each of the "
            f"{channels} channels. Received: mean={mean}, std={std}"
        )
    return mean, std


def dtype_policy(dtype):
    """The policy of the body, and that of the head.

    The head of a mixed policy is float32: half-precision probabilities of a
    thousand classes round to one another.
    """
    policy = keras.dtype_policies.get(dtype)
    is_float64 = "float64" in (policy.compute_dtype, policy.variable_dtype)
    if is_float64 and keras.backend.backend() == "jax":
        import jax

        if not jax.config.jax_enable_x64:
            raise ValueError(
                "JAX computes in float32 where float64 is asked for, unless it "
                "is told otherwise before it starts: set the environment "
                "variable JAX_ENABLE_X64=1. Received: dtype='float64'"
            )
    mixed = policy.compute_dtype != policy.variable_dtype
    return policy, "float32" if mixed else policy


def _per_channel(values, channels):
    if isinstance(values, numbers.Real):
        return (float(values),) * channels
    return tuple(float(value) for value in values)
