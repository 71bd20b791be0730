"""What must not change while a run goes on."""

import hashlib
from dataclasses import asdict


def settings_of(
    model, recipe, data, validation, seed, rematerialize, mixup_group
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
    }


def _model(model):
    digest = hashlib.sha256()
    for weight in model.weights:
        line = f"{weight.path} {tuple(weight.shape)} {weight.dtype}\n"
        digest.update(line.encode())
    info = getattr(model, "info", None)
    return {
        "name": model.name,
        "weights": info.weights if info else None,
        "input_shape": list(model.input_shape[1:]),
        "digest": digest.hexdigest()[:16],
    }
