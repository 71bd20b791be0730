"""What may be asked of an export, checked before work starts."""

import numbers
from typing import NamedTuple

from keras_convnext._util.checks import one_of
from keras_convnext._util.image_layout import DATA_FORMATS
from keras_convnext._util.writing import check_writable
from keras_convnext.artifacts import graph
from keras_convnext.artifacts import metadata
from keras_convnext.artifacts.formats import FORMATS
from keras_convnext.models import inspection
from keras_convnext.models.builder import total_stride

# Those with non-maximum suppression, or with loops that compute it.
DETECTION_FORMATS = ("onnx", "openvino", "saved_model")


class Limit(NamedTuple):
    """The most bytes of float32 weights in files of a format.

    Attributes:
        bytes: int.
        expected, instead: of the error, before and after the figures.
    """

    bytes: int
    expected: str
    instead: str


LIMITS = {
    # The converter holds float32 on its way to anything smaller.
    "tflite": Limit(
        2**31 - 1,
        "The TFLite converter and its files hold",
        "export to 'onnx' or 'saved_model'",
    ),
    # Browsers hold that in one array, and a file is one there.
    "web": Limit(
        2**31 - 2**24,
        "A browser takes models of",
        "serve this one from a server",
    ),
}


def format_of(path, format):
    """The format, from the path's ending if it is not given."""
    if format is None:
        formats = {x.ending: name for name, x in FORMATS.items() if x.ending}
        if path.suffix in formats:
            return formats[path.suffix]
        raise ValueError(
            f"Without `format`, the path must end in one of {list(formats)}. "
            f"Received: {str(path)!r}. Pass `format=` as one of {list(FORMATS)}"
        )
    one_of("format", format, FORMATS)
    ending = FORMATS[format].ending
    if not str(path).endswith(ending):
        raise ValueError(
            f"A path in the format {format!r} must end in {ending!r}. "
            f"Received: {str(path)!r}"
        )
    return format


def to_export(model, format, quantization):
    """What is written of a model: of a segmenter and a detector not all."""
    if hasattr(model, "without_auxiliary"):
        return model.without_auxiliary()
    return of_images(model, format, quantization)


def of_images(model, format, quantization):
    """The model of images alone, of a detector, which also takes sizes."""
    if not hasattr(model, "of_images"):
        return model
    if format not in DETECTION_FORMATS or quantization is not None:
        raise ValueError(
            f"Detectors are exported to {list(DETECTION_FORMATS)} in float32. "
            f"Received: the detector {model.name!r}, format={format!r} and "
            f"quantization={quantization!r}. Export it to 'onnx', whose "
            "operations suppress boxes and align regions"
        )
    return model.of_images()


def checked(
    model,
    format,
    image_size,
    data_format,
    input_dtype,
    quantization,
    features,
    batch_size=None,
):
    """The metadata of the artifact, or a `ValueError`: what was expected."""
    graph.check(model)
    inspection.check_not_quantized(model)
    check_choices(format, data_format, input_dtype, quantization, batch_size)
    _check_bytes(model, format)
    size = _size(model, image_size)
    if None in size and (quantization == "int8"):
        raise ValueError(
            "int8 is calibrated at one size of images. Received: a model of "
            "any size. Pass `image_size=`, the height and width to export for"
        )
    if input_dtype == "uint8" and not inspection.normalizes(model):
        raise ValueError(
            "uint8 pixels are for models that normalize them. Received: "
            f"{model.name!r}, built with `include_preprocessing=False`, and "
            "input_dtype='uint8'. Pass 'float32'"
        )
    values = metadata.of_model(
        model,
        size,
        data_format,
        input_dtype,
        quantization,
        features,
        FORMATS[format].batch if batch_size is None else None,
    )
    if format == "web":
        _check_shown(values)
    return values


def check_choices(
    format, data_format, input_dtype, quantization, batch_size=None
):
    """Raises `ValueError` for what no model can be exported to."""
    one_of("batch_size", batch_size, (None, "dynamic"))
    one_of("input_dtype", input_dtype, metadata.INPUT_DTYPES)
    one_of("data_format", data_format, (None, *DATA_FORMATS))
    quantizations = (None, *FORMATS[format].quantizations)
    one_of("quantization", quantization, quantizations)


def check_target(path, format, overwrite):
    """All that is written can be; what stands there may be replaced."""
    written = [path]
    if beside := FORMATS[format].beside:
        name = beside.format(name=path.name, stem=path.stem)
        written.append(path.with_name(name))
    for one in written:
        _check_replaceable(one, format, overwrite)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ValueError(
            f"The folder to write to must exist. Received: {str(path)!r}"
        )
    check_writable(path)


def _check_replaceable(path, format, overwrite):
    if not path.exists():
        return
    if not overwrite:
        raise ValueError(
            "The path exists: pass `overwrite=True` (`--force`) to replace "
            f"it. Received: {str(path)!r}"
        )
    # Never a folder of something else.
    inside = FORMATS[format].inside
    file = path / inside if inside else path
    if not file.is_file():
        raise ValueError(
            f"What stands at the path must be of the format {format!r} to be "
            f"replaced. Received: {str(path)!r}. Remove it yourself, or choose "
            "another path"
        )


def _size(model, image_size):
    height, width, _ = inspection.image_shape(model)
    if image_size is None:
        return height, width
    if image_size == "dynamic":
        return None, None
    is_pair = isinstance(image_size, (tuple, list))
    pair = image_size if is_pair else (image_size, image_size)
    card = inspection.info_of(model)
    # Steps of the roadmap have a card without a variant.
    least = total_stride(card.variant) if card and card.variant else 1
    if len(pair) != 2 or not all(
        isinstance(x, numbers.Integral) and x >= least for x in pair
    ):
        raise ValueError(
            "`image_size` must be None (as the model), 'dynamic', or an int "
            f"or two, (height, width), of at least {least} pixels. Received: "
            f"image_size={image_size!r}"
        )
    return tuple(int(x) for x in pair)


def _check_bytes(model, format):
    size = model.count_params() * 4
    limit = LIMITS.get(format)
    if limit is not None and size > limit.bytes:
        raise ValueError(
            f"{limit.expected} at most 2 GB. Received: {model.name!r} with "
            f"{size / 1e9:.1f} GB of float32 weights. Choose a smaller model, "
            f"or {limit.instead}"
        )


def _check_shown(values):
    """Whether the page can read images for a model, and show its answers."""
    is_shown = {*metadata.HEADS, metadata.DECODE} & {*values["outputs"]}
    if (
        values["preprocessing"] is None
        or values["channels"] != 3
        or not is_shown
    ):
        raise ValueError(
            "A web page is for models of RGB images that know their "
            "preprocessing, and name classes, numbers or the class of each "
            "pixel. Received: "
            f"{values['model']!r} of {values['channels']} channels, with "
            f"preprocessing={values['preprocessing']} and outputs "
            f"{values['outputs']}. Export it to 'onnx', and write the page "
            "yourself"
        )
