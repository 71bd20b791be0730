"""From a classifier of ImageNet-22k to one of ImageNet-1k."""

import keras
import numpy as np

from keras_convnext.facts import labels
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import parse
from keras_convnext.layers import states
from keras_convnext.models import inspection
from keras_convnext.models.model import ConvNeXtModel
from keras_convnext.models.model import ModelCard

CLASSES_22K = 21841
# One 1k class, n04399382, is not in 22k: its logit never wins.
NEVER = -1e4


def imagenet1k_from_22k(model: ConvNeXtModel) -> ConvNeXtModel:
    """Cuts a classifier of 21 841 classes down to the 1000 of ImageNet-1k.

    The classes are matched by their WordNet ids; 999 of the 1000 exist. The
    missing one, index 850, gets a logit of -10 000.

    Args:
        model: a `ConvNeXtModel` with 21 841 outputs.

    Returns:
        A new `ConvNeXtModel` with 1000 outputs and the same weights, LoRA
        added to them.

    Raises:
        ValueError: for other models, and quantized ones.

    Examples:
        >>> model = keras_convnext.ConvNeXtTiny(weights="imagenet22k")
        ... # doctest: +SKIP
        >>> keras_convnext.imagenet1k_from_22k(model).output_shape
        ... # doctest: +SKIP
        (None, 1000)
    """
    if model.output_shape != (None, CLASSES_22K):
        raise ValueError(
            f"The model must have the {CLASSES_22K} outputs of ImageNet-22k, "
            "as with `weights='imagenet22k'`. Received: output shape "
            f"{model.output_shape}"
        )
    inspection.check_not_quantized(model)

    def copied(layer):
        config = states.plain_config(layer)
        if parse(layer.name).part == Part.HEAD_CLASSIFIER:
            config["units"] = 1000
        if isinstance(layer, ModelCard):
            config["info"].update(label_set="imagenet1k", class_names=None)
        return type(layer).from_config(config)

    smaller = keras.models.clone_model(model, clone_function=copied)
    indices = np.array(labels.imagenet22k_to_1k_indices())
    for layer in smaller.layers:
        weights = states.plain_weights(model.get_layer(layer.name))
        if parse(layer.name).part == Part.HEAD_CLASSIFIER:
            kernel, bias = weights
            missing = indices < 0
            weights = [
                np.where(missing, 0, kernel[:, indices]),
                np.where(missing, NEVER, bias[indices]),
            ]
        layer.set_weights(weights)
    return smaller
