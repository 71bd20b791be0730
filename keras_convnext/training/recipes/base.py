"""What recipes of any task have in common."""

import numbers
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace
from inspect import get_annotations
from typing import Any
from typing import ClassVar
from typing import Self

import keras

from keras_convnext._util import checks
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import check_fields
from keras_convnext._util.ranges import in_range
from keras_convnext._util.telling import tell
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import parse
from keras_convnext.models.inspection import all_layers
from keras_convnext.models.inspection import info_of
from keras_convnext.training.optimizers.adamw import AdamW
from keras_convnext.training.optimizers.schedules import WarmupCosine


@dataclass(frozen=True)
class BaseRecipe:
    """Where the figures of a training are from; derived classes add them.

    A field that differs between model sizes holds a dict from size
    (`"tiny"`) to value; `for_model` picks. All have a `batch_size` and a
    `learning_rate`.
    """

    name: str
    summary: str
    source: str

    # Fields with a dict by class, and not by model size.
    BY_CLASS: ClassVar[tuple[str, ...]] = ()
    # The fields of the warm-up and of the whole run, and the kind of both.
    SPANS: ClassVar[tuple[str, str, type]] = ("warmup_epochs", "epochs", float)

    @property
    def counts_steps(self) -> bool:
        """Whether a run is so many steps, and not so many epochs."""
        return "steps" in self.SPANS

    @property
    def task(self) -> str:
        """What it trains for; of classifiers as `Source.task`."""
        return "single-label"

    @property
    def is_multi_label(self) -> bool:
        """Whether it trains for images of many labels, or none."""
        return self.task == "multi-label"

    @property
    def is_regression(self) -> bool:
        """Whether it trains for images with numbers in place of classes."""
        return self.task == "regression"

    def trained_variables(self, model: keras.Model) -> list[keras.Variable]:
        """The variables of a model that a run by this recipe trains."""
        return model.trainable_variables

    @in_range
    def adapted(
        self, model: keras.Model, seed: Seed = 0
    ) -> tuple[keras.Model, Callable[[], None]]:
        """The model that a run trains, and what brings back its weights."""
        return model, lambda: None

    def __post_init__(self):
        check_fields(self)
        part, whole, _ = self.SPANS
        spans = getattr(self, part), getattr(self, whole)
        is_by_size = any(isinstance(x, dict) for x in spans)
        if not is_by_size and spans[0] >= spans[1]:
            raise ValueError(
                f"`{part}` must be fewer than `{whole}`: nothing is left after "
                f"the warm-up. Received: {part}={spans[0]}, {whole}={spans[1]}."
                " Train longer, or warm up for less"
            )

    def replace(self, **changes: Any) -> Self:
        """The same recipe with other values; unknown names raise.

        A shorter run that the warm-up does not fit into gets as large a part
        for it as the recipe has, and says so, unless that is given too.

        Examples:
            >>> keras_convnext.recipes.imagenet1k.replace(epochs=30).epochs
            30
        """
        for name in changes:
            checks.one_of("field", name, vars(self))
        return replace(self, **{**changes, **self._shorter_warmup(changes)})

    def _shorter_warmup(self, changes):
        """The warm-up for a shorter run, where its own does not fit in."""
        part, whole, kind = self.SPANS
        total = changes.get(whole)
        is_number = isinstance(total, numbers.Real) and total > 0
        if part in changes or not is_number:  # which may be refused
            return {}
        before, old = getattr(self, part), getattr(self, whole)

        def fitting(span, of):
            return span if span < total else kind(span / of * total)

        if isinstance(before, dict) or isinstance(old, dict):
            sizes = before if isinstance(before, dict) else old
            of_size = {x: (_of(before, x), _of(old, x)) for x in sizes}
            after = {x: fitting(*spans) for x, spans in of_size.items()}
            is_same = all(after[x] == _of(before, x) for x in sizes)
        else:
            after = fitting(before, old)
            is_same = after == before
        if is_same:
            return {}
        tell(
            f"{whole}={total} is too short for the recipe's warm-up: "
            f"{part}={as_text(after)}, as large a part of the run as in the "
            f"recipe {self.name!r}"
        )
        return {part: after}

    @in_range
    def with_batch_size(self, batch_size: Count) -> Self:
        """The recipe for another batch size, learning rate scaled linearly.

        Examples:
            >>> recipe = keras_convnext.detection.coco_cascade
            >>> recipe.with_batch_size(8).learning_rate["tiny"]
            0.0001
        """
        figures = vars(self)
        factor = batch_size / figures["batch_size"]
        rate = figures["learning_rate"]
        if isinstance(rate, dict):
            rate = {size: value * factor for size, value in rate.items()}
        else:
            rate = rate * factor
        return self.replace(batch_size=batch_size, learning_rate=rate)

    @in_range
    def for_images(self, count: Count, scales_rate: bool = True) -> Self:
        """The recipe for so many images: one that they fill a batch of.

        If they are fewer than a batch, it becomes the largest power of two
        that they fill twice; one line on stderr says so.

        Args:
            count: int, images to train on.
            scales_rate: whether the learning rate falls with the batch, as in
                `with_batch_size`.

        Examples:
            >>> recipe = keras_convnext.recipes.small_data.for_images(26)
            >>> recipe.batch_size, recipe.learning_rate
            (8, 5e-05)
        """
        steps = getattr(self, "gradient_accumulation_steps", 1)
        figures = vars(self)
        before, rate = figures["batch_size"], figures["learning_rate"]
        if before <= count * steps:
            return self
        size = steps << max((count // 2).bit_length() - 1, 0)
        smaller = self.with_batch_size(size)
        if not scales_rate:
            smaller = smaller.replace(learning_rate=rate)
        tell(
            f"{count} images do not fill a batch of {before}: "
            f"batch_size={size}, and the learning rate "
            + (
                f"falls with it, from {as_text(rate)} to "
                f"{as_text(vars(smaller)['learning_rate'])}"
                if scales_rate
                else f"stays {as_text(rate)}"
            )
        )
        return smaller

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
            if isinstance(value, dict) and field not in self.BY_CLASS
        }
        return replace(self, **chosen)

    def __str__(self):
        """The recipe as the paper's tables print it."""
        names = get_annotations(type(self))  # without the texts
        rows = [(name, as_text(getattr(self, name))) for name in names]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name.replace('_', ' '):<{width}}  {x}" for name, x in rows]
        return "\n".join([f"{self.name}: {self.summary}", *lines, self.source])

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


class EpochRecipe(BaseRecipe):
    """A recipe whose learning rate follows a cosine over epochs.

    Derived classes have `epochs`, `warmup_epochs`, `warmup`, `learning_rate`,
    `minimum_learning_rate`, `gradient_accumulation_steps` and the figures of
    `AdamW`.
    """

    @in_range
    def with_batch_size(self, batch_size: Count) -> Self:
        """The recipe for another batch size, learning rate scaled linearly.

        Examples:
            >>> recipe = keras_convnext.recipes.imagenet1k.with_batch_size(256)
            >>> recipe.learning_rate
            0.00025
        """
        scaled = super().with_batch_size(batch_size)
        figures: dict[str, Any] = vars(scaled)
        rate = figures["learning_rate"]
        least = min(rate.values()) if isinstance(rate, dict) else rate
        minimum = min(figures["minimum_learning_rate"], least)
        changes: dict[str, Any] = {"minimum_learning_rate": minimum}
        return replace(scaled, **changes)

    @in_range
    def schedule(self, steps_per_epoch: Count) -> WarmupCosine:
        """The recipe's `WarmupCosine`, in optimizer steps."""
        figures: Any = self
        accumulation = figures.gradient_accumulation_steps
        steps = steps_per_epoch / accumulation
        total = int(figures.epochs * steps)
        if not total:
            raise ValueError(
                "A run must have a step of the optimizer. Received: "
                f"epochs={figures.epochs} of {steps_per_epoch} micro-batches, "
                f"and gradient_accumulation_steps={accumulation}. Train for "
                "more `epochs`, or lower `gradient_accumulation_steps`"
            )
        minimum, peak = figures.minimum_learning_rate, figures.learning_rate
        if minimum > peak:
            raise ValueError(
                "`minimum_learning_rate` must be at most `learning_rate`. "
                f"Received: minimum_learning_rate={minimum}, "
                f"learning_rate={peak}. Lower the first"
            )
        return WarmupCosine(
            peak,
            # Rounding may take all that is left after the warm-up.
            min(int(figures.warmup_epochs * steps), total - 1),
            total,
            minimum,
            figures.warmup,
        )

    def _adamw(self, steps_per_epoch: int, **options: Any) -> AdamW:
        """An `AdamW` of the recipe's figures; `options` are others of it."""
        figures: Any = self
        accumulation = figures.gradient_accumulation_steps
        return AdamW(
            self.schedule(steps_per_epoch),
            weight_decay=figures.weight_decay,
            beta_1=figures.beta_1,
            beta_2=figures.beta_2,
            epsilon=figures.epsilon,
            global_clipnorm=figures.global_clipnorm,
            gradient_accumulation_steps=(
                accumulation if accumulation > 1 else None
            ),
            **options,
        )


def _of(values, size):
    return values[size] if isinstance(values, dict) else values


def as_text(value):
    """A figure as the papers' tables print it; those of sizes side by side."""
    if isinstance(value, dict):
        groups = {}
        for size, of_size in value.items():
            groups.setdefault(as_text(of_size), []).append(size)
        return ", ".join(
            f"{text} ({'/'.join(sizes)})" for text, sizes in groups.items()
        )
    if isinstance(value, tuple):
        return " to ".join(as_text(x) for x in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


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
