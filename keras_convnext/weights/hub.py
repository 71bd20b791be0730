"""Fetches weights: from the Hugging Face hub, or from a URL.

Hub files stay in the hub's own cache, which other libraries share; those of
URLs in Keras' cache folder (`~/.keras`, or `KERAS_HOME`). Files there are
whole: one that was written to later is compared with its SHA-256.
"""

import fnmatch
import hashlib
import os
import re
import shutil
from pathlib import Path

from filelock import FileLock

from keras_convnext._util.backend_choice import cache_folder
from keras_convnext._util.checks import some
from keras_convnext._util.network import unreachable
from keras_convnext._util.writing import ADVICE
from keras_convnext._util.writing import make_folder
from keras_convnext._util.writing import sha256_of
from keras_convnext._util.writing import writing
from keras_convnext._util.writing import written_aside
from keras_convnext.weights import downloading
from keras_convnext.weights import files
from keras_convnext.weights import registry
from keras_convnext.weights.downloading import Unreachable
from keras_convnext.weights.downloading import is_offline
from keras_convnext.weights.downloading import name_of
from keras_convnext.weights.downloading import without_secrets

SHA256 = "[0-9a-f]" * 64


def is_remote(weights):
    return weights.startswith(("hf://", "http://", "https://"))


def fetch(address):
    """The local path of `hf://org/repository[@revision]` or a URL."""
    if address.startswith("hf://"):
        repository, _, revision = address.removeprefix("hf://").partition("@")
        return fetch_hub(repository, revision or None)
    return fetch_url(address)


def fetch_checkpoint(checkpoint):
    """The local path of a published checkpoint.

    From the caches, without a request; or the hub, or the official address.
    """
    repository, url = checkpoint.hub_repository, checkpoint.url
    path = (repository and _cached_hub(repository)) or (url and _cached(url))
    if path:
        return path
    sources = {}
    if repository:
        sources[endpoint()] = fetch_hub, repository
    if url:
        sources[url] = fetch_url, url
    failing = {}
    if len(sources) > 1 and not is_offline():  # both at the same time
        failing = unreachable(sources)
        if len(failing) == len(sources):
            raise _no_network(checkpoint.name, failing.values())
    failures = []
    for address, (download, source) in sources.items():
        if address in failing:
            continue
        try:
            return download(source)
        except ValueError as error:
            failures.append(error)
    raise type(failures[0])("; ".join(map(str, failures)))


def endpoint():
    """The address of the hub, or of its mirror."""
    from huggingface_hub import constants

    return os.environ.get("HF_ENDPOINT") or constants.ENDPOINT


def _no_network(name, reasons):
    """What can be done without a network, in one line."""
    names = cached_names()
    cached = "No weights are in the cache: pass"
    if names:
        cached = f"In the cache are {some(names, 8)}: pass one of them,"
    return Unreachable(
        f"{name} is not in the cache and cannot be downloaded: "
        f"{', '.join(dict.fromkeys(reasons))}. {cached} the path of a file, "
        "or `weights=None` for random weights"
    )


def cached_names():
    """Names of the published weights that need no network."""
    return [
        row.name
        for task in registry.TASKS
        for row in registry.checkpoints(task)
        if (row.hub_repository and _in_hub_cache(row.hub_repository))
        or (row.url and any(_folder(row.url).glob(f"{SHA256}/*")))
    ]


def fetch_hub(repository, revision=None):
    """Downloads a repository's weight file into the hub's own cache."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub import errors

    mirror = os.environ.get("HF_ENDPOINT")
    failing = {} if is_offline() else unreachable([endpoint()])

    def fetched(filename):
        return huggingface_hub.hf_hub_download(
            repository,
            filename,
            revision=revision,
            endpoint=mirror,
            local_files_only=bool(failing),
        )

    missing = None
    for filename in files.PRETRAINED:
        try:
            path = fetched(filename)
            if filename.endswith(files.INDEX):
                for name in set(files.read_index(path).values()):
                    fetched(name)
            return path
        except errors.EntryNotFoundError as error:
            # Offline, one of the other names may be in the cache.
            if isinstance(error, errors.LocalEntryNotFoundError):
                missing = missing or error
        except (errors.HfHubHTTPError, OSError, ValueError) as error:
            if getattr(error, "errno", None) in ADVICE:
                with writing(constants.HF_HUB_CACHE):
                    raise
            raise _not_downloaded(repository, revision, error) from error
    if failing:
        raise _no_network(f"hf://{repository}", failing.values()) from missing
    if missing is not None:
        raise _not_downloaded(repository, revision, missing) from missing
    raise ValueError(
        f"The repository must hold one of {list(files.PRETRAINED)}. Received: "
        f"hf://{repository} at revision {revision or 'main'}"
    )


def _not_downloaded(repository, revision, error):
    at = f" at revision {revision}" if revision else ""
    said = " ".join(str(error).split())
    names = cached_names()
    cached = f" In the cache are {some(names, 8)}." if names else ""
    return ValueError(
        f"hf://{repository}{at} could not be downloaded, and is not in the "
        "cache. Check the name and the network (HF_HUB_OFFLINE=1 forbids "
        f"downloads).{cached} Received: {type(error).__name__}: {said}"
    )


def _in_hub_cache(repository):
    import huggingface_hub

    for filename in files.PRETRAINED:
        path = huggingface_hub.try_to_load_from_cache(repository, filename)
        if isinstance(path, str):
            return path
    return None


def _cached_hub(repository):
    """A file in the hub's cache; one that is damaged is removed."""
    path = _in_hub_cache(repository)
    if path is None or path.endswith(files.INDEX):
        return None  # the hub looks for the files of an index by itself
    # It links to a file that the hub names by its SHA-256. Others, on Windows
    # and of mirrors, cannot be checked, and are not ours to remove.
    target, placed = Path(path).resolve(), Path(path).lstat()
    is_named = fnmatch.fnmatchcase(target.name, SHA256)
    if not is_named or _is_whole(target, target.name, placed):
        return path
    target.unlink()
    return None


def fetch_url(url):
    """Downloads a URL once.

    A name such as `…-01bb0f51.pth` must agree with its own SHA-256, and a
    second download with the first. What is no weight file is not kept.
    """
    folder = _folder(url)
    make_folder(folder)
    with FileLock(folder / ".lock"):  # others that want it wait
        return _cached(url) or _downloaded(url, folder / name_of(url))


def _folder(url):
    """Holds `SHA256/NAME` of a URL's file."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    return cache_folder() / "downloads" / digest


def _cached(url):
    for folder in _folder(url).glob(SHA256):
        path = folder / name_of(url)
        if not path.exists():
            continue
        if _is_whole(path, folder.name, folder.stat()):
            if files.is_whole(path):
                return path
            # A page that a server once sent in its place.
            shutil.rmtree(folder)
    return None


def _is_whole(path, digest, placed):
    """Whether a file is as it was when it was put into its place.

    Args:
        digest: its SHA-256.
        placed: `stat` of the link or the folder, which was made or written to
            when the file was complete.
    """
    is_untouched = path.stat().st_mtime_ns < placed.st_mtime_ns
    return is_untouched or sha256_of(path) == digest


def _downloaded(url, target):
    folder = target.parent
    before = next((x.name for x in folder.glob(SHA256)), None)
    in_name = re.search(r"-([0-9a-f]{8,64})\.\w+$", target.name)
    expected = before or (in_name[1] if in_name else "")
    with written_aside(target) as unfinished:
        downloading.download(
            url,
            unfinished,
            lambda reason: _no_network(without_secrets(url), [reason]),
        )
        if not files.is_whole(unfinished):
            with open(unfinished, "rb") as file:
                start = file.read(40)
            raise ValueError(
                "The download is no weight file, but perhaps a page of the "
                f"server: it begins with {start!r}. Nothing was kept. Check "
                f"the address. Received: {without_secrets(url)}"
            )
        digest = sha256_of(unfinished)
        if not digest.startswith(expected):
            raise ValueError(
                "The downloaded file is not the one that was published: "
                f"expected SHA-256 {expected[:12]}…, found {digest[:12]}…. "
                f"Nothing was kept. Received: {without_secrets(url)}. If its "
                f"owner has renewed it, remove {folder}"
            )
    make_folder(folder / digest)
    return target.replace(folder / digest / target.name)
