"""Which learning rate to begin with: the range test."""

import contextlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from keras_convnext._util.progress import progress
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import check_ordered
from keras_convnext._util.ranges import in_range
from keras_convnext.data import TrainLoader
from keras_convnext.data.source import Source
from keras_convnext.models.rematerialization import for_training
from keras_convnext.models.sigmoid import like
from keras_convnext.training import distribution
from keras_convnext.training import freezing
from keras_convnext.training.fitting import check_loss
from keras_convnext.training.fitting import pipelines_of
from keras_convnext.training.fitting import preprocessing_of
from keras_convnext.training.fitting import with_logits
from keras_convnext.training.optimizers.averaging import inner_optimizer
from keras_convnext.training.recipes.recipe import Recipe

# All as fastai has it for 100 steps: how many count most in the average (0.98
# of the last one stays), how often its least value ends the test, and the steps
# that are left out, a part before and some after.
AVERAGED = 2
EXPLODED = 4.0
FIRST, LAST = 10, 5
# From the least loss, where it is about to explode, to what trains.
MARGIN = 10
LEAST_STEPS = 20


@dataclass(frozen=True)
class RangeTest:
    """The result of a range test, see `find_learning_rate`.

    Attributes:
        suggestion: float, a learning rate for the recipe.
        learning_rates: floats, of the steps up to the one where the loss
            exploded.
        losses: floats, of the same steps.
        smoothed: floats, their moving average.
        batch_size: int, images per step of the optimizer.
    """

    suggestion: float
    learning_rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    batch_size: int


@in_range
def find_learning_rate(
    model: keras.Model,
    recipe: Recipe,
    data: Source,
    steps: Count = 100,
    lowest: Positive = 1e-7,
    highest: Positive = 1.0,
    seed: Seed = 0,
    on_error: str = "skip",
    loader: str | None = None,
    rematerialize: bool = False,
    mixup_group: Count | None = None,
    verbose: bool = True,
) -> RangeTest:
    """Tests which learning rates lower the loss; the model stays as it is.

    The learning rate grows exponentially from step to step, until the loss
    explodes. All else is the recipe's: the optimizer with layer decay and
    accumulation, augmentation, and what is frozen.

    Args:
        model, recipe, data: as for `keras_convnext.train`. Of several
            `image_sizes` the last is taken, and all is trained from the first
            step on, whatever `head_epochs` says.
        steps: int, at least 20, steps of the optimizer; a small data set is
            gone through several times.
        lowest, highest: positive floats, the learning rates of the first and
            of the last step.
        seed: int that order, augmentation and mixing follow from. The same
            seed gives the same result.
        on_error, loader, rematerialize, mixup_group: as for
            `keras_convnext.train`.
        verbose: whether to show a bar.

    Returns:
        A `RangeTest`. Its `suggestion` is a tenth of the learning rate at
        which the smoothed loss is least: fastai's rule `minimum`.

    Raises:
        ValueError: for models, recipes and data that do not fit each other,
            several devices, and a loss that explodes at once.

    Source: Smith, Cyclical Learning Rates for Training Neural Networks,
    arXiv:1506.01186, section 3.3; smoothing, end and suggestion are those of
    `Learner.lr_find` in fastai 2.7.

    Examples:
        >>> recipe = keras_convnext.recipes.small_data
        >>> data, _ = keras_convnext.data.open_splits(
        ...     "photos"
        ... )  # doctest: +SKIP
        >>> model = recipe.build(
        ...     "convnext_tiny", len(data.classes), "imagenet"
        ... )  # doctest: +SKIP
        >>> found = keras_convnext.training.find_learning_rate(
        ...     model, recipe, data
        ... )  # doctest: +SKIP
        >>> recipe = recipe.replace(
        ...     learning_rate=found.suggestion
        ... )  # doctest: +SKIP
    """
    cluster = distribution.current()
    _check(steps, lowest, highest, cluster)
    check_loss(recipe, data)
    recipe = recipe.for_model(model).for_images(len(data))
    recipe = recipe.replace(
        head_epochs=0, ema_decay=None, early_stopping_patience=None
    )
    cluster.check(model, recipe, loader)
    preprocessing = preprocessing_of(model, data)
    logits, _ = with_logits(model, recipe, data)
    pipelines = pipelines_of(recipe, logits, data, preprocessing, seed)
    *_, pipeline = pipelines.values()
    size = pipeline.batch_size
    needed = steps * recipe.gradient_accumulation_steps
    batches = TrainLoader(
        data,
        pipeline,
        math.ceil(needed / max(len(data) // size, 1)),
        seed,
        on_error=on_error,
        loader=loader,
        mixup_group=mixup_group,
    )
    # Another model of the same layers: that of the caller is not compiled.
    trained, _ = recipe.adapted(like(logits, logits.outputs[0]), seed)
    trained = for_training(trained, rematerialize)
    with _unchanged(model, trained), freezing.restored(trained):
        recipe.compile(trained, batches.steps_per_epoch, metrics=[], data=data)
        rates = _Exponential(lowest, highest, steps)
        inner_optimizer(trained).learning_rate = rates
        measured = _steps(trained, batches, recipe.gradient_accumulation_steps)
        with progress("learning rates", steps, verbose=verbose) as advance:
            tested = _until_it_explodes(
                itertools.islice(measured, steps), steps, advance
            )
    rates, losses, smoothed = tested
    return RangeTest(
        suggested(rates, smoothed, steps),
        tuple(rates),
        tuple(losses),
        tuple(smoothed),
        recipe.batch_size,
    )


def suggested(
    rates: Sequence[float], losses: Sequence[float], steps: int
) -> float:
    """A tenth of the learning rate at which the loss is least.

    Args:
        rates, losses: of the steps before the loss exploded; smoothed.
        steps: int, how many there were to be.

    Raises:
        ValueError: if too few steps are left, or none lowered the loss.
    """
    first = steps // FIRST
    rates, losses = rates[first:-LAST], losses[first:-LAST]
    lowest = int(np.argmin(losses)) if losses else 0
    if not lowest:
        raise ValueError(
            "There must be learning rates that lower the loss. Received: "
            f"{len(rates)} steps before it exploded, without any. Test lower "
            "ones (`lowest`), and look at the data"
        )
    return float(rates[lowest] / MARGIN)


class _Exponential(keras.optimizers.schedules.LearningRateSchedule):
    """From one learning rate to another by equal factors."""

    def __init__(self, lowest, highest, steps):
        super().__init__()
        self.lowest, self.highest, self.steps = lowest, highest, steps

    def __call__(self, step):
        step = ops.cast(step, keras.config.floatx())
        growth = math.log(self.highest / self.lowest) / (self.steps - 1)
        return self.lowest * ops.exp(growth * step)

    def get_config(self):
        return dict(vars(self))


def _steps(model, batches, accumulation):
    """The learning rate and the loss of one step of the optimizer after the
    other."""
    optimizer, batches = inner_optimizer(model), iter(batches.batches())
    while True:
        rate = float(ops.convert_to_numpy(optimizer.learning_rate))
        losses = []
        for images, labels in itertools.islice(batches, accumulation):
            logs = model.train_on_batch(images, labels, return_dict=True)
            losses.append(float(logs["loss"]))
        yield rate, float(np.mean(losses))


def _until_it_explodes(measured, steps, advance):
    """Rates, losses and smoothed losses of the steps that can be used."""
    rates, losses, smoothed = [], [], []
    average, kept = 0.0, 1 - AVERAGED / steps
    for rate, loss in measured:
        advance()
        if not math.isfinite(loss):
            break
        rates.append(rate)
        losses.append(loss)
        average = kept * average + (1 - kept) * loss
        smoothed.append(average / (1 - kept ** len(losses)))
        if smoothed[-1] > EXPLODED * min(smoothed):
            break
    return rates, losses, smoothed


@contextlib.contextmanager
def _unchanged(*models):
    """After it all weights and random states are what they were."""
    variables = {
        id(variable): variable
        for model in models
        for variable in (
            *model.trainable_variables,
            *model.non_trainable_variables,
        )
    }
    before = {
        key: np.array(ops.convert_to_numpy(x)) for key, x in variables.items()
    }
    try:
        yield
    finally:
        for key, variable in variables.items():
            variable.assign(before[key])


def _check(steps, lowest, highest, cluster):
    check_ordered("lowest, highest", (lowest, highest))
    if steps < LEAST_STEPS:
        raise ValueError(
            f"`steps` must be at least {LEAST_STEPS}, of which the first and "
            f"the last ones are left out. Received: steps={steps}. Take more"
        )
    if cluster.device_count > 1:
        raise ValueError(
            "`find_learning_rate` takes one device. Received: "
            f"{cluster.device_count} devices. Call it without "
            "`distribution.setup`: the result holds for the same batch size "
            "on several"
        )
