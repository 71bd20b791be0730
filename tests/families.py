"""One reduced model of every family: what the shared battery runs over."""

import numpy as np

from keras_convnext import Variant

SMALL = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}
V2 = {"grn": True, "layer_scale_init_value": 0.0}

FAMILIES = {
    variant.name: variant
    for variant in (
        Variant("v1", **SMALL),
        Variant("v1_epsilon", **SMALL, epsilon=1e-5),
        Variant("v2", **SMALL, **V2),
        Variant("head_norm_first", **SMALL, head="norm_pool"),
        Variant("head_mlp", **SMALL, head_hidden_size=12),
        Variant("overlap", **SMALL, stem="overlap"),
        Variant("overlap_tiered", **SMALL, stem="overlap_tiered"),
        Variant("overlap_act", **SMALL, stem="overlap_act", norm="simple_norm"),
        Variant("rms", **SMALL, norm="rms_norm"),
        Variant("gelu_tanh", **SMALL, activation="gelu_tanh"),
        Variant("silu", **SMALL, activation="silu", kernel_sizes=(7, 5, 5, 3)),
        Variant(
            "isotropic",
            (3,),
            (24,),
            kernel_sizes=(7,),
            patch_size=16,
            stem_norm=False,
            layer_scale_init_value=0.0,
        ),
        Variant(
            "isotropic_layer_scale",
            (3,),
            (24,),
            kernel_sizes=(7,),
            patch_size=16,
            stem_norm=False,
        ),
    )
}


def every_weight_matters(model):
    """The model, with random weights under which no part is invisible."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) > 1:
            scale = np.prod(weight.shape[:-1]) ** -0.5
            weight.assign(scale * generator.normal(size=weight.shape))
        elif "float" in str(weight.dtype):  # none of a seed
            weight.assign(generator.uniform(0.2, 1, weight.shape))
    return model
