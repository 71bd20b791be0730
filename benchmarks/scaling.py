"""What `plan` says of a step's time, beside training in 1, 2 and 4 processes.

Processes with a thread each train a Tiny at 32 px, small enough for the
exchange of its 111 MB of gradients to matter. In turn: all of them apart, for
the rate of one where so many share the machine; all of them together; and
all-reduces of as many bytes alone, for the bandwidth.

    KERAS_BACKEND=torch python benchmarks/scaling.py
"""

import argparse
import csv
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODEL, SIZE, CLASSES = "convnext_tiny", 32, 10
IMAGES, STEPS = 8, 12  # of a process: in a batch, in an epoch
SENDINGS = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        # JAX has no other way to keep to one thread.
        cores = sorted(os.sched_getaffinity(0))
        index = int(os.environ["RANK"])
        os.sched_setaffinity(0, {cores[index % len(cores)]})
        print(TASKS[arguments.task]())
        return

    from keras_convnext import distribution

    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    print(
        f"| {backend}, processes | images/s apart | MB/s | planned s a step "
        f"| measured | measured / planned |\n{'| --- ' * 6}|"
    )
    for count in arguments.processes:
        found = {"apart": [], "together": [], "send": []}
        for _ in range(arguments.rounds):
            for task, values in found.items():
                if count > 1 or task != "send":
                    values.append(run(task, count))
        rate, step = (
            statistics.median(found[task]) for task in ("apart", "together")
        )
        bandwidth = statistics.median(found["send"] or [1e12])
        plan = distribution.plan(
            MODEL,
            count,
            "1TB",
            batch_size=IMAGES * count,
            image_size=SIZE,
            classes=CLASSES,
            dtype="float32",
            rate=rate,
            bandwidth=bandwidth,
        )
        shortest, longest = plan.step_seconds
        step = IMAGES * count / step
        speed = f"{bandwidth / 1e6:.0f}" if count > 1 else ""
        print(
            f"| {count} | {rate:.1f} | {speed} | {shortest:.3f}–{longest:.3f} "
            f"| {step:.3f} | {step / shortest:.2f}–{step / longest:.2f} |",
            flush=True,
        )


def run(task, count):
    """The mean of the figures of processes that run at the same time."""
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    processes = []
    for index in range(count):
        job = {"RANK": str(index)}
        if task != "apart":
            job |= job_of(port, count, index)
        processes.append(
            subprocess.Popen(
                [sys.executable, __file__, "--task", task],
                env={**os.environ, "OMP_NUM_THREADS": "1", **job},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    told = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, told):
        if process.returncode:
            sys.exit(f"a process failed:\n{errors}")
    # Only writers know the rate of a common training.
    figures = [printed.split()[-1] for printed, _ in told]
    return statistics.mean(float(x) for x in figures if x != "None")


def job_of(port, count, index):
    """What `torchrun` and Keras' launchers set, for each process."""
    return {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "LOCAL_RANK": str(index),
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"localhost:{port}",
        "KERAS_DISTRIBUTION_NUM_PROCESSES": str(count),
        "KERAS_DISTRIBUTION_PROCESS_ID": str(index),
    }


def train():
    """Images/s of a writer's last epoch."""
    import keras
    import numpy as np

    import keras_convnext

    cluster = keras_convnext.distribution.current()
    batch_size = IMAGES * cluster.process_count
    count = batch_size * STEPS
    generator = np.random.default_rng(0)
    data = keras_convnext.data.Arrays(
        generator.integers(0, 256, (count, SIZE, SIZE, 3), "uint8"),
        np.arange(count) % CLASSES,
        range(CLASSES),
    )
    recipe = keras_convnext.recipes.small_data.replace(
        epochs=2, warmup_epochs=1, batch_size=batch_size, image_size=SIZE
    )
    keras.utils.set_random_seed(0)  # the same weights in every process
    model = recipe.build(MODEL, CLASSES, weights=None)
    with tempfile.TemporaryDirectory() as folder:
        keras_convnext.train(model, recipe, data, folder)
        if cluster.is_writer:
            history = Path(folder, "history.csv").read_text()
            rows = list(csv.DictReader(history.splitlines()))
            return float(rows[-1]["images_per_second"])


def train_together():
    from keras_convnext import distribution

    distribution.setup()
    return train()


def send():
    """Bytes/s by which a ring would take as long as the backend does."""
    import keras

    from keras_convnext import create_model
    from keras_convnext import distribution

    count = distribution.setup().process_count
    keras.utils.set_random_seed(0)
    model = create_model(MODEL, weights=None, classes=CLASSES)
    shapes = [tuple(weight.shape) for weight in model.trainable_weights]
    reduce = REDUCTIONS[keras.backend.backend()](shapes)
    reduce()
    start = time.perf_counter()
    for _ in range(SENDINGS):
        reduce()
    seconds = (time.perf_counter() - start) / SENDINGS
    return 2 * (count - 1) / count * model.count_params() * 4 / seconds


def torch_reduction(shapes):
    """In buckets, as gradients are sent."""
    import torch

    from keras_convnext.training.distribution.gradients import BUCKET_BYTES

    size = sum(map(math.prod, shapes))
    buckets = torch.ones(size).split(BUCKET_BYTES // 4)

    def reduce():
        works = [
            torch.distributed.all_reduce(x, async_op=True) for x in buckets
        ]
        for work in works:
            work.wait()

    return reduce


def jax_reduction(shapes):
    """Array by array, as XLA does it on CPUs."""
    import jax
    import numpy as np

    mesh = jax.make_mesh((jax.device_count(),), ("batch",))
    apart, whole = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
        for axes in (("batch",), ())
    )
    count = jax.local_device_count()
    values = [
        jax.make_array_from_process_local_data(
            apart, np.ones((count, *shape), "float32")
        )
        for shape in shapes
    ]
    total = jax.jit(lambda xs: [x.sum(0) for x in xs], out_shardings=whole)
    return lambda: jax.block_until_ready(total(values))


REDUCTIONS = {"jax": jax_reduction, "torch": torch_reduction}
TASKS = {"apart": train, "together": train_together, "send": send}


if __name__ == "__main__":
    main()
