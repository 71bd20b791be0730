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
import time
import urllib.parse
from pathlib import Path

from filelock import FileLock

from keras_convnext._util.backend_choice import cache_folder
from keras_convnext._util.checks import some
from keras_convnext._util.network import unreachable
from keras_convnext._util.progress import progress
from keras_convnext._util.startup import WentWrong
from keras_convnext._util.version import __version__
from keras_convnext._util.writing import ADVICE
from keras_convnext._util.writing import NotWritten
from keras_convnext._util.writing import make_folder
from keras_convnext._util.writing import sha256_of
from keras_convnext._util.writing import writing
from keras_convnext._util.writing import written_aside
from keras_convnext.weights import files
from keras_convnext.weights import registry

SHA256 = "[0-9a-f]" * 64
SECONDS = 60.0
# How often, and after how many seconds each, a connection that breaks without
# having brought anything is made anew.
WAITS = (0.5, 2.0, 5.0)
BROKEN = {"NetworkError", "ReadTimeout", "RemoteProtocolError", "ReadError"}
NOT_BEGUN = {"ConnectError", "ConnectTimeout"}


class Unreachable(WentWrong, ValueError):
    """There is no network, or the server is down: another time it may work."""


def is_remote(weights):
    return weights.startswith(("hf://", "http://", "https://"))


def without_secrets(address):
    """An address to show and to store: no user, signature or other query."""
    parts = urllib.parse.urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme == "hf":
        return address
    return urllib.parse.urlunsplit((parts.scheme, host, parts.path, "", ""))


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
    if len(sources) > 1 and not _is_offline():  # both at the same time
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


def _is_offline():
    import huggingface_hub

    return huggingface_hub.is_offline_mode()


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
    failing = {} if _is_offline() else unreachable([endpoint()])

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
        return _cached(url) or _downloaded(url, folder / _name(url))


def _folder(url):
    """Holds `SHA256/NAME` of a URL's file."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    return cache_folder() / "downloads" / digest


def _name(url):
    return without_secrets(url).rstrip("/").split("/")[-1]


def _cached(url):
    for folder in _folder(url).glob(SHA256):
        path = folder / _name(url)
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
        _download(url, unfinished)
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


def _download(url, path):
    import huggingface_hub

    if _is_offline():
        raise ValueError(
            "Downloads are forbidden by HF_HUB_OFFLINE, and the file is not in "
            f"the cache. Received: {without_secrets(url)}"
        )
    for reason in unreachable([url]).values():
        raise _no_network(without_secrets(url), [reason])
    try:
        _stream(huggingface_hub.get_session(), url, path)
    except NotWritten:  # is no matter of the network
        raise
    # The session's errors are those of httpx or httpx2, by the hub's version.
    except Exception as error:
        said = type(error).__name__
        if said != "InvalidURL":  # which quotes passwords
            said += f": {error}"
        raise ValueError(
            f"The download failed ({said}). Check the address and the "
            f"network. Received: {without_secrets(url)}"
        ) from None


# Not `keras.utils.get_file`: it writes where the whole file is expected, and
# shows the address with its secrets.
def _stream(session, url, path):
    """By the hub's session, which knows the user's proxies and certificates.

    A connection that breaks is made anew, and goes on from where it broke if
    the server still has the same file.
    """
    version, waits = None, list(WAITS)
    with open(path, "wb") as file:
        while True:
            before = file.tell()
            try:
                with _answer(session, url, version, before) as response:
                    version = _version(response)
                    _receive(response, file, _name(url))
                return
            except Exception as error:
                if not _is_broken(error) or not (waits or file.tell() > before):
                    raise
                waits = list(WAITS) if file.tell() > before else waits
                time.sleep(waits.pop(0))


def _answer(session, url, version, start):
    headers = {
        "User-Agent": f"keras-convnext/{__version__}",
        # Compressed bytes cannot be counted.
        "Accept-Encoding": "identity",
    }
    if version and start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    options = {"timeout": SECONDS, "follow_redirects": True}
    return session.stream("GET", url, headers=headers, **options)


def _version(response):
    """What tells this version of the file from others, or `None`."""
    tag = response.headers.get("ETag", "")
    return None if not tag or tag.startswith("W/") else tag


def _receive(response, file, name):
    """Writes what comes; a whole file takes the place of a part."""
    if response.status_code not in (200, 206):
        raise OSError(f"HTTP status {response.status_code}")
    begins = f"bytes {file.tell()}-"
    is_rest = response.headers.get("Content-Range", "").startswith(begins)
    if response.status_code == 200 or not is_rest:
        if response.status_code == 206:
            raise OSError("the server sent another part than was asked for")
        file.seek(0)
        file.truncate()
    length = response.headers.get("Content-Length")
    total = None if length is None else file.tell() + int(length)
    with progress(name, total, "bytes") as advance:
        advance(file.tell())
        # As it arrives: what waits for a whole chunk is lost with the rest.
        for chunk in response.iter_bytes():
            with writing(file.name):
                file.write(chunk)
                file.flush()
            advance(len(chunk))


def _is_broken(error):
    """Whether a connection ended early, rather than never began."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & BROKEN) and not kinds & NOT_BEGUN
