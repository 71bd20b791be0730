"""Fetches weights: from the Hugging Face hub, or from a URL.

Published checkpoints are converted once and kept, in our names, in Keras'
cache folder (`~/.keras`, or `KERAS_HOME`); hub files stay in the hub's own
cache, which other libraries share. Nothing is ever half there: files are
written under another name, checked, and moved into place.
"""

import hashlib
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from http.client import InvalidURL
from pathlib import Path

from filelock import FileLock

from keras_convnext._util.version import __version__
from keras_convnext._util.writing import sha256_of
from keras_convnext._util.writing import written_aside
from keras_convnext.weights import files
from keras_convnext.weights import layouts

# In the order in which a repository's files are tried.
HUB_FILES = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
)
CHUNK = 1 << 20


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


def fetch_checkpoint(checkpoint, variant):
    """The local path of a published checkpoint, converted to our names."""
    target = cache_folder() / f"{checkpoint.name}.safetensors"
    with _lock(target):
        if not _is_intact(target):
            _convert(checkpoint, variant, target)
    return target


def _convert(checkpoint, variant, target):
    path = fetch_original(checkpoint)
    tensors = layouts.to_ours(files.read(path).tensors, variant)
    unfinished = _unfinished(target)
    files.write_safetensors(
        unfinished, tensors, checkpoint=checkpoint.name, writer=__version__
    )
    _record(target, sha256_of(unfinished), str(path))
    os.replace(unfinished, target)


def fetch_original(checkpoint):
    """From the hub, or else from the official address."""
    failures = []
    if checkpoint.hub_repository:
        try:
            return fetch_hub(checkpoint.hub_repository)
        except ValueError as error:
            failures.append(str(error))
    if checkpoint.url:
        try:
            return fetch_url(checkpoint.url)
        except ValueError as error:
            failures.append(str(error))
    raise ValueError("\n".join(failures))


def fetch_hub(repository, revision=None):
    """Downloads a repository's weight file into the hub's own cache."""
    import huggingface_hub
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


def fetch_url(url):
    """Downloads a URL once, resuming where an earlier attempt ended.

    The SHA-256 is recorded, and checked whenever the file is used again. A
    name such as `…-01bb0f51.pth` must agree with its own hash.
    """
    name = without_secrets(url).rstrip("/").split("/")[-1]
    folder = hashlib.sha256(url.encode()).hexdigest()[:12]
    target = cache_folder() / "downloads" / folder / name
    with _lock(target):
        if not _is_intact(target):
            _fetch_into(target, url)
    return target


def _fetch_into(target, url):
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES"):
        raise ValueError(
            "Downloads are forbidden by HF_HUB_OFFLINE, and the file is not in "
            f"the cache. Received: {without_secrets(url)}"
        )
    unfinished = _unfinished(target)
    try:
        _download(url, unfinished)
    except (urllib.error.URLError, HTTPException, OSError) as error:
        said = type(error).__name__
        if not isinstance(error, InvalidURL):  # which quotes passwords
            said += f": {error}"
        raise ValueError(
            f"The download failed ({said}); the next attempt goes on where it "
            "ended. Check the address and the network. Received: "
            f"{without_secrets(url)}"
        ) from error
    digest = sha256_of(unfinished)
    expected = re.search(r"-([0-9a-f]{8,64})\.\w+$", target.name)
    before = _recorded(target)
    if (expected and not digest.startswith(expected[1])) or (
        before and before != digest
    ):
        unfinished.unlink()
        raise ValueError(
            "The downloaded file is not the one that was published: expected "
            f"SHA-256 {before or expected[1] + '…'}, found {digest}. Nothing "
            f"was kept. Received: {without_secrets(url)}. If its owner has "
            f"renewed it, remove {_note(target)}"
        )
    _record(target, digest, without_secrets(url))
    os.replace(unfinished, target)


def _download(url, path):
    """Appends to what is there, if the server can send the rest."""
    have = path.stat().st_size if path.exists() else 0
    headers = {"User-Agent": f"keras-convnext/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to send
            return
        raise
    with response:
        resumed = response.status == 206
        if not resumed:
            have = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        with open(path, "ab" if resumed else "wb") as file:
            _copy(response, file, have, total, url)
    size = path.stat().st_size
    if total is not None and size != total:
        raise OSError(f"{size} of {total} bytes arrived")


def _copy(response, file, have, total, url):
    from rich.progress import BarColumn
    from rich.progress import DownloadColumn
    from rich.progress import Progress
    from rich.progress import TextColumn
    from rich.progress import TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(
            without_secrets(url).split("/")[-1], total=total, completed=have
        )
        while chunk := response.read(CHUNK):
            file.write(chunk)
            progress.advance(task, len(chunk))


def cache_folder():
    """Where converted checkpoints are: in Keras' own folder."""
    home = os.environ.get("KERAS_HOME", os.path.join("~", ".keras"))
    return Path(home).expanduser() / "models" / "keras_convnext"


def _lock(target):
    """Two processes that want the same file take turns."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(target.with_name(f".{target.name}.lock"))


def _unfinished(target):
    return target.with_name(f"{target.name}.unfinished")


def _is_intact(target):
    return target.exists() and _recorded(target) == sha256_of(target)


def _record(target, digest, source):
    with written_aside(_note(target)) as unfinished:
        unfinished.write_text(json.dumps({"sha256": digest, "source": source}))


def _recorded(target):
    """The digest in a file's note; `None` without one that can be read."""
    try:
        return json.loads(_note(target).read_text())["sha256"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _note(target):
    return target.with_name(f"{target.name}.json")
