"""What the tests of training runs share: data, a model, a command."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
from environment import alone
from PIL import Image
from sklearn import datasets
from typer.testing import CliRunner

from keras_convnext import ConvNeXt
from keras_convnext.cli import app
from keras_convnext.data import ImageFolder
from keras_convnext.training import callbacks
from keras_convnext.training.recipes import small_data

SIZE = 16
# Everything that has a state: average, accumulation, drop path, mixing, draws
# of rare classes.
FIELDS = {
    "epochs": 4,
    "warmup_epochs": 1,
    "batch_size": 8,
    "learning_rate": 2e-3,
    "image_size": SIZE,
    "mixup_alpha": 0.8,
    "ema_decay": 0.9,
    "gradient_accumulation_steps": 2,
    "class_sampling_exponent": 0.7,
}
RECIPE = small_data.replace(**FIELDS)
STEPS = 9  # micro-batches of 4 in an epoch of 36 images


def write_photographs(folder, counts=((24, 12), (5, 3))):
    """JPEGs of two classes: so many of each to train, and to validate on."""
    generator = np.random.default_rng(0)
    images = datasets.load_sample_images().images
    for split, of_split in zip(("train", "val"), counts):
        for name, image, count in zip(("china", "flower"), images, of_split):
            target = folder / split / name
            target.mkdir(parents=True)
            for number in range(count):
                top, left = (
                    generator.integers(side - 40) for side in image.shape[:2]
                )
                cut = image[top : top + 40, left : left + 40]
                Image.fromarray(cut).save(target / f"{number}.jpg")
    return folder


def new_model():
    keras.utils.set_random_seed(0)
    return ConvNeXt(
        depths=(1, 1),
        dims=(8, 16),
        input_shape=(SIZE, SIZE, 3),
        classes=2,
        classifier_activation=None,
        drop_path_rate=RECIPE.drop_path_rate,
        name="small",
    )


def shortened(recipe, **values):
    """A recipe for one epoch of small images."""
    return recipe.replace(
        image_size=32, epochs=1, warmup_epochs=0, drop_path_rate=0.1, **values
    )


def splits(folder):
    return ImageFolder(folder / "train"), ImageFolder(folder / "val")


def command(folder, model, output, *more):
    """Arguments of the same run on the command line."""
    options = []
    for name, value in FIELDS.items():
        options += [f"--{name.replace('_', '-')}", str(value)]
    return [
        *("train", "--data", str(folder), "--model", str(model)),
        *("--output", str(output), "--deterministic", *options, *more),
    ]


class Stop(Exception):
    """Stands for whatever ends a process."""


def stop_at(step, monkeypatch):
    """Makes the run raise `Stop` after this step."""
    count = callbacks.Checkpointing.on_train_batch_end

    def stopping(self, batch, logs=None):
        count(self, batch, logs)
        if self.run.step == step:
            raise Stop

    monkeypatch.setattr(callbacks.Checkpointing, "on_train_batch_end", stopping)


def check_equal(found, expected):
    """Compares what `state.capture` returned, bit for bit."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def start(arguments, seconds=0.0, kill_in_save=0):
    """The command in a process that can be killed."""
    script = Path(__file__).with_name("killable_training.py")
    return subprocess.Popen(
        [sys.executable, str(script), str(seconds), str(kill_in_save)]
        + arguments,
        env=alone(keras.backend.backend()),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def invoke(*arguments):
    """The command in this process, and what it printed."""
    return CliRunner().invoke(app, arguments)


def printed(*arguments):
    """What a command that ends well prints."""
    result = invoke(*map(str, arguments))
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def printed_json(*arguments):
    """The same, read as JSON; progress is shown beside it if it takes long."""
    result = invoke(*map(str, arguments))
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


def refused(*arguments):
    """The error that a command ends in."""
    result = invoke(*map(str, arguments))
    assert result.exit_code == 1
    return str(result.exception)


def digits_model(width, classes, seed):
    """A small classifier of 8×8 scans, that learns from random weights."""
    keras.utils.set_random_seed(seed)
    return ConvNeXt(
        (1, 1),
        (width, 2 * width),
        patch_size=1,
        kernel_size=3,
        input_shape=(8, 8, 1),
        classes=classes,
        classifier_activation=None,
        layer_scale_init_value=0.1,
        mean=0.3,
        std=0.35,
    )
