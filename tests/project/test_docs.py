"""The documentation's code runs as printed, and its commands exist.

The README's on every backend, that of other pages and of docstrings on the one
that compiles nothing: what they use has tests of its own on all three.
"""

import doctest
import functools
import importlib
import inspect
import io
import json
import pkgutil
import re
import shlex
from pathlib import Path

import click
import docs_code
import keras
import notebook_pages
import numpy as np
import pytest
import race
import reference_pictures
import typer
from conftest import short_on
from docs_code import blocks
from hub_server import serve
from PIL import Image
from typer.testing import CliRunner

import keras_convnext
from keras_convnext import cli
from keras_convnext import recipes
from keras_convnext import visualize
from keras_convnext.cli import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
ON_TORCH = keras.backend.backend() == "torch"
if not ON_TORCH:
    PAGES = PAGES[:1]


BY_THE_PAPER = ROOT / "docs" / "how_to" / "train.md"


def section(title, page=ROOT / "README.md"):
    return page.read_text().split(f"## {title}\n")[1].split("\n## ")[0]


# These train in a test of their own; the README's on every backend.
TRAINING = {
    "fine_tune": (section("Fine-tune"), 5),
    "paper": (section("With `fit`", BY_THE_PAPER), 1000),
}


def names(page):
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def hub():
    with serve() as server:
        yield server


@pytest.fixture
def enter(hub, tmp_path, monkeypatch):
    """Makes the world small, with models of the given depths."""
    with docs_code.compiled_soon():
        yield functools.partial(docs_code.enter, hub, tmp_path, monkeypatch)


# It asks a server: test_serving.py runs it beside one.
ASKING = ROOT / "docs" / "how_to" / "serve.md"


@pytest.mark.parametrize(
    "page",
    [x for x in PAGES if blocks(x.read_text(), "python") and x != ASKING],
    ids=names,
)
def test_code_runs(page, enter, monkeypatch):
    enter(docs_code.FLAT if page.name == "README.md" else docs_code.DEEP)
    docs_code.replace_slow(monkeypatch)
    text = page.read_text()
    if "import keras_cv" in text:
        pytest.importorskip("keras_cv", exc_type=ImportError)
    for part, _ in TRAINING.values():
        text = text.replace(part, "")
    known = docs_code.readers_names()
    for code in blocks(text, "python"):
        docs_code.run(code, names(page), known)


@pytest.mark.parametrize(
    "name",
    ["fine_tune", pytest.param("paper", marks=short_on("torch"))],
)
def test_the_training_code_trains(name, enter):
    part, classes = TRAINING[name]
    (snippet,) = blocks(part, "python")
    enter(docs_code.FLAT)
    assert len(snippet.strip().splitlines()) < 10
    known = {**docs_code.readers_names(), "recipes": recipes}
    if classes == 1000:
        known.update(docs_code.readers_data())
    docs_code.run(snippet, "README.md", known)
    loss = known["model"].history.history["loss"]
    assert len(loss) == known["recipe"].epochs
    assert np.isfinite(loss).all()
    assert known["model"].output_shape == (None, classes)


@pytest.mark.once
def test_the_reference_shows_what_is_drawn():
    pages = (ROOT / "docs" / "reference").glob("*.md")
    text = "".join(page.read_text() for page in pages)
    shown = re.findall(r"!\[[^\]]+\]\(pictures/(\w+)\.webp\)", text)
    files = [*(ROOT / "docs" / "reference" / "pictures").iterdir()]
    assert sorted(shown) == sorted(x.stem for x in files)
    assert sum(x.stat().st_size for x in files) < 400_000
    draw = {*visualize.__all__} - {"new_figure", "written_figure"}
    # No notebook has a picture of it yet.
    draw -= {"explanation"}
    assert {*draw, "overlaid", "write_run_report"} <= {*shown}


@pytest.mark.once
def test_pictures_of_the_reference_are_those_of_the_notebooks():
    for name, place in reference_pictures.IN_NOTEBOOKS.items():
        drawn = reference_pictures.cut_out(*place)
        with Image.open(reference_pictures.FOLDER / f"{name}.webp") as file:
            assert file.size == drawn.size, name
            shown = np.asarray(file.convert("RGB"), "float32")
        # WebP changes some pixels.
        assert np.abs(shown - np.asarray(drawn)).mean() < 8, name


def test_every_recipe_is_named():
    text = BY_THE_PAPER.read_text()
    for name in recipes.RECIPES:
        assert f"`{name}`" in text


@pytest.mark.skipif(
    not ON_TORCH,
    reason="test_training_runs and test_evaluate_cli do the same on all",
)
def test_a_folder_is_trained_and_evaluated(enter):
    """The README's two commands, word by word."""
    enter(docs_code.FLAT)
    commands = [
        line.split()[1:]
        for line in section("Fine-tune").splitlines()
        if line.startswith("keras-convnext") and "photos" in line
    ]
    assert [x[0] for x in commands] == ["train", "evaluate"]
    for arguments in commands:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
    assert "top-1" in result.output


TEXTS = {names(page): page.read_text() for page in PAGES}
if ON_TORCH:
    for path in sorted(notebook_pages.NOTEBOOKS.glob("*.ipynb")):
        cells = json.loads(path.read_text())
        TEXTS[names(path)], _ = notebook_pages.page_of(cells, path.stem)
COMMANDS = [
    (name, re.split("  #| > ", line)[0])
    for name, text in TEXTS.items()
    for code in blocks(text, "sh")
    for line in code.replace("\\\n", " ").splitlines()
    if line.startswith("keras-convnext ")
]


@pytest.mark.parametrize("page, line", COMMANDS)
def test_commands_and_options_exist(page, line):
    """Parsed as the shell would, without being run."""
    group = typer.main.get_command(app)
    name, *arguments = shlex.split(line)[1:]
    parent = click.Context(group)
    cli.command_of(name).make_context(name, arguments, parent=parent)


def modules():
    found = [*walked(keras_convnext), *walked(race)]
    return [x.name for x in found if not x.name.endswith("__main__")]


def packages():
    return [x.name for x in walked(keras_convnext) if x.ispkg]


def walked(package):
    return pkgutil.walk_packages(package.__path__, f"{package.__name__}.")


# Their examples print what the architectures' widths make of it.
SHOW_SIZES = (
    "keras_convnext.models.profiling",
    "keras_convnext.models.pyramid",
)


@pytest.mark.skipif(not ON_TORCH, reason="what they show has tests")
@pytest.mark.parametrize("name", modules())
def test_docstring_examples_hold(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    if name not in SHOW_SIZES:
        docs_code.make_narrow(monkeypatch)
    output = io.StringIO()
    runner = doctest.DocTestRunner()
    known = {"keras_convnext": keras_convnext, "keras": keras, "np": np}
    module = importlib.import_module(name)
    for example in doctest.DocTestFinder().find(module, extraglobs=known):
        # All constructors have the same text, and some models are large.
        is_constructor = ".ConvNeXt" in example.name and example.name not in (
            "keras_convnext.models.applications.ConvNeXt",
            "keras_convnext.models.applications.ConvNeXtTiny",
        )
        if not is_constructor or name != "keras_convnext.models.applications":
            runner.run(example, out=output.write)
    assert not runner.failures, output.getvalue()


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


def test_one_page_has_all_names_once():
    text = (ROOT / "docs" / "reference" / "index.md").read_text()
    listed = re.findall(r"\[`(\w+)`\]", text)
    # One stands for all constructors.
    constructors = {
        x for x in keras_convnext.__all__ if x.startswith("ConvNeXt")
    } - {"ConvNeXt", "ConvNeXtModel"}
    assert len(listed) == len(set(listed))
    assert {*listed, *constructors, "__version__"} == {*keras_convnext.__all__}
    assert f"and {len(constructors) - 1} other constructors" in text


def test_the_reference_describes_each_name_once():
    text = "".join(x.read_text() for x in ROOT.glob("docs/reference/*.md"))
    described = re.findall(r"^::: (\S+)", text, re.MULTILINE)
    assert len(described) == len(set(described)) > 100


def public_modules():
    """The package, and whatever in it says by `__all__` what is public."""
    modules = [keras_convnext, *map(importlib.import_module, packages())]
    return [module for module in modules if hasattr(module, "__all__")]


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
