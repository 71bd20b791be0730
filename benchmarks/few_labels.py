"""Whether masked pre-training helps where few images have labels.

The emoji of two hands, 3,781 drawings each: pre-trained on one hand's without
labels, then fine-tuned on some labelled drawings of each category, and tested
on the other hand's 1,906 signs. The same network from random weights, with the
same labels and steps, stands beside it; so do its nearest neighbors.

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0
    (unpack both into FOLDER/google and FOLDER/twitter)
    KERAS_BACKEND=jax python benchmarks/few_labels.py FOLDER
"""

import argparse
import json
import tempfile
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from keras_convnext import ConvNeXt
from keras_convnext import data
from keras_convnext import pretraining
from keras_convnext import recipes

NETWORK = {
    "depths": (1, 1, 3),
    "dims": (32, 64, 128),
    "patch_size": 2,
    "grn": True,
    "layer_scale_init_value": 0.0,
}
LEFT_OUT = "Component"  # five skin tones


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--labels", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    noto, twemoji = (
        drawings(options.folder / name, options.size)
        for name in ("google", "twitter")
    )
    folder = Path(tempfile.mkdtemp())
    rows = []
    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        random = encoder_of(options.size)
        trained = pretrained(noto[0], options, seed)
        trained.save(folder / f"encoder_{seed}.keras")
        row = {"seed": seed}
        for name, encoder in (("random", random), ("FCMAE", trained)):
            row |= {
                f"{name}, {x}": value
                for x, value in by_neighbors(encoder, noto, twemoji).items()
            }
        for name, weights in (
            ("random", None),
            ("FCMAE", folder / f"encoder_{seed}.keras"),
        ):
            row[f"{name}, fine-tuned"] = fine_tuned(
                weights, noto, twemoji, options, seed
            )
        rows.append(row)
        print(json.dumps(row), flush=True)
    print(f"\n| {keras.backend.backend()} | mean | each seed |")
    print("| --- | ---: | --- |")
    for name in list(rows[0])[1:]:
        values = [row[name] for row in rows]
        each = ", ".join(f"{x:.1%}" for x in values)
        print(f"| {name} | {np.mean(values):.1%} | {each} |")


def drawings(folder, size):
    """Images, categories, and the numbers of signs: those that have no other
    skin come first, in one order for both hands."""
    entries = json.loads((folder / "emoji.json").read_text())
    entries = [x for x in entries if x["category"] != LEFT_OUT]
    entries.sort(key=lambda x: x["image"])
    names = sorted({x["category"] for x in entries})
    found = [(x["image"], x["category"]) for x in entries]
    found += [
        (variation["image"], x["category"])
        for x in entries
        for variation in x.get("skin_variations", {}).values()
    ]
    images = folder / "img" / folder.name / "64"
    pixels = [on_white(images / name, size) for name, _ in found]
    labels = np.array([names.index(category) for _, category in found])
    return np.stack(pixels), labels.astype("int32"), len(entries), names


def on_white(path, size):
    with Image.open(path) as image:
        image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return np.asarray(white.convert("RGB").resize((size, size), Image.BOX))


def encoder_of(size, **options):
    shape = (size, size, 3)
    return ConvNeXt(
        **NETWORK,
        **{"include_top": False, "input_shape": shape, **options},
    )


def pretrained(images, options, seed):
    recipe = pretraining.v2_pretrain.replace(
        epochs=options.epochs,
        warmup_epochs=options.epochs / 10,
        batch_size=126,
        learning_rate=2e-3,
        decoder_width=128,
        image_size=options.size,
    )
    model = recipe.on(encoder_of(options.size))
    source = data.Arrays(images, np.zeros(len(images), "int32"))
    batches = recipe.train_data(source, model, seed, loader="python")
    recipe.compile(model, len(batches))
    history = model.fit(batches, epochs=recipe.epochs, verbose=0).history
    print(f"loss {history['loss'][0]:.3f} to {history['loss'][-1]:.3f}")
    return model.encoder


def by_neighbors(encoder, train, test):
    """Category by the nearest drawing of the other hand, and the sign."""
    features = []
    for images, _, count, _ in (train, test):
        maps = encoder.predict(images[:count], verbose=0, batch_size=128)
        rows = maps.mean(axis=(1, 2))
        features.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    ours, theirs = features
    ours, theirs = ours - ours.mean(0), theirs - theirs.mean(0)
    likeness = theirs @ ours.T / np.linalg.norm(ours, axis=1)
    nearest = likeness.argmax(axis=1)
    # A sign has its own likeness: without it, what it is like is asked.
    signs = float((nearest == np.arange(len(nearest))).mean())
    np.fill_diagonal(likeness, -np.inf)
    labels = train[1][likeness.argmax(axis=1)]
    return {
        "category by the nearest": float(
            (labels == test[1][: len(labels)]).mean()
        ),
        "one-shot sign": signs,
    }


def fine_tuned(weights, train, test, options, seed):
    images, labels, count, names = train
    generator = np.random.default_rng(seed)
    chosen = np.concatenate(
        [
            generator.permutation(np.flatnonzero(labels[:count] == x))[
                : options.labels
            ]
            for x in range(len(names))
        ]
    )
    recipe = recipes.small_data.replace(
        epochs=100,
        warmup_epochs=10,
        batch_size=len(chosen) // 3,
        learning_rate=1e-3,
        layer_decay=1.0,
        head_init_scale=1.0,
        drop_path_rate=0.0,
        image_size=options.size,
    )
    keras.utils.set_random_seed(seed)
    model = encoder_of(
        options.size,
        include_top=True,
        classes=len(names),
        classifier_activation=None,
        weights=weights,
    )
    batches = recipe.train_data(
        data.Arrays(images[chosen], labels[chosen]), len(names), seed=seed
    )
    recipe.compile(model, len(batches))
    model.fit(batches, epochs=recipe.epochs, verbose=0)
    scores = model.predict(test[0][: test[2]], verbose=0, batch_size=128)
    return float((scores.argmax(axis=1) == test[1][: test[2]]).mean())


if __name__ == "__main__":
    main()
