"""What a training would take, on paper: memory, batches and time."""

import math
import re
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from typing import Any

from keras_convnext._util import checks
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import in_range
from keras_convnext.facts.variants import LISTED_BY
from keras_convnext.facts.variants import VARIANTS
from keras_convnext.models.applications import create_model
from keras_convnext.models.profiling import profile
from keras_convnext.models.profiling import without_numbers
from keras_convnext.training.distribution.keeping import LAYER_BY_LAYER

UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
UNITS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
ACTIVATION_BYTES = {"float32": 4, "mixed_bfloat16": 2, "mixed_float16": 2}
WIDTH = 27
# For workspaces of kernels, fragments and the backend itself: ours.
FILL = 0.9
# Fewer images at once leave a device idle: ours.
FEWEST_IMAGES = 8
ACCUMULATIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
# A second forward pass beside a forward and a backward one of twice its work.
REMATERIALIZED_WORK = 4 / 3


@dataclass(frozen=True)
class Job:
    """What is to be trained, and on what.

    Attributes:
        model: name of an architecture.
        devices: int.
        memory: int, bytes of a device.
        The others as for `plan`.
    """

    model: str
    devices: int
    memory: int
    batch_size: int = 4096
    image_size: int = 224
    classes: int = 1000
    dtype: str = "mixed_bfloat16"
    average: bool = True
    gradient_accumulation_steps: int | None = None
    rematerialize: bool | None = None


@dataclass(frozen=True)
class Plan:
    """How to train a model on so many devices; printable.

    Attributes:
        model: name of the architecture.
        parameters: int.
        devices, batch_size: ints; images of all devices per optimizer step.
        gradient_accumulation_steps: int.
        device_batch: int, images of a device at a time.
        rematerialize: whether blocks are computed again going backward.
        dtype: name of the policy.
        state: dict from what is kept for each parameter, and of the program,
            to bytes.
        activations: bytes of a device's images.
        memory: bytes that there are on a device.
        compute_seconds, reduce_seconds: of one optimizer step: for the images
            of a device, and for the gradients of all; `None` if not known.
    """

    model: str
    parameters: int
    devices: int
    batch_size: int
    gradient_accumulation_steps: int
    device_batch: int
    rematerialize: bool
    dtype: str
    state: dict
    activations: int
    memory: int
    compute_seconds: float | None
    reduce_seconds: float | None

    @property
    def needed(self) -> int:
        """Bytes of state and activations on a device."""
        return sum(self.state.values()) + self.activations

    @property
    def fits(self) -> bool:
        """Whether nine tenths of a device hold it."""
        return self.needed <= FILL * self.memory

    @property
    def step_seconds(self) -> tuple[float, float] | None:
        """Shortest and longest: all of the all-reduce hidden, and none."""
        if self.compute_seconds is None or self.reduce_seconds is None:
            return None
        times = self.compute_seconds, self.reduce_seconds
        return max(times), sum(times)

    def as_dict(self) -> dict[str, Any]:
        """All fields and sums, as JSON's types."""
        return {
            **asdict(self),
            "needed": self.needed,
            "step_seconds": self.step_seconds,
        }

    def described(self) -> str:
        """The parts of a batch."""
        return (
            f"batch of {self.batch_size}: {self.device_batch} images on each "
            f"device × {self.devices} devices × "
            f"{self.gradient_accumulation_steps} micro-batches"
        )

    def options(self) -> str:
        """The options of the command `train` for this plan."""
        return (
            f"--batch-size {self.batch_size} --gradient-accumulation-steps "
            f"{self.gradient_accumulation_steps} --dtype {self.dtype}"
            + (" --rematerialize" if self.rematerialize else "")
        )

    def __str__(self):
        rows = {**self.state, "activations": self.activations}
        lines = [
            f"{self.model}, {self.parameters:,} parameters, on {self.devices} "
            f"devices of {as_text(self.memory)}",
            "",
            *(_row(name, size) for name, size in rows.items()),
            _row("needed on a device", self.needed),
            "",
            self.described(),
            self.options(),
        ]
        if self.step_seconds is not None:
            shortest, longest = self.step_seconds
            rates = [self.batch_size / x for x in (longest, shortest)]
            lines.append(
                f"{shortest:.3g} to {longest:.3g} s for a step, "
                f"{rates[0]:,.0f} to {rates[1]:,.0f} images/s"
            )
        return "\n".join(lines)


@in_range
def plan(
    model: str,
    devices: Count,
    memory: Positive | str,
    batch_size: Count = 4096,
    image_size: Count = 224,
    classes: Count = 1000,
    dtype: str = "mixed_bfloat16",
    average: bool = True,
    rate: Positive | None = None,
    bandwidth: Positive | str | None = None,
    gradient_accumulation_steps: Count | None = None,
    rematerialize: bool | None = None,
) -> Plan:
    """How a model fits on devices, and how long a step takes.

    Memory is what data parallelism needs on every device. That is the state of
    each parameter, and one output of every layer for each image, which going
    backward needs. Compilers that fuse layers keep less. It may fill nine
    tenths of a device. Time is that of the images on one device, as measured,
    and of a ring all-reduce of the gradients, `2 (n - 1) / n · bytes /
    bandwidth`, for every micro-batch.

    Args:
        model: an architecture, or the end of its name if only one has it
            (`"huge"`).
        devices: int.
        memory: bytes of a device, int or a str such as `"80GB"`.
        batch_size: int, images per optimizer step over all devices.
        image_size: int, pixels.
        classes: int.
        dtype: `"float32"`, `"mixed_bfloat16"` or `"mixed_float16"`.
        average: whether a moving average of the weights is kept.
        rate: images/s at which one such device trains the model, measured
            in this `dtype` and without rematerialization.
        bandwidth: bytes/s between devices, each way, int or such as `"50GB"`.
        gradient_accumulation_steps: int, micro-batches; chosen if `None`.
        rematerialize: whether to compute blocks again; chosen if `None`.

    Returns:
        A `Plan`: of those that fit the one with the fewest micro-batches that
        are no smaller than eight images, without rematerialization if it can
        be.

    Raises:
        ValueError: for unknown models, batches that cannot be divided, and if
            nothing fits, with what would be needed.

    Examples:
        >>> plan = keras_convnext.distribution.plan("convnext_atto", 8, "16GB")
        >>> plan.device_batch, plan.gradient_accumulation_steps
        (512, 1)
    """
    name = full_name(model)
    available = as_bytes("memory", memory)
    checks.one_of("dtype", dtype, ACTIVATION_BYTES)
    if (rate is None) != (bandwidth is None):
        raise ValueError(
            "A step's time follows from `rate` and `bandwidth` together. "
            f"Received: rate={rate}, bandwidth={bandwidth}"
        )
    job = Job(
        model=name,
        devices=devices,
        memory=available,
        batch_size=batch_size,
        image_size=image_size,
        classes=classes,
        dtype=dtype,
        average=average,
        gradient_accumulation_steps=gradient_accumulation_steps,
        rematerialize=rematerialize,
    )
    chosen = best(possible(job, LAYER_BY_LAYER))
    if not chosen.fits:
        raise ValueError(
            f"A device needs at least {as_text(chosen.needed / FILL)} for "
            f"{name!r} and batches of {batch_size} on {devices} devices. "
            f"Received: memory={as_text(available)}. Take more devices, or "
            "shard the weights on JAX (`--model-parallel`)"
        )
    return _with_times(chosen, rate, bandwidth)


def possible(job, keeping):
    """The `Plan`s there are, the better ones first, whether they fit or not.

    Args:
        job: a `Job`.
        keeping: a `Keeping`.
    """
    if job.batch_size % job.devices:
        raise ValueError(
            "The batch must be divisible by the number of devices. Received: "
            f"batch_size={job.batch_size}, devices={job.devices}"
        )
    costs = _costs(job.model, job.classes, job.image_size)
    share = job.batch_size // job.devices
    asked = job.gradient_accumulation_steps
    plans = [
        _plan(job, costs, steps, again, keeping)
        for again in _asked(job.rematerialize, (False, True))
        for steps in _asked(asked, ACCUMULATIONS)
        if _is_even(share, steps)
    ]
    if not plans:
        raise ValueError(
            "Micro-batches must divide a device's images, and have at least "
            f"{FEWEST_IMAGES}. Received: gradient_accumulation_steps={asked}, "
            f"batch_size={job.batch_size}, devices={job.devices}"
        )
    return plans


def best(plans):
    """The first plan that fits, or else the one that needs least."""
    fitting = [plan for plan in plans if plan.fits]
    return fitting[0] if fitting else min(plans, key=lambda plan: plan.needed)


def full_name(model):
    """The architecture of a name, or of the end of one."""
    if model in VARIANTS:
        return model
    names = [name for name in VARIANTS if name.endswith(f"_{model}")]
    if len(names) != 1:
        raise ValueError(
            f"{checks.guess(model, VARIANTS)}`model` must be the name of an "
            f"architecture, see {LISTED_BY}, or the end of one name only. "
            f"Received: {model!r}"
            + (f", which ends {', '.join(names)}" if names else "")
        )
    return names[0]


def as_bytes(name, size):
    """A number of bytes, also of text such as `80GB` and `24 GiB`."""
    number = size
    if isinstance(size, str):
        units = "|".join(UNITS)
        match = re.fullmatch(rf"(\d+\.?\d*) ?({units})(/s)?", size.strip())
        number = float(match[1]) * UNITS[match[2]] if match else 0
    if number <= 0:
        raise ValueError(
            f"`{name}` must be a number of bytes, or text such as '80GB' with "
            f"one of {', '.join(UNITS)}. Received: {name}={size!r}"
        )
    return int(number)


def _costs(name, classes, image_size):
    shape = image_size, image_size, 3
    with without_numbers():
        return profile(
            create_model(name, weights=None, classes=classes, input_shape=shape)
        )


def _asked(value, choices):
    return choices if value is None else (value,)


def _is_even(share, steps):
    """Whether micro-batches of a device are whole, and none too small."""
    return share % steps == 0 and (
        steps == 1 or share // steps >= FEWEST_IMAGES
    )


def _plan(job, costs, steps, again, keeping):
    images = job.batch_size // job.devices // steps
    between, inside, largest = keeping.elements(costs, images)
    elements = between + (largest if again else inside)
    of_an_image = elements * ACTIVATION_BYTES[job.dtype]
    of_an_image += math.prod(costs.input_shape) * keeping.pixel_bytes
    of_an_image += keeping.statistics(costs)
    return Plan(
        model=job.model,
        parameters=costs.parameters,
        devices=job.devices,
        batch_size=job.batch_size,
        gradient_accumulation_steps=steps,
        device_batch=images,
        rematerialize=again,
        dtype=job.dtype,
        state=keeping.state(
            costs,
            job.devices,
            steps,
            job.dtype.startswith("mixed"),
            job.average,
        ),
        activations=round(of_an_image * images),
        memory=job.memory,
        compute_seconds=None,
        reduce_seconds=None,
    )


def _with_times(plan, rate, bandwidth):
    if rate is None:
        return plan
    work = REMATERIALIZED_WORK if plan.rematerialize else 1.0
    images = plan.batch_size // plan.devices
    passed = 2 * (plan.devices - 1) / plan.devices * plan.state["gradients"]
    passed *= plan.gradient_accumulation_steps
    return replace(
        plan,
        compute_seconds=images / rate * work,
        reduce_seconds=passed / as_bytes("bandwidth", bandwidth),
    )


def _row(name, size):
    return f"{name:{WIDTH}}{as_text(size):>10}"


def as_text(size):
    return f"{size / 1e9:,.2f} GB"
