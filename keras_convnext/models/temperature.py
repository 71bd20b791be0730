"""A classifier's logits divided by a temperature, in its last weights."""

from dataclasses import replace

import keras
import numpy as np

from keras_convnext.facts.labels import sigmoid
from keras_convnext.layers import states
from keras_convnext.models import inspection
from keras_convnext.models.model import ModelCard


def logits_layer(model):
    """The `Dense` layer that a classifier's logits come from.

    Raises:
        ValueError: if the model ends in something else, or is quantized.
    """
    modes = map(states.quantization_of, inspection.all_layers(model))
    if mode := next(filter(None, modes), None):
        raise ValueError(
            "A temperature is written into weights that are floats. Received: "
            f"{model.name!r}, quantized to {mode}. Calibrate the model from "
            "before `quantize`, and quantize or export it again"
        )
    last = model.layers[-1]
    logits = model.output
    if isinstance(last, keras.layers.Activation):
        logits = last.input
    for layer in model.layers:
        is_dense = isinstance(layer, keras.layers.Dense)
        if is_dense and layer.output is logits and _is_linear(layer):
            return layer
    raise ValueError(
        "Expected a classifier whose last weights are those of a `Dense` "
        "layer without activation, as every constructor of this package "
        f"builds them. Received: {model.name!r} whose last layer is "
        f"{last.name!r}"
    )


def divide_logits(model, temperature):
    """Divides kernel and bias of `logits_layer`, in place.

    So whatever the model is saved or exported to has these logits, and scores
    made of them. Which class is best stays the same; the thresholds of a
    sigmoid move along, so that the same labels reach them. The model's `info`
    keeps the product of all temperatures.

    Args:
        model: a classifier.
        temperature: positive float.

    Source: Guo et al., "On Calibration of Modern Neural Networks",
    arXiv:1706.04599, section 4.2.
    """
    for weight in logits_layer(model).weights:
        # LoRA adds a product: one of its factors is enough.
        if weight.name != "lora_kernel_a":
            weight.assign(weight / temperature)
    cards = [
        x for x in inspection.all_layers(model) if isinstance(x, ModelCard)
    ]
    for card in cards[:1]:
        info = card.info
        moved = info.thresholds and _moved(info.thresholds, temperature)
        total = temperature * (info.temperature or 1.0)
        card.info = replace(info, temperature=total, thresholds=moved)


def _is_linear(layer):
    return layer.activation is keras.activations.linear


def _moved(thresholds, temperature):
    """Thresholds that the same scores reach as before, once divided."""
    with np.errstate(divide="ignore"):
        inner = np.log(thresholds) - np.log1p(-np.array(thresholds))
        return tuple(sigmoid(inner / temperature).tolist())
