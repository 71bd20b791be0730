"""What must not change while a run goes on."""

import hashlib
from dataclasses import asdict

from keras_convnext.models.inspection import all_layers


def settings_of(
    model,
    recipe,
    data,
    validation,
    seed,
    rematerialize,
    mixup_group,
    teacher=None,
):
    """Recipe, model, data, seed and so on, as a dict of JSON's types."""
    fields = asdict(recipe)
    del fields["summary"], fields["source"]
    return {
        "recipe": fields,
        "model": _model(model),
        "data": data.fingerprint(),
        "validation": validation and validation.fingerprint(),
        "seed": seed,
        "rematerialize": rematerialize,
        "mixup_group": mixup_group,
        "teacher": teacher and teacher.fingerprint,
    }


def _model(model):
    digest = hashlib.sha256()
    for weight in model.weights:
        line = f"{weight.path} {tuple(weight.shape)} {weight.dtype}\n"
        digest.update(line.encode())
    dtypes = {layer.dtype_policy.name for layer in all_layers(model)}
    info = getattr(model, "info", None)
    return {
        "name": model.name,
        "weights": info.weights if info else None,
        "input_shape": _without_batch(model.input_shape),
        "dtypes": sorted(dtypes),
        "digest": digest.hexdigest()[:16],
    }


def _without_batch(shape):
    """Of one input, or of each of several by name."""
    if isinstance(shape, dict):
        return {name: list(x[1:]) for name, x in shape.items()}
    return list(shape[1:])


# Which runs that began under earlier versions lack: anything, or a value that
# says they had none.
LATER = ("data.sample", "validation.sample", "recipe.loss")
LATER_WITHOUT = {
    "recipe.class_weight_exponent": 0.0,
    "recipe.class_weights": None,
    "recipe.class_sampling_exponent": 0.0,
    "recipe.head_epochs": 0,
    "recipe.freeze": None,
    "recipe.lora_rank": None,
    "recipe.lora_alpha": None,
    "recipe.image_sizes": None,
    "recipe.early_stopping_patience": None,
    "recipe.distillation_temperature": 3.0,
    "recipe.distillation_weight": 0.5,
    "recipe.distillation_feature_weight": 0.0,
    "teacher": None,
}


def differences(one, where, other, elsewhere):
    """Settings that are not the same in two places, a line each.

    Args:
        one, other: dicts as of `settings_of`.
        where, elsewhere: what the places are called.
    """
    one, other = flat(one), flat(other)
    return "\n".join(
        f"  {name}: {one.get(name)} {where}, {other.get(name)} {elsewhere}"
        for name in sorted(one | other)
        if one.get(name) != other.get(name)
        and not (name in LATER and name not in one)
        and not _was_without(name, one, other)
    )


def _was_without(name, one, other):
    """Whether a run of earlier versions did the same without a field."""
    is_new = name in LATER_WITHOUT and name not in one
    return is_new and other[name] == LATER_WITHOUT[name]


def flat(settings, prefix=""):
    result = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[prefix + name] = value
    return result
