"""Layers that Keras changed after they were built: by LoRA, by quantization.

Whoever reads a layer's kernel, or copies a layer, reads it here: `weights` and
`config` of a layer with LoRA hold more than a plain layer takes.
"""

import math

import numpy as np
from keras import ops

# What LoRA adds to, by Keras' names: of dense layers and convolutions, and of
# embeddings.
MATRICES = ("kernel", "embeddings")
REMEDY = (
    "Take the model from before `quantize`. An int8 file for other runtimes "
    "comes of it by `keras_convnext.export(model, path, quantization='int8', "
    "representative_data=images)`; a file of Keras that is quantized already, "
    "by `keras.saving.load_model`"
)


def has_lora(layer):
    """Whether `layer.enable_lora` was called."""
    return getattr(layer, "lora_enabled", False)


def quantization_of(layer):
    """`"int8"`, `"int4"`, `"float8"` and so on, or `None`."""
    return getattr(layer.dtype_policy, "quantization_mode", None)


def plain_config(layer):
    """The config of the same layer without LoRA."""
    config = layer.get_config()
    for name in ("lora_rank", "lora_alpha"):
        config.pop(name, None)
    return config


def plain_weights(layer):
    """The arrays that a layer of `plain_config` takes: LoRA is added in."""
    if not has_lora(layer):
        return layer.get_weights()
    added = lora_variables(layer)
    plain = [x for x in layer.weights if all(x is not y for y in added)]
    scale = layer.lora_alpha / layer.lora_rank
    first, second = (np.asarray(ops.convert_to_numpy(x)) for x in added)
    # Keras' properties round the sum as the layer computes.
    return [
        np.asarray(ops.convert_to_numpy(weight))
        + (scale * (first @ second) if weight.name in MATRICES else 0)
        for weight in plain
    ]


def lora_variables(layer):
    """The two factors of what LoRA adds to a layer; none without it."""
    if not has_lora(layer):
        return []
    return [
        weight for weight in layer.weights if weight.name.startswith("lora_")
    ]


def plain_shapes(layer):
    """Shapes of the weights as the layer had them before both."""
    if not has_lora(layer) and quantization_of(layer) is None:
        return [weight.shape for weight in layer.weights]
    # Packed kernels, too, have their own shape by Keras' property.
    weights = (getattr(layer, name, None) for name in (*MATRICES, "bias"))
    return [weight.shape for weight in weights if weight is not None]


def plain_count(layer):
    """How many parameters the layer had before both."""
    return sum(math.prod(shape) for shape in plain_shapes(layer))
