"""What masked pre-training costs: its steps beside supervised ones.

Steps of a classifier and of a masked autoencoder on the same architecture take
turns, with the optimizer of their recipes; ratios are of neighbors. Times are
of the processor, all threads together, so that other work changes them less.
The third row is the encoder alone: its features, and their gradients.

    KERAS_BACKEND=jax python benchmarks/pretraining.py
"""

import argparse
import statistics
import time

import keras
import numpy as np

from keras_convnext import create_model
from keras_convnext import pretraining
from keras_convnext import recipes
from keras_convnext.tasks.pretraining.encoder import masked

CLASSES = 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="convnextv2_atto")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    name, size, batch = arguments.model, arguments.size, arguments.batch
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3))
    images = images.astype("float32")
    supervised, autoencoder = classifier(name, size), pretrained(name, size)
    patches = autoencoder.grid[0] * autoencoder.grid[1]
    visible = [
        pretraining.visible_patches(patches, autoencoder.visible_count, 0, i)
        for i in range(batch)
    ]
    inputs = {"images": images, "visible": np.stack(visible)}
    labels = np.arange(batch) % CLASSES
    alone = encoder_alone(autoencoder)
    target = np.zeros(alone.output_shape[1:], "float32")[None]
    target = np.repeat(target, batch, axis=0)
    steps = {
        "supervised": lambda: supervised.train_on_batch(images, labels),
        "masked autoencoder": lambda: autoencoder.train_on_batch(inputs),
        "its encoder alone": lambda: alone.train_on_batch(inputs, target),
    }
    seconds = {name: [] for name in steps}
    for step in range(arguments.rounds + 2):
        for name, run in steps.items():
            start = time.process_time()
            run()
            if step >= 2:  # compiled and warm
                seconds[name].append(time.process_time() - start)
    base = seconds["supervised"]
    print(f"| {keras.backend.backend()} | CPU ms a step | ratio | spread |")
    print("| --- | ---: | ---: | --- |")
    for name, own in seconds.items():
        ratios = sorted(a / b for a, b in zip(own, base))
        print(
            f"| {name} | {1e3 * statistics.median(own):.0f} | "
            f"{statistics.median(ratios):.2f} | "
            f"{ratios[len(ratios) // 4]:.2f}–{ratios[-len(ratios) // 4]:.2f} |"
        )


def classifier(name, size):
    recipe = recipes.v2_finetune.replace(
        drop_path_rate=0.0, ema_decay=None, image_size=size
    )
    model = recipe.build(name, CLASSES)
    return recipe.compile(model, steps_per_epoch=100)


def pretrained(name, size):
    recipe = pretraining.v2_pretrain.replace(image_size=size)
    return recipe.compile(recipe.build(name), steps_per_epoch=100)


def encoder_alone(autoencoder):
    encoder = create_model(
        autoencoder.variant.name, weights=None, include_top=False
    )
    inputs = {
        name: keras.Input(x.shape[1:], dtype=x.dtype, name=name)
        for name, x in autoencoder.input.items()
    }
    maps = masked(encoder, *inputs.values(), autoencoder.grid)
    model = keras.Model(inputs, maps)
    recipe = pretraining.v2_pretrain
    model.compile(recipe.optimizer(model, 100), "mean_squared_error")
    return model


if __name__ == "__main__":
    main()
