"""One file from a server, whatever it holds: whole, or an error.

By the session of `huggingface_hub`, which knows the user's proxies and
certificates.
"""

import time
import urllib.parse

from keras_convnext._util.network import unreachable
from keras_convnext._util.progress import progress
from keras_convnext._util.startup import WentWrong
from keras_convnext._util.version import __version__
from keras_convnext._util.writing import NotWritten
from keras_convnext._util.writing import writing

SECONDS = 60.0
# How often, and after how many seconds each, a connection that breaks without
# having brought anything is made anew.
WAITS = (0.5, 2.0, 5.0)
BROKEN = {"NetworkError", "ReadTimeout", "RemoteProtocolError", "ReadError"}
NOT_BEGUN = {"ConnectError", "ConnectTimeout"}


class Unreachable(WentWrong, ValueError):
    """There is no network, or the server is down: another time it may work."""


def is_offline():
    import huggingface_hub

    return huggingface_hub.is_offline_mode()


def without_secrets(address):
    """An address to show and to store: no user, signature or other query."""
    parts = urllib.parse.urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme == "hf":
        return address
    return urllib.parse.urlunsplit((parts.scheme, host, parts.path, "", ""))


def name_of(address):
    """The last part of an address, without secrets."""
    return without_secrets(address).rstrip("/").split("/")[-1]


def download(url, path, without_network):
    """Writes the file of a URL to a path.

    Args:
        url: of the file.
        path: to write to; a part may be left there after an error.
        without_network: function from a reason to the error to raise where
            the server cannot be reached.

    Raises:
        ValueError: where it cannot be fetched, or must not be.
        NotWritten: where it cannot be written.
    """
    import huggingface_hub

    if is_offline():
        raise ValueError(
            "Downloads are forbidden by HF_HUB_OFFLINE, and the file is not in "
            f"the cache. Received: {without_secrets(url)}"
        )
    for reason in unreachable([url]).values():
        raise without_network(reason)
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
    """A connection that breaks is made anew.

    It goes on from where it broke if the server still has the same file.
    """
    version, waits = None, list(WAITS)
    with open(path, "wb") as file:
        while True:
            before = file.tell()
            try:
                with _answer(session, url, version, before) as response:
                    version = _version(response)
                    _receive(response, file, name_of(url))
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
