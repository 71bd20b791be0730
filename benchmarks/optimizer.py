"""What layer decay costs: training steps of ConvNeXt-Tiny, side by side.

Steps of `keras.optimizers.AdamW` and of this package's `AdamW` with layer
decay (and with a moving average too) take turns; ratios are of neighbors.

    KERAS_BACKEND=jax python benchmarks/optimizer.py
"""

import argparse
import statistics
import time

import keras
import numpy as np

from keras_convnext import ConvNeXtTiny
from keras_convnext.training.optimizers import AdamW
from keras_convnext.training.optimizers import layer_decay_scales


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    shape = (arguments.batch, arguments.size, arguments.size, 3)
    images = generator.integers(0, 256, shape).astype("float32")
    labels = generator.integers(0, 1000, arguments.batch)

    models = {
        name: compiled(optimizer, arguments.size)
        for name, optimizer in {
            "keras.optimizers.AdamW": lambda model: keras.optimizers.AdamW(
                1e-4, weight_decay=0.05
            ),
            "AdamW, layer decay": lambda model: with_layer_decay(model),
            "AdamW, layer decay, average": lambda model: with_layer_decay(
                model, use_ema=True
            ),
        }.items()
    }
    seconds = {name: [] for name in models}
    for step in range(arguments.rounds + 2):
        for name, model in models.items():
            start = time.perf_counter()
            model.train_on_batch(images, labels)
            if step >= 2:  # compiled and warm
                seconds[name].append(time.perf_counter() - start)
    base = seconds["keras.optimizers.AdamW"]
    print(f"| {keras.backend.backend()} | ms a step | ratio | spread |")
    print("| --- | --- | --- | --- |")
    for name, own in seconds.items():
        ratios = sorted(a / b for a, b in zip(own, base))
        print(
            f"| {name} | {1e3 * statistics.median(own):.0f} | "
            f"{statistics.median(ratios):.3f} | "
            f"{ratios[len(ratios) // 4]:.3f}–{ratios[-len(ratios) // 4]:.3f} |"
        )


def compiled(optimizer, size):
    model = ConvNeXtTiny(
        weights=None,
        input_shape=(size, size, 3),
        classifier_activation=None,
        drop_path_rate=0.1,
    )
    model.compile(
        optimizer(model),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def with_layer_decay(model, **options):
    return AdamW(
        1e-4,
        weight_decay=0.05,
        learning_rate_scales=layer_decay_scales(model, 0.8),
        **options,
    )


if __name__ == "__main__":
    main()
