"""A page about a trained model, from what its run noted.

`card_of` is the page that trackers get. A published model's has the same parts:
`publishing/card.py` puts them beside what others need.
"""

from keras_convnext.models.inspection import info_of

LEFT_OUT = ("epoch", "step", "images_per_second", "learning_rate")


def card_of(summary, model, file):
    """Architecture, data, recipe and figures of a run, as Markdown.

    Args:
        summary: dict, as in `run.json`.
        model: the `keras.Model` that was trained.
        file: name of the file with its weights.
    """
    facts = {"File": f"`{file}`", **model_facts(model)}
    facts["Input"] = " × ".join(map(str, _shape(summary["settings"]["model"])))
    facts |= training_facts(summary, model)
    parts = [
        f"# {summary['settings']['model']['name']}",
        trained_by(summary),
        table(("", ""), facts.items()),
        "## Figures",
        *figures(summary),
        "## Recipe",
        recipe(summary),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def trained_by(summary):
    versions = summary["versions"]
    return (
        f"Trained by keras_convnext {versions['keras_convnext']} on "
        f"{versions['backend']}, with Keras {versions['keras']}."
    )


def model_facts(model):
    """What it is, by title."""
    info = info_of(model)
    variant = info and info.variant
    return {
        "Architecture": variant.name if variant else model.name,
        "Parameters": f"{model.count_params():,}",
    }


def training_facts(summary, model):
    """What it was trained on and from, by title."""
    settings = summary["settings"]
    info = info_of(model)
    weights = settings["model"]["weights"]
    unknown = "see where they are from" if weights else "none"
    held_out = settings["validation"]
    is_regression = settings["recipe"].get("loss") in ("huber", "squared")
    return {
        "Weights at the start": weights or "none: from scratch",
        "License of those weights": (info and info.license) or unknown,
        "Trained on": f"{settings['data']['images']} images",
        "Held out": f"{held_out['images']} images" if held_out else "nothing",
        "Targets" if is_regression else "Classes": settings["data"]["classes"],
        "Steps": summary["step"],
        "Seed": settings["seed"],
    }


def figures(summary):
    """Tables of the best and the last epoch; empty without any."""
    best = summary["best"].items()
    last = summary["metrics"].items()
    return [
        table(("best of an epoch", ""), ((x, f"{y:.4g}") for x, y in best)),
        table(
            ("last epoch", ""),
            ((x, f"{y:.4g}") for x, y in last if x not in LEFT_OUT),
        ),
    ]


def recipe(summary):
    """A table of the recipe's fields."""
    return table(("field", "value"), summary["settings"]["recipe"].items())


def table(head, rows):
    """A table of Markdown; empty without rows."""
    lines = [f"| {x} | {_cell(y)} |" for x, y in rows]
    if not lines:
        return ""
    return "\n".join([f"| {head[0]} | {head[1]} |", "| --- | --- |", *lines])


def _cell(value):
    return " ".join(str(value).replace("|", "&#124;").split())


def _shape(model):
    shape = model["input_shape"]
    return shape if isinstance(shape, list) else next(iter(shape.values()))
