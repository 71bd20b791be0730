"""The main job: a small ConvNeXt learns to read handwritten digits.

Expected on 2 CPU cores: at least 97 % of the held-out scans right, in less
than three minutes on any backend, compilation included.
"""

import math
import os
import sys
from pathlib import Path

import keras
import numpy as np

from keras_convnext.applications import ConvNeXt
from keras_convnext.data import array_batches
from keras_convnext.data import load_digits

CLASSES = 10
BATCH_SIZE = 32
PEAK_LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.1


def run_demo(output="demo_output", epochs=25, seed=0):
    """Trains on the digits, and writes a model and a picture.

    Args:
        output: folder for `digits.keras` and `digits.png`.
        epochs: passes over the 1438 training scans, at least 1.
        seed: int; the same seed gives the same model on the same machine.

    Returns:
        A dict with `accuracy` (0–1, on the 359 held-out scans), the paths
        `model` and `picture`, and the Keras `history`.

    Raises:
        ValueError: if `epochs` is below 1.
        ImportError: if scikit-learn or matplotlib is not installed.

    Example:

    >>> result = keras_convnext.demo.run_demo(epochs=25)  # doctest: +SKIP
    >>> result["accuracy"] > 0.97  # doctest: +SKIP
    True
    """
    if epochs < 1:
        raise ValueError(
            f"`epochs` must be at least 1. Received: epochs={epochs}"
        )
    plt = _pyplot()
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    make_repeatable(seed)

    (train_images, train_labels), (test_images, test_labels) = load_digits()
    train = array_batches(
        train_images,
        keras.utils.to_categorical(train_labels, CLASSES),
        BATCH_SIZE,
        shuffle=True,
        seed=seed,
    )
    test = array_batches(
        test_images,
        keras.utils.to_categorical(test_labels, CLASSES),
        BATCH_SIZE,
    )
    steps = epochs * math.ceil(len(train_images) / BATCH_SIZE)
    model = build_model(train_images)
    compile_model(model, steps)
    history = model.fit(
        train,
        validation_data=test,
        epochs=epochs,
        shuffle=False,  # `train` does, repeatably
        verbose=1 if sys.stdout.isatty() else 2,
    )

    logits = model.predict(test_images, batch_size=BATCH_SIZE, verbose=0)
    predictions = logits.argmax(axis=-1)
    picture = draw(plt, history.history, test_images, test_labels, predictions)
    return {
        "accuracy": float(np.mean(predictions == test_labels)),
        "model": _write(output / "digits.keras", model.save),
        "picture": _write(
            output / "digits.png", lambda path: picture.savefig(path, dpi=120)
        ),
        "history": history.history,
    }


def build_model(images):
    """A ConvNeXt for 8×8 scans: no downsampling in the stem, two stages.

    Layer scale starts at 0.1: from the paper's 1e-6 a run of some hundred
    steps would hardly use its blocks.
    """
    pixels = images / 255
    model = ConvNeXt(
        depths=(2, 2),
        dims=(32, 64),
        patch_size=1,
        kernel_size=(5, 3),
        layer_scale_init_value=0.1,
        drop_path_rate=0.1,
        input_shape=(8, 8, 1),
        classes=CLASSES,
        classifier_activation=None,
        mean=pixels.mean(),
        std=pixels.std(),
        name="digits",
    )
    model.class_names = range(CLASSES)
    return model


def compile_model(model, steps):
    """AdamW without decay on norms and biases, warm-up, then cosine."""
    warmup_steps = steps // 10
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps=steps - warmup_steps,
        warmup_target=PEAK_LEARNING_RATE,
        warmup_steps=warmup_steps,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=LABEL_SMOOTHING
        ),
        metrics=["accuracy"],
    )


def make_repeatable(seed):
    """Same seed, same model: also with TensorFlow's parallel kernels."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def draw(plt, history, images, labels, predictions, rows=5, columns=8):
    """Learning curves beside held-out scans with what the model read.

    The first scans are its mistakes, in red.
    """
    figure = plt.figure(figsize=(13, 5.2), layout="constrained")
    curves, grid = figure.subfigures(1, 2, width_ratios=[1, 1.2])
    loss, accuracy = curves.subplots(2, 1, sharex=True)
    epochs = np.arange(1, len(history["loss"]) + 1)
    for axis, metric in ((loss, "loss"), (accuracy, "accuracy")):
        axis.plot(epochs, history[metric], label="training")
        axis.plot(epochs, history[f"val_{metric}"], label="held out")
        axis.set_ylabel(metric)
        axis.grid(alpha=0.3)
    loss.legend()
    accuracy.set_xlabel("epoch")
    right = predictions == labels
    curves.suptitle(f"{right.mean():.1%} of held-out scans read correctly")

    order = np.argsort(right, kind="stable")[: rows * columns]
    grid.suptitle("held-out scans: read digit (true digit if wrong)")
    for axis, index in zip(grid.subplots(rows, columns).flat, order):
        axis.imshow(images[index, ..., 0], cmap="gray_r")
        axis.set_axis_off()
        title, colour = str(predictions[index]), "green"
        if not right[index]:
            title, colour = f"{title} ({labels[index]})", "red"
        axis.set_title(title, color=colour, fontsize=10)
    return figure


def _pyplot():
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "The demo draws with matplotlib, which is not installed. Run "
            '`pip install "keras-convnext[demo]"`.'
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _write(path, write):
    """Writes under another name first: what stands at `path` is whole."""
    unfinished = path.with_name(f"unfinished_{path.name}")
    try:
        write(str(unfinished))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
