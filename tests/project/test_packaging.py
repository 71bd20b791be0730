"""What is built for PyPI: it installs, works, and holds what belongs in it."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import keras
import pytest

import keras_convnext

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="the same on every backend"
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The files of the repository as a wheel and a source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    # In place, setuptools would leave its own files behind.
    copy = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    script = (
        "from setuptools import build_meta as backend\n"
        f"print(backend.build_wheel({str(folder)!r}))\n"
        f"print(backend.build_sdist({str(folder)!r}))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=copy, check=True)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def test_the_wheel_holds_the_package_alone(built):
    with zipfile.ZipFile(built[0]) as wheel:
        held = set(wheel.namelist())
    tops = {name.split("/")[0] for name in held}
    version = keras_convnext.__version__
    assert tops == {"keras_convnext", f"keras_convnext-{version}.dist-info"}
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "keras_convnext").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package <= held


def test_the_source_builds_and_holds_no_outputs(built):
    with tarfile.open(built[1]) as archive:
        held = ["/".join(x.split("/")[1:]) for x in archive.getnames()]
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        assert name in held
    assert not [x for x in held if x.startswith((".venv", "site/", "build/"))]


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The wheel in an empty folder, beside what it depends on."""
    target = tmp_path_factory.mktemp("installed")
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [sys.executable, *pip, "--target", target, built[0]], check=True
    )
    return target


def test_the_wheel_works_where_nothing_else_of_it_is(installed, tmp_path):
    script = (
        "import keras_convnext, numpy\n"
        "model = keras_convnext.create_model('test_convnext', weights=None)\n"
        "size = model.input_shape[1:]\n"
        "print(model.predict(numpy.zeros((1, *size)), verbose=0).shape)\n"
        "print(len(keras_convnext.weights.registry.checkpoints()))\n"
        "print(keras_convnext.__file__)"
    )
    result = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    shape, count, file = result.stdout.strip().split("\n")[-3:]
    assert shape == "(1, 1000)" and int(count) > 100
    assert Path(file).is_relative_to(installed)
    command = installed / "bin" / "keras-convnext"
    assert command.exists()


# Every line that a type checker must refuse says so.
USERS_CODE = """
import keras_convnext
from keras_convnext.data import open_splits
from keras_convnext.training.recipes import small_data

model = keras_convnext.ConvNeXtTiny(weights=None, drop_path_rate=0.1)
keras_convnext.ConvNeXtTiny(weights=None, drop_path_rate="x")  # wrong
keras_convnext.ConvNeXtTiny(weights=None, no_such_argument=1)  # wrong
named = keras_convnext.create_model("convnext_atto", weights=None, classes=5)
keras_convnext.create_model(5)  # wrong
widths = named.variant.dims[0] + named.preprocessing.image_size[0]
image = keras_convnext.load_image_for(named.preprocessing, "cat.jpg")
image = keras_convnext.load_image("cat.jpg", 224)
keras_convnext.load_image("cat.jpg", "224")  # wrong
data, validation = open_splits("photos")
recipe = small_data.replace(epochs=5)
result = keras_convnext.train(model, recipe, data, "run", validation)
print(result["best"], recipe.epochs * 2)
keras_convnext.train(model, recipe, "photos", "run")  # wrong
report = keras_convnext.export(model, "model.onnx", verbose=False)
keras_convnext.export(model, "model.onnx", quantization=8)  # wrong
"""


@pytest.mark.long
def test_type_checkers_see_the_users_mistakes(installed, tmp_path):
    file = tmp_path / "users.py"
    file.write_text(USERS_CODE)
    settings = ["--config-file", ROOT / "pyproject.toml"]
    cache = ["--cache-dir", tmp_path / "cache"]
    result = subprocess.run(
        [sys.executable, "-P", "-m", "mypy", *settings, *cache, file],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    found = re.findall(r"users.py:(\d+): error", result.stdout)
    lines = enumerate(USERS_CODE.split("\n"), start=1)
    wrong = [str(i) for i, line in lines if line.endswith("# wrong")]
    assert sorted(set(found), key=int) == wrong, result.stdout + result.stderr


def test_the_oldest_versions_are_those_that_are_tried():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tried = (ROOT / "constraints-oldest.txt").read_text()
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)$", tried, re.MULTILINE))
    extras = project["optional-dependencies"]
    promised = [*project["dependencies"], *sum(extras.values(), [])]
    lowest = dict(
        re.match(r"([\w-]+)>=([\d.]+)", x).groups()
        for x in promised
        if ">=" in x and not x.startswith("setuptools")
    )
    assert lowest
    for name, version in lowest.items():
        pin = pinned[name].split(".")
        assert pin[: version.count(".") + 1] == version.split("."), name
        assert not set("".join(pin[version.count(".") + 1 :])) - {"0"}, name
