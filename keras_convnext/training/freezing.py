"""Which weights a recipe trains, and from which epoch on.

Weights are kept still by `trainable` of their variables alone: they have no
gradient then, and the optimizer neither moves nor decays them, nor their
average. What layers say of themselves, and files hold, stays as it was.
"""

import contextlib
import functools
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras

from keras_convnext.layers import states
from keras_convnext.models import low_rank
from keras_convnext.training.optimizers.adamw import AdamW
from keras_convnext.training.optimizers.averaging import inner_optimizer
from keras_convnext.training.optimizers.layer_decay import backbone_layers


class HeadFirst(keras.callbacks.Callback):
    """Trains the head alone in the first epochs of `fit`, then everything.

    Args:
        epochs: int.
    """

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        build_optimizer(self.model)
        learning = all_learning(self.model)
        if epoch < self.epochs:
            learning = head_of(self.model, learning)
        train_only(self.model, learning)

    def on_train_end(self, logs=None):
        train_only(self.model, all_learning(self.model))


def trained_variables(model: keras.Model, recipe: Any) -> list[keras.Variable]:
    """Those of a model's trainable variables that a `Recipe` trains at all.

    Raises:
        ValueError: if the model has no layers of the name in `freeze`.
    """
    if recipe.freeze is None and recipe.lora_rank is None:
        return model.trainable_variables
    frozen = _frozen(model, recipe)
    still: set[int] = set()
    for layer, name in _backbone(model, "freeze and lora_rank"):
        if name.scope in frozen or recipe.lora_rank is not None:
            still.update(map(id, layer.variables))
        if name.scope not in frozen:
            still.difference_update(map(id, states.lora_variables(layer)))
    return [x for x in model.trainable_variables if id(x) not in still]


def low_rank_layers(
    model: keras.Model, recipe: Any
) -> list[keras.layers.Layer]:
    """The Dense layers that LoRA is for: of the backbone, but what is frozen.

    Raises:
        ValueError: if there are none, or have LoRA of another rank.
    """
    frozen = _frozen(model, recipe)
    chosen = [
        layer
        for layer, name in _backbone(model, f"lora_rank={recipe.lora_rank}")
        if isinstance(layer, keras.layers.Dense) and name.scope not in frozen
    ]
    if not chosen:
        raise ValueError(
            "`lora_rank` needs Dense layers in what is not frozen. Received: "
            f"freeze={recipe.freeze!r} for the model {model.name!r}. Freeze "
            "less, or take `recipe.replace(lora_rank=None)`"
        )
    ranks = {x.lora_rank for x in chosen if states.has_lora(x)}
    if ranks - {recipe.lora_rank}:
        raise ValueError(
            "A layer gets LoRA once. Received: "
            f"lora_rank={recipe.lora_rank} for the model {model.name!r}, "
            f"whose layers have it of rank {min(ranks)}. Begin with the model "
            "from before it, or with `optimize_for_inference` of it"
        )
    return chosen


def enable_lora(
    model: keras.Model, recipe: Any, seed: int | None = None
) -> None:
    """Gives LoRA to the layers of a recipe's choice that lack it."""
    if recipe.lora_rank is not None:
        layers = low_rank_layers(model, recipe)
        layers = [x for x in layers if not states.has_lora(x)]
        low_rank.enable(layers, recipe.lora_rank, recipe.lora_alpha, seed)


def adapted(
    model: keras.Model, recipe: Any, seed: int = 0
) -> tuple[keras.Model, Callable[[], None]]:
    """A model with LoRA on the same weights, and what merges it into them.

    Args:
        model: stays an ordinary one: the layers that get LoRA are copied.
        recipe: a `Recipe`; without a `lora_rank` the model is returned.
        seed: int that the initial numbers follow from.
    """
    if recipe.lora_rank is None:
        return model, lambda: None
    chosen = low_rank_layers(model, recipe)
    own, pairs = low_rank.with_own(model, chosen)
    if len(pairs) < len(chosen):
        raise ValueError(
            "`lora_rank` needs Dense layers of the model's own. Received: "
            f"{model.name!r}, with some inside of other layers. Pass the model "
            "from before `rematerialized`, and `rematerialize=True`"
        )
    enable_lora(own, recipe, seed)
    return own, functools.partial(low_rank.merge, pairs)


def _frozen(model, recipe):
    """The scopes of the parts that are not trained."""
    if recipe.freeze is None:
        return []
    layers = _backbone(model, f"freeze={recipe.freeze!r}")
    # In the order in which they compute.
    scopes = list(dict.fromkeys(name.scope for _, name in layers))
    if recipe.freeze not in scopes:
        raise ValueError(
            "`freeze` must be the name of the last part that is not trained, "
            f"for {model.name!r} one of {', '.join(map(repr, scopes))}. "
            f"Received: freeze={recipe.freeze!r}"
        )
    return scopes[: scopes.index(recipe.freeze) + 1]


def head_of(
    model: keras.Model, variables: Sequence[keras.Variable]
) -> list[keras.Variable]:
    """Those of the variables that are not of the backbone.

    Raises:
        ValueError: if none or all are.
    """
    below = {
        id(variable)
        for layer, _ in _backbone(model, "head_epochs")
        for variable in layer.variables
    }
    head = [x for x in variables if id(x) not in below]
    if not head:
        raise ValueError(
            "`head_epochs` trains the layers behind the backbone first. "
            f"Received: the model {model.name!r}, of which none can be "
            "trained. Take `recipe.replace(head_epochs=0)`"
        )
    return head


def trained_from(model: keras.Model, step: int) -> dict[str, int]:
    """For `AdamW`: the layers of the backbone, with this step for each."""
    return {layer.name: step for layer, _ in _backbone(model, "head_epochs")}


def counts(trained: Iterable[int], model: keras.Model) -> str:
    """How many parameters are trained, and how many the saved model has.

    Args:
        trained: numbers that are added up.
        model: the one to save.
    """
    total = model.count_params()
    return f"trains {sum(trained):,} parameters; the model has {total:,}"


def build_optimizer(model: keras.Model) -> None:
    """Makes the slots of all that is ever trained, unless there are some."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    inner_optimizer(model).is_staged = True


def all_learning(model: keras.Model) -> list[keras.Variable]:
    """All variables that the optimizer ever trains, in the model's order."""
    return inner_optimizer(model)._trainable_variables


def train_only(model: keras.Model, variables: Sequence[keras.Variable]) -> None:
    """Keeps all others still from now on; a change compiles steps anew."""
    chosen = {id(x) for x in variables}
    is_other = False
    for variable in all_learning(model):
        is_learning = id(variable) in chosen
        is_other |= variable.trainable != is_learning
        variable.trainable = is_learning
    # The others, too: on several devices of JAX they know which variables are
    # trainable. What is not there yet is made when metrics are known.
    for kind in ("train", "test", "predict") if is_other else ():
        if getattr(model, f"{kind}_function") is not None:
            getattr(model, f"make_{kind}_function")(force=True)


@contextlib.contextmanager
def restored(model: keras.Model) -> Iterator[None]:
    """After it the same variables are trainable as before."""
    before = model.trainable_variables
    try:
        yield
    finally:
        for variable in before:
            variable.trainable = True


def jax_step(
    model: keras.Model,
    learning: Sequence[keras.Variable],
    step: Callable[..., Any],
    state: Sequence[Any],
    data: Any,
) -> tuple[Any, Any]:
    """A step of JAX's trainer that keeps all other variables still.

    Args:
        model: is compiled with any optimizer. Our `AdamW` leaves alone its
            slots and averages of the others, too.
        learning: the variables to train, of those that are trainable.
        step: as `model.train_step`.
        state, data: what it is called with.

    Returns:
        What it returns, for the variables that are trainable now.
    """
    trainable, others, *further = state
    before = model.trainable_variables, model.non_trainable_variables
    values = _by_variable(before, (trainable, others))
    chosen = {id(x) for x in learning}
    if not isinstance(inner_optimizer(model), AdamW):
        # Keras' take all variables, or none: what they did is undone.
        logs, (moved, *rest) = step(state, data)
        moved = [
            new if id(x) in chosen else old
            for x, old, new in zip(before[0], trainable, moved)
        ]
        return logs, (moved, *rest)
    resting = [x for x in before[0] if id(x) not in chosen]
    for variable in resting:
        variable.trainable = False
    try:
        now = model.trainable_variables, model.non_trainable_variables
        given = [[values[id(x)] for x in part] for part in now]
        logs, (*moved, optimizer, metrics) = step((*given, *further), data)
    finally:
        for variable in resting:
            variable.trainable = True
    values = _by_variable(now, moved)
    given = [[values[id(x)] for x in part] for part in before]
    return logs, (*given, optimizer, metrics)


def _by_variable(variables, values):
    return {
        id(variable): value
        for of_part in zip(variables, values)
        for variable, value in zip(*of_part)
    }


def _backbone(model, field):
    layers = backbone_layers(model)
    if not layers:
        raise ValueError(
            "The layers of a ConvNeXt ('stem_conv', 'stage_0_block_0_depthwise'"
            ", …) tell what the head is, and how deep the others lie. Received:"
            f" {field} for the model {model.name!r} without such layers. Set "
            "`trainable` of its layers yourself"
        )
    return layers
