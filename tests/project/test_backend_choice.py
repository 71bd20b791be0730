"""Keras starts on the backend that is there, or on the one that was chosen."""

import json
import os
import sys

import pytest

from keras_convnext._util import backend_choice

pytestmark = pytest.mark.once


@pytest.fixture
def chosen(monkeypatch, tmp_path):
    """Returns a function from what is installed to what is chosen."""
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def choose(*installed):
        monkeypatch.setattr(
            backend_choice, "find_spec", lambda name: name in installed or None
        )
        backend_choice.choose()
        return os.environ.get("KERAS_BACKEND")

    return choose


def test_keras_decides_where_it_can(chosen):
    assert chosen("tensorflow", "jax", "torch") is None


@pytest.mark.parametrize(
    "installed, expected",
    [(("torch",), "torch"), (("jax",), "jax"), (("jax", "torch"), "jax")],
)
def test_without_tensorflow_another_is_taken(chosen, installed, expected):
    assert chosen(*installed) == expected


def test_the_user_decides_first(chosen, monkeypatch, tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    assert chosen("jax", "torch") is None
    (tmp_path / "keras.json").write_text('{"backend": "tensorflow"}')
    assert chosen("jax", "torch") == "jax"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert chosen("jax", "torch") == "torch"


@pytest.mark.parametrize("text", ["", "{}", "{"])
def test_damaged_settings_are_no_choice(chosen, text, tmp_path):
    (tmp_path / "keras.json").write_text(text)
    assert chosen("torch") == "torch"


# Keras would end with an AttributeError, or with many lines.
@pytest.mark.parametrize("text", ["[]", "3", '"torch"'])
def test_settings_of_another_kind_name_their_file(chosen, text, tmp_path):
    (tmp_path / "keras.json").write_text(text)
    with pytest.raises(ValueError, match="JSON object.*keras.json"):
        chosen("torch")


@pytest.mark.parametrize("name", ["foo", "Torch", "pytorch", "tf"])
def test_an_unknown_backend_is_told_where_it_is_set(
    chosen, name, monkeypatch, tmp_path
):
    expected = "must be tensorflow, jax or torch. Received: .*Installed: torch"
    (tmp_path / "keras.json").write_text(json.dumps({"backend": name}))
    with pytest.raises(ValueError, match=f"keras.json.*{expected}"):
        chosen("torch")
    monkeypatch.setenv("KERAS_BACKEND", name)
    with pytest.raises(ValueError, match=f"KERAS_BACKEND {expected}"):
        chosen("torch")


def test_a_backend_that_is_not_installed_is_told(chosen, monkeypatch, tmp_path):
    expected = r"keras-convnext\[jax\].*Installed: tensorflow, torch"
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    with pytest.raises(ImportError, match=f"keras.json.*{expected}"):
        chosen("tensorflow", "torch")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(ImportError, match=expected):
        chosen("tensorflow", "torch")


def test_no_backend_is_an_error_that_helps(chosen):
    with pytest.raises(ImportError, match=r"keras-convnext\[torch\]"):
        chosen()
