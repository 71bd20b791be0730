"""JAX: programs of all devices at once, by `keras.distribution`."""

import os
import pickle

import keras
import numpy as np

from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import block_pattern
from keras_convnext.training.distribution.cluster import Cluster
from keras_convnext.training.distribution.cluster import from_environment
from keras_convnext.training.distribution.cluster import number_of_devices
from keras_convnext.training.distribution.validation import PaddedLoader

# Until a process that is gone, or that an error has ended, ends the others.
# `keras.distribution.initialize` leaves JAX' 100 and 300 seconds.
TIMEOUTS = {"heartbeat_timeout_seconds": 30, "shutdown_timeout_seconds": 30}
ENVIRONMENT = "KERAS_DISTRIBUTION_"
# The kernels that hold nearly all weights, split where the hidden channels
# are: each device expands to some of them and projects these back.
LAYOUT = {
    f"{block_pattern(Part.EXPAND)}/kernel": (None, "model"),
    f"{block_pattern(Part.EXPAND)}/bias": ("model",),
    f"{block_pattern(Part.PROJECT)}/kernel": ("model", None),
}


class JaxCluster(Cluster):
    """Devices of one or several processes under one `keras.distribution`.

    Args:
        replicas: int, parts of the batch that are computed apart.
    """

    eval_loader_class = PaddedLoader

    def __init__(self, replicas):
        import jax

        self.process_index = jax.process_index()
        self.process_count = jax.process_count()
        self.device_count = replicas
        self.predicts_alone = self.process_count == 1

    def from_writer(self, value):
        from jax.experimental import multihost_utils

        content = np.frombuffer(pickle.dumps(value), "uint8")
        # Each process must bring an array of the same size.
        size = np.array(content.size, "int32")
        size = int(multihost_utils.broadcast_one_to_all(size))
        content = np.resize(content, size)
        content = multihost_utils.broadcast_one_to_all(content)
        return pickle.loads(np.asarray(content).tobytes())

    def check_detectors(self):
        # Loops of data-dependent length in each process end XLA's exchange on
        # CPUs, and no process can search images for objects by itself.
        if self.process_count > 1:
            raise ValueError(
                "On JAX detectors train in one process, with all devices of "
                f"one host. Received: {self.process_count} processes. Start "
                "one, or take PyTorch for several hosts"
            )

    def check_held_out(self, kind):
        # No process sees the outputs of all images.
        if self.process_count > 1:
            raise ValueError(
                f"On JAX {kind} are trained in one process, with all "
                f"devices of one host. Received: {self.process_count} "
                "processes. Start one, or take PyTorch for several hosts"
            )

    def _gathered(self, numbers):
        from jax.experimental import multihost_utils

        numbers = np.array(numbers, "int32")
        rows = multihost_utils.process_allgather(numbers)
        return rows.reshape(self.process_count, -1)


def is_launched():
    """Whether Keras' environment variables name several processes."""
    return int(os.environ.get(f"{ENVIRONMENT}NUM_PROCESSES", 1)) > 1


def check(hosts, model_parallel):
    """Raises `ValueError` for what the engine cannot do: nothing."""


def set_up(devices, hosts, host_index, model_parallel, oversubscribe=False):
    """Connects the processes, and spreads what Keras computes from now on."""
    import jax

    if hosts == ["auto"]:  # SLURM, TPU pods, Open MPI: JAX knows them
        jax.distributed.initialize(**TIMEOUTS)
    elif len(hosts) > 1:
        _connect(hosts[0], len(hosts), host_index)
    elif is_launched():
        _connect(
            from_environment(f"{ENVIRONMENT}JOB_ADDRESSES").split(",")[0],
            int(from_environment(f"{ENVIRONMENT}NUM_PROCESSES")),
            int(from_environment(f"{ENVIRONMENT}PROCESS_ID")),
        )
    names = _names(devices)
    if model_parallel > 1 and jax.process_count() > 1:
        raise ValueError(
            "`model_parallel` shards weights over devices of one process. "
            f"Received: model_parallel={model_parallel}, {len(names)} devices "
            f"in {jax.process_count()} processes"
        )
    spread = spread_over(names, model_parallel)
    keras.distribution.set_distribution(spread)
    if spread is None:
        return Cluster()
    return JaxCluster(len(names) // model_parallel)


def spread_over(devices, model_parallel):
    """How so many devices train together; `None` for one.

    Args:
        devices: list of Keras' names of devices, or of JAX' own.
        model_parallel: int, over how many of them weights are sharded.
    """
    if len(devices) == model_parallel == 1:
        # A training step that is spread over one is compiled three times.
        return None
    if model_parallel > 1:
        return _sharded(devices, model_parallel)
    return keras.distribution.DataParallel(
        devices=devices, auto_shard_dataset=False
    )


def _connect(address, count, index):
    import jax

    jax.distributed.initialize(
        address,
        count,
        index,
        # Inside of SLURM and Open MPI it would take one device of each host.
        cluster_detection_method="deactivate",
        **TIMEOUTS,
    )


def _names(devices):
    """Keras' names of so many devices in each process, process by process."""
    import jax

    names = []
    for process in range(jax.process_count()):
        available = [x for x in jax.devices() if x.process_index == process]
        available.sort(key=lambda device: device.id)
        kind = f"{available[0].platform.upper()} devices in process {process}"
        wanted = number_of_devices(devices, len(available), kind)
        names += [f"{x.platform}:{x.id}" for x in available[:wanted]]
    return names


def _sharded(devices, model_parallel):
    if len(devices) % model_parallel:
        raise ValueError(
            "`model_parallel` must divide the number of devices. Received: "
            f"model_parallel={model_parallel}, {len(devices)} devices"
        )
    mesh = keras.distribution.DeviceMesh(
        (len(devices) // model_parallel, model_parallel),
        ["batch", "model"],
        devices,
    )
    layouts = keras.distribution.LayoutMap(mesh)
    for pattern, axes in LAYOUT.items():
        layouts[pattern] = axes
    return keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False
    )
