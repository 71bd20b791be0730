"""Whether a server can be reached, told in seconds rather than minutes.

And an address to be reached at.
"""

import ipaddress
import os
import queue
import socket
import threading
import time
import urllib.parse
import urllib.request

SECONDS = 4.0
PORTS = {"http": 80, "https": 443}


def bound(host, port):
    """A TCP socket of an address, on which nobody listens yet.

    Args:
        host: a name or an address of this machine, of IPv4 or IPv6.
        port: 0 for any that is free.

    Raises:
        ValueError: if it cannot be had.
    """
    try:
        (family, *_, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        result = socket.socket(family, socket.SOCK_STREAM)
        try:
            # Else a port is taken for minutes after a server has gone. On
            # Windows it would let two have it.
            if os.name == "posix":
                result.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            result.bind(address)
        except BaseException:
            result.close()
            raise
        return result
    except (OSError, UnicodeError) as error:
        raise ValueError(
            "Expected an address of this machine and a port that is free. "
            f"Received: host={host!r}, port={port} "
            f"({getattr(error, 'strerror', None) or error}). Choose another "
            "port; 0 takes any"
        ) from error


def is_local(listener):
    """Whether a bound socket is reached from this machine alone."""
    host, _, _ = listener.getsockname()[0].partition("%")
    return ipaddress.ip_address(host).is_loopback


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
