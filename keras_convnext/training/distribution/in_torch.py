"""PyTorch: a process for every device, started by `torchrun`."""

import atexit
import contextlib
import os

import numpy as np

from keras_convnext._util.child import end_with_parent
from keras_convnext.training.distribution.cluster import Cluster
from keras_convnext.training.distribution.cluster import from_environment
from keras_convnext.training.distribution.cluster import number_of_cores
from keras_convnext.training.distribution.cluster import number_of_devices
from keras_convnext.training.distribution.gradients import AveragedGradients
from keras_convnext.training.distribution.gradients import (
    without_keras_averaging,
)
from keras_convnext.training.distribution.replicas import Replicas


class TorchCluster(Cluster):
    """Processes with a device each; gradients are those of `torch.distributed`.

    Each process computes the metrics of its own images.
    """

    counts_apart = True

    def __init__(self):
        from torch import distributed

        self.process_index = distributed.get_rank()
        self.process_count = distributed.get_world_size()
        self.device_count = self.process_count
        self.replicas = Replicas(
            self.process_count, lambda: self.process_index, _total
        )

    @contextlib.contextmanager
    def training(self, model, variables):
        averaged = AveragedGradients(variables, self.process_count)
        with without_keras_averaging(model), averaged:
            yield

    def eval_loader(self, source, *options):
        if len(source) < self.process_count:
            raise ValueError(
                "Every process needs an image to validate on. Received: "
                f"{len(source)} for {self.process_count} processes. Add "
                "images, or take fewer processes"
            )
        return super().eval_loader(source, *options)

    def from_writer(self, value):
        from torch import distributed

        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def _gathered(self, numbers):
        import torch

        row = torch.from_numpy(np.array(numbers))
        rows = [torch.empty_like(row) for _ in range(self.process_count)]
        torch.distributed.all_gather(rows, row)
        return torch.stack(rows).numpy()


def _total(x):
    """The sum over all processes."""
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(x)


def is_launched():
    """Whether `torchrun` started this process."""
    return {"RANK", "WORLD_SIZE"} <= os.environ.keys()


def command(devices, hosts, host_index, oversubscribe=False):
    """The beginning of a `torchrun` command for the processes of this host."""
    import torch

    if torch.cuda.is_available() or devices != "all":
        devices = _checked(devices, oversubscribe)
    else:
        devices = 1
    options = [f"--nproc-per-node={devices}"]
    if len(hosts) == 1:
        options.append("--standalone")
    else:
        address, port = hosts[0].rsplit(":", 1)
        options += [
            f"--nnodes={len(hosts)}",
            f"--node-rank={host_index}",
            f"--master-addr={address}",
            f"--master-port={port}",
        ]
    return ["-m", "torch.distributed.run", *options]


def _checked(processes, oversubscribe):
    """How many processes to start: one for each device, or core at most."""
    import torch

    if torch.cuda.is_available():
        available = torch.cuda.device_count()
        return number_of_devices(processes, available, "CUDA devices")
    cores = number_of_cores()
    if processes > cores and not oversubscribe:
        raise ValueError(
            "Without GPUs every process needs a core of its own, and each has "
            f"its own copy of the model. Received: devices={processes}, and "
            f"{cores} cores. Take at most {cores}, or force it by "
            "`oversubscribe=True` (`--oversubscribe`)"
        )
    return processes


def check(hosts, model_parallel):
    """Raises `ValueError` for what the engine cannot do."""
    if model_parallel > 1:
        raise ValueError(
            "Weights are sharded on the JAX backend only. Received: "
            f"model_parallel={model_parallel} on torch"
        )


def set_up(devices, hosts, host_index, model_parallel, oversubscribe=False):
    """Joins the processes that `torchrun` started."""
    import torch

    if not is_launched():
        raise ValueError(
            "On PyTorch every device has a process of its own. Received: a "
            "process that torchrun did not start. Run `torchrun "
            f"--nproc-per-node={devices or 'gpu'} SCRIPT`, or `keras-convnext "
            "train --devices`, which does that"
        )
    local = int(from_environment("LOCAL_WORLD_SIZE"))
    if devices not in (None, "all", local):
        raise ValueError(
            "torchrun must start a process for every device. Received: "
            f"devices={devices}, and {local} processes on this host"
        )
    if torch.distributed.is_torchelastic_launched():
        # Also where the user called torchrun, and not this package. Other
        # launchers may give each process a core of its own.
        _checked(local, oversubscribe)
        end_with_parent(os.getppid())
    engine = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(from_environment("LOCAL_RANK")))
        engine = "cpu:gloo,cuda:nccl"
    if int(os.environ["WORLD_SIZE"]) == 1:
        return Cluster()
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(engine)
        atexit.register(torch.distributed.destroy_process_group)
    return TorchCluster()
