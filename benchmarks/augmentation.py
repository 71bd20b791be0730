"""Times RandAugment in the data pipeline on the current backend.

    KERAS_BACKEND=jax python benchmarks/augmentation.py --images 16

Prints a Markdown table: median milliseconds per photograph of 224 px of Keras'
`RandAugment` and of this package's in a serial `dataset.map` that runs, image
by image and in batches, and of this package's on NumPy arrays, as the ways
alternate; and how many times Keras' takes that long. A second table tells the
seconds until such a dataset yields its first element, in the first epoch and
in the next.
"""

import argparse
import platform
import statistics
import time

import keras
import numpy as np
import tensorflow as tf
from sklearn import datasets

from keras_convnext.data.augmentation import RandAugment

SIZE = 224


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    images = photographs(arguments.images)
    print(
        f"keras {keras.__version__} on {keras.backend.backend()}, "
        f"{platform.processor() or platform.machine()}\n"
    )
    print(
        "| given | keras ms | tf.data ms | NumPy ms | keras / tf.data "
        "| keras / NumPy |"
    )
    print("| --- |" + " ---: |" * 5)
    print_row("images", images, arguments.runs)
    name = f"batches of {len(images)}"
    print_row(name, images[None], arguments.runs, len(images))
    print("\n| start | keras s | tf.data s |\n| --- | ---: | ---: |")
    starts = [start(mapped(layer, images)) for layer in layers()]
    for epoch, seconds in zip(("first", "next"), zip(*starts)):
        print(f"| {epoch} | {' | '.join(f'{s:.2f}' for s in seconds)} |")


def layers():
    return keras.layers.RandAugment((0, 255), seed=0), RandAugment(seed=0)


def print_row(name, items, runs, size=1):
    """Each way augments all items once in a run."""
    iterators = [iter(mapped(layer, items).repeat()) for layer in layers()]
    layer = RandAugment(seed=0)
    functions = [
        *(lambda i=i: [next(i) for _ in items] for i in iterators),
        lambda: [layer(item) for item in items],
    ]
    times = measure(functions, runs)
    per_image = 1e3 / (len(items) * size)
    ratios = [
        statistics.median(a / b for a, b in zip(times[0], series))
        for series in times[1:]
    ]
    cells = [f"{statistics.median(x) * per_image:.2f}" for x in times]
    cells += [f"{ratio:.0f}" for ratio in ratios]
    print(f"| {name} | {' | '.join(cells)} |")


def mapped(layer, items):
    options = tf.data.Options()
    # Else the next elements are made while the other ways are timed.
    options.experimental_optimization.inject_prefetch = False
    dataset = tf.data.Dataset.from_tensor_slices(items)
    return dataset.map(layer).with_options(options)


def start(dataset):
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        next(iter(dataset))
        seconds.append(time.perf_counter() - begin)
    return seconds


def photographs(count):
    """Random cuts of scikit-learn's two photographs."""
    generator = np.random.default_rng(0)
    sources = datasets.load_sample_images().images
    cuts = []
    for number in range(count):
        source = sources[number % len(sources)]
        top, left = (generator.integers(n - SIZE) for n in source.shape[:2])
        cuts.append(source[top : top + SIZE, left : left + SIZE])
    return np.stack(cuts)


def measure(functions, runs):
    for function in functions:
        function()  # starts
    times = [[] for _ in functions]
    for _ in range(runs):
        for series, function in zip(times, functions):
            start = time.perf_counter()
            function()
            series.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
