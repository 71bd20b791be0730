"""The documentation's code runs, page by page, and its commands exist.

The README's on every backend, that of other pages and of docstrings on the one
that compiles nothing: what they use has tests of its own on all three.
"""

import doctest
import importlib
import inspect
import io
import pkgutil
import re
import shlex
from pathlib import Path

import click
import keras
import keras_cv
import numpy as np
import pytest
import typer
from PIL import Image
from runs import shortened
from sklearn.datasets import load_sample_images

import keras_convnext
from keras_convnext import recipes
from keras_convnext.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
if keras.backend.backend() != "torch":
    PAGES = PAGES[:1]
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
# Published files cannot be reached, and large models take their time.
REPLACED = (
    (r'weights="[a-z0-9_]+"', "weights=None"),
    (r"weights=\"(hf:|their|theirs)[^\"]*\"", "weights=None"),
    (r"\b(ConvNeXt)(Tiny|Base)\b", r"\1Atto"),
    (r'"convnext_tiny\w*"', '"convnext_atto"'),
    (r"(Atto\(weights=None, classes=5)", r"\1, input_shape=(32, 32, 3)"),
    (r"stage_2_block_7|stage_2_block_4", "stage_2_block_3"),
    (r"stage_1_block_2", "stage_1_block_1"),
    (r"classes=21, weights=None", "classes=21, channels=16, crop=64"),
)
HAVE_TESTS_OF_THEIR_OWN = (
    (keras_convnext, "export"),
    (keras_convnext, "train"),
    (keras_cv.models.RetinaNet, "fit"),
    (keras_cv.models.RetinaNet, "predict"),
    (keras_convnext.segmentation.SegmentationModel, "fit"),
)


def blocks(page, language):
    text = page.read_text()
    if page.stem == "distributed" and language == "python":
        return []  # takes the processes that tests/test_distribution.py starts
    if page.name == "README.md":  # test_readme.py has it
        text = re.sub(r"## Train\n.*?\n## ", "## ", text, flags=re.DOTALL)
    return [code for kind, code in BLOCK.findall(text) if kind == language]


def names(page):
    return str(page.relative_to(ROOT))


def bound(function):
    """Takes what the function takes, and does nothing."""
    signature = inspect.signature(function)
    return lambda *args, **kwargs: signature.bind(*args, **kwargs)


@pytest.mark.parametrize(
    "page", [x for x in PAGES if blocks(x, "python")], ids=names
)
def test_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photograph = Image.fromarray(load_sample_images().images[0])
    photograph.save("cat.jpg")
    for name in ("cat", "dog"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(20):
            photograph.resize((40, 40)).save(folder / f"{number}.jpg")
    for name in ("small_data", "imagenet1k"):
        small = shortened(getattr(recipes, name), batch_size=8)
        monkeypatch.setattr(recipes, name, small)
    for owner, name in HAVE_TESTS_OF_THEIR_OWN:
        slow = getattr(owner, name)
        monkeypatch.setattr(owner, name, bound(slow))
    images = np.zeros((16, 40, 40, 3), "uint8")
    labels = np.arange(16) % 5
    known = {
        "keras_convnext": keras_convnext,
        "images": images,
        "labels": labels,
        "test_images": images[:8],
        "test_labels": labels[:8],
        "pictures": np.zeros((2, 64, 64, 3), "uint8"),
        "masks": np.zeros((2, 64, 64), "int32"),
        "boxes": np.array([[[4, 4, 40, 40]], [[8, 8, 50, 50]]], "float32"),
        "classes": np.array([[0], [1]], "float32"),
    }
    for code in blocks(page, "python"):
        for pattern, small in REPLACED:
            code = re.sub(pattern, small, code)
        if "class_names = " in code:
            known["model"] = keras_convnext.ConvNeXtAtto(
                weights=None, classes=2
            )
        exec(code, known)


COMMANDS = [
    (names(page), line.split("  #")[0])
    for page in PAGES
    for code in blocks(page, "sh")
    for line in code.replace("\\\n", " ").splitlines()
    if line.startswith("keras-convnext ")
]


@pytest.mark.parametrize("page, line", COMMANDS)
def test_commands_and_options_exist(page, line):
    """Parsed as the shell would, without being run."""
    group = typer.main.get_command(app)
    name, *arguments = shlex.split(line)[1:]
    command = group.commands[name]
    command.make_context(name, arguments, parent=click.Context(group))


def modules():
    found = pkgutil.walk_packages(keras_convnext.__path__, "keras_convnext.")
    return [x.name for x in found if not x.name.endswith("__main__")]


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="what they show has tests"
)
@pytest.mark.parametrize("name", modules())
def test_docstring_examples_hold(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    printed = io.StringIO()
    runner = doctest.DocTestRunner()
    known = {"keras_convnext": keras_convnext, "keras": keras, "np": np}
    module = importlib.import_module(name)
    for example in doctest.DocTestFinder().find(module, extraglobs=known):
        # All constructors have the same text, and some models are large.
        is_constructor = ".ConvNeXt" in example.name and example.name not in (
            "keras_convnext.applications.ConvNeXt",
            "keras_convnext.applications.ConvNeXtTiny",
        )
        if not is_constructor or name != "keras_convnext.applications":
            runner.run(example, out=printed.write)
    assert not runner.failures, printed.getvalue()


def test_every_public_name_is_in_the_reference():
    text = "".join(x.read_text() for x in ROOT.glob("docs/reference/*.md"))
    documented = set(re.findall(r"::: keras_convnext\.(?:\w+\.)?(\w+)", text))
    public = {
        name
        for module in public_modules()
        for name in module.__all__
        if inspect.isroutine(value := getattr(module, name))
        or inspect.isclass(value)
    }
    # One stands for all constructors, which have the same arguments.
    public -= {x for x in public if x.startswith("ConvNeXt")}
    assert public <= documented


def public_modules():
    packages = [
        importlib.import_module(f"keras_convnext.{x.name}")
        for x in pkgutil.iter_modules(keras_convnext.__path__)
        if x.ispkg
    ]
    found = (keras_convnext, keras_convnext.layers, *packages)
    # The benchmark is a command.
    return [
        module
        for module in found
        if hasattr(module, "__all__") and module is not keras_convnext.benchmark
    ]


def public_functions():
    """Names and functions of every `__all__`, with the classes' methods."""
    for module in public_modules():
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value):
                yield from methods_of(value)
            elif inspect.isfunction(value):
                yield name, value


def methods_of(cls):
    """Those of a class and its bases that Keras neither made nor asked for."""
    ours = [x for x in cls.__mro__ if x.__module__.startswith("keras_convnext")]
    kerass = [x for x in cls.__mro__ if x.__module__.startswith("keras.")]
    imposed = {name for base in kerass for name in vars(base)} - {"__init__"}
    for base in ours:
        for name, value in vars(base).items():
            value = getattr(value, "fget", None) or value  # a property's
            is_public = name == "__init__" or not name.startswith("_")
            if is_public and inspect.isfunction(value) and name not in imposed:
                yield f"{base.__name__}.{name}", value


def test_public_functions_are_annotated():
    missing = set()
    for name, function in public_functions():
        signature = inspect.signature(function)
        bare = {
            x.name
            for x in signature.parameters.values()
            if x.annotation is x.empty
        } - {"self"}
        is_maker = name.endswith("__init__")
        if signature.return_annotation is signature.empty and not is_maker:
            bare.add("return")
        if bare:
            missing.add(f"{name}: {', '.join(sorted(bare))}")
    assert not missing, "\n".join(sorted(missing))
