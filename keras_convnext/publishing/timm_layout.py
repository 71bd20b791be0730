"""A folder for `timm.create_model("local-dir:FOLDER", pretrained=True)`."""

from dataclasses import replace

from keras_convnext._util.json_files import write_object
from keras_convnext.facts.variants import VARIANTS
from keras_convnext.models.conversion import convert_weights

USAGE = """\
import timm
model = timm.create_model("{here}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
"""  # noqa: E501
# What timm calls the modules at both ends.
FIRST, LAST = "stem.0", "head.fc"
ELSEWHERE = "Publish it with `layout='keras'`, which holds every model"


def check(subject):
    """Raises `ValueError` for what timm cannot build or say."""
    variant = subject.model.variant
    known = VARIANTS.get(variant.name)
    # The size of images and the license are no part of the topology.
    is_known = known and variant == replace(
        known, image_size=variant.image_size, license=variant.license
    )
    if not is_known or "isotropic" in variant.name:
        raise ValueError(
            "timm builds the architectures that it has by their names. "
            f"Received: {variant.name!r}, which it does not have. {ELSEWHERE}"
        )
    check_rgb(subject, "timm")
    if subject.is_regression:
        raise ValueError(
            "timm has no place for the units of numbers that a model "
            f"predicts. Received: {subject.model.name!r}, a model of "
            f"regression. {ELSEWHERE}"
        )


def check_rgb(subject, library):
    """Raises `ValueError` for what no transform of RGB images fits."""
    channels = subject.metadata["channels"]
    if channels != 3 or len(subject.preprocessing.mean) != 3:
        raise ValueError(
            f"{library} reads images in RGB. Received: {subject.model.name!r} "
            f"of {channels} channels. {ELSEWHERE}"
        )
    if "logits" not in subject.metadata["outputs"]:
        raise ValueError(
            f"{library} expects a classifier whose logits can be taken. "
            f"Received: {subject.model.name!r} to "
            f"{subject.metadata['outputs']}. {ELSEWHERE}"
        )


def write(subject, file, folder):
    """Writes `config.json` and `model.safetensors`."""
    convert_weights(file, folder / "model.safetensors", "timm")
    write_object(folder / "config.json", config_of(subject))


def config_of(subject):
    """What `timm.models.load_model_config_from_path` reads."""
    variant, preprocessing = subject.model.variant, subject.preprocessing
    height, width = preprocessing.image_size
    labels = {"label_names": subject.names}
    classes = subject.metadata["classes"]
    # As timm's own: ImageNet's classes by their ids.
    if classes and not all(id.isdecimal() for id, _ in classes):
        labels = {
            "label_names": [id for id, _ in classes],
            "label_descriptions": {
                id: name for (id, _), name in zip(classes, subject.names)
            },
        }
    return {
        "architecture": variant.name,
        "num_classes": subject.outputs,
        "num_features": variant.head_hidden_size or variant.dims[-1],
        "global_pool": "avg",
        **labels,
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [3, height, width],
            "fixed_input_size": False,
            "interpolation": preprocessing.interpolation,
            "crop_pct": preprocessing.crop_pct,
            "crop_mode": preprocessing.crop_mode,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "num_classes": subject.outputs,
            "pool_size": [height // 32, width // 32],
            "first_conv": FIRST,
            "classifier": LAST,
            "license": subject.info.license,
        },
    }
