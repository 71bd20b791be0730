"""A training step compiled for TPUs that nobody has to have here.

The compiler of TPUs is a library, `libtpu`, that runs on any x86 machine with
Linux. What it says of a program's memory is what the program will take.
"""

import contextlib
import gzip
import hashlib
import json
import math
import os
import re
import time
import warnings
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import fields
from importlib import metadata

import keras

from keras_convnext._util.backend_choice import cache_folder
from keras_convnext._util.requirements import is_installed
from keras_convnext._util.version import __version__
from keras_convnext._util.writing import make_folder
from keras_convnext._util.writing import written_aside
from keras_convnext.layers.jax_functions import compiling_for
from keras_convnext.models.rematerialization import for_training
from keras_convnext.training.distribution import hlo
from keras_convnext.training.distribution import in_jax
from keras_convnext.training.distribution.chips import CHIPS

# Whatever else changes a program is in its text, or a name of its own below.
ENVIRONMENT = ("LIBTPU_INIT_ARGS", "XLA_FLAGS")
# JAX' settings of how hard to try, and what they are without being set.
EFFORTS = {
    "jax_exec_time_optimization_effort": 0.0,
    "jax_memory_fitting_effort": 0.0,
    "jax_optimization_level": "UNKNOWN",
    "jax_memory_fitting_level": "O2",
}
PACKAGES = ("jax", "jaxlib", "libtpu")
# Away from a TPU the library would ask Google's servers where it is; and one
# process alone may have it, though none takes a TPU here.
SETTINGS = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# With the size of everything, or where it gives up early of temporaries alone.
TOO_MUCH = re.compile(
    r"(?:Used |temporaries \()([\d.]+)([KMGT])"
    r"(?: of |\) exceeds available HBM \()([\d.]+)([KMGT])"
)
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Program:
    """What the compiler says of one step on each chip.

    Attributes:
        arguments: bytes of weights, slots and images.
        temporaries: bytes beside them while the step runs.
        code: bytes of the program.
        available: bytes that the compiler lets it have, where it has too few;
            else 0.
        flops: float, by the compiler.
        bytes_accessed: float, of all memories, by the compiler.
        collectives: list of `Collective`.
        seconds: how long compiling took, of all cores together.
        compiler: names of packages and versions, and JAX' settings for it.
        text: the compiled program; empty where it does not fit.
    """

    arguments: int
    temporaries: int
    code: int
    available: int
    flops: float
    bytes_accessed: float
    collectives: list
    seconds: float
    compiler: str
    text: str

    @property
    def needed(self) -> int:
        """Bytes on a chip."""
        return self.arguments + self.temporaries + self.code

    @property
    def fits(self) -> bool:
        """Whether the compiler has made a program of it."""
        return not self.available


def devices_of(topology):
    """The chip of a topology such as `"v5e:8x8"`, and JAX' devices.

    Raises:
        ValueError: for other backends and topologies that do not exist.
        ImportError: if the compiler is not installed.
    """
    kind, _, sides = topology.partition(":")
    is_known = kind in CHIPS and re.fullmatch(r"\d+(x\d+){1,2}", sides)
    if not is_known:
        raise ValueError(
            "`topology` must name a chip and how many of them are in a row "
            f"along each axis: {', '.join(CHIPS)}, such as 'v5e:8x8'. "
            f"Received: topology={topology!r}"
        )
    if keras.backend.backend() != "jax":
        raise ValueError(
            "Programs for TPUs are compiled on the JAX backend. Received: "
            f"topology={topology!r} on {keras.backend.backend()}. Set "
            "KERAS_BACKEND to jax, or plan without `topology`"
        )
    if not is_installed("libtpu"):
        raise ImportError(
            "libtpu is not installed, which compiles for TPUs. Run `pip "
            f'install "{wanted_compiler()}"`; no TPU is needed'
        )
    return CHIPS[kind], _devices(topology, sides)


def wanted_compiler():
    """The libtpu that the installed JAX asks for, as pip takes it."""
    for line in metadata.requires("jax") or ():
        if line.startswith("libtpu"):
            return line.partition(";")[0].strip()
    return "libtpu"


def compile_step(
    recipe, name, classes, devices, dtype, rematerialize, model_parallel
):
    """The `Program` of a training step, as `keras_convnext.train` has it.

    Args:
        recipe: a `Recipe`; its batch is that of all devices.
        name: of an architecture.
        classes: int.
        devices: list of JAX' devices.
        dtype: name of a policy.
        rematerialize: bool.
        model_parallel: int.
    """
    before = keras.distribution.distribution()
    spread = in_jax.spread_over(devices, model_parallel)
    try:
        keras.distribution.set_distribution(spread)
        with compiling_for("tpu"):
            lowered = _lowered(
                recipe, name, classes, devices[0], dtype, rematerialize
            )
            return _compiled(lowered, devices)
    finally:
        keras.distribution.set_distribution(before)


def _devices(topology, sides):
    from jax.experimental import topologies

    for variable, value in SETTINGS.items():
        os.environ.setdefault(variable, value)
    sides = [int(side) for side in sides.split("x")]
    # Half of the smallest host that the library knows by itself.
    options = (
        {"chips_per_host_bounds": [1, 1, 1]} if math.prod(sides) == 1 else {}
    )
    try:
        description = topologies.get_topology_desc(
            platform="tpu", topology_name=topology, **options
        )
    except Exception as error:  # its own kinds, from C++
        raise ValueError(
            "`topology` must be one that Google offers: '1x1', or in multiples "
            f"of two such as '2x4'. Received: topology={topology!r}, of which "
            f"libtpu says: {str(error).splitlines()[0]}"
        ) from error
    return list(description.devices)


def _lowered(recipe, name, classes, device, dtype, rematerialize):
    """The step before it is compiled, from shapes alone: no weight is made."""
    import jax
    import jax.numpy as jnp

    steps = recipe.gradient_accumulation_steps
    shape = recipe.batch_size // steps, recipe.image_size, recipe.image_size, 3
    # Mixed labels are shares of every class.
    labels = (shape[0], classes) if recipe.mixes else (shape[0],)
    kind = "float32" if recipe.mixes else "int32"
    built = []

    def build():
        model = recipe.build(name, classes, dtype=dtype)
        model = for_training(model, rematerialize)
        recipe.compile(model, steps_per_epoch=steps)
        model.optimizer.build(model.trainable_variables)
        # Loss and metrics make their variables when they are called.
        batch = jnp.zeros(labels, kind), jnp.zeros((shape[0], classes))
        model.compute_loss(None, *batch)
        model.compute_metrics(None, *batch)
        built.append(model)

    jax.eval_shape(build)
    (model,) = built
    state = jax.tree.map(
        lambda variable: _abstract(variable, device),
        (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        ),
    )
    places = jax.tree.map(lambda array: array.sharding, state)
    step = jax.jit(
        model.train_step, donate_argnums=0, out_shardings=(None, places)
    )
    place = _place_of_batch(device)
    images = jax.ShapeDtypeStruct(shape, "float32", sharding=place)
    targets = jax.ShapeDtypeStruct(labels, kind, sharding=place)
    return step.lower(state, (images, targets))


def _abstract(variable, device):
    """A variable's shape, dtype and place, without its numbers."""
    import jax

    spread = keras.distribution.distribution()
    if spread is None:
        place = jax.sharding.SingleDeviceSharding(device)
    else:
        place = spread.get_variable_layout(variable).backend_layout
    return jax.ShapeDtypeStruct(variable.shape, variable.dtype, sharding=place)


def _place_of_batch(device):
    import jax

    spread = keras.distribution.distribution()
    if spread is None:
        return jax.sharding.SingleDeviceSharding(device)
    return jax.sharding.NamedSharding(
        spread.device_mesh.backend_mesh,
        jax.sharding.PartitionSpec(spread.batch_dim_name),
    )


def _compiled(lowered, devices):
    """The `Program`, from the cache if it was compiled before."""
    versions = [f"{name} {metadata.version(name)}" for name in PACKAGES]
    versions += [f"keras_convnext {__version__}", *_efforts()]
    around = [os.environ.get(name, "") for name in ENVIRONMENT]
    places = [str(device) for device in devices]
    key = [lowered.as_text(), devices[0].device_kind, places, versions, around]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    folder = cache_folder() / "programs"
    path = folder / f"{digest}.json.gz"
    with contextlib.suppress(OSError, EOFError, ValueError, LookupError):
        return _read(path)  # unless it is damaged, or not there
    began = time.process_time()
    figures = _figures(lowered, len(devices))
    seconds = time.process_time() - began
    program = Program(**figures, seconds=seconds, compiler=", ".join(versions))
    make_folder(folder)
    content = json.dumps(asdict(program)).encode()
    with written_aside(path) as unfinished:
        unfinished.write_bytes(gzip.compress(content))
    return program


def _efforts():
    """JAX' settings that somebody has changed, as text."""
    import jax

    values = {name: getattr(jax.config, name, None) for name in EFFORTS}
    return [
        f"{name}={value}"
        for name, value in values.items()
        if value not in (None, EFFORTS[name])
    ]


def _read(path):
    found = json.loads(gzip.decompress(path.read_bytes()))
    found["collectives"] = [hlo.Collective(**x) for x in found["collectives"]]
    return Program(
        **{field.name: found[field.name] for field in fields(Program)}
    )


def _figures(lowered, count):
    try:
        with warnings.catch_warnings():
            # JAX' own cache, where somebody has one, cannot open programs
            # without their devices.
            warnings.filterwarnings("ignore", "Error .* compilation cache")
            compiled = lowered.compile()
    except Exception as error:  # XLA's own, from C++
        found = TOO_MUCH.search(str(error))
        if not found:
            raise
        used, limit = (
            int(float(found[i]) * UNITS[found[i + 1]]) for i in (1, 3)
        )
        return {
            "arguments": 0,
            "temporaries": used,
            "code": 0,
            "available": limit,
            "flops": 0.0,
            "bytes_accessed": 0.0,
            "collectives": [],
            "text": "",
        }
    memory = compiled.memory_analysis()
    costs = compiled.cost_analysis()
    text = compiled.as_text()
    # Results that take the place of arguments need no room.
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "arguments": memory.argument_size_in_bytes + results,
        "temporaries": memory.temp_size_in_bytes,
        "code": memory.generated_code_size_in_bytes,
        "available": 0,
        "flops": costs["flops"],
        "bytes_accessed": costs["bytes accessed"],
        "collectives": hlo.collectives(text, count),
        "text": text,
    }
