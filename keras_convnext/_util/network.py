"""Whether a server can be reached, told in seconds rather than minutes."""

import queue
import socket
import threading
import time
import urllib.parse
import urllib.request

SECONDS = 4.0
PORTS = {"http": 80, "https": 443}


def unreachable(addresses, seconds=SECONDS):
    """Why servers cannot be reached, all of them tried at the same time.

    Libraries try again and again, for more than a minute, and looking up a
    name has no time limit of its own.

    Args:
        addresses: URLs; where a proxy is set, the proxy is tried.
        seconds: how long to wait for all of them.

    Returns:
        A dict from those addresses that fail to a reason, as
        `"huggingface.co cannot be resolved"`.
    """
    answers, reasons = queue.SimpleQueue(), {}
    for address in addresses:
        threading.Thread(
            target=lambda x=address: answers.put((x, _reason(x, seconds))),
            daemon=True,
        ).start()
        reasons[address] = f"{_server(address)[0]} does not answer"
    end = time.monotonic() + seconds
    try:
        for _ in addresses:
            left = max(end - time.monotonic(), 0.001)
            address, reasons[address] = answers.get(timeout=left)
    except queue.Empty:
        pass
    return {address: reason for address, reason in reasons.items() if reason}


def _reason(address, seconds):
    host, port = _server(address)
    if not host or not port:
        return None  # whoever connects will say what is wrong with it
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return f"{host} cannot be resolved"
    try:
        socket.create_connection((host, port), seconds).close()
    except OSError as error:
        return f"{host} cannot be reached ({error.strerror or error})"
    return None


def _server(address):
    """Host and port of a URL, or of the proxy that leads there."""
    parts = urllib.parse.urlsplit(address)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    try:
        return parts.hostname, parts.port or PORTS.get(parts.scheme, 80)
    except ValueError:  # the port is no number
        return parts.hostname, None
