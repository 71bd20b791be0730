"""A folder for `transformers.pipeline("image-classification", FOLDER)`."""

from keras_convnext._util.json_files import write_object
from keras_convnext.models.conversion import convert_weights
from keras_convnext.publishing.timm_layout import ELSEWHERE
from keras_convnext.publishing.timm_layout import check_rgb

USAGE = """\
from transformers import pipeline
classify = pipeline("image-classification", model="{here}")
print(classify("photograph.jpg"))
"""
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "silu": "silu",
    "relu": "relu",
}
PROBLEMS = {
    "softmax": "single_label_classification",
    "sigmoid": "multi_label_classification",
}
# What is fixed in its code: all norms but the last have this epsilon.
EPSILON = 1e-6
FIXED = {
    "stem": "patch",
    "stem_norm": True,
    "norm": "layer_norm",
    "epsilon": EPSILON,
    "head": "pool_norm",
    "head_hidden_size": None,
}
# From this size on its processor squashes, and below it crops the center.
SQUASHED_FROM = 384
RESAMPLE = {"bilinear": 2, "bicubic": 3}


def check(subject):
    """Raises `ValueError` for what transformers cannot build or say."""
    check_rgb(subject, "transformers")
    unlike = _unlike(subject.model.variant)
    if unlike:
        raise ValueError(
            "transformers has ConvNeXt and ConvNeXt V2 as they were "
            f"published. Received: {subject.model.variant.name!r} with "
            f"{', '.join(unlike)}. Publish it with `layout='timm'` or "
            "`layout='keras'`"
        )
    if subject.activation not in PROBLEMS:
        raise ValueError(
            "transformers' pipeline ends in a softmax or a sigmoid. Received: "
            f"{subject.model.name!r} with {subject.activation}. {ELSEWHERE}"
        )
    if problem := _not_expressed(subject.preprocessing):
        raise ValueError(
            "transformers' `ConvNextImageProcessor` crops the center of square "
            f"images below {SQUASHED_FROM} pixels, and squashes larger ones. "
            f"Received: {problem}. Publish it with `layout='timm'`, whose "
            "transform is the same, or evaluate it another way and note that "
            "by `model.update_info(preprocessing=...)`"
        )


def _unlike(variant):
    """What is other than in transformers' code, as `name=value`."""
    unlike = [
        f"{name}={getattr(variant, name)!r}"
        for name, value in FIXED.items()
        if getattr(variant, name) != value
    ]
    if set(variant.kernel_sizes) != {7}:
        unlike.append(f"kernel_sizes={variant.kernel_sizes}")
    if variant.activation not in ACTIVATIONS:
        unlike.append(f"activation={variant.activation!r}")
    if variant.grn and variant.layer_scale_init_value:
        unlike.append("both GRN and layer scale")
    return unlike


def _not_expressed(preprocessing):
    """What their processor cannot do, or `""`."""
    height, width = preprocessing.image_size
    if height != width:
        return f"image_size={preprocessing.image_size}"
    squashes = height >= SQUASHED_FROM
    mode, crop_pct = preprocessing.crop_mode, preprocessing.crop_pct
    if mode != ("squash" if squashes else "center") or (
        squashes and crop_pct != 1
    ):
        return (
            f"crop_mode={mode!r} and crop_pct={crop_pct:g} at {height} pixels"
        )
    return ""


def write(subject, file, folder):
    """Writes `config.json`, `preprocessor_config.json` and the weights."""
    convert_weights(file, folder / "model.safetensors", "transformers")
    write_object(folder / "config.json", config_of(subject))
    processor = processor_of(subject.preprocessing)
    write_object(folder / "preprocessor_config.json", processor)


def config_of(subject):
    """Fields of `ConvNextConfig` or `ConvNextV2Config`."""
    variant, names = subject.model.variant, subject.names
    kind = "ConvNextV2" if variant.grn else "ConvNext"
    layer_scale = {"layer_scale_init_value": variant.layer_scale_init_value}
    return {
        "architectures": [f"{kind}ForImageClassification"],
        "model_type": kind.lower(),
        "num_channels": 3,
        "patch_size": variant.patch_size,
        "num_stages": len(variant.depths),
        "depths": list(variant.depths),
        "hidden_sizes": list(variant.dims),
        "hidden_act": ACTIVATIONS[variant.activation],
        "layer_norm_eps": EPSILON,
        **({} if variant.grn else layer_scale),
        "image_size": subject.preprocessing.image_size[0],
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": PROBLEMS[subject.activation],
        "dtype": "float32",
    }


def processor_of(preprocessing):
    """Fields of `ConvNextImageProcessor`."""
    return {
        "image_processor_type": "ConvNextImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": preprocessing.image_size[0]},
        "crop_pct": preprocessing.crop_pct,
        "resample": RESAMPLE[preprocessing.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }
