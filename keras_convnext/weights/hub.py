"""Fetches weights: from the Hugging Face hub, or from a URL.

Hub files stay in the hub's own cache, which other libraries share; those of
URLs in Keras' cache folder (`~/.keras`, or `KERAS_HOME`). Files there are
whole: one that was written to later is compared with its SHA-256.
"""

import fnmatch
import hashlib
import os
import re
import urllib.parse
from pathlib import Path

from filelock import FileLock

from keras_convnext._util.backend_choice import keras_home
from keras_convnext._util.progress import progress
from keras_convnext._util.version import __version__
from keras_convnext._util.writing import ADVICE
from keras_convnext._util.writing import NotWritten
from keras_convnext._util.writing import make_folder
from keras_convnext._util.writing import sha256_of
from keras_convnext._util.writing import writing
from keras_convnext._util.writing import written_aside

# In the order in which a repository's files are tried.
HUB_FILES = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
)
SHA256 = "[0-9a-f]" * 64
CHUNK, SECONDS = 1 << 20, 60.0


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
    failures = []
    for download, source in ((fetch_hub, repository), (fetch_url, url)):
        if source:
            try:
                return download(source)
            except ValueError as error:
                failures.append(str(error))
    raise ValueError("\n".join(failures))


def fetch_hub(repository, revision=None):
    """Downloads a repository's weight file into the hub's own cache."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub import errors

    endpoint = os.environ.get("HF_ENDPOINT")
    unreachable = None
    for filename in HUB_FILES:
        try:
            return huggingface_hub.hf_hub_download(
                repository, filename, revision=revision, endpoint=endpoint
            )
        except errors.EntryNotFoundError as error:
            # Offline, one of the other names may be in the cache.
            if isinstance(error, errors.LocalEntryNotFoundError):
                unreachable = unreachable or error
        except (errors.HfHubHTTPError, OSError, ValueError) as error:
            if getattr(error, "errno", None) in ADVICE:
                with writing(constants.HF_HUB_CACHE):
                    raise
            raise _unreachable(repository, revision, error) from error
    if unreachable is not None:
        raise _unreachable(repository, revision, unreachable) from unreachable
    raise ValueError(
        f"The repository must hold one of {list(HUB_FILES)}. Received: "
        f"hf://{repository} at revision {revision or 'main'}"
    )


def _unreachable(repository, revision, error):
    at = f" at revision {revision}" if revision else ""
    return ValueError(
        f"hf://{repository}{at} could not be downloaded, and is not in the "
        "cache. Check the name and the network (HF_HUB_OFFLINE=1 forbids "
        f"downloads). Received: {type(error).__name__}: {error}"
    )


def _cached_hub(repository):
    """A file in the hub's cache; one that is damaged is removed."""
    import huggingface_hub

    for filename in HUB_FILES:
        path = huggingface_hub.try_to_load_from_cache(repository, filename)
        if isinstance(path, str):
            # It links to a file that the hub names by its SHA-256. Others,
            # on Windows and of mirrors, cannot be checked, and are not ours to
            # remove.
            target, placed = Path(path).resolve(), Path(path).lstat()
            is_named = fnmatch.fnmatchcase(target.name, SHA256)
            if not is_named or _is_whole(target, target.name, placed):
                return path
            target.unlink()
    return None


def fetch_url(url):
    """Downloads a URL once.

    A name such as `…-01bb0f51.pth` must agree with its own SHA-256, and a
    second download with the first.
    """
    folder = _folder(url)
    make_folder(folder)
    with FileLock(folder / ".lock"):  # others that want it wait
        return _cached(url) or _downloaded(url, folder / _name(url))


def _folder(url):
    """Holds `SHA256/NAME` of a URL's file."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    cache = keras_home() / "models" / "keras_convnext"
    return cache / "downloads" / digest


def _name(url):
    return without_secrets(url).rstrip("/").split("/")[-1]


def _cached(url):
    for folder in _folder(url).glob(SHA256):
        path = folder / _name(url)
        if path.exists() and _is_whole(path, folder.name, folder.stat()):
            return path
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

    if huggingface_hub.is_offline_mode():
        raise ValueError(
            "Downloads are forbidden by HF_HUB_OFFLINE, and the file is not in "
            f"the cache. Received: {without_secrets(url)}"
        )
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
    """By the hub's session, which knows the user's proxies and certificates."""
    headers = {"User-Agent": f"keras-convnext/{__version__}"}
    options = {"timeout": SECONDS, "follow_redirects": True}
    with session.stream("GET", url, headers=headers, **options) as response:
        if response.status_code != 200:
            raise OSError(f"HTTP status {response.status_code}")
        length = response.headers.get("Content-Length")
        total = None if length is None else int(length)
        with (
            open(path, "wb") as file,
            progress(_name(url), total, "bytes") as advance,
        ):
            for chunk in response.iter_bytes(CHUNK):
                with writing(path):
                    file.write(chunk)
                advance(len(chunk))
