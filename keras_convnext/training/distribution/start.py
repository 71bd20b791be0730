"""The one way in: how many devices, on which hosts."""

import os
import socket
import sys
from collections.abc import Sequence

import keras

from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import in_range
from keras_convnext._util.subprocesses import program
from keras_convnext.training.distribution import in_jax
from keras_convnext.training.distribution import in_tensorflow
from keras_convnext.training.distribution import in_torch
from keras_convnext.training.distribution.cluster import Cluster
from keras_convnext.training.distribution.cluster import make_current

ENGINES = {"jax": in_jax, "tensorflow": in_tensorflow, "torch": in_torch}
PORT = 29400
HERE = "localhost"


@in_range
def setup(
    devices: Count | str | None = None,
    hosts: str | Sequence[str] | None = None,
    host_index: CountOrZero | None = None,
    model_parallel: Count = 1,
    oversubscribe: bool = False,
) -> Cluster:
    """Lets `keras_convnext.train` use several devices and hosts.

    Call it before anything else of Keras or the backend: models must be built
    after it. Every process of the job runs the same program, with the same
    `keras.utils.set_random_seed`: new weights must be alike.

    Args:
        devices: int, how many of each host, or `"all"`; all if `None`.
        hosts: list of addresses `"host"` or `"host:port"`, or a str of them
            separated by commas; the first coordinates. `"auto"` on JAX for what
            SLURM, a TPU pod or Open MPI tell. Without it this host alone, or
            what `torchrun` or `KERAS_DISTRIBUTION_*` say.
        host_index: int, which of the hosts this is; found by its name if
            `None`.
        model_parallel: int; over so many devices the Dense kernels of blocks
            are sharded. On JAX, in one process.
        oversubscribe: whether there may be more processes than cores, on
            PyTorch without GPUs.

    Returns:
        The `Cluster`: `process_index`, `process_count`, `device_count`.

    Raises:
        ValueError: if there are fewer devices, or cores where those are none;
            and for what the backend's engine cannot do, with what can.

    The engines are `keras.distribution` on JAX, `torch.distributed` on PyTorch
    (where `torchrun` must have started the process) and
    `tf.distribute.MirroredStrategy` on TensorFlow.

    Examples:
        >>> keras_convnext.distribution.setup(devices=8)  # doctest: +SKIP
        >>> keras_convnext.train(model, recipe, data, "run")  # doctest: +SKIP
    """
    engine, hosts, host_index = _asked(
        devices, hosts, host_index, model_parallel
    )
    return make_current(
        engine.set_up(devices, hosts, host_index, model_parallel, oversubscribe)
    )


@in_range
def start(
    devices: Count | str | None = None,
    hosts: str | Sequence[str] | None = None,
    host_index: CountOrZero | None = None,
    model_parallel: Count = 1,
    oversubscribe: bool = False,
) -> None:
    """`setup` for commands; on PyTorch it begins again under `torchrun`.

    Args:
        devices, hosts, host_index, model_parallel, oversubscribe: as for
            `setup`.
    """
    engine, names, index = _asked(devices, hosts, host_index, model_parallel)
    if engine is in_torch and not is_launched() and names != ["auto"]:
        command = engine.command(devices or "all", names, index, oversubscribe)
        # Which becomes torchrun, and keeps its number.
        module = program("-m", "keras_convnext", *sys.argv[1:])
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *command, *module])
    setup(devices, hosts, host_index, model_parallel, oversubscribe)


def is_launched() -> bool:
    """Whether something outside started several processes for one job.

    Examples:
        >>> keras_convnext.distribution.is_launched()
        False
    """
    return _engine().is_launched()


def _engine():
    return ENGINES[keras.backend.backend()]


def _asked(devices, hosts, host_index, model_parallel):
    """The engine, the list of hosts with ports, and which of them this is."""
    if isinstance(devices, str) and devices != "all":
        raise ValueError(
            "`devices` must be a number of at least 1, or 'all'. Received: "
            f"devices={devices!r}"
        )
    if isinstance(hosts, str):
        hosts = [host.strip() for host in hosts.split(",")]
    hosts = list(hosts or [HERE])
    engine = _engine()
    engine.check(hosts, model_parallel)
    if hosts == ["auto"]:
        return engine, hosts, None
    hosts = [host if ":" in host else f"{host}:{PORT}" for host in hosts]
    if host_index is None:
        host_index = _index_of_this(hosts)
    if not 0 <= host_index < len(hosts):
        raise ValueError(
            "`host_index` counts from 0 and must be below the number of "
            f"hosts. Received: host_index={host_index}, {len(hosts)} hosts"
        )
    return engine, hosts, host_index


def _index_of_this(hosts):
    if len(hosts) == 1:
        return 0
    name = socket.gethostname()
    names = {name, name.split(".")[0], socket.getfqdn()}
    indices = [
        index
        for index, host in enumerate(hosts)
        if host.rsplit(":", 1)[0] in names
    ]
    if len(indices) != 1:
        raise ValueError(
            f"One of `hosts` must be the name of this one, {name!r}. "
            f"Received: {', '.join(hosts)}. Pass `host_index` "
            "(`--host-index`), counted from 0"
        )
    return indices[0]
