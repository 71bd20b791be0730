"""From a variant and the public arguments to a model with weights.

The one place where checks, topology and weights meet.
"""

import contextlib
import numbers
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace

import keras

from keras_convnext._util import image_layout
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.annotations import Tensor
from keras_convnext.facts.info import ModelInfo
from keras_convnext.facts.layer_names import LayerName
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.variants import Variant
from keras_convnext.images.geometry import official_crop
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.layers.initializers import skip_random_numbers
from keras_convnext.models import arguments
from keras_convnext.models import builder
from keras_convnext.models.model import ConvNeXtModel
from keras_convnext.weights import loading


def build(
    variant: Variant,
    include_top: bool = True,
    include_preprocessing: bool = True,
    weights: PathLike | None = "imagenet",
    input_tensor: Tensor | None = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: str | None = None,
    classes: int | Sequence[str] | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    dtype: str | keras.DTypePolicy | None = None,
    data_format: str | None = None,
    layer_prefix: str = "",
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    layer_scale_init_value: float | None = None,
    head_init_scale: float = 1.0,
    kernel_size: int | Sequence[int] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    output_stride: int | None = None,
) -> ConvNeXtModel:
    """Builds the model of a `Variant`; the constructors' one implementation.

    Takes images in RGB with values of 0–255 (`uint8` or float) and normalizes
    them itself, unless `include_preprocessing=False`. The first nine
    arguments are those of `keras.applications.ConvNeXtTiny`.

    Args:
        variant: a `Variant`.
        include_top: whether the model ends in a classifier. Without one it
            returns the last feature map, normalized, or with `pooling` a
            vector.
        include_preprocessing: whether the model normalizes its input. If not,
            images are expected normalized by `mean` and `std`.
        weights: `None` for random weights; an alias (`"imagenet"`,
            `"imagenet22k"`, `"imagenet22k_ft_imagenet"`, `…_384`) or tag of
            `keras_convnext.list_weights()`; `"hf://org/repository[@revision]"`;
            a URL; or a file of this package, the official repositories,
            timm, transformers, torchvision or keras.applications.
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
    variant = _customized(variant, kernel_size, layer_scale_init_value)
    options = arguments.checked(
        variant,
        include_top=include_top,
        include_preprocessing=include_preprocessing,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        dtype=dtype,
        data_format=data_format,
        layer_prefix=layer_prefix,
        drop_path_rate=drop_path_rate,
        dropout_rate=dropout_rate,
        head_init_scale=head_init_scale,
        output_stride=output_stride,
    )
    source = loading.find(variant, weights)
    options = _with_classes_of(source, options)
    size = _default_size(variant, source)
    image = _image(input_tensor, input_shape, options, size)
    shape = image_layout.from_layout(image.shape[1:], options.data_format)
    preprocessing = _preprocessing(source, shape, size, mean, std, options)
    info = _info(variant, source, preprocessing, options)
    skipping = skip_random_numbers() if source else contextlib.nullcontext()
    with skipping:
        outputs = builder.Builder(variant, options).outputs(image, info)
    model = ConvNeXtModel(_source(image), outputs, name=name or variant.name)
    if source:
        loading.load(
            model, source, shape[2], options.classes, include_top, layer_prefix
        )
    return model


def _with_classes_of(source, options):
    """The options with the number of classes: 1000, or as in the weights."""
    if source is None:
        return replace(options, classes=options.classes or 1000)
    if options.classes is None and source.classes is None:
        if options.include_top:
            raise ValueError(
                f"The weights {source.name!r} have no classifier. Pass the "
                "number of `classes` to put a new one on top, or "
                "`include_top=False` for features. Received: classes=None, "
                "include_top=True"
            )
        return options
    options = replace(options, classes=options.classes or source.classes)
    if source.is_projection and options.classes == source.classes:
        linear = keras.activations.linear
        options = replace(options, classifier_activation=linear)
    return options


def _default_size(variant, source):
    """Height and width: as the weights ask, or the variant's own."""
    if source and source.info.preprocessing:
        return tuple(source.info.preprocessing.image_size)
    return (variant.image_size,) * 2


def _preprocessing(source, shape, default_size, mean, std, options):
    """The `Preprocessing` of the weights, for images of another size or kind.

    Args:
        shape: height, width and channels of the input.
        default_size: in place of an unknown height and width.
    """
    height, width, channels = shape
    size = (height, width) if height and width else default_size
    saved = source.info.preprocessing if source else None
    if saved and mean is None and std is None and len(saved.mean) == channels:
        mean, std = saved.mean, saved.std
    mean, std = arguments.mean_and_std(
        mean, std, channels, options.include_preprocessing
    )
    saved = saved or Preprocessing(size, *official_crop(size))
    return replace(_at_size(saved, size), mean=mean, std=std)


def _info(variant, source, preprocessing, options):
    """What the model knows of itself."""
    info = source.info if source else ModelInfo()
    keeps_classes = (
        source and options.include_top and options.classes == source.classes
    )
    names = options.class_names if options.include_top else None
    if names is None and keeps_classes:
        names = info.class_names
    return replace(
        info,
        variant=variant,
        preprocessing=preprocessing,
        class_names=names,
        label_set=info.label_set if keeps_classes else None,
        pyramid_level_inputs=builder.pyramid_levels(
            variant, options.layer_prefix
        ),
    )


def _customized(variant, kernel_size, layer_scale_init_value):
    if kernel_size is not None:
        sizes = kernel_sizes(kernel_size, len(variant.depths))
        variant = replace(variant, kernel_sizes=sizes)
    if layer_scale_init_value is not None:
        variant = replace(
            variant, layer_scale_init_value=layer_scale_init_value
        )
    return variant


def kernel_sizes(kernel_size, stages):
    """One kernel size for each stage."""
    sizes = as_tuple(kernel_size)
    return (
        sizes * stages if isinstance(kernel_size, numbers.Integral) else sizes
    )


def as_tuple(values):
    """A tuple of Python's own ints, which JSON can hold."""
    values = values if hasattr(values, "__iter__") else (values,)
    return tuple(
        int(value) if isinstance(value, numbers.Integral) else value
        for value in values
    )


def _image(input_tensor, input_shape, options, default_size):
    """The tensor to build upon: a new input or a checked `input_tensor`."""
    if input_tensor is not None:
        if not keras.utils.is_keras_tensor(input_tensor):
            raise ValueError(
                "`input_tensor` must be a Keras tensor, such as "
                "`keras.Input(...)` or the output of a layer. Received: "
                f"input_tensor of type {type(input_tensor)}"
            )
        shape = tuple(input_tensor.shape[1:])
        if input_shape is not None and tuple(input_shape) != shape:
            raise ValueError(
                "`input_shape` must be None or the shape of `input_tensor`. "
                f"Received: input_shape={input_shape} and input_tensor of "
                f"shape {input_tensor.shape}"
            )
        input_shape = shape
    shape = arguments.input_shape(
        input_shape,
        options.data_format,
        default_size if options.include_top else (None, None),
        options.output_stride,
    )
    if input_tensor is not None:
        return input_tensor
    name = LayerName(options.layer_prefix).of(Part.IMAGE)
    return keras.Input(shape, name=str(name), dtype=options.image_dtype)


def _source(image):
    inputs = keras.utils.get_source_inputs(image)
    return inputs[0] if len(inputs) == 1 else inputs


def _at_size(preprocessing, size):
    """For images of another size; an official crop is that size's."""
    found = replace(preprocessing, image_size=size)
    crop = preprocessing.crop_pct, preprocessing.crop_mode
    if crop == official_crop(preprocessing.image_size):
        pct, mode = official_crop(size)
        found = replace(found, crop_pct=pct, crop_mode=mode)
    return found
