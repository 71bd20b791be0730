"""Measures on a GPU in one go: what matters most first, within a time limit.

    python benchmarks/gpu.py --minutes 12 --output benchmarks/gpu

Two training steps on each backend show that training works. Then Tiny, Base and
V2-Tiny run beside timm, eager and compiled, in bfloat16, with their peak
memory, and the forms of the depthwise convolution take turns. A step that the
time ends is stopped, and the folder has what it had measured. `summary.md`
tells of every step. The status is 1 if one failed.

Python needs builds of the backends for GPUs, and timm; the environment of `make
test` has builds for CPUs.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
BACKENDS = ("torch", "jax", "tensorflow")
MODELS = ("convnext_tiny", "convnext_base", "convnextv2_tiny")
DTYPE = "mixed_bfloat16"
CONTESTANTS = (
    *(f"ours/{backend}" for backend in BACKENDS),
    "ours-compiled/torch",
    "timm/eager",
    "timm/compiled",
)
# Of three pairs the median counts.
PAIRS = 3
BATCH_SIZES = {"inference": (1, 64, 256), "training": (64,)}
TWO_STEPS = f"""
import keras
import numpy as np
from keras_convnext import recipes
keras.utils.set_random_seed(0)
recipe = recipes.imagenet1k.replace(
    batch_size=8, image_size=64, epochs=1, warmup_epochs=0
)
model = recipe.build("convnext_tiny", classes=8, dtype="{DTYPE}")
recipe.compile(model, 2)
before = [x.copy() for x in model.get_weights()]
images = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3))
data = recipe.train_data((images.astype("uint8"), np.arange(16) % 8), 8)
loss = model.fit(data, verbose=0).history["loss"]
changed = [(a != b).any() for a, b in zip(before, model.get_weights())]
print("on", model.weights[0].value.device)
print("loss", *loss, "changed", sum(changed), "of", len(changed))
assert np.isfinite(loss).all() and sum(changed) > 0.9 * len(changed)
"""


@dataclass(frozen=True)
class Step:
    """A command of Python, and the backend that Keras runs it on."""

    name: str
    words: tuple
    backend: str = "torch"


def steps(output):
    """All of them, in order."""
    race = (str(FOLDER / "race"), "--dtype", DTYPE, "--pairs", PAIRS, "--force")
    for contestant in CONTESTANTS:
        race += ("--contestant", contestant)
    for backend in BACKENDS:
        yield Step(f"two_steps_{backend}", ("-c", TWO_STEPS), backend)
    for model in MODELS:
        for mode, sizes in BATCH_SIZES.items():
            name = f"{model}_{mode}"
            words = ("--model", model, "--mode", mode, "--output")
            words += (output / name, "--training-image-size", 224)
            is_training = mode == "training"
            option = "--training-batch-size" if is_training else "--batch-size"
            for size in sizes:
                words += (option, size)
            yield Step(name, (*race, *words))
    for backend in BACKENDS:
        words = (FOLDER / "depthwise.py", "--dtype", DTYPE, "--batch", 64)
        yield Step(f"depthwise_{backend}", words, backend)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--output", type=Path, default=FOLDER / "gpu")
    parser.add_argument("--list", action="store_true", help="run nothing")
    asked = parser.parse_args()
    if asked.list:
        for step in steps(asked.output):
            print(step.name)
        return 0
    asked.output.mkdir(parents=True, exist_ok=True)
    rows = []
    end = time.monotonic() + 60 * asked.minutes
    for step in steps(asked.output):
        rows.append((step.name, *run(step, asked.output, end)))
        write(asked.output / "summary.md", rows)
        print(f"{rows[-1][1]:12} {rows[-1][2]:6.1f} s  {step.name}", flush=True)
    return any(result == "FAILED" for _, result, _, _ in rows)


def run(step, output, end):
    """Its result, seconds, and the last line that it printed."""
    start = time.monotonic()
    if start >= end:
        return "no time left", 0.0, ""
    log = output / f"{step.name}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *map(str, step.words)],
            env={**os.environ, "KERAS_BACKEND": step.backend},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it ends with all that it started
        )
        try:
            status = process.wait(end - start)
            result = "FAILED" if status else "passed"
        except subprocess.TimeoutExpired:
            result = "stopped"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    last = log.read_text(errors="replace").strip().rpartition("\n")[2]
    return result, time.monotonic() - start, last.replace("|", "/")


def write(path, rows):
    """A Markdown table of all steps so far."""
    lines = [f"On {platform.node()}, {time.strftime('%Y-%m-%d')}.", ""]
    lines += ["| step | result | seconds | last line |"]
    lines += ["| --- | --- | ---: | --- |"]
    for name, result, seconds, last in rows:
        lines.append(f"| `{name}` | {result} | {seconds:.1f} | {last} |")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
