"""What recipes of any task have in common."""

from dataclasses import dataclass
from dataclasses import replace
from typing import Any
from typing import Self

import keras

from keras_convnext._util import checks
from keras_convnext._util.ranges import check_fields
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import parse
from keras_convnext.models.inspection import all_layers
from keras_convnext.models.inspection import info_of


@dataclass(frozen=True)
class BaseRecipe:
    """Where the figures of a training are from; derived classes add them.

    A field that differs between model sizes holds a dict from size
    (`"tiny"`) to value; `for_model` picks.
    """

    name: str
    summary: str
    source: str

    def __post_init__(self):
        check_fields(self)

    def replace(self, **changes: Any) -> Self:
        """The same recipe with other values; unknown names raise.

        Examples:
            >>> keras_convnext.recipes.imagenet1k.replace(epochs=30).epochs
            30
        """
        for name in changes:
            checks.one_of("field", name, vars(self))
        return replace(self, **changes)

    def for_model(self, model: str | keras.Model) -> Self:
        """The recipe with one value in every field.

        Args:
            model: a size (`"tiny"`), an architecture's name
                (`"convnext_tiny"`), or a model with a ConvNeXt of this
                package in it.

        Raises:
            ValueError: if a field has values for other sizes only.

        Examples:
            >>> recipe = keras_convnext.recipes.finetune_384.for_model("base")
            >>> recipe.drop_path_rate
            0.8
        """
        name = model
        if not isinstance(model, str):
            info = info_of(model)
            name = info.variant.name if info and info.variant else model.name
        chosen = {
            field: self._of_size(field, value, name)
            for field, value in vars(self).items()
            if isinstance(value, dict)
        }
        return replace(self, **chosen)

    def _of_size(self, field, values, model):
        for part in model.split("_"):
            if part in values:
                return values[part]
        raise ValueError(
            f"The recipe {self.name!r} has a `{field}` for the sizes "
            f"{list(values)} only. Pick a value yourself: "
            f"`recipe.replace({field}={next(iter(values.values()))!r})`. "
            f"Received: the model {model!r}"
        )


def drop_path_rate_of(model):
    """The stochastic depth of a model's last block."""
    rates = [
        layer.rate
        for layer in all_layers(model)
        if parse(layer.name).part == Part.DROP_PATH
    ]
    return max(rates, default=0.0)


def check_drop_path(model, recipe):
    """Raises `ValueError` for a model that was not built for the recipe."""
    rate = drop_path_rate_of(model)
    if abs(rate - recipe.drop_path_rate) < 1e-6:
        return
    raise ValueError(
        f"The recipe {recipe.name!r} trains with drop_path_rate="
        f"{recipe.drop_path_rate}. Build the model with `recipe.build`, or "
        f"take `recipe.replace(drop_path_rate={rate:.4g})`. Received: the "
        f"model {model.name!r} with drop_path_rate={rate:.4g}"
    )
