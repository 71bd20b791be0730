"""Whether masked pre-training helps where few images have labels.

The emoji of two hands, 3,781 drawings each: pre-trained on one hand's without
labels, then fine-tuned on some labeled drawings of each class, and tested on
the other hand's 1,906 signs. Beside it stand the same network with random
weights, and one that learned to predict zeros in place of hidden patches.
Settings are chosen on signs of even number; `--part test` has the odd ones.

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0
    (unpack both into FOLDER/google and FOLDER/twitter)
    KERAS_BACKEND=jax python benchmarks/few_labels.py FOLDER --keep ENCODERS
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import keras
import numpy as np
from PIL import Image

from keras_convnext import ConvNeXt
from keras_convnext import data
from keras_convnext import pretraining
from keras_convnext import recipes
from keras_convnext.tasks.pretraining import objective

SIZE = 32  # pixels; crops to pre-train on are of drawings of 64
NETWORK = {
    "depths": (1, 1, 3),
    "dims": (32, 64, 128),
    "patch_size": 2,
    "kernel_size": 5,
    "grn": True,
    "layer_scale_init_value": 0.0,
}
LEFT_OUT = "Component"  # five skin tones
WELL_FILLED = 20  # signs of a subcategory that is a class
NEIGHBORS = 20
TEMPERATURE = 0.07  # of their votes, as of `evaluation.probe`


class Hand(NamedTuple):
    """The drawings of one hand; of all signs first those without a skin.

    Attributes:
        images: `uint8`, `(drawings, 64, 64, 3)`, on white.
        labels: `int32`, `(signs,)`, or -1 where a sign is of no class.
        names: of the classes.
    """

    images: np.ndarray
    labels: np.ndarray
    names: list[str]

    @property
    def signs(self):
        """Drawings as networks are tested on them."""
        images = self.images[: len(self.labels)]
        halves = images.reshape(len(images), SIZE, 2, SIZE, 2, 3)
        return halves.mean(axis=(2, 4)).round().astype("uint8")


def main():
    options = arguments()
    noto, twemoji = (
        drawings(options.folder / name, options.classes)
        for name in ("google", "twitter")
    )
    options.keep.mkdir(exist_ok=True)
    start = {"choose": 0, "test": 1}[options.part]
    asked = np.arange(len(noto.labels)) % 2 == start
    rows = [
        measured(noto, twemoji, asked, options, seed)
        for seed in range(options.seeds)
    ]
    print(f"\n| {keras.backend.backend()} | mean | each seed |")
    print("| --- | ---: | --- |")
    for name in rows[0]:
        values = [row[name] for row in rows]
        each = ", ".join(f"{x:.1%}" for x in values)
        print(f"| {name} | {np.mean(values):.1%} | {each} |")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keep", type=Path, default=Path("encoders"))
    parser.add_argument(
        "--classes", choices=("category", "subcategory"), default="category"
    )
    parser.add_argument("--part", choices=("choose", "test"), default="choose")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--curve", type=int, nargs="*", default=())
    parser.add_argument("--labels", type=int, default=10)
    parser.add_argument("--tuning-rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--encoders", nargs="*", default=("random", "zeros", "FCMAE")
    )
    return parser.parse_args()


def measured(noto, twemoji, asked, options, seed):
    """Accuracies by name, of one seed."""
    row = {}
    for name in options.encoders:
        path = options.keep / f"{name}_{seed}.keras"
        if not path.exists():
            made(name, noto, twemoji, asked, options, seed).save(path)
        encoder = keras.saving.load_model(path)
        found = by_neighbors(encoder, noto, twemoji, asked)
        # From random weights, they are those of the classifier itself.
        weights = None if name == "random" else path
        found["fine-tuned"] = fine_tuned(
            weights, noto, twemoji, asked, options, seed
        )
        print(json.dumps({"seed": seed, "encoder": name, **found}), flush=True)
        row |= {f"{name}, {key}": value for key, value in found.items()}
    return row


def drawings(folder, classes):
    """A `Hand`; both have their signs in one order."""
    entries = json.loads((folder / "emoji.json").read_text())
    entries = [x for x in entries if x["category"] != LEFT_OUT]
    entries.sort(key=lambda x: x["image"])
    found = [x["image"] for x in entries]
    found += [
        variation["image"]
        for x in entries
        for variation in x.get("skin_variations", {}).values()
    ]
    words = [x[classes] for x in entries]
    names = sorted(x for x in set(words) if words.count(x) >= WELL_FILLED)
    labels = [names.index(x) if x in names else -1 for x in words]
    images = folder / "img" / folder.name / "64"
    pixels = np.stack([on_white(images / name) for name in found])
    return Hand(pixels, np.array(labels, "int32"), names)


def on_white(path):
    with Image.open(path) as image:
        image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return np.asarray(white.convert("RGB"))


def network(**options):
    options = {"include_top": False, **NETWORK, **options}
    return ConvNeXt(input_shape=(SIZE, SIZE, 3), **options)


def made(name, noto, twemoji, asked, options, seed):
    """An encoder, pre-trained unless it is to be random."""
    keras.utils.set_random_seed(seed)
    encoder = network()
    if name == "random":
        return encoder
    recipe = pretraining.v2_pretrain.replace(
        epochs=options.epochs,
        warmup_epochs=options.epochs / 10,
        batch_size=options.batch,
        learning_rate=options.rate,
        decoder_width=128,
        image_size=SIZE,
    )
    model = recipe.on(encoder)
    images = noto.images
    source = data.Arrays(images, np.zeros(len(images), "int32"))
    batches = recipe.train_data(source, model, seed, loader="python")
    recipe.compile(model, len(batches))

    def tell(epoch, logs):
        if epoch + 1 in options.curve:
            found = by_neighbors(encoder, noto, twemoji, asked)
            print(json.dumps({"epoch": epoch + 1, **logs, **found}), flush=True)

    telling = keras.callbacks.LambdaCallback(on_epoch_end=tell)
    targets = objective.targets
    scale = 0.0 if name == "zeros" else 1.0
    with mock.patch.object(
        objective, "targets", lambda *args: scale * targets(*args)
    ):
        model.fit(batches, epochs=recipe.epochs, verbose=0, callbacks=[telling])
    return encoder


def by_neighbors(encoder, train, test, asked):
    """Classes by drawings of the other hand, and the sign by the nearest.

    A sign's own drawing by the other hand is not among those that tell its
    class. Features are centered, each hand's for itself.
    """
    rows = []
    for hand in (train, test):
        maps = encoder.predict(hand.signs, verbose=0, batch_size=128)
        vectors = maps.mean(axis=(1, 2))
        vectors -= vectors.mean(axis=0)
        rows.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    likeness = rows[1] @ rows[0].T
    is_same = likeness.argmax(axis=1) == np.arange(len(likeness))
    found = {"same sign": float(is_same[asked].mean())}
    np.fill_diagonal(likeness, -np.inf)
    likeness[:, train.labels < 0] = -np.inf
    order = np.argsort(-likeness, axis=1)[:, :NEIGHBORS]
    votes = np.exp(np.take_along_axis(likeness, order, axis=1) / TEMPERATURE)
    is_class = train.labels[order][..., None] == np.arange(len(train.names))
    asked = asked & (test.labels >= 0)
    for count in (1, NEIGHBORS):
        sums = (votes[:, :count, None] * is_class[:, :count]).sum(axis=1)
        is_right = sums.argmax(axis=1) == test.labels
        found[f"class by {count} nearest"] = float(is_right[asked].mean())
    return found


def fine_tuned(weights, train, test, asked, options, seed):
    generator = np.random.default_rng(seed)
    chosen = np.concatenate(
        [
            generator.permutation(np.flatnonzero(train.labels == x))[
                : options.labels
            ]
            for x in range(len(train.names))
        ]
    )
    recipe = recipes.small_data.replace(
        epochs=100,
        warmup_epochs=10,
        batch_size=30,
        learning_rate=options.tuning_rate,
        layer_decay=1.0,
        head_init_scale=1.0,
        drop_path_rate=0.0,
        image_size=SIZE,
    )
    keras.utils.set_random_seed(seed)
    model = network(
        include_top=True,
        classes=len(train.names),
        classifier_activation=None,
        weights=weights,
    )
    labeled = data.Arrays(train.signs[chosen], train.labels[chosen])
    batches = recipe.train_data(labeled, len(train.names), seed=seed)
    recipe.compile(model, len(batches))
    model.fit(batches, epochs=recipe.epochs, verbose=0)
    asked = asked & (test.labels >= 0)
    scores = model.predict(test.signs[asked], verbose=0, batch_size=128)
    return float((scores.argmax(axis=1) == test.labels[asked]).mean())


if __name__ == "__main__":
    main()
