"""Checks of the constructors' arguments."""

import numbers
from collections.abc import Callable
from dataclasses import dataclass

import keras

from keras_convnext._util.checks import is_finite
from keras_convnext._util.checks import is_positive_int
from keras_convnext._util.checks import one_of
from keras_convnext._util.checks import positive_int
from keras_convnext._util.checks import positive_number
from keras_convnext._util.checks import rate
from keras_convnext._util.image_layout import data_format
from keras_convnext._util.image_layout import from_layout
from keras_convnext._util.image_layout import to_layout
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD
from keras_convnext.models.builder import HEADS
from keras_convnext.models.builder import NORMS
from keras_convnext.models.builder import POOLINGS
from keras_convnext.models.builder import STEMS
from keras_convnext.models.builder import stage_strides


@dataclass(frozen=True)
class Options:
    """The arguments of a constructor that decide on layers, checked.

    Attributes:
        class_names: tuple of names, where `classes` was given as such.
        policy, head_policy: dtype policies of the body and the head.
        Others: as for `construction.build`, complete.
    """

    include_top: bool
    include_preprocessing: bool
    pooling: str | None
    classes: int | None
    class_names: tuple | None
    classifier_activation: Callable
    data_format: str
    policy: keras.DTypePolicy
    head_policy: str | keras.DTypePolicy
    layer_prefix: str
    drop_path_rate: float
    dropout_rate: float
    head_init_scale: float
    output_stride: int

    @property
    def image_dtype(self):
        """Pixels are in at least float32, whatever the policy."""
        is_float64 = self.policy.compute_dtype == "float64"
        return "float64" if is_float64 else "float32"

    @property
    def channels_first(self):
        return self.data_format == "channels_first"


def checked(variant, *, classes, dtype, **arguments):
    """The `Options`, or a `ValueError` that says what was expected."""
    check_variant(variant)
    one_of("pooling", arguments["pooling"], (None, *POOLINGS))
    rate("drop_path_rate", arguments["drop_path_rate"])
    rate("dropout_rate", arguments["dropout_rate"])
    positive_number("head_init_scale", arguments["head_init_scale"])
    strides = stage_strides(variant)
    stride = arguments.pop("output_stride")
    stride = strides[-1] if stride is None else stride
    # The last two downsamplings can be dilated, as in timm.
    one_of("output_stride", stride, strides[:-4:-1])
    function = activation(
        "classifier_activation", arguments.pop("classifier_activation")
    )
    classes, class_names = classes_and_names(classes)
    policy, head_policy = dtype_policy(dtype)
    return Options(
        **{**arguments, "data_format": data_format(arguments["data_format"])},
        classes=classes,
        class_names=class_names,
        classifier_activation=function,
        policy=policy,
        head_policy=head_policy,
        output_stride=stride,
    )


def check_variant(variant):
    """Raises `ValueError` for a topology that cannot be built."""
    for name in ("depths", "dims", "kernel_sizes"):
        values = getattr(variant, name)
        if not values or not all(is_positive_int(v) for v in values):
            raise ValueError(
                f"`{name}` must hold positive integers, one for each stage. "
                f"Received: {name}={values}"
            )
    if len(variant.dims) != len(variant.depths):
        raise ValueError(
            "`depths` and `dims` must have one entry for each stage. "
            f"Received: depths={variant.depths}, dims={variant.dims}"
        )
    if len(variant.kernel_sizes) != len(variant.depths):
        raise ValueError(
            "`kernel_size` must be an int or one int for each of the "
            f"{len(variant.depths)} stages. Received: "
            f"kernel_size={variant.kernel_sizes}"
        )
    positive_int("patch_size", variant.patch_size)
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
    positive_number("epsilon", variant.epsilon)
    if not is_finite(scale := variant.layer_scale_init_value) or scale < 0:
        raise ValueError(
            "`layer_scale_init_value` must be positive, or 0 for no layer "
            f"scale. Received: layer_scale_init_value={scale!r}"
        )
    if variant.head_hidden_size is not None:
        positive_int("head_hidden_size", variant.head_hidden_size)
    positive_int("image_size", variant.image_size)


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


def input_shape(shape, data_format, default_size, stride):
    """The full shape of one image, in the given layout.

    `None` stands for three channels of `default_size`, whose sides are `None`
    where any size will do.
    """
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
        raise ValueError(
            "The number of channels must be known: `input_shape` must be "
            f"{_layout_name(data_format)} under data_format="
            f"{data_format!r}. Received: input_shape={shape}"
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
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise ValueError(
            "`mean` and `std` must hold one number for each of the "
            f"{channels} channels, every standard deviation positive. "
            f"Received: mean={mean}, std={std}"
        )
    return mean, std


def dtype_policy(dtype):
    """The policy of the body, and that of the head.

    The head of a mixed policy is float32: half-precision probabilities of a
    thousand classes round to one another.
    """
    policy = (
        keras.config.dtype_policy()
        if dtype is None
        else keras.dtype_policies.get(dtype)
    )
    if "float64" in (policy.compute_dtype, policy.variable_dtype):
        _check_float64()
    mixed = policy.compute_dtype != policy.variable_dtype
    return policy, "float32" if mixed else policy


def _check_float64():
    if keras.backend.backend() != "jax":
        return
    import jax

    if not jax.config.jax_enable_x64:
        raise ValueError(
            "JAX computes in float32 where float64 is asked for, unless it is "
            "told otherwise before it starts: set the environment variable "
            "JAX_ENABLE_X64=1. Received: dtype='float64'"
        )


def _layout_name(data_format):
    return str(to_layout("height", "width", "channels", data_format)).replace(
        "'", ""
    )


def _per_channel(values, channels):
    if isinstance(values, numbers.Real):
        return (float(values),) * channels
    return tuple(float(value) for value in values)
