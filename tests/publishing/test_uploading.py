"""Models published to a hub on this machine, which also fails."""

import functools

import huggingface_hub
import keras
import numpy as np
import pytest
from huggingface_hub import ModelCard
from huggingface_hub import constants
from test_publish import new_model
from test_publish import publish

import keras_convnext
from keras_convnext.publishing.hub import NotUploaded
from keras_convnext.publishing.hub import _said

SECRET = "hf_0123456789abcdef"
ADDRESS = "hf://someone/flowers"


@pytest.fixture
def hub(server, monkeypatch):
    """One that takes our token, and large files by itself."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    server.token = SECRET
    return server


@pytest.fixture(scope="module")
def model():
    return new_model()


def content(server, name, file):
    return server.files[f"/{name}/resolve/main/{file}"]


def assert_same_weights(model, loaded):
    for ours, theirs in zip(model.weights, loaded.weights, strict=True):
        ours, theirs = map(keras.ops.convert_to_numpy, (ours, theirs))
        np.testing.assert_array_equal(ours, theirs)


def test_a_repository_is_written_by_one_commit(model, hub, capsys):
    (report,) = publish(model, ADDRESS, "timm", verify=False, private=True)
    assert report.place == ADDRESS
    assert hub.repositories == {"someone/flowers": True}
    files = ["README.md", "config.json", "model.safetensors"]
    assert hub.commits == [("someone/flowers", files)] and report.files == files
    card = ModelCard(content(hub, "someone/flowers", "README.md").decode())
    assert 'timm.create_model("hf-hub:someone/flowers"' in card.text
    assert "# flowers" in card.text
    # As this package loads weights from there.
    loaded = keras_convnext.create_model(
        "test_convnext", weights=ADDRESS, classes=5, input_shape=(64, 64, 3)
    )
    assert_same_weights(model, loaded)
    everything = (
        b"".join(hub.files.values()) + "".join(capsys.readouterr()).encode()
    )
    assert SECRET.encode() not in everything
    assert SECRET not in repr(report)


def test_several_layouts_have_repositories_of_their_own(
    model, hub, monkeypatch
):
    reports = publish(model, ADDRESS, ["timm", "keras"], verify=False)
    names = ["someone/flowers-timm", "someone/flowers-keras"]
    assert [x.place for x in reports] == [f"hf://{x}" for x in names]
    assert [name for name, _ in hub.commits] == names
    card = content(hub, names[1], "README.md").decode()
    assert 'load_model("hf://someone/flowers-keras")' in card
    # The hub's package read its environment when it was imported.
    here = functools.partial(
        huggingface_hub.snapshot_download, endpoint=hub.address
    )
    monkeypatch.setattr(huggingface_hub, "snapshot_download", here)
    loaded = keras.saving.load_model(f"hf://{names[1]}")
    assert_same_weights(model, loaded)
    assert loaded.info == model.info


@pytest.mark.parametrize("refused", ["/lfs/", "/commit/"])
def test_an_interrupted_upload_shows_nothing_and_is_gone_on_with(
    refused, model, hub
):
    hub.refuses = refused
    with pytest.raises(NotUploaded, match="could not be written") as error:
        publish(model, ADDRESS, "timm", verify=False)
    for secret in (SECRET, "very-secret"):
        assert secret not in str(error.value)
    assert error.value.__cause__ is None
    assert (hub.commits, hub.files) == ([], {})
    was_uploaded = bool(hub.blobs)
    assert was_uploaded == (refused == "/commit/")
    hub.refuses = None
    hub.requests.clear()
    publish(model, ADDRESS, "timm", verify=False)
    assert len(hub.commits) == 1
    puts = [path for method, path in hub.requests if method == "PUT"]
    assert len(puts) == (0 if was_uploaded else 1)


def test_without_a_token_or_a_name_nothing_begins(model, hub, monkeypatch):
    with pytest.raises(ValueError, match="hf://owner/name"):
        publish(model, "hf://flowers", verify=False)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/no/such/file")
    with pytest.raises(ValueError, match="run `hf auth login`"):
        publish(model, ADDRESS, verify=False)
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(NotUploaded, match="the token may write"):
        publish(model, ADDRESS, verify=False)
    assert hub.commits == []


@pytest.mark.once
def test_what_signs_an_address_is_not_told():
    error = OSError("PUT http://storage/x?signature=very-secret timed out")
    assert _said(error) == "OSError: PUT http://storage/x timed out"
