"""A model is measured, and its scores are made to mean what they say."""

from dataclasses import replace
from typing import Any

import keras

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.limits import check_memory
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import in_range
from keras_convnext.artifacts import running
from keras_convnext.data.holding_out import fold_numbers
from keras_convnext.data.source import Source
from keras_convnext.data.source import Subset
from keras_convnext.evaluation import temperature
from keras_convnext.evaluation.ground_truth import opened
from keras_convnext.evaluation.multi_label import MultiLabelEvaluation
from keras_convnext.evaluation.report import Evaluation
from keras_convnext.evaluation.run import measured
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.models.temperature import divide_logits
from keras_convnext.models.temperature import logits_layer


@in_range
def calibrate(
    model: Any,
    source: Source | PathLike,
    batch_size: Count = 32,
    verbose: bool = True,
    *,
    preprocessing: Preprocessing | None = None,
    apply_exif: bool | None = None,
    image_size: Count | tuple[Count, Count] | None = None,
) -> Evaluation | MultiLabelEvaluation:
    """Measures a model, and divides its logits by the best temperature.

    That is the one of the least cross-entropy on these images, or of the least
    binary cross-entropy of a model of many labels. It is written into the last
    layer of `model`, in place: save or export the model again. The best class
    stays the same, and thresholds of many labels move along.

    Figures after are measured on halves that share no group where the source
    has some, and have the same part of each class.

    Args:
        model: a Keras model of this package with its classifier, or the
            `Artifact` of a `.keras` file.
        source: images that were held out of training, as for `evaluate`: at
            least 50, and some that the model gets wrong. Their logits are kept
            in memory.
        batch_size, verbose, preprocessing, apply_exif, image_size: as for
            `evaluate`.

    Returns:
        The evaluation of the model as it was. Its `calibration` tells the
        temperature, and the figures before and after.

    Raises:
        ValueError: for exported and quantized models, too few images, images
            of one class, and where no mistake tells a temperature; the model
            stays as it was.
        ImportError: without scikit-learn.

    Source: Guo et al., "On Calibration of Modern Neural Networks",
    arXiv:1706.04599, section 4.2.

    Examples:
        >>> result = keras_convnext.evaluation.calibrate(
        ...     model, "photos"
        ... )  # doctest: +SKIP
        >>> result.calibration.temperature  # doctest: +SKIP
        1.37
    """
    return measured_and_calibrated(
        model,
        source,
        batch_size=batch_size,
        verbose=verbose,
        preprocessing=preprocessing,
        apply_exif=apply_exif,
        image_size=image_size,
    ).result


def measured_and_calibrated(model, source, **options):
    """What `calibrate` returns, and what it is made of: a `Measured`.

    Args:
        model, source, options: as for `calibrate`.
    """
    network = network_of(model)
    images = opened(source)
    temperature.check_source(images)
    size = 4 * len(images) * network.output_shape[-1]
    check_memory(size, f"The logits of {len(images)} images")
    found = measured(model, images, keep_logits=True, **options)
    each = found.each
    if images.is_multi_label:
        scores = temperature.Sigmoids(each["logits"], each["labels"])
    else:
        scores = temperature.Softmax(each["logits"], each["column"])
    folds = fold_numbers(Subset(images, each["place"]), 2, seed=0)
    told = temperature.calibration_of(scores, folds)
    divide_logits(network, told.temperature)
    return replace(found, result=replace(found.result, calibration=told))


def network_of(model):
    """The Keras model whose logits can be divided.

    Raises:
        ValueError: for models that have no weights to write into.
    """
    if isinstance(model, running.Artifact):
        if model.model is None:
            raise ValueError(
                "A temperature is written into the weights of a `.keras` "
                f"file. Received: {str(model.path)!r}, which was exported. "
                "Calibrate the `.keras` file, and export it again"
            )
        model = model.model
    if not isinstance(model, keras.Model):
        raise ValueError(
            "Expected a Keras model, or the `Artifact` of a `.keras` file. "
            f"Received: {model!r}"
        )
    logits_layer(model)
    return model
