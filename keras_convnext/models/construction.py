"""From a variant and the public arguments to a model with weights.

The one place where checks, topology and weights meet.
"""

import contextlib
import numbers
from dataclasses import replace
from typing import Any

import keras

from keras_convnext._util import image_layout
from keras_convnext._util.checks import did_you_mean
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


def build(variant: Variant, *args: Any, **kwargs: Any) -> ConvNeXtModel:
    """Builds the model of a `Variant`; the constructors' one implementation.

    Args:
        variant: a `Variant`.
        *args, **kwargs: those of `arguments.Options`, which tells the errors.

    Returns:
        A `ConvNeXtModel`, a Functional `keras.Model`.
    """
    for name in kwargs.keys() - arguments.NAMES:
        raise TypeError(
            f"{variant.name} takes no argument of this name. Received: "
            f"{name}={kwargs[name]!r}{did_you_mean(name, arguments.NAMES)}"
        )
    options = arguments.Options(*args, **kwargs)
    variant = _customized(
        variant, options.kernel_size, options.layer_scale_init_value
    )
    classes, class_names = arguments.classes_and_names(options.classes)
    options = arguments.checked(variant, replace(options, classes=classes))
    source = loading.find(variant, options.weights)
    takes_backbone = classes is not None or not options.include_top
    options = _with_classes_of(source, options)
    saved = source.info.preprocessing if source else None
    size = saved.image_size if saved else (variant.image_size,) * 2
    image = _image(options, size)
    shape = image_layout.from_layout(image.shape[1:], options.data_format)
    preprocessing = _preprocessing(saved, shape, size, options)
    info = _info(variant, source, preprocessing, options, class_names)
    skipping = skip_random_numbers() if source else contextlib.nullcontext()
    with skipping:
        outputs = builder.Builder(variant, options).outputs(image, info)
    inputs = keras.utils.get_source_inputs(image)
    model = ConvNeXtModel(
        inputs[0] if len(inputs) == 1 else inputs,
        outputs,
        name=options.name or variant.name,
    )
    if source:
        loading.load(model, source, options.layer_prefix, takes_backbone)
        if options.include_preprocessing:
            loading.warn_of_normalization(source, preprocessing)
        if options.include_top:
            loading.tell_of_size(source, preprocessing)
    return model


def _with_classes_of(source, options):
    """The options with the number of classes: 1000, or as in the weights."""
    classes = options.classes or (source.classes if source else 1000)
    if classes is None and options.include_top:
        others = f" beside {loading.parts(source)}" if source.beside else ""
        raise ValueError(
            f"The weights {source.name!r} have no classifier. Pass the number "
            "of `classes` to put a new one on top, or `include_top=False` for "
            "features. Received: classes=None, include_top=True, and a "
            f"backbone{others}"
        )
    activation = options.classifier_activation
    if source and source.is_projection and classes == source.classes:
        activation = keras.activations.linear
    return replace(options, classes=classes, classifier_activation=activation)


def _preprocessing(saved, shape, default_size, options):
    """The `Preprocessing` of the weights, for images of another size or kind.

    Args:
        saved: that of the weights, or `None`.
        shape: height, width and channels of the input.
        default_size: in place of an unknown height and width.
    """
    height, width, channels = shape
    size = (height, width) if height and width else default_size
    mean, std = options.mean, options.std
    if saved and mean is None and std is None and len(saved.mean) == channels:
        mean, std = saved.mean, saved.std
    mean, std = arguments.mean_and_std(
        mean, std, channels, options.include_preprocessing
    )
    saved = saved or Preprocessing(size, *official_crop(size))
    return replace(saved.at_size(size), mean=mean, std=std)


def _info(variant, source, preprocessing, options, class_names):
    """What the model knows of itself."""
    info = source.info if source else ModelInfo()
    keeps_classes = (
        source and options.include_top and options.classes == source.classes
    )
    names = class_names if options.include_top else None
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
    changes = {}
    if kernel_size is not None:
        sizes = as_tuple(kernel_size)
        if isinstance(kernel_size, numbers.Integral):
            sizes *= len(variant.depths)
        changes["kernel_sizes"] = sizes
    if layer_scale_init_value is not None:
        changes["layer_scale_init_value"] = layer_scale_init_value
    return replace(variant, **changes)


def as_tuple(values):
    """A tuple of Python's own ints, which JSON can hold."""
    values = values if hasattr(values, "__iter__") else (values,)
    return tuple(
        int(value) if isinstance(value, numbers.Integral) else value
        for value in values
    )


def _image(options, default_size):
    """The tensor to build upon: a new input or a checked `input_tensor`."""
    input_tensor, input_shape = options.input_tensor, options.input_shape
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
    size = default_size if options.include_top else (None, None)
    shape = arguments.input_shape(input_shape, options, size)
    if input_tensor is not None:
        return input_tensor
    name = LayerName(options.layer_prefix).of(Part.IMAGE)
    return keras.Input(shape, name=str(name), dtype=options.image_dtype)
