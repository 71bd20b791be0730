"""Times RandAugment in the data pipeline on the current backend.

    KERAS_BACKEND=jax python benchmarks/augmentation.py --images 16

Prints a Markdown table: median milliseconds per photograph of 224 px of Keras'
`RandAugment` and of this package's in a serial `dataset.map` that runs, image
by image and in batches, and of this package's on NumPy arrays, as the ways
alternate; and how many times Keras' takes that long. A second table tells the
seconds until such a dataset yields its first element, in the first epoch and
in the next. A third tells the images/s of ImageNet-1k's whole recipe in
`tf.data`, augmented by TensorFlow's operations and by NumPy and Pillow through
`tf.numpy_function`, as the two take turns.
"""

import argparse
import platform
import statistics
import time

import keras
import numpy as np
import tensorflow as tf
from sklearn import datasets

from keras_convnext import recipes
from keras_convnext.data.augmentation import RandAugment

SIZE = 224
CLASSES = 1000
RECIPE = recipes.imagenet1k.replace(batch_size=64)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--pipeline-images", type=int, default=256)
    parser.add_argument("--pipeline-runs", type=int, default=15)
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
    print_pipelines(arguments.pipeline_images, arguments.pipeline_runs)


def print_pipelines(count, runs):
    print(
        "\n| whole recipe, from | TensorFlow images/s | NumPy images/s "
        "| NumPy / TensorFlow, median (quartiles) |"
    )
    print("| --- | ---: | ---: | ---: |")
    files = [tf.io.encode_jpeg(x, quality=90) for x in large(count)]
    files = tf.data.Dataset.from_tensor_slices(
        (tf.stack(files), tf.range(count) % CLASSES)
    )

    def decoded(file, label):
        return tf.io.decode_jpeg(file, channels=3), label

    pixels = files.map(decoded).cache()
    in_parallel = files.map(decoded, num_parallel_calls=tf.data.AUTOTUNE)
    for name, source in (("JPEGs", in_parallel), ("pixels", pixels)):
        ways = by_tensorflow(source), by_numpy(source)
        rates = [[], []]
        for _ in range(runs):
            for series, way in zip(rates, ways):
                series.append(rate(way, count))
        ratios = [b / a for a, b in zip(*rates)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        cells = [f"{statistics.median(series):.0f}" for series in rates]
        print(
            f"| {name} | {' | '.join(cells)} "
            f"| {middle:.2f} ({low:.2f}–{high:.2f}) |",
            flush=True,
        )


def by_tensorflow(source):
    return RECIPE.train_pipeline(CLASSES)(source)


def by_numpy(source):
    """The same maps, of arrays."""
    pipeline = RECIPE.train_pipeline(CLASSES)

    def sample(image, label, seed):
        sample = pipeline.sample((image, label), seed)
        return sample["images"], sample["labels"]

    def mapped(dataset, stream, function, shapes, types):
        def call(pair, seed):
            results = tf.numpy_function(function, (*pair, seed), types)
            return tuple(map(tf.ensure_shape, results, shapes))

        seeds = pipeline._tf_seeds(stream)
        dataset = tf.data.Dataset.zip(dataset, seeds)
        return dataset.map(call, num_parallel_calls=tf.data.AUTOTUNE)

    shape, size = pipeline.input_shape, pipeline.batch_size
    samples = mapped(source, 0, sample, (shape, ()), ("float32", "int32"))
    return mapped(
        samples.batch(size, drop_remainder=True),
        1,
        lambda images, labels, seed: pipeline.batch((images, labels), seed),
        ((size, *shape), (size, CLASSES)),
        ("float32", "float32"),
    ).prefetch(tf.data.AUTOTUNE)


def rate(dataset, count):
    """Images per second after the first batch, before which graphs start."""
    batches = iter(dataset)
    next(batches)
    start = time.perf_counter()
    for _ in batches:
        pass
    return (count - RECIPE.batch_size) / (time.perf_counter() - start)


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


def large(count):
    """Random cuts of ImageNet's size."""
    generator = np.random.default_rng(0)
    photographs = datasets.load_sample_images().images
    for number in range(count):
        photograph = photographs[number % 2]
        top, left = generator.integers(52), generator.integers(140)
        yield photograph[top : top + 375, left : left + 500]


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
