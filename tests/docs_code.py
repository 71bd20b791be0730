"""A world in which the documentation's code runs as it is printed.

No letter of a page is changed: what it names is made small instead. The
architectures are narrow, recipes take small images for one epoch, and
published weights are random ones, on a hub on this machine.
"""

import contextlib
import functools
import inspect
import re
import textwrap

import keras
import numpy as np
import object_files
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.numpy import save as to_safetensors
from sklearn.datasets import load_sample_images

import keras_convnext
from keras_convnext import detection
from keras_convnext import pretraining
from keras_convnext import recipes
from keras_convnext import segmentation
from keras_convnext.artifacts.acceleration import racing
from keras_convnext.facts.layer_names import Part
from keras_convnext.tasks.detection import construction
from keras_convnext.tasks.segmentation import upernet
from keras_convnext.weights import layouts
from keras_convnext.weights import registry

try:
    import keras_cv
except ImportError:  # keras-cv 0.9, the last one, with Keras 3.16
    keras_cv = None

DIMS = (8, 16, 24, 32)
# The README names no block.
FLAT = (1, 1, 1, 1)
# As deep as the blocks that other pages name.
DEEP = (1, 3, 5, 1)
# The checkpoints that pages name, by model and tag.
PUBLISHED = (
    ("convnext_tiny", "fb_in1k"),
    ("convnext_tiny", "fb_in22k"),
    ("convnext_tiny", "fb_in22k_ft_in1k_384"),
    ("convnext_tiny_hnf", "a2h_in1k"),
    ("convnext_base", "dinov3_lvd1689m"),
)
SHORT = {"image_size": 32, "epochs": 1, "warmup_epochs": 0}
SMALL = (
    (recipes.imagenet1k, SHORT),
    (recipes.small_data, {**SHORT, "batch_size": 8}),
    (recipes.multi_label, {**SHORT, "batch_size": 8}),
    (recipes.regression, {**SHORT, "batch_size": 8}),
    (segmentation.ade20k, {"crop": 64}),
    (pretraining.v2_pretrain, {"image_size": 64}),
)
# Slow whatever the model's size. They take the arguments and do nothing.
HAVE_TESTS_OF_THEIR_OWN = (
    (keras_convnext, "publish"),
    # Each format has a runtime to start: test_export.py.
    (keras_convnext, "export"),
    # test_training_runs.py, and the folder's test of test_docs.py.
    (keras_convnext, "train"),
    # 20 epochs, which two backends would compile: test_upernet.py.
    (segmentation.SegmentationModel, "fit"),
    # test_detection_training.py.
    (detection.DetectionModel, "fit"),
    # test_detector_runs.py.
    (detection, "train"),
    # test_pretraining_runs.py.
    (pretraining, "train"),
    (pretraining.MaskedAutoencoder, "fit"),
    # All devices of a job must be there: test_distribution.py.
    (keras_convnext.distribution, "setup"),
)
if keras_cv:
    # keras-cv's heads have millions of weights: test_keras_cv.py.
    RETINANET = keras_cv.models.RetinaNet
    HAVE_TESTS_OF_THEIR_OWN += ((RETINANET, "fit"), (RETINANET, "predict"))
DETECTORS = {"CHANNELS": 16, "UNITS": 16, "SHORT_SIDE": 64}
# Heights, widths and objects of images, see object_files.py.
OBJECTS = {
    f"{i}.png": (48, 48, [(i % 2, (4, 6, 40, 44), True)]) for i in range(6)
}
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def blocks(text, language):
    """Those of one language, also from within tabs."""
    found = BLOCK.findall(text)
    return [textwrap.dedent(code) for kind, code in found if kind == language]


def run(code, page, names):
    exec(compile(code, page, "exec"), names)


def enter(server, folder, monkeypatch, depths):
    """The folder is that of a reader with photographs and weights."""
    make_small(monkeypatch, depths)
    use_hub(server, folder, monkeypatch, depths)
    write_files(folder, depths)
    # Random weights for the published detectors', whose names have tests.
    find = construction.weights_module.find
    monkeypatch.setattr(
        construction.weights_module,
        "find",
        lambda variant, weights, task: (
            None if weights == "coco" else find(variant, weights, task)
        ),
    )
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "agg")
    for name in ("PAUSE_SECONDS", "BLOCK_SECONDS"):  # of a race
        monkeypatch.setattr(racing, name, 0.0)


@contextlib.contextmanager
def compiled_soon():
    """What runs for milliseconds is not worth the optimizations of XLA."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def make_narrow(monkeypatch):
    """Changed in place: every module has its own reference to a record."""
    for variant in keras_convnext.VARIANTS.values():
        dims = DIMS[: len(variant.dims)]
        monkeypatch.setitem(vars(variant), "dims", dims)
    monkeypatch.setattr(upernet, "CHANNELS", 16)
    for name, value in DETECTORS.items():
        monkeypatch.setattr(construction, name, value)


def make_small(monkeypatch, depths):
    make_narrow(monkeypatch)
    for variant in keras_convnext.VARIANTS.values():
        stages = len(variant.depths)
        monkeypatch.setitem(vars(variant), "depths", depths[:stages])
        # XLA compiles a product for each position of a kernel.
        monkeypatch.setitem(vars(variant), "kernel_sizes", (1,) * stages)
    for recipe, figures in SMALL:
        for name, value in figures.items():
            monkeypatch.setitem(vars(recipe), name, value)


def replace_slow(monkeypatch):
    for owner, name in HAVE_TESTS_OF_THEIR_OWN:
        monkeypatch.setattr(owner, name, bound(getattr(owner, name)))


def bound(function):
    """Takes what the function takes, and does nothing."""
    signature = inspect.signature(function)
    return lambda *args, **kwargs: signature.bind(*args, **kwargs)


def use_hub(server, folder, monkeypatch, depths):
    """Published weights come from the server, and from nowhere else."""
    server.files.clear()
    for name, tag in PUBLISHED:
        checkpoint = registry.find(name, tag)
        content = to_safetensors(weights_of(name, checkpoint.classes, depths))
        files = {"model.safetensors": content}
        server.add_repository(checkpoint.hub_repository, files)
        if tag == "fb_in1k":
            server.add_repository("someone/their-convnext", files, "v2")
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("KERAS_HOME", str(folder / "keras"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def weights_of(name, classes, depths):
    """Random ones in timm's names: the architectures differ by theirs only."""
    tensors = dict(trunk(depths))
    if classes:
        shape = (DIMS[-1], classes)
        kernel = np.random.default_rng(0).normal(0, 0.02, shape)
        tensors[f"{Part.HEAD_CLASSIFIER}/kernel"] = kernel.astype("float32")
        tensors[f"{Part.HEAD_CLASSIFIER}/bias"] = np.zeros(classes, "float32")
    return layouts.to_layout(tensors, "timm", keras_convnext.VARIANTS[name])


@functools.cache
def trunk(depths):
    model = keras_convnext.ConvNeXt(
        depths, DIMS, include_top=False, kernel_size=1
    )
    return {
        f"{layer.name}/{variable.name}": keras.ops.convert_to_numpy(variable)
        for layer in model.layers
        for variable in layer.weights
    }


def write_files(folder, depths):
    photograph = Image.fromarray(load_sample_images().images[0])
    photograph.resize((64, 64)).save(folder / "cat.jpg")
    for name, count in (("photos", 10), ("other_photos", 2)):
        for label in ("cat", "dog"):
            of_class = folder / name / label
            of_class.mkdir(parents=True)
            for number in range(count):
                path = of_class / f"{number}.jpg"
                photograph.resize((40, 40)).save(path)
    object_files.write_coco(folder / "objects", images=OBJECTS)
    theirs = weights_of("convnext_tiny", 1000, depths)
    state = {name: torch.from_numpy(x) for name, x in theirs.items()}
    torch.save(state, folder / "their_checkpoint.pth")


def readers_names():
    """What a page says that the reader has."""
    images, labels = pixels(8, 40), np.arange(8) % 5
    return {
        "keras_convnext": keras_convnext,
        "images": images,
        "labels": labels,
        "names": ["ant", "bee", "cat", "dog", "elk"],
        "test_images": images,
        "test_labels": labels,
        "pictures": pixels(2, 64),
        "masks": np.zeros((2, 64, 64), "int32"),
        "boxes": np.array([[[4, 4, 40, 40]], [[8, 8, 50, 50]]], "float32"),
        "classes": np.array([[0], [1]], "float32"),
    }


def readers_data():
    """The pairs of arrays of the README's paper recipe, which batches 256."""
    return {
        "train_images": (pixels(256, 40), np.arange(256)),
        "test_images": (pixels(8, 40), np.arange(8)),
    }


def pixels(count, side):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, side, side, 3), "uint8")
