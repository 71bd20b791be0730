"""A plan that the compiler of the chips has checked."""

from contextlib import suppress
from dataclasses import asdict
from dataclasses import dataclass
from typing import Any

from keras_convnext._util.checks import one_of
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import in_range
from keras_convnext.training.distribution import compiling
from keras_convnext.training.distribution.chips import Chip
from keras_convnext.training.distribution.keeping import ON_TPUS
from keras_convnext.training.distribution.planning import ACTIVATION_BYTES
from keras_convnext.training.distribution.planning import Job
from keras_convnext.training.distribution.planning import Plan
from keras_convnext.training.distribution.planning import as_text
from keras_convnext.training.distribution.planning import best
from keras_convnext.training.distribution.planning import full_name
from keras_convnext.training.distribution.planning import possible
from keras_convnext.training.recipes.records import RECIPES
from keras_convnext.training.recipes.records import get_recipe

AVERAGE_DECAY = 0.9999  # any: it changes a number in the program
WIDTH = 28


@dataclass(frozen=True)
class CompiledPlan:
    """A training step on a topology of TPUs, as compiled; printable.

    Attributes:
        topology: such as `"v5e:8x8"`.
        chip: the `Chip` that it is of.
        recipe: name of the recipe whose step it is.
        plan: the `Plan`, by the formulas.
        program: what the compiler says of a micro-batch on each chip:
            `arguments`, `temporaries`, `code` and their sum `needed`, bytes;
            `flops`; `bytes_accessed`; `collectives`; `seconds` that compiling
            took; `fits`.
    """

    topology: str
    chip: Chip
    recipe: str
    plan: Plan
    program: compiling.Program

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of a micro-batch, at least, by what may bound it."""
        sent = sum(one.sent for one in self.program.collectives)
        return {
            "compute": self.program.flops / self.chip.flops,
            "memory": self.program.bytes_accessed / self.chip.bandwidth,
            "exchange": sent / self.chip.interconnect,
        }

    @property
    def step_seconds(self) -> float:
        """Seconds of an optimizer step if all three overlap: the roofline."""
        steps = self.plan.gradient_accumulation_steps
        return max(self.seconds.values()) * steps

    def as_dict(self) -> dict[str, Any]:
        """All figures, as JSON's types; without the program's text."""
        program = asdict(self.program)
        del program["text"]
        program["needed"], program["fits"] = (
            self.program.needed,
            self.program.fits,
        )
        found: dict[str, Any] = {
            "topology": self.topology,
            "chip": asdict(self.chip),
            "recipe": self.recipe,
            "plan": self.plan.as_dict(),
            "program": program,
        }
        if self.program.fits:
            found["seconds"] = self.seconds
            found["step_seconds"] = self.step_seconds
        return found

    def __str__(self):
        plan, program = self.plan, self.program
        title = (
            f"{plan.model}, {plan.parameters:,} parameters, on {self.topology}:"
            f" {plan.devices} chips of {as_text(self.chip.memory)}"
        )
        if not program.fits:
            return "\n".join([title, "", self._refusal()])
        rows = [
            ("state and images", program.arguments),
            ("temporaries", program.temporaries),
            ("program", program.code),
            ("needed on a chip", program.needed),
            ("by the formulas", plan.needed),
        ]
        exchanged = [
            f"{one.count} {one.kind} of {as_text(one.size)} among "
            f"{one.devices} chips"
            for one in program.collectives
        ]
        bounds = ", ".join(
            f"{name} {1e3 * value:.3g} ms"
            for name, value in self.seconds.items()
        )
        rate = plan.batch_size / self.step_seconds
        return "\n".join(
            [
                title,
                "",
                *(f"{name:{WIDTH}}{as_text(size):>10}" for name, size in rows),
                "",
                "The compiler's word stands where the formulas differ.",
                "",
                f"{plan.described()} by the recipe {self.recipe}:",
                f"{program.flops / 1e12:.3g} TFLOP and "
                f"{as_text(program.bytes_accessed)} moved by each chip for a "
                "micro-batch",
                *exchanged,
                f"at least {bounds} for a micro-batch",
                f"at least {self.step_seconds:.3g} s for a step, at most "
                f"{rate:,.0f} images/s",
                plan.options(),
                f"compiled in {program.seconds:.0f} s of one core by "
                f"{program.compiler}",
            ]
        )

    def _refusal(self):
        return (
            f"does not fit: {self.plan.described()} needs "
            f"{as_text(self.program.needed)} by the compiler, "
            f"{as_text(self.plan.needed)} by the formulas, of "
            f"{as_text(self.program.available)}. Take "
            "--gradient-accumulation-steps for smaller micro-batches, "
            "--rematerialize, or more chips"
        )


@in_range
def compiled_plan(
    model: str,
    topology: str,
    recipe: str | None = None,
    batch_size: Count = 4096,
    image_size: Count = 224,
    classes: Count = 1000,
    dtype: str = "mixed_bfloat16",
    average: bool = True,
    gradient_accumulation_steps: Count | None = None,
    rematerialize: bool | None = None,
    model_parallel: Count = 1,
) -> CompiledPlan:
    """Memory and work of a training step on TPUs, compiled without one.

    On the JAX backend, with `libtpu` installed, on x86 and Linux. The step is
    that of `keras_convnext.train`: model, recipe, AdamW, moving average and
    the way in which devices share the work. Programs are kept in Keras'
    folder, by all that they follow from. Compiling takes minutes to an hour.

    Args:
        model: as for `plan`.
        topology: a chip (`v5e`, `v5p` or `v6e`) and its numbers along each
            axis: `"v5e:8x8"` are 64.
        recipe: a name; the first of `recipes` with figures for the model's
            size if `None`. Batch, image size and average are the arguments
            here.
        batch_size, image_size, classes, dtype, average: as for `plan`.
        gradient_accumulation_steps, rematerialize: as for `plan`, which
            chooses them if `None`.
        model_parallel: int, as for `setup`.

    Returns:
        A `CompiledPlan`. If the chips are too small, its `program` says what
        would be needed, and no more.

    Raises:
        ValueError: for unknown models and topologies, on other backends, and
            as `plan` does.
        ImportError: without libtpu, with the command that installs it.

    Examples:
        >>> plan = keras_convnext.distribution.compiled_plan(
        ...     "convnext_tiny", "v5e:2x4"
        ... )  # doctest: +SKIP
        >>> plan.program.needed, plan.step_seconds  # doctest: +SKIP
    """
    name = full_name(model)
    one_of("dtype", dtype, ACTIVATION_BYTES)
    chip, devices = compiling.devices_of(topology)
    chosen = (get_recipe(recipe) if recipe else _recipe_for(name)).for_model(
        name
    )
    # Where nothing fits by the formulas, the compiler has the last word.
    job = Job(
        model=name,
        devices=len(devices),
        memory=chip.memory,
        batch_size=batch_size,
        image_size=image_size,
        classes=classes,
        dtype=dtype,
        average=average,
        gradient_accumulation_steps=gradient_accumulation_steps,
        rematerialize=rematerialize,
    )
    estimate = best(possible(job, ON_TPUS))
    changed = chosen.replace(
        batch_size=batch_size,
        image_size=image_size,
        image_sizes=None,
        ema_decay=AVERAGE_DECAY if average else None,
        gradient_accumulation_steps=estimate.gradient_accumulation_steps,
    )
    program = compiling.compile_step(
        changed,
        name,
        classes,
        devices,
        dtype,
        estimate.rematerialize,
        model_parallel,
    )
    return CompiledPlan(topology, chip, chosen.name, estimate, program)


def _recipe_for(name):
    """The first recipe with figures for a model of this size."""
    for recipe in RECIPES.values():
        with suppress(ValueError):
            return recipe.for_model(name)
    raise AssertionError("`small_data` is for all sizes")
