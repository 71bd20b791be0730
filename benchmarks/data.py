"""Times the training loader against timm's, on the same photographs.

    KERAS_BACKEND=torch python benchmarks/data.py --images 1024

Writes JPEGs of scikit-learn's photographs and reads them by ImageNet-1k's
recipe: crop to 224 pixels, flip, RandAugment, erasing, Mixup and CutMix. Our
loaders and timm's take turns on the same files and cores, timm's in as many
processes as there are cores, with its defaults for training and with
`use_prefetcher`, which mixes in the processes and normalizes whole batches.
Prints images per second and how many times timm's faster loader that is, the
medians of all rounds, and then ours with stage after stage left out.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn import datasets

from keras_convnext import recipes
from keras_convnext.data import ImageFolder
from keras_convnext.data import TrainLoader
from keras_convnext.data.threads import in_order

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import peers

CORES = os.cpu_count()
CLASSES = 1000
RECIPE = recipes.imagenet1k.replace(batch_size=64)
# What is left of the recipe when stage after stage goes.
STAGES = {
    "all of it": {},
    "without mixing": {"mixup_alpha": 0.0, "cutmix_alpha": 0.0},
    "and without erasing": {"random_erasing": 0.0},
    "and without RandAugment": {"rand_augment": None},
    "and without flip: decoding and crop": {"horizontal_flip": 0.0},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--width", type=int, default=500, help="of the JPEGs")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {CORES} cores")
    with tempfile.TemporaryDirectory() as folder:
        size = write_photographs(folder, arguments.images, arguments.width)
        print(f"JPEGs of {arguments.width} pixels, {size / 1e3:.0f} kB\n")
        print("| loader | images/s | times timm |\n| --- | ---: | ---: |")
        compare(folder, arguments.images, arguments.rounds)
        print("\n| stages | images/s |\n| --- | ---: |")
        profile(folder, arguments.images, arguments.rounds)


def write_photographs(folder, count, width):
    """Random cuts, half of them mirrored; returns the mean size in bytes."""
    generator = np.random.default_rng(0)
    photographs = datasets.load_sample_images().images
    sizes = []
    for number in range(count):
        photograph = photographs[number % 2]
        top, left = generator.integers(52), generator.integers(140)
        cut = photograph[top : top + 375, left : left + 500]
        cut = cut[:, ::-1] if number % 4 > 1 else cut
        image = Image.fromarray(np.ascontiguousarray(cut))
        if width != 500:
            image = image.resize((width, width * 3 // 4), Image.LANCZOS)
        path = Path(folder, str(number % 10), f"{number}.jpg")
        path.parent.mkdir(exist_ok=True)
        image.save(path, quality=90)
        sizes.append(path.stat().st_size)
    return statistics.mean(sizes)


def compare(folder, count, rounds):
    source = ImageFolder(folder)
    ways = {
        "timm": timm_batches(folder, use_prefetcher=False),
        "timm, prefetcher": timm_batches(folder, use_prefetcher=True),
        "ours, tf.data": our_batches(source, RECIPE, "tf"),
        "ours, without TensorFlow": our_batches(source, RECIPE, "python"),
    }
    rates = rates_of(ways, count, rounds)
    best = max(list(rates)[:2], key=lambda name: statistics.median(rates[name]))
    for name, own in rates.items():
        ratio = statistics.median(a / b for a, b in zip(own, rates[best]))
        print(f"| {name} | {statistics.median(own):.0f} | {ratio:.2f} |")


def profile(folder, count, rounds):
    source = ImageFolder(folder)
    ways, recipe = {}, RECIPE
    for name, changes in STAGES.items():
        recipe = recipe.replace(**changes)
        ways[name] = our_batches(source, recipe, "tf")

    def decoded(number):
        source.image(number).pixels()

    ways["decoding whole files"] = lambda: in_order(decoded, range(count))
    ways["reading files"] = lambda: in_order(source.read, range(count))
    for name, rates in rates_of(ways, count, rounds).items():
        print(f"| {name} | {statistics.median(rates):.0f} |")


def rates_of(ways, count, rounds):
    """Images per second of every way in every round, as they take turns."""
    rates = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, batches in ways.items():
            start = time.perf_counter()
            for _ in batches():
                pass
            rates[name].append(count / (time.perf_counter() - start))
    return {name: own[1:] for name, own in rates.items()}  # they have started


def our_batches(source, recipe, loader):
    """A function that makes the batches of an epoch."""
    pipeline = recipe.train_pipeline(CLASSES)
    return TrainLoader(source, pipeline, 1, loader=loader).batches


def timm_batches(folder, use_prefetcher):
    peers.import_timm()
    import torch
    from timm.data import FastCollateMixup
    from timm.data import ImageDataset
    from timm.data import Mixup
    from timm.data import create_loader

    torch.set_num_threads(1)
    mixing = {
        "mixup_alpha": RECIPE.mixup_alpha,
        "cutmix_alpha": RECIPE.cutmix_alpha,
        "label_smoothing": RECIPE.label_smoothing,
        "num_classes": CLASSES,
    }
    loader = create_loader(
        ImageDataset(folder),
        (3, RECIPE.image_size, RECIPE.image_size),
        RECIPE.batch_size,
        is_training=True,
        use_prefetcher=use_prefetcher,
        device=torch.device("cpu"),
        color_jitter=None,
        auto_augment=RECIPE.rand_augment,
        interpolation="bicubic",
        re_prob=RECIPE.random_erasing,
        re_mode="pixel",
        num_workers=CORES,
        persistent_workers=True,
        collate_fn=FastCollateMixup(**mixing) if use_prefetcher else None,
    )
    repair(loader)
    if use_prefetcher:
        return lambda: loader
    mixup = Mixup(**mixing)
    return lambda: (mixup(*batch) for batch in loader)


def repair(loader):
    """At the highest magnitude timm keeps no bits, for which Pillow raises."""
    from timm.data.auto_augment import RandAugment

    def at_least_one(level_of):
        return lambda level, hparams: (max(1, level_of(level, hparams)[0]),)

    for transform in loader.dataset.transform.transforms:
        if isinstance(transform, RandAugment):
            for operation in transform.ops:
                if operation.name == "PosterizeIncreasing":
                    operation.level_fn = at_least_one(operation.level_fn)


if __name__ == "__main__":
    main()
