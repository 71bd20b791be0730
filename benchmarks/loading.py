"""Measures time and memory of loading a weight file.

    KERAS_BACKEND=torch python benchmarks/loading.py --model convnext_tiny

Writes random weights as `.safetensors` in timm's layout (`--container pth` for
the official PyTorch container), then in a fresh process builds the model
without weights, reads the file and assigns it. Prints the seconds of reading
and assigning, and the peak memory beyond what the imports took, as a multiple
of the file's size.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

PAGE = os.sysconf("SC_PAGE_SIZE")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="convnext_tiny")
    parser.add_argument(
        "--container", choices=("safetensors", "pth"), default="safetensors"
    )
    parser.add_argument("--load", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        load(arguments.model, arguments.load)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"weights.{arguments.container}"
        write(arguments.model, path)
        subprocess.run(
            [sys.executable, __file__, "--model", arguments.model]
            + ["--load", str(path)],
            check=True,
        )


def write(name, path):
    from keras_convnext import VARIANTS
    from keras_convnext.models import conversion
    from keras_convnext.weights import files
    from keras_convnext.weights import layouts

    variant = VARIANTS[name]
    layout = "timm" if path.suffix == ".safetensors" else "official"
    from keras_convnext import create_model

    model = create_model(name, weights=None)
    generator = np.random.default_rng(0)
    tensors = {
        f"{layer.name}/{variable.name}": generator.standard_normal(
            tuple(variable.shape), "float32"
        )
        for layer in model.layers
        for variable in layer.weights
    }
    converted = layouts.to_layout(tensors, layout, variant)
    if path.suffix == ".safetensors":
        files.write_safetensors(path, converted)
    else:
        conversion._write_torch(path, converted, wrapped=True)


def load(name, path):
    import keras

    from keras_convnext import create_model

    keras.ops.zeros(1)
    size = os.path.getsize(path)
    before = resident()
    peak = [before]
    done = threading.Event()

    def watch():
        while not done.wait(0.005):
            peak.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    model = create_model(name, weights=path)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    print(
        f"{name} on {keras.backend.backend()}, {Path(path).suffix}: "
        f"{size / 1e6:.0f} MB, built and loaded in "
        f"{seconds:.2f} s, peak {(max(peak) - before) / size:.2f}x the file, "
        f"{model.count_params():,} parameters"
    )


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


if __name__ == "__main__":
    main()
