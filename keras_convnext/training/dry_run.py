"""What a run would do, without doing it."""

import math
from collections import defaultdict
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import in_range
from keras_convnext.training.freezing import counts

BARS = " ▁▂▃▄▅▆▇█"
WIDTH = 64


def parameter_groups(model: keras.Model, recipe: Any) -> list[dict[str, Any]]:
    """Which parameters learn how fast and decay how much.

    Args:
        model: a `keras.Model`, as for `recipe.compile`.
        recipe: a `Recipe`, or that of a detector or segmenter.

    Returns:
        List of dicts by rising learning rate: `scale` (times the learning
        rate), `weight_decay`, `tensors`, `parameters`, and `layers`, their
        names.

    Examples:
        >>> recipe = keras_convnext.recipes.small_data
        >>> model = recipe.build("convnext_atto", classes=2)
        >>> groups = keras_convnext.training.parameter_groups(model, recipe)
        >>> [round(group["scale"], 5) for group in groups[:2]]
        [0.26214, 0.26214]
    """
    recipe = recipe.for_model(model)
    model, _ = recipe.adapted(model)
    optimizer = recipe.optimizer(model, *_of_epochs(recipe, 10**6))
    groups = defaultdict(list)
    for variable in recipe.trained_variables(model):
        key = optimizer.scale_of(variable), optimizer.decay_of(variable)
        groups[key].append(variable)
    return [
        {
            "scale": scale,
            "weight_decay": decay,
            "tensors": len(variables),
            "parameters": sum(math.prod(x.shape) for x in variables),
            "layers": list(
                dict.fromkeys(x.path.split("/")[-2] for x in variables)
            ),
        }
        for (scale, decay), variables in sorted(
            groups.items(), key=lambda item: (item[0][0], -item[0][1])
        )
    ]


@in_range
def describe(model: keras.Model, recipe: Any, steps_per_epoch: Count) -> str:
    """Recipe, parameter groups and learning-rate curve, as text.

    Args:
        model, recipe: as for `parameter_groups`.
        steps_per_epoch: int.

    Returns:
        A str of several lines.
    """
    recipe = recipe.for_model(model)
    schedule = recipe.schedule(*_of_epochs(recipe, steps_per_epoch))
    if recipe.counts_steps:
        epochs = recipe.steps / steps_per_epoch
        length = (
            f"{recipe.steps} steps, {epochs:.1f} epochs of {steps_per_epoch}"
        )
    else:
        length = f"{recipe.epochs} epochs of {steps_per_epoch} steps"
    rates = ops.convert_to_numpy(schedule(np.arange(schedule.total_steps)))
    lines = [
        str(recipe),
        "",
        f"{length} on {keras.backend.backend()}",
        "",
        "lr scale   decay  tensors   parameters  layers",
    ]
    groups = parameter_groups(model, recipe)
    for group in groups:
        first, *_, last = 2 * group["layers"]
        lines.append(
            f"{group['scale']:8.5f}  {group['weight_decay']:6.3f}  "
            f"{group['tensors']:7}  {group['parameters']:11,}  {first}"
            + (f" … {last}" if last != first else "")
        )
    trained = (group["parameters"] for group in groups)
    lines += ["", counts(trained, model)]
    places = np.linspace(0, len(rates) - 1, WIDTH).round().astype(int)
    heights = np.ceil(rates[places] / rates.max() * (len(BARS) - 1))
    curve = "".join(BARS[int(height)] for height in heights)
    return "\n".join(
        [
            *lines,
            "",
            f"learning rate, up to {rates.max():.3g} over {len(rates)} steps:",
            f"|{curve}|",
        ]
    )


def _of_epochs(recipe, steps_per_epoch):
    """What optimizer and schedule of a recipe ask for, to count steps."""
    return () if recipe.counts_steps else (steps_per_epoch,)
