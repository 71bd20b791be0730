"""ONNX Runtime Web: one version of its package, from npm's registry.

The package is checked each time that files are taken out of it, and kept in
the cache.
"""

import base64
import hashlib
import os
import tarfile

from filelock import FileLock

from keras_convnext._util.backend_choice import cache_folder
from keras_convnext._util.writing import make_folder
from keras_convnext._util.writing import writing
from keras_convnext._util.writing import written_aside
from keras_convnext.weights.downloading import Unreachable
from keras_convnext.weights.downloading import download
from keras_convnext.weights.downloading import without_secrets

NAME, VERSION = "onnxruntime-web", "1.30.0"
# `dist.integrity` of registry.npmjs.org/onnxruntime-web/1.30.0.
SHA512 = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1"
    "SigqR4CXAfKYQ=="
)
REGISTRY = "https://registry.npmjs.org"
# npm reads both.
VARIABLES = ("npm_config_registry", "NPM_CONFIG_REGISTRY")
# Each file that a page needs, and its name there: some servers do not know
# that `.mjs` is JavaScript.
FILES = {
    "ort.wasm.bundle.min.mjs": "onnxruntime-web.js",
    "ort-wasm-simd-threaded.wasm": "onnxruntime-web.wasm",
}


def fetch():
    """The path of the package, as it was published.

    Raises:
        ValueError: if it cannot be fetched, or is another one.
    """
    folder = cache_folder() / "downloads"
    make_folder(folder)
    path = folder / f"{NAME}-{VERSION}.tgz"
    with FileLock(f"{path}.lock"):  # others that want it wait
        if not (path.exists() and _sha512_of(path) == SHA512):
            _download(path)
    return path


def unpack(package, folder):
    """Writes `FILES` into a folder, from the package that `fetch` returns."""
    with tarfile.open(package) as archive, writing(folder):
        for name, target in FILES.items():
            member = archive.extractfile(f"package/dist/{name}")
            (folder / target).write_bytes(member.read())


def _download(path):
    set_ones = (os.environ.get(x) for x in VARIABLES)
    registry = next(filter(None, set_ones), REGISTRY).rstrip("/")
    url = f"{registry}/{NAME}/-/{path.name}"

    def without_network(reason):
        return Unreachable(
            f"{NAME} {VERSION} is not in the cache and cannot be downloaded: "
            f"{reason}. Export one page where there is a network, or copy "
            f"{path.name} from the npm registry to {str(path.parent)!r}. "
            "NPM_CONFIG_REGISTRY chooses another registry"
        )

    with written_aside(path) as unfinished:
        download(url, unfinished, without_network)
        found = _sha512_of(unfinished)
        if found != SHA512:
            raise ValueError(
                "The downloaded package is not the one that was published: "
                f"expected SHA-512 {SHA512[:12]}…, found {found[:12]}…. "
                f"Nothing was kept. Received: {without_secrets(url)}. Check "
                "NPM_CONFIG_REGISTRY and the network"
            )


def _sha512_of(path):
    """The checksum of a file, as npm writes it."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    return base64.b64encode(digest).decode()
