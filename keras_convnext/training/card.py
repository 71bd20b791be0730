"""A page about a trained model, from what its run noted."""

from keras_convnext.models.inspection import info_of

LEFT_OUT = ("epoch", "step", "images_per_second", "learning_rate")


def card_of(summary, model, file):
    """Architecture, data, recipe and figures of a run, as Markdown.

    Args:
        summary: dict, as in `run.json`.
        model: the `keras.Model` that was trained.
        file: name of the file with its weights.
    """
    settings, versions = summary["settings"], summary["versions"]
    info = info_of(model)
    weights = settings["model"]["weights"] or "none: from scratch"
    license = (info and info.license) or (
        "see where they are from" if settings["model"]["weights"] else "none"
    )
    variant = info and info.variant
    held_out = settings["validation"]
    is_regression = settings["recipe"].get("loss") in ("huber", "squared")
    kind = "Targets" if is_regression else "Classes"
    facts = {
        "File": f"`{file}`",
        "Architecture": variant.name if variant else settings["model"]["name"],
        "Parameters": f"{model.count_params():,}",
        "Input": " × ".join(map(str, _shape(settings["model"]))),
        "Weights at the start": weights,
        "License of those weights": license,
        "Trained on": f"{settings['data']['images']} images",
        "Held out": f"{held_out['images']} images" if held_out else "nothing",
        kind: settings["data"]["classes"],
        "Steps": summary["step"],
        "Seed": settings["seed"],
    }
    best = summary["best"].items()
    last = summary["metrics"].items()
    parts = [
        f"# {settings['model']['name']}",
        f"Trained by keras_convnext {versions['keras_convnext']} on "
        f"{versions['backend']}, with Keras {versions['keras']}.",
        _table(("", ""), facts.items()),
        "## Figures",
        _table(("best of an epoch", ""), ((x, f"{y:.4g}") for x, y in best)),
        _table(
            ("last epoch", ""),
            ((x, f"{y:.4g}") for x, y in last if x not in LEFT_OUT),
        ),
        "## Recipe",
        _table(("field", "value"), settings["recipe"].items()),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _shape(model):
    shape = model["input_shape"]
    return shape if isinstance(shape, list) else next(iter(shape.values()))


def _table(head, rows):
    """A table of Markdown; empty without rows."""
    lines = [f"| {x} | {str(y).replace('|', '&#124;')} |" for x, y in rows]
    if not lines:
        return ""
    return "\n".join([f"| {head[0]} | {head[1]} |", "| --- | --- |", *lines])
