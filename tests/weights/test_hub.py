"""Downloads, from a local server that behaves like the hub."""

import json
import os
import socket
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import long_where_compiled
from conftest import predict
from conftest import random_images
from hub_server import commit_of
from hub_server import no_host
from huggingface_hub import constants
from peers import assert_logits_agree
from peers import official_state
from peers import peer_logits
from peers import timm_peer
from safetensors.torch import save as to_safetensors

import keras_convnext
from keras_convnext import VARIANTS
from keras_convnext._util import network
from keras_convnext.weights import downloading
from keras_convnext.weights import files
from keras_convnext.weights import hub
from keras_convnext.weights import registry

pytestmark = pytest.mark.once

NAME = "test_convnext3"
REPOSITORY = f"timm/{NAME}.r160_in1k"


@pytest.fixture
def peer():
    return timm_peer(VARIANTS[NAME], 1000)


def checkpoint(monkeypatch, **changes):
    """The registry, with one row changed."""
    rows = tuple(
        replace(row, **changes) if row.model == NAME else row
        for row in registry.checkpoints()
    )
    monkeypatch.setattr(registry, "checkpoints", lambda *_: rows)


def check(model, peer):
    """With the weights' own normalization: 0.5 and 0.5."""
    images = random_images((1, 160, 160, 3))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    # What the peer sees, were it to normalize as ImageNet does.
    same = ((images / 255 - 0.5) / 0.5 * std + mean) * 255
    assert model.preprocessing.mean == (0.5, 0.5, 0.5)
    assert_logits_agree(predict(model, images), peer_logits(peer, same))


def load(weights="imagenet", **options):
    options = {"classifier_activation": None, **options}
    return keras_convnext.create_model(NAME, weights=weights, **options)


def gets(server):
    return [path for method, path in server.requests if method == "GET"]


@long_where_compiled
def test_published_weights_come_from_the_hub_and_then_from_the_cache(
    server, peer, tmp_path
):
    content = to_safetensors(peer.state_dict())
    server.add_repository(REPOSITORY, {"model.safetensors": content})
    model = load()
    check(model, peer)
    assert model.input_shape == (None, 160, 160, 3)
    assert model.info.weights == "r160_in1k"
    assert model.info.label_set == "imagenet1k"
    assert model.license == "apache-2.0"
    assert model.preprocessing.crop_pct == 0.95
    (cached,) = (tmp_path / "hf").rglob("model.safetensors")
    assert cached.read_bytes() == content
    assert not (tmp_path / "keras").exists()  # no copy

    server.requests.clear()
    server.files.clear()
    check(load("r160_in1k"), peer)
    assert not server.requests

    # A damaged cache entry is noticed, and fetched anew.
    server.add_repository(REPOSITORY, {"model.safetensors": content})
    for damaged in (content[:-1], content[:-1] + b"x"):
        cached.write_bytes(damaged)
        check(load(), peer)
        assert cached.read_bytes() == content
    assert not list((tmp_path / "hf").rglob("*.incomplete"))


@long_where_compiled
def test_hub_addresses_and_revisions(server, peer):
    other = timm_peer(VARIANTS[NAME], 7)
    server.add_repository(
        "someone/mine", {"model.safetensors": to_safetensors(peer.state_dict())}
    )
    server.add_repository(
        "someone/mine",
        {"model.safetensors": to_safetensors(other.state_dict())},
        revision="v2",
    )
    assert load("hf://someone/mine").output_shape == (None, 1000)
    assert load("hf://someone/mine@v2").output_shape == (None, 7)
    pinned = f"hf://someone/mine@{commit_of('v2')}"
    assert load(pinned).output_shape == (None, 7)
    with pytest.raises(ValueError, match="someone/mine at revision v3"):
        load("hf://someone/mine@v3")
    with pytest.raises(ValueError, match="hf://someone/else"):
        load("hf://someone/else")
    server.add_repository("someone/empty", {"README.md": b"#"})
    with pytest.raises(ValueError, match="must hold one of"):
        load("hf://someone/empty")


@long_where_compiled
def test_the_official_file_stands_in_for_the_hub(server, peer, monkeypatch):
    import io

    file = io.BytesIO()
    torch.save({"model": official_state(peer)}, file)
    server.files["/official/weights.pth"] = file.getvalue()
    checkpoint(monkeypatch, url=f"{server.address}/official/weights.pth")
    check(load(), peer)
    server.files.clear()
    server.requests.clear()
    check(load(), peer)
    assert not server.requests


def test_cached_files_of_mirrors_stay(server):
    """Whose names are no checksums, so that nothing tells they are damaged."""
    server.add_repository(REPOSITORY, {"model.safetensors": b"whole"})
    path = Path(hub.fetch_hub(REPOSITORY))
    target = path.resolve()
    other = target.rename(target.with_name("an-etag-of-another-kind"))
    path.unlink()
    path.symlink_to(other)
    assert hub._cached_hub(REPOSITORY) == str(path)
    assert other.read_bytes() == b"whole"


@pytest.fixture
def file_url(server, peer):
    server.files["/w/model.safetensors"] = to_safetensors(peer.state_dict())
    return f"{server.address}/w/model.safetensors"


def downloads(tmp_path):
    files = (x for x in (tmp_path / "keras").rglob("*") if x.is_file())
    return sorted(x.name for x in files if x.name != ".lock")


def test_an_interrupted_download_leaves_nothing(
    server, file_url, tmp_path, monkeypatch
):
    whole = server.files["/w/model.safetensors"]
    server.truncate, server.keeps_versions = 1_000_000, False
    monkeypatch.setattr(downloading, "WAITS", (0.0, 0.0))
    with pytest.raises(ValueError, match="download failed.*/w/model.safe"):
        hub.fetch_url(file_url)
    assert downloads(tmp_path) == []
    server.truncate = None
    assert hub.fetch_url(file_url).read_bytes() == whole
    assert downloads(tmp_path) == ["model.safetensors"]


def test_a_broken_connection_goes_on_where_it_broke(
    server, file_url, tmp_path, monkeypatch
):
    monkeypatch.setattr(downloading, "WAITS", (0.0,))
    whole = server.files["/w/model.safetensors"]
    server.truncate = len(whole) // 4 + 1
    assert hub.fetch_url(file_url).read_bytes() == whole
    starts = [headers.get("Range") for headers in server.headers]
    step = server.truncate
    rests = [f"bytes={step * count}-" for count in (1, 2, 3)]
    assert starts == [None, *rests]


def test_a_file_that_is_renewed_meanwhile_is_taken_whole(
    server, file_url, tmp_path, monkeypatch
):
    """A part of the old one must not come before the rest of the new one."""
    old = server.files["/w/model.safetensors"]
    new = old[:-4] + bytes(4)
    server.truncate = len(old) // 2

    def renew(seconds):
        server.files["/w/model.safetensors"], server.truncate = new, None

    monkeypatch.setattr(downloading.time, "sleep", renew)
    assert hub.fetch_url(file_url).read_bytes() == new


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>Sign in", b"{}", b""])
def test_a_page_in_the_place_of_a_file_is_not_kept(
    page, server, file_url, tmp_path
):
    whole = server.files["/w/model.safetensors"]
    server.files["/w/model.safetensors"] = page
    with pytest.raises(ValueError, match="no weight file.*/w/model.safe"):
        hub.fetch_url(file_url)
    assert downloads(tmp_path) == []
    server.files["/w/model.safetensors"] = whole
    assert hub.fetch_url(file_url).read_bytes() == whole


def test_a_page_that_was_kept_once_is_fetched_anew(
    server, file_url, monkeypatch
):
    whole = server.files["/w/model.safetensors"]
    server.files["/w/model.safetensors"] = b"<html>Sign in</html>"
    with monkeypatch.context() as patch:
        patch.setattr(files, "is_whole", lambda path: True)
        hub.fetch_url(file_url)
    server.files["/w/model.safetensors"] = whole
    assert hub.fetch_url(file_url).read_bytes() == whole


@pytest.mark.parametrize("weights", ["imagenet", "hf://org/name"])
def test_without_a_network_one_line_says_what_is_there(
    weights, server, monkeypatch
):
    row = next(x for x in registry.checkpoints() if x.model == "convnext_atto")
    server.add_repository(row.hub_repository, {"model.safetensors": b"whole"})
    hub.fetch_hub(row.hub_repository)
    server.requests.clear()
    no_host(monkeypatch)
    waits = []
    monkeypatch.setattr(downloading.time, "sleep", waits.append)
    with pytest.raises(downloading.Unreachable) as error:
        load(weights)
    message = str(error.value)
    for word in ("cannot be resolved", row.name, "weights=None", "path"):
        assert word in message
    assert "\n" not in message
    assert not server.requests and not waits


def test_without_a_network_what_is_cached_is_found(server, monkeypatch):
    server.add_repository("org/it", {"pytorch_model.bin": b"whole"})
    path = hub.fetch("hf://org/it")
    no_host(monkeypatch)
    assert hub.fetch("hf://org/it") == path


def test_a_server_that_is_down_is_not_waited_for(server, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(
        downloading.Unreachable, match="127.0.0.1 cannot be reached"
    ):
        hub.fetch_url(f"http://127.0.0.1:{port}/m.pth")


def test_looking_up_a_name_may_take_for_ever(monkeypatch):
    done = threading.Event()

    def wait(*args, **kwargs):
        done.wait(60)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    found = network.unreachable(["https://a.invalid/x"], seconds=0.05)
    done.set()
    assert found == {"https://a.invalid/x": "a.invalid does not answer"}


def test_behind_a_proxy_it_is_the_proxy_that_is_tried(server, monkeypatch):
    monkeypatch.setenv("https_proxy", server.address)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert network.unreachable(["https://a.invalid/x"]) == {}


def test_shared_out_repositories_are_fetched_whole(server, peer):
    state = peer.state_dict()
    names = sorted(state)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    index = {name: file for file, part in parts.items() for name in part}
    content = {
        file: to_safetensors({name: state[name] for name in part})
        for file, part in parts.items()
    }
    content["model.safetensors.index.json"] = json.dumps(
        {"weight_map": index}
    ).encode()
    server.add_repository("org/large", content)
    file = files.read(hub.fetch("hf://org/large"))
    assert file.tensors.keys() == state.keys()


def test_a_full_disk_leaves_nothing(server, file_url, tmp_path, monkeypatch):
    def half(session, url, path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(downloading, "_stream", half)
        with pytest.raises(ValueError, match="OSError: No space left"):
            hub.fetch_url(file_url)
    assert downloads(tmp_path) == []
    assert hub.fetch_url(file_url).exists()


def test_a_damaged_download_is_repeated(server, file_url):
    whole = server.files["/w/model.safetensors"]
    path = hub.fetch_url(file_url)
    for damaged in (b"", whole[:-1], whole[:-1] + b"x"):
        path.write_bytes(damaged)
        assert hub.fetch_url(file_url) == path
        assert path.read_bytes() == whole
        server.requests.clear()
        assert hub.fetch_url(file_url) == path
        assert not server.requests


def test_files_are_read_again_only_if_they_were_written_to(
    server, file_url, monkeypatch
):
    content = server.files["/w/model.safetensors"]
    server.add_repository(REPOSITORY, {"model.safetensors": content})
    path, cached = hub.fetch_url(file_url), hub.fetch_hub(REPOSITORY)
    # On a disk that counts time in coarse steps the two may be one.
    for file, placed in ((path, path.parent), (Path(cached), Path(cached))):
        before = placed.lstat().st_mtime_ns - 10**9
        os.utime(file, ns=(before, before))
    monkeypatch.setattr(hub, "sha256_of", lambda path: "read")
    assert hub.fetch_url(file_url) == path
    assert hub._cached_hub(REPOSITORY) == cached
    for file in (path, Path(cached)):
        os.utime(file)
    assert hub._cached(file_url) is None
    assert hub._cached_hub(REPOSITORY) is None


def test_those_who_want_the_same_file_take_turns(server, file_url):
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(hub.fetch_url, [file_url] * 4))
    assert len(paths) == 1
    assert gets(server) == ["/w/model.safetensors"]


def test_the_cache_of_earlier_versions_is_ignored(server, file_url, tmp_path):
    """They kept a converted copy, and notes beside downloads."""
    path = hub.fetch_url(file_url)
    folder = path.parent.parent
    for place in (folder.parent.parent / f"{NAME}.r160_in1k", folder / "m"):
        place.with_suffix(".safetensors").write_bytes(b"old")
        place.with_suffix(".safetensors.json").write_text("{}")
        place.with_suffix(".safetensors.unfinished").write_bytes(b"o")
    server.requests.clear()
    assert hub.fetch_url(file_url) == path
    assert not server.requests
    with pytest.raises(ValueError, match=f"hf://{REPOSITORY}"):
        load()


def test_a_download_is_checked_against_its_name(server, peer, tmp_path):
    content = to_safetensors(peer.state_dict())
    server.files["/w/m-01bb0f51.safetensors"] = content
    with pytest.raises(ValueError, match="expected SHA-256 01bb0f51…"):
        hub.fetch_url(f"{server.address}/w/m-01bb0f51.safetensors")
    assert downloads(tmp_path) == []
    import hashlib

    name = f"m-{hashlib.sha256(content).hexdigest()[:8]}.safetensors"
    server.files[f"/w/{name}"] = content
    assert hub.fetch_url(f"{server.address}/w/{name}").read_bytes() == content


def test_a_changed_file_is_refused(server, file_url, tmp_path):
    path = hub.fetch_url(file_url)
    path.unlink()
    content = server.files["/w/model.safetensors"]
    server.files["/w/model.safetensors"] = content[:-1] + b"x"
    with pytest.raises(ValueError, match="not the one that was published"):
        hub.fetch_url(file_url)
    assert downloads(tmp_path) == []


@long_where_compiled
def test_secrets_of_addresses_are_neither_stored_nor_shown(
    server, file_url, tmp_path
):
    signed = f"{file_url}?signature=s3cr3t"
    model = load(signed)
    assert model.info.weights == "model.safetensors"
    assert not [x for x in (tmp_path / "keras").rglob("*s3cr3t*")]
    for address, shown in (
        ("https://me:s3cr3t@nowhere.invalid/model.bin", "nowhere.invalid/m"),
        ("http://me:s3cr3t@nowhere:port/model.bin", "nowhere:port/m"),
        (signed.replace("/w/", "/x/"), "/x/model.safetensors"),
    ):
        with pytest.raises(ValueError) as error:
            hub.fetch_url(address)
        assert shown in str(error.value)
        told = "".join(traceback.format_exception(error.value))
        assert "s3cr3t" not in told


def test_addresses_that_are_none_are_value_errors(server):
    with pytest.raises(ValueError, match="download failed .InvalidURL"):
        hub.fetch_url(f"{server.address}port/file.bin")


def test_urls_that_are_not_there_are_named(server):
    with pytest.raises(ValueError, match="404.*/w/nothing.pth"):
        load(f"{server.address}/w/nothing.pth")


def test_both_sources_are_named_when_both_fail(server, monkeypatch):
    checkpoint(monkeypatch, url=f"{server.address}/gone.pth")
    with pytest.raises(ValueError) as error:
        load()
    assert f"hf://{REPOSITORY}" in str(error.value)
    assert "/gone.pth" in str(error.value)


def test_offline_mode_is_respected(server, file_url, peer, monkeypatch):
    content = to_safetensors(peer.state_dict())
    server.add_repository(REPOSITORY, {"model.safetensors": content})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE"):
        load()
    with pytest.raises(ValueError, match="forbidden by HF_HUB_OFFLINE"):
        hub.fetch_url(file_url)
    assert not server.requests


@long_where_compiled
def test_any_file_of_a_repository_is_found_offline(server, peer, monkeypatch):
    content = to_safetensors(peer.state_dict())
    name = "open_clip_model.safetensors"
    server.add_repository("someone/theirs", {name: content})
    assert load("hf://someone/theirs").output_shape == (None, 1000)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    server.requests.clear()
    assert load("hf://someone/theirs").output_shape == (None, 1000)
    assert not server.requests


@long_where_compiled
def test_projections_have_no_activation_by_default(server, peer, monkeypatch):
    content = to_safetensors(peer.state_dict())
    server.add_repository(REPOSITORY, {"model.safetensors": content})
    checkpoint(monkeypatch, label_set="clip")
    model = keras_convnext.create_model(NAME, weights="r160_in1k")
    assert model.layers[-1].name == "head_classifier"
    assert model.class_names is None


@long_where_compiled
def test_a_folder_of_the_same_name_is_no_weight_file(
    server, peer, tmp_path, monkeypatch
):
    content = to_safetensors(peer.state_dict())
    server.add_repository(REPOSITORY, {"model.safetensors": content})
    (tmp_path / "imagenet").mkdir()
    monkeypatch.chdir(tmp_path)
    check(load("imagenet"), peer)
