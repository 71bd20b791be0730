"""Draws the picture of the landing page: `docs/landing.png`.

Trains three small models on composed pictures of emoji, about twelve minutes of
one CPU core, and draws what each says of pictures that it has not seen.

    export KERAS_BACKEND=torch PYTHONPATH=notebooks:tests
    python conversion/draw_pictures.py [--models FOLDER]

Models that are in FOLDER are not trained again.
"""

import argparse
import tempfile
from pathlib import Path

import dense_models
import keras
import numpy as np
from composed_emoji import CLASSES
from composed_emoji import compose_emoji
from composed_emoji import write_coco
from matplotlib import rc_context
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from keras_convnext import ConvNeXt
from keras_convnext import detection
from keras_convnext import optimizers
from keras_convnext import segmentation
from keras_convnext import visualize
from keras_convnext.data import read_coco

PICTURE = Path(__file__).parent.parent / "docs" / "landing.png"
SIZE = dense_models.SIZE
COUNT, EPOCHS = 4000, 2
SINGLE, SEVERAL = 6, 9  # seeds of the pictures that are shown
COLORS = [to_rgb(x) for x in ("#e91e63", "#2196f3", "#ff9800", "#4caf50")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path)
    folder = parser.parse_args().models
    with tempfile.TemporaryDirectory() as empty:
        models = trained(folder or Path(empty))
        draw(models)
    print(f"wrote {PICTURE}")


def trained(folder):
    """The three models, from the folder if they are there."""
    folder.mkdir(exist_ok=True)
    for name, train in TRAINED.items():
        path = folder / f"{name}.keras"
        if not path.exists():
            print(f"training the {name}", flush=True)
            train(folder).save(path)
    return {
        name: keras.saving.load_model(folder / f"{name}.keras")
        for name in TRAINED
    }


def segmenter(folder):
    train, _ = compose_emoji(COUNT, 1, SIZE)
    model = dense_models.segmenter(["ground", *CLASSES])
    dense_models.train_segmenter(model, train, EPOCHS)
    return model


def classifier(folder):
    """Starts from the backbone of the segmenter."""
    train, _ = compose_emoji(COUNT, 1, SIZE, signs=1)
    model = ConvNeXt(
        (2, 2, 2, 2),
        (32, 64, 128, 128),
        weights=folder / "segmenter.keras",
        classes=list(CLASSES),
        input_shape=(SIZE, SIZE, 3),
    )
    batch_size, epochs = 16, 3 * EPOCHS
    steps = epochs * COUNT // batch_size
    model.compile(
        optimizers.AdamW(
            optimizers.WarmupCosine(1e-3, steps // 10, steps),
            global_clipnorm=1.0,
        ),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    labels = train.classes[:, 0]
    model.fit(train.images, labels, batch_size, epochs, verbose=2)
    return model


def detector(folder):
    train, _ = compose_emoji(COUNT, 1, SIZE)
    with tempfile.TemporaryDirectory() as images:
        source = read_coco(write_coco(train, Path(images) / "train"))
        model = dense_models.mask_rcnn(CLASSES, SIZE)
        dense_models.train_mask_rcnn(model, source, SIZE, EPOCHS)
    return model


TRAINED = {
    "segmenter": segmenter,
    "classifier": classifier,
    "detector": detector,
}


def draw(models):
    _, single = compose_emoji(1, 1, SIZE, signs=1, seed=SINGLE)
    _, several = compose_emoji(1, 1, SIZE, seed=SEVERAL)
    with rc_context({"font.size": 9}):
        figure = visualize.new_figure(figsize=(11, 3.4), layout="constrained")
        axes = figure.subplots(1, 4)
        draw_scores(axes[0], models["classifier"], single.images[0])
        draw_heat(axes[1], models["classifier"], single.images[0])
        draw_objects(axes[2], models["detector"], several.images[0])
        draw_pixels(axes[3], models["segmenter"], several.images[0])
        for ax in axes:
            ax.set_axis_off()
        figure.savefig(PICTURE, dpi=110)


def show(ax, image, title):
    ax.imshow(image, interpolation="bilinear")
    ax.set_title(title)


def draw_scores(ax, model, image):
    """The image, and bars of its best classes at its top."""
    scores = model.predict(image[None], verbose=0)[0]
    show(ax, image, "Predict")
    for line, number in enumerate(np.argsort(-scores)[:3]):
        top = SIZE * 0.08 * line
        box = {"edgecolor": "none", "linewidth": 0}
        ax.add_patch(
            Rectangle((0, top), SIZE, SIZE * 0.08, facecolor="#000a", **box)
        )
        width = SIZE * scores[number]
        ax.add_patch(
            Rectangle((0, top), width, SIZE * 0.08, facecolor="#009688", **box)
        )
        text = f"{CLASSES[number]} {scores[number]:.0%}"
        ax.text(2, top + SIZE * 0.045, text, color="white", va="center")


def draw_heat(ax, model, image):
    # Of 6x6 places: the last stage has 3x3.
    maps, (number,) = visualize.grad_cam(
        model, image[None], layer="stage_2_block_1_add"
    )
    show(ax, image, f"See the evidence for {CLASSES[number]}")
    ax.imshow(maps[0], cmap="inferno", alpha=0.75 * maps[0])


def draw_objects(ax, model, image):
    found = detection.detect(model, image, score=0.5)
    show(ax, image, "Detect")
    rows = zip(found.masks, found.boxes, found.names, found.scores)
    for color, (mask, box, name, score) in zip(COLORS, rows):
        overlay = np.concatenate(
            [np.broadcast_to(color, (*mask.shape, 3)), mask[..., None] * 0.5],
            axis=-1,
        )
        ax.imshow(overlay, interpolation="nearest")
        left, top, right, bottom = box
        ax.add_patch(
            Rectangle(
                (left, top),
                right - left,
                bottom - top,
                fill=False,
                edgecolor=color,
                linewidth=2,
            )
        )
        ax.text(
            left,
            top,
            f"{name} {score:.0%}",
            color="white",
            va="bottom",
            bbox={"facecolor": color, "edgecolor": "none", "pad": 1.5},
        )


def draw_pixels(ax, model, image):
    labels = segmentation.segment(model, image)
    classes = len(CLASSES) + 1
    labels = np.where(labels == 0, 255, labels)  # the ground stays as it is
    show(ax, segmentation.overlaid(image, labels, classes, 0.75), "Segment")


if __name__ == "__main__":
    main()
