"""What a model knows of itself."""

from dataclasses import dataclass
from dataclasses import fields

from keras_convnext.facts.variants import Variant
from keras_convnext.images.preprocessing import Preprocessing

# Files that were written earlier spell these keys in British English.
RENAMED = {"licence": "license", "normalises": "normalizes"}


@dataclass(frozen=True)
class ModelInfo:
    """What a model carries beside its layers; saved in its config.

    Attributes:
        variant: the `Variant` it was built from.
        weights: tag or file name of the loaded weights, or `None`.
        preprocessing: the `Preprocessing` that its input expects.
        class_names: one name per class, or `None`.
        label_set: `"imagenet1k"`, `"imagenet12k"` or `"imagenet22k"` where the
            classes are those, `"clip"` for a projection, or `None`.
        license: license of the loaded weights, or `None`.
        thresholds: of each class of a sigmoid the score from which on an image
            has it, or `None`.
        temperature: what a calibration divided the logits by, or `None`.
        pyramid_level_inputs: name of the layer that ends each stage, by level
            (`"P2"` is stride 4), as keras-cv looks it up.
    """

    variant: Variant | None = None
    weights: str | None = None
    preprocessing: Preprocessing | None = None
    class_names: tuple | None = None
    label_set: str | None = None
    license: str | None = None
    pyramid_level_inputs: dict | None = None
    thresholds: tuple | None = None
    temperature: float | None = None

    @classmethod
    def from_config(cls, config):
        """The record behind `asdict`, also after a round trip as JSON."""
        records = {"variant": Variant, "preprocessing": Preprocessing}
        nested = {
            name: as_record(record, config[name])
            for name, record in records.items()
            if config.get(name) is not None
        }
        return as_record(cls, {**config, **nested})


def as_record(record, values):
    """The dataclass `record` of what JSON made of its fields.

    Unknown fields are dropped: a newer release may have saved them.
    """
    names = {field.name for field in fields(record)}
    return record(
        **{
            key: _as_tuple(value)
            for key, value in with_new_names(values).items()
            if key in names
        }
    )


def with_new_names(values):
    """A dict from an older file, with the names that its keys have today."""
    return {RENAMED.get(key, key): value for key, value in values.items()}


def _as_tuple(value):
    return tuple(value) if isinstance(value, list) else value
