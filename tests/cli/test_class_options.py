"""Weights of classes in a file, as the command line takes them."""

import json

import pytest

from keras_convnext.cli.recipe_options import changed
from keras_convnext.training.recipes import small_data

pytestmark = pytest.mark.once


def test_a_file_says_what_classes_weigh(tmp_path):
    path = tmp_path / "weights.json"
    path.write_text('{"fox": 9.5, "über;den\\nWolken": 0}')
    recipe = changed(small_data, {"class_weights": str(path)}, 100)
    assert recipe.class_weights == {"fox": 9.5, "über;den\nWolken": 0}
    settings = json.loads(json.dumps(recipe.class_weights))
    assert settings == recipe.class_weights
    none = changed(recipe, {"class_weights": "none"}, 100)
    assert none.class_weights is None


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "weights.json' (there is no such file)"),
        ("", "weights.json holds no JSON"),
        ("[1, 2]", "weights.json holds a value of list in place of an object"),
        ('{"3": "2"}', "'3' has '2', which is no number"),
        ('{"3": true}', "'3' has True, which is no number"),
        ('{"3": NaN}', "Each of `--class-weights` must be"),
        ('{"3": -1}', "Each of `--class-weights` must be"),
        ("{}", "`--class-weights` must be a dict from names of classes"),
    ],
)
def test_other_files_are_refused(text, message, tmp_path, run_command):
    path = tmp_path / "weights.json"
    if text is not None:
        path.write_text(text)
    status, _, error = run_command(
        *("train", "--data", "digits", "--recipe", "digits", "--dry-run"),
        *("--output", tmp_path / "run", "--class-weights", path),
    )
    assert status == 2 and message in error, error
    assert not (tmp_path / "run").exists()


def test_exponents_have_their_range(tmp_path, run_command):
    for option in ("--class-sampling-exponent", "--class-weight-exponent"):
        status, _, error = run_command(
            *("train", "--data", "digits", "--output", tmp_path / "run"),
            *(option, "1.5"),
        )
        assert status == 2 and f"`{option}` must be" in error
