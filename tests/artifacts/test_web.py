"""Exported pages as folders: all of what a page takes, or nothing."""

import base64
import hashlib
import io
import json
import tarfile

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from exported import crops
from exported import pair
from hub_server import no_host
from report_page import Page
from runs import printed
from web_page import FILES

import keras_convnext
from keras_convnext import detection
from keras_convnext.artifacts import onnxruntime_web
from keras_convnext.artifacts import open_artifact
from keras_convnext.artifacts import options
from keras_convnext.weights import downloading

pytestmark = LONG_WHERE_COMPILED

POLICY = {
    "default-src": "'none'",
    "script-src": "'self' 'wasm-unsafe-eval'",
    "worker-src": "'self'",
    "connect-src": "'self'",
    "style-src": "'self'",
    "img-src": "data:",
    "base-uri": "'none'",
    "form-action": "'none'",
}
SOURCE = "/onnxruntime-web/-/onnxruntime-web-1.30.0.tgz"


def package_of(**files):
    """A package as npm's registry has it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


PACKAGE = package_of(
    **{"ort.wasm.bundle.min.mjs": b"js", "ort-wasm-simd-threaded.wasm": b"wasm"}
)


@pytest.fixture
def registry(server, monkeypatch):
    """A registry with a small package in the place of the large one."""
    digest = hashlib.sha512(PACKAGE).digest()
    monkeypatch.setattr(
        onnxruntime_web, "SHA512", base64.b64encode(digest).decode()
    )
    monkeypatch.delenv("npm_config_registry", raising=False)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{server.address}/")
    server.files[SOURCE] = PACKAGE
    return server


def files_in(folder):
    files = {str(x.relative_to(folder)) for x in folder.rglob("*")}
    return {x for x in files if not x.endswith(".lock")}


@pytest.mark.once
def test_the_package_is_kept_and_fetched_again_if_damaged(registry):
    path = onnxruntime_web.fetch()
    assert path.read_bytes() == PACKAGE
    assert onnxruntime_web.fetch() == path
    assert registry.requests == [("GET", SOURCE)]
    path.write_bytes(PACKAGE[:-1] + b"x")
    assert onnxruntime_web.fetch().read_bytes() == PACKAGE
    assert len(registry.requests) == 2


@pytest.mark.once
def test_another_package_is_refused(registry, monkeypatch, tmp_path):
    registry.files[SOURCE] = package_of(other=b"")
    host = registry.address.partition("//")[2]
    secret = f"http://me:s3cr3t@{host}"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", secret)
    message = f"not the one that was published.*SHA-512.*: http://{host}/onnx"
    with pytest.raises(ValueError, match=message) as error:
        onnxruntime_web.fetch()
    assert "s3cr3t" not in str(error.value)
    assert files_in(tmp_path / "keras" / "models" / "keras_convnext") == {
        "downloads"
    }


@pytest.mark.once
def test_npms_own_registry_is_the_default(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for name in onnxruntime_web.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    asked = []
    monkeypatch.setattr(
        *(onnxruntime_web, "download"),
        lambda url, path, without_network: asked.append(url),
    )
    with pytest.raises(ValueError, match="published"):
        onnxruntime_web.fetch()
    assert asked == [f"https://registry.npmjs.org{SOURCE}"]


def test_without_a_network_nothing_is_left(registry, monkeypatch, tmp_path):
    model, _ = pair("v1")
    no_host(monkeypatch)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://registry.npmjs.org")
    with pytest.raises(downloading.Unreachable) as error:
        keras_convnext.export(model, tmp_path / "site", "web", verify=False)
    for word in ("cannot be resolved", "1.30.0", "copy", "NPM_CONFIG_REG"):
        assert word in str(error.value)
    assert not (tmp_path / "site").exists()
    assert not list(tmp_path.glob("unfinished*"))


def test_a_folder_holds_all_that_a_page_takes(registry, tmp_path):
    model, _ = pair("v1")
    model.class_names = [f"kind {index}" for index in range(11)]
    model.save(tmp_path / "m.keras")
    site = tmp_path / "site"
    words = (tmp_path / "m.keras", "--output", site, "--format", "web")
    assert f"written: {site}" in printed("export", *words)
    assert files_in(site) == FILES
    assert (site / "onnxruntime-web.js").read_bytes() == b"js"
    assert (site / "onnxruntime-web.wasm").read_bytes() == b"wasm"

    # Nothing of it runs but its own files.
    page = Page(site / "index.html")
    (policy,) = (x["content"] for _, x in page.elements if x.get("http-equiv"))
    assert dict(x.strip().split(" ", 1) for x in policy.split(";")) == POLICY
    for tag, attributes in page.elements:
        assert tag != "script" or attributes["src"] == "start.js"
        assert tag != "style" and "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)

    artifact = open_artifact(site)
    told = json.loads((site / "keras_convnext.json").read_text())
    assert told == json.loads(json.dumps(artifact.metadata, default=vars))
    images = crops(3)
    expected = keras.ops.convert_to_numpy(model(images))
    np.testing.assert_allclose(artifact.predict(images), expected, atol=1e-5)

    # Only a page is replaced.
    with pytest.raises(ValueError, match="The path exists"):
        keras_convnext.export(model, site, "web")
    (site / "keras_convnext.json").unlink()
    with pytest.raises(ValueError, match="Remove it yourself"):
        keras_convnext.export(model, site, "web", overwrite=True)


def small(**options):
    options = {"input_shape": (32, 32, 3), **options}
    return keras_convnext.ConvNeXt((1,), (8,), weights=None, **options)


def foreign():
    image = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(image)
    return keras.Model(image, keras.layers.Dense(2)(x))


@pytest.mark.parametrize(
    "make, message",
    [
        (foreign, "preprocessing=None"),
        (lambda: small(include_top=False, pooling="avg"), "'features'"),
        (
            lambda: small(input_shape=(32, 32, 1), mean=(0.5,), std=(0.5,)),
            "1 channels",
        ),
    ],
)
def test_what_no_page_shows_is_refused(make, message, monkeypatch, tmp_path):
    monkeypatch.setattr(onnxruntime_web, "fetch", None)
    with pytest.raises(ValueError, match=f"{message}.*to 'onnx'"):
        keras_convnext.export(make(), tmp_path / "site", "web")
    assert not list(tmp_path.iterdir())


def test_detectors_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(onnxruntime_web, "fetch", None)
    backbone = keras_convnext.ConvNeXtAtto(weights=None, include_top=False)
    model = detection.MaskRCNN(backbone, ["cat", "dog"], channels=8, units=8)
    with pytest.raises(ValueError, match="Detectors are exported.*Received"):
        keras_convnext.export(model, tmp_path / "site", "web")
    assert not list(tmp_path.iterdir())


def test_models_too_large_for_a_browser_are_refused(monkeypatch, tmp_path):
    limit = options.LIMITS["web"]._replace(bytes=1000)
    monkeypatch.setitem(options.LIMITS, "web", limit)
    with pytest.raises(ValueError, match="at most 2 GB.*Received"):
        keras_convnext.export(small(), tmp_path / "site", "web")
