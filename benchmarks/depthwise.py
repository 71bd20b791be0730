"""Times the forms of the depthwise convolution on the current backend.

    KERAS_BACKEND=jax python benchmarks/depthwise.py --batch 8

Prints a Markdown table: median milliseconds of each implementation, forward
and in a training step, on the feature maps of ConvNeXt-Tiny at 224 px, and the
ratio to the backend's own operation, taken run by run as the forms alternate.
"""

import argparse
import platform
import statistics
import time

import keras
import numpy as np

from keras_convnext.layers import DepthwiseConv2D
from keras_convnext.layers.depthwise import IMPLEMENTATIONS
from keras_convnext.layers.depthwise import choose_implementation

# Height (and width) and channels of the four stages.
STAGES = ((56, 96), (28, 192), (14, 384), (7, 768))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--dtype", default="float32", help="a policy of Keras")
    arguments = parser.parse_args()
    keras.config.set_dtype_policy(arguments.dtype)
    print(
        f"keras {keras.__version__} on {keras.backend.backend()}, "
        f"{platform.processor() or platform.machine()}, batch "
        f"{arguments.batch}, {arguments.dtype}; this package chooses "
        f"{choose_implementation()}\n"
    )
    names = list(IMPLEMENTATIONS)
    print(
        "| map | step | "
        + " | ".join(f"{name} ms" for name in names)
        + " | native / shifted |"
    )
    print("| --- | --- |" + " ---: |" * (len(names) + 1))
    for size, channels in STAGES:
        shape = (size, size, channels)
        x = np.random.default_rng(0).normal(size=(arguments.batch, *shape))
        x = x.astype("float32")
        models = [model(name, shape) for name in names]
        for step, run in (("forward", forward), ("training", training)):
            times = measure(run, models, x, arguments.runs)
            ratio = statistics.median(a / b for a, b in zip(*times))
            medians = [statistics.median(series) * 1e3 for series in times]
            cells = " | ".join(f"{value:.1f}" for value in medians)
            print(
                f"| {size}×{size}×{channels} | {step} | {cells} | {ratio:.1f} |"
            )


def model(implementation, shape):
    image = keras.Input(shape)
    # A trainable layer in front, so that training needs both gradients.
    x = keras.layers.Dense(1, use_bias=False)(image[..., :1]) + image
    output = DepthwiseConv2D(7, implementation=implementation)(x)
    built = keras.Model(image, output)
    built.compile(keras.optimizers.SGD(1e-6), "mse")
    return built


def forward(model, x):
    model.predict_on_batch(x)


def training(model, x):
    model.train_on_batch(x, x)


def measure(run, models, x, runs):
    for built in models:
        run(built, x)  # compiles
    times = [[] for _ in models]
    for _ in range(runs):
        for series, built in zip(times, models):
            start = time.perf_counter()
            run(built, x)
            series.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
