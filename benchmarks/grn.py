"""What V2's response normalization costs: ConvNeXt V2 beside V1, in turn.

Tiny of both, inference (batch 8, 224 px) and training steps with AdamW
(batch 8, 128 px); ratios are of neighbors, and above 1 where V2 is faster.

    KERAS_BACKEND=jax python benchmarks/grn.py
"""

import argparse
import statistics
import time

import keras
import numpy as np
from race.ratios import interval

from keras_convnext import create_model
from keras_convnext.training.optimizers import AdamW

NAMES = ("convnext_tiny", "convnextv2_tiny")
BATCH = 8
SIZES = {"inference": 224, "training": 128}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    pairs = parser.parse_args().pairs
    print(f"| {keras.backend.backend()} | V1, images/s | V2 | ratio | 95 % |")
    print("| --- | --- | --- | --- | --- |")
    for mode, size in SIZES.items():
        run = {name: runner(name, mode, size) for name in NAMES}
        rates = {name: [] for name in NAMES}
        for pair in range(pairs + 2):
            for name in NAMES:
                start = time.perf_counter()
                run[name]()
                if pair >= 2:  # compiled and warm
                    rates[name].append(BATCH / (time.perf_counter() - start))
        v1, v2 = (rates[name] for name in NAMES)
        ratios = [b / a for a, b in zip(v1, v2)]
        low, high, _ = interval(ratios)
        print(
            f"| {mode} | {statistics.median(v1):.2f} | "
            f"{statistics.median(v2):.2f} | {statistics.median(ratios):.3f} | "
            f"{low:.3f}–{high:.3f} |",
            flush=True,
        )


def runner(name, mode, size):
    shape = (size, size, 3)
    model = create_model(
        name, weights=None, input_shape=shape, classifier_activation=None
    )
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (BATCH, *shape)).astype("float32")
    if mode == "inference":
        return lambda: model.predict_on_batch(images)
    labels = generator.integers(0, 1000, BATCH)
    model.compile(
        AdamW(1e-4, weight_decay=0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return lambda: model.train_on_batch(images, labels)


if __name__ == "__main__":
    main()
