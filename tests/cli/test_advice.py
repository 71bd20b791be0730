"""Errors of the library, as the command line tells them."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import keras_convnext
from keras_convnext import cli
from keras_convnext.cli import advice

pytestmark = pytest.mark.once

PACKAGE = Path(keras_convnext.__file__).parent
COMMANDS = {name: cli.command_of(name) for name in cli.COMMANDS}
OPTIONS = {
    name: advice.options_of(command.params)
    for name, command in COMMANDS.items()
}
EVERY = {key: words for x in OPTIONS.values() for key, words in x.items()}
# Arguments that no command has: what is told of them is for Python, where
# they were given, or says what a model was built with.
PYTHON_ONLY = {
    *("axis", "callbacks", "channels", "class_names", "class_weight"),
    *("body", "channels", "class_names", "class_weight", "classes"),
    *("classifier_activation", "include_preprocessing", "include_top"),
    *("input_shape", "layer_prefix", "layer_decay", "loss", "metrics"),
    *("preprocessing", "learning_rate_scales", "from_logits", "input_tensor"),
    *("use_ema", "trainable", "name", "features", "num_classes"),
    "score_threshold",
}


@pytest.mark.parametrize(
    "command, text, expected",
    [
        (
            "train",
            "take `recipe.replace(image_size=64)`",
            "take `--image-size 64`",
        ),
        (
            "train",
            "a smaller batch, `recipe.with_batch_size(8)`",
            "a smaller batch, `--batch-size 8`",
        ),
        ("predict", "Pass `weights=None`, or", "Pass `--weights none`, or"),
        ("predict", "pass `trust=True` (`--trust`)", "pass `--trust`"),
        ("export", "pass `overwrite=True` (`--force`)", "pass `--force`"),
        ("export", "`verify=False` writes it", "`--no-verify` writes it"),
        ("export", "Pass `format=` as one", "Pass `--format` as one"),
        (
            "evaluate",
            "`crop_mode` must be one of ['center']. Received: crop_mode='a'",
            "`--crop-mode` must be one of ['center']. Received: --crop-mode a",
        ),
        (
            "train",
            "Received: crop_scale=(0.35, 1.0), epochs=3",
            "Received: --crop-scale 0.35,1.0, --epochs 3",
        ),
        ("roadmap", "`step` must be. Received: step='a'", None),
        ("explain", "Pass `class_name='a b'`", "Pass `--class 'a b'`"),
        ("convert", "Give its `model` name", "Give its `--model` name"),
        ("records", "`on_error` must", "`--on-error` must"),
        # A word in backquotes that is no option stays.
        ("predict", "in `records.json`, `val` and `loss=3`", ""),
        ("predict", "Received: source of type int, x=1", ""),
        # And so do paths.
        ("train", "Received: 'runs/seed=1/epochs=30/last.keras'", ""),
        ("train", "Received: 'seed=1.keras'", ""),
    ],
)
def test_arguments_become_options(command, text, expected):
    if expected is None:
        expected = "`--step` must be. Received: --step a"
    told = advice.in_options(text, OPTIONS[command])
    assert told == (expected or text)


def texts():
    """Every message of an error in the package, `seed` for what is put in."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and node.exc is not None:
                for text in strings(node.exc):
                    yield path.name, text


def strings(node):
    if isinstance(node, ast.JoinedStr):
        values = (part.value for part in node.values)
        yield "".join(x if isinstance(x, str) else "seed" for x in values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from strings(child)


def test_no_error_advises_a_call_where_there_is_an_option():
    """An argument in any message is an option, or known to be Python's."""
    checked = 0
    for file, text in texts():
        told = advice.in_options(text, EVERY)
        for call in re.findall(r"`[^`]*(?<![-\w])(\w+)=[^`]*`", text):
            assert call in EVERY | advice.ALIASES or call in PYTHON_ONLY, (
                f"{file}: {text}"
            )
            checked += 1
        for left in re.findall(r"`(\w+)=[^`]*`", told):
            assert left in PYTHON_ONLY, f"{file}: {told}"
        assert "`recipe.replace(" not in told, f"{file}: {told}"
    assert checked > 20


def test_errors_keep_their_kind_and_the_systems_their_text(run_command):
    def fails(error):
        def command(weights: str = "none") -> None:
            raise error

        return advice.for_command(command, lambda: {"weights": ("--w", None)})

    with pytest.raises(ImportError, match="pass `--w none`"):
        fails(ImportError("pass `weights=None`"))()
    with pytest.raises(FileNotFoundError) as told:
        fails(FileNotFoundError(2, "none", "`weights`"))()
    assert told.value.errno == 2 and "'`weights`'" in str(told.value)
    wrapped = fails(ValueError())
    assert list(inspect.signature(wrapped).parameters) == ["weights"]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (
            ("predict", "{}", "--model", "convnext_tinny"),
            "Did you mean convnext_tiny .*`--model`.*`keras-convnext models`",
        ),
        (
            ("train", "--data", "digits", "--recipe", "digit", "--output", "x"),
            "Did you mean digits. `--recipe`",
        ),
        (
            ("plan", "--model", "convnext_tinny", "--devices", 8)
            + ("--memory", "8GB"),
            "Did you mean convnext_tiny",
        ),
        (("evaluate", "--data", "digits", "--rule", "imagnet"), "Did you mean"),
        (("roadmap", "--step", "kernel_33"), "Did you mean kernel_"),
        (("convert", "{}", "{}.pth", "--to", "tim"), "Did you mean timm"),
        (
            (
                "export",
                "convnext_tiny",
                "--output",
                "{}.onnx",
                "--format",
                "onx",
            ),
            "Did you mean onnx",
        ),
        (("weights", "convnext_tinny"), "no weights match .*Did you mean"),
        (("models", "convnext_tinny"), "no model matches .*Did you mean"),
    ],
)
def test_suggestions_come_first(arguments, expected, run_command, tmp_path):
    from PIL import Image

    image = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(image)
    status, printed, said = run_command(
        *(str(x).replace("{}", str(image)) for x in arguments)
    )
    assert status in (1, 2) and not printed
    assert re.match(f"keras-convnext: {expected}", said), said
    assert len(said) < 500


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "missing"),
        ("explain", "missing"),
        ("segment", "missing", "--output", "a.png"),
        ("detect", "missing"),
        ("evaluate", "--data", "missing"),
        ("probe", "--data", "missing"),
        ("train", "--data", "missing", "--output", "run"),
        ("records", "missing", "--output", "records"),
        ("roadmap", "--train", "missing"),
        ("convert", "missing.keras", "a.keras"),
        (
            *("export", "convnext_tiny", "--output", "a.onnx"),
            *("--verification-data", "missing"),
        ),
        (
            *("evaluate", "--data", "digits", "--rule", "real"),
            *("--labels", "missing"),
        ),
    ],
)
def test_inputs_are_looked_at_before_models(
    arguments, run_command, tmp_path, monkeypatch
):
    def build(*args, **kwargs):
        raise AssertionError("a model was built")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keras_convnext, "create_model", build)
    status, printed, said = run_command(*arguments)
    assert status in (1, 2) and not printed
    assert "missing" in said
    assert not list(tmp_path.iterdir())
