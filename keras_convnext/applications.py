"""The public constructors: thin over the table of variants."""

import contextlib
import fnmatch
import inspect
import weakref
from dataclasses import replace

import keras
from keras import layers

from keras_convnext import arguments
from keras_convnext import builder
from keras_convnext.layers import skip_random_numbers
from keras_convnext.model import ConvNeXtModel
from keras_convnext.model import ModelCard
from keras_convnext.model import ModelInfo
from keras_convnext.preprocessing import Preprocessing
from keras_convnext.variants import VARIANTS
from keras_convnext.variants import Variant
from keras_convnext.weights import loading

ARGUMENTS = """
    Takes images in RGB with values of 0–255 (`uint8` or float) and normalises
    them itself, unless `include_preprocessing=False`. The first nine
    arguments are those of `keras.applications.ConvNeXtTiny`.

    Args:
        include_top: whether the model ends in a classifier. Without one it
            returns the last feature map, normalised, or with `pooling` a
            vector.
        include_preprocessing: whether the model normalises its input. If not,
            images are expected normalised by `mean` and `std`.
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
        classes: number of classes; `None` for as many as the weights have,
            1000 without weights.
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
        mean, std: normalisation, a number for each channel, for pixels scaled
            to 0–1; needed for inputs that do not have three channels.
            Default to ImageNet's.

    Returns:
        A `ConvNeXtModel`, a Functional `keras.Model`.

    Raises:
        ValueError: for any argument that cannot be honoured.
"""


def build(
    variant,
    include_top=True,
    include_preprocessing=True,
    weights="imagenet",
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=None,
    classifier_activation="softmax",
    name=None,
    *,
    dtype=None,
    data_format=None,
    layer_prefix="",
    drop_path_rate=0.0,
    dropout_rate=0.0,
    layer_scale_init_value=None,
    head_init_scale=1.0,
    kernel_size=None,
    mean=None,
    std=None,
):
    """Builds the model of a `Variant`; the constructors' one implementation."""
    variant = _customised(variant, kernel_size, layer_scale_init_value)
    arguments.check_variant(variant)
    arguments.one_of("pooling", pooling, (None, *builder.POOLINGS))
    arguments.rate("drop_path_rate", drop_path_rate)
    arguments.rate("dropout_rate", dropout_rate)
    arguments.positive_number("head_init_scale", head_init_scale)
    classifier_activation = arguments.activation(
        "classifier_activation", classifier_activation
    )
    data_format = arguments.data_format(data_format)
    dtype, head_dtype = arguments.dtype_policy(dtype)
    source = loading.find(variant, weights)
    known = source.info if source else ModelInfo()
    classes = _classes(classes, source, include_top)
    if source and source.is_projection and classes == source.classes:
        classifier_activation = keras.activations.linear

    # Pixels in at least float32, whatever the policy.
    is_float64 = dtype.compute_dtype == "float64"
    image_dtype = "float64" if is_float64 else "float32"
    image_size = variant.image_size
    if known.preprocessing is not None:
        image_size = known.preprocessing.image_size[0]
    image = _image(
        input_tensor,
        input_shape,
        data_format,
        builder.total_stride(variant),
        image_size if include_top else None,
        f"{layer_prefix}image",
        image_dtype,
    )
    height, width, channels = arguments.from_layout(
        image.shape[1:], data_format
    )
    saved = known.preprocessing
    if mean is None and std is None and saved is not None:
        fits = len(saved.mean) == channels
        mean, std = (saved.mean, saved.std) if fits else (None, None)
    mean, std = arguments.mean_and_std(
        mean, std, channels, include_preprocessing
    )
    size = (height, width) if height and width else (image_size, image_size)
    keeps_classes = source and include_top and classes == source.classes
    info = replace(
        known,
        variant=variant,
        preprocessing=replace(
            saved or Preprocessing(size), image_size=size, mean=mean, std=std
        ),
        class_names=known.class_names if keeps_classes else None,
        label_set=known.label_set if keeps_classes else None,
        pyramid_level_inputs=builder.pyramid_levels(variant, layer_prefix),
    )

    skipping = skip_random_numbers() if source else contextlib.nullcontext()
    with skipping:
        outputs = _outputs(
            builder.Builder(
                variant, dtype, head_dtype, layer_prefix, drop_path_rate
            ),
            image,
            info,
            include_top=include_top,
            include_preprocessing=include_preprocessing,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            dropout_rate=dropout_rate,
            head_init_scale=head_init_scale,
            channels_first=data_format == "channels_first",
            image_dtype=image_dtype,
        )
    if input_tensor is not None:
        _check_towers(input_tensor, layer_prefix)
    model = ConvNeXtModel(_source(image), outputs, name=name or variant.name)
    if source:
        tensors, optional = loading.fit(source, channels, classes, include_top)
        loading.assign(model, tensors, source.name, layer_prefix, optional)
    return model


def _outputs(
    build,
    image,
    info,
    *,
    include_top,
    include_preprocessing,
    pooling,
    classes,
    classifier_activation,
    dropout_rate,
    head_init_scale,
    channels_first,
    image_dtype,
):
    """The whole graph, from the image to what the model returns."""
    x = build.named(ModelCard, "card", info, dtype=image_dtype)(image)
    if channels_first:
        x = build.named(layers.Permute, "to_channels_last", (2, 3, 1))(x)
    if include_preprocessing:
        preprocessing = info.preprocessing
        x = build.preprocessing(
            x, preprocessing.mean, preprocessing.std, image_dtype
        )
    x = build.stages(build.stem(x))
    x = build.features(x, "avg" if include_top else pooling)
    if include_top:
        return build.classifier(
            x, classes, classifier_activation, dropout_rate, head_init_scale
        )
    if pooling is None and channels_first:
        x = build.named(layers.Permute, "to_channels_first", (3, 1, 2))(x)
    return x


def create_model(name, *args, **kwargs):
    """Builds a ConvNeXt by name, such as `"convnext_tiny_hnf"`.

    Args:
        name: one of `list_models()`.
        *args, **kwargs: as for the constructors, see `ConvNeXtTiny`.

    Returns:
        A `ConvNeXtModel`, a Functional `keras.Model`.

    Raises:
        ValueError: for an unknown name, with the nearest matches.

    Example:

    >>> keras_convnext.create_model("test_convnext", weights=None).output_shape
    (None, 1000)
    """
    arguments.one_of("name", name, VARIANTS)
    kwargs.setdefault("name", name)
    return build(VARIANTS[name], *args, **kwargs)


def list_models(pattern="*"):
    """Names of all variants that match a shell-style pattern.

    Example:

    >>> keras_convnext.list_models("convnextv2_*o")
    ['convnextv2_atto', 'convnextv2_femto', 'convnextv2_pico', 'convnextv2_nano']
    """  # noqa: E501
    return fnmatch.filter(VARIANTS, pattern)


def ConvNeXt(
    depths,
    dims,
    *args,
    stem="patch",
    patch_size=4,
    stem_norm=True,
    norm="layer_norm",
    epsilon=1e-6,
    activation="gelu",
    grn=False,
    kernel_size=7,
    layer_scale_init_value=1e-6,
    head="pool_norm",
    head_hidden_size=None,
    image_size=224,
    weights=None,
    name="convnext",
    **kwargs,
):
    """Builds a ConvNeXt of your own depths and widths, with any stages.

    Args:
        depths: number of blocks for each stage.
        dims: width of each stage.
        *args, **kwargs: as for `ConvNeXtTiny`.
        stem, patch_size, stem_norm, norm, epsilon, activation, grn, head,
            head_hidden_size, image_size: see `keras_convnext.Variant`.
        kernel_size: depthwise kernel size, one odd int or one for each stage.
        layer_scale_init_value: initial layer scale, 0 for none.

    Returns:
        A `ConvNeXtModel`, a Functional `keras.Model`.

    Raises:
        ValueError: for any argument that cannot be honoured.

    Example:

    >>> model = keras_convnext.ConvNeXt(
    ...     (2, 2), (32, 64), patch_size=2, input_shape=(32, 32, 3), classes=10
    ... )
    >>> model.output_shape
    (None, 10)
    """
    depths, dims = _as_tuple(depths), _as_tuple(dims)
    variant = Variant(
        name=name,
        depths=depths,
        dims=dims,
        kernel_sizes=_kernel_sizes(kernel_size, len(depths)),
        stem=stem,
        patch_size=patch_size,
        stem_norm=stem_norm,
        norm=norm,
        epsilon=epsilon,
        activation=activation,
        grn=grn,
        layer_scale_init_value=layer_scale_init_value,
        head=head,
        head_hidden_size=head_hidden_size,
        image_size=image_size,
    )
    return build(variant, *args, weights=weights, name=name, **kwargs)


def _constructor(function_name, variant_name):
    """A public function such as `ConvNeXtTiny` for one row of the table."""
    variant = VARIANTS[variant_name]

    def constructor(*args, **kwargs):
        return build(variant, *args, **kwargs)

    parameters = list(inspect.signature(build).parameters.values())[1:]
    constructor.__signature__ = inspect.Signature(
        [
            parameter.replace(default=variant_name)
            if parameter.name == "name"
            else parameter
            for parameter in parameters
        ]
    )
    constructor.__name__ = constructor.__qualname__ = function_name
    constructor.__doc__ = (
        f"Builds `{variant_name}`: depths {variant.depths}, dims "
        f"{variant.dims}, {variant.image_size} px.\n{ARGUMENTS}\n"
        "    Example:\n\n"
        f"    >>> model = keras_convnext.{function_name}(weights=None)\n"
        "    >>> model.output_shape\n"
        "    (None, 1000)\n    "
    )
    return constructor


ConvNeXtAtto = _constructor("ConvNeXtAtto", "convnext_atto")
ConvNeXtFemto = _constructor("ConvNeXtFemto", "convnext_femto")
ConvNeXtPico = _constructor("ConvNeXtPico", "convnext_pico")
ConvNeXtNano = _constructor("ConvNeXtNano", "convnext_nano")
ConvNeXtTiny = _constructor("ConvNeXtTiny", "convnext_tiny")
ConvNeXtSmall = _constructor("ConvNeXtSmall", "convnext_small")
ConvNeXtBase = _constructor("ConvNeXtBase", "convnext_base")
ConvNeXtLarge = _constructor("ConvNeXtLarge", "convnext_large")
ConvNeXtXLarge = _constructor("ConvNeXtXLarge", "convnext_xlarge")
ConvNeXtXXLarge = _constructor("ConvNeXtXXLarge", "convnext_xxlarge")
ConvNeXtV2Atto = _constructor("ConvNeXtV2Atto", "convnextv2_atto")
ConvNeXtV2Femto = _constructor("ConvNeXtV2Femto", "convnextv2_femto")
ConvNeXtV2Pico = _constructor("ConvNeXtV2Pico", "convnextv2_pico")
ConvNeXtV2Nano = _constructor("ConvNeXtV2Nano", "convnextv2_nano")
ConvNeXtV2Tiny = _constructor("ConvNeXtV2Tiny", "convnextv2_tiny")
ConvNeXtV2Small = _constructor("ConvNeXtV2Small", "convnextv2_small")
ConvNeXtV2Base = _constructor("ConvNeXtV2Base", "convnextv2_base")
ConvNeXtV2Large = _constructor("ConvNeXtV2Large", "convnextv2_large")
ConvNeXtV2Huge = _constructor("ConvNeXtV2Huge", "convnextv2_huge")
ConvNeXtIsotropicSmall = _constructor(
    "ConvNeXtIsotropicSmall", "convnext_isotropic_small"
)
ConvNeXtIsotropicBase = _constructor(
    "ConvNeXtIsotropicBase", "convnext_isotropic_base"
)
ConvNeXtIsotropicLarge = _constructor(
    "ConvNeXtIsotropicLarge", "convnext_isotropic_large"
)


def _customised(variant, kernel_size, layer_scale_init_value):
    if kernel_size is not None:
        sizes = _kernel_sizes(kernel_size, len(variant.depths))
        variant = replace(variant, kernel_sizes=sizes)
    if layer_scale_init_value is not None:
        variant = replace(
            variant, layer_scale_init_value=layer_scale_init_value
        )
    return variant


def _kernel_sizes(kernel_size, stages):
    if isinstance(kernel_size, int):
        return (kernel_size,) * stages
    return _as_tuple(kernel_size)


def _as_tuple(values):
    return tuple(values) if hasattr(values, "__iter__") else (values,)


def _classes(classes, source, include_top):
    """The number of classes: the given one, the weights' own, or 1000."""
    if classes is not None:
        arguments.number_of_classes(classes)
        return classes
    if source is None:
        return 1000
    if source.classes is None and include_top:
        raise ValueError(
            f"The weights {source.name!r} have no classifier. Pass the number "
            "of `classes` to put a new one on top, or `include_top=False` for "
            "features. Received: classes=None, include_top=True"
        )
    return source.classes


def _image(
    input_tensor,
    input_shape,
    data_format,
    stride,
    default_size,
    name,
    dtype,
):
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
        data_format,
        default_size,
        stride,
    )
    if input_tensor is not None:
        return input_tensor
    return keras.Input(shape, name=name, dtype=dtype)


def _source(image):
    inputs = keras.utils.get_source_inputs(image)
    return inputs[0] if len(inputs) == 1 else inputs


# The prefixes of the towers that were built on each `input_tensor`'s inputs.
_TOWERS = weakref.WeakKeyDictionary()


def _check_towers(input_tensor, prefix):
    """Names must differ within one model, and inputs make the model."""
    for source in keras.utils.get_source_inputs(input_tensor):
        prefixes = _TOWERS.setdefault(source, set())
        if prefix in prefixes:
            raise ValueError(
                "Another ConvNeXt was built on the same input. Layers are "
                "named independently of the model's name, so two of them in "
                "one model need different prefixes: pass "
                "`layer_prefix='second_'` to one, or give it an input of its "
                f"own. Received: layer_prefix={prefix!r} again for "
                f"{source.name!r}"
            )
        prefixes.add(prefix)
