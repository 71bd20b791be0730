"""A server in this process, and a client that does as it is told."""

import contextlib
import http.client
import io
import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import table_classifier
import uvicorn
from PIL import Image

from keras_convnext._util import network
from keras_convnext.artifacts.serving.app import new_app
from keras_convnext.artifacts.serving.limits import Limits
from keras_convnext.artifacts.serving.service import Service

SECONDS = 30  # until a test has failed
LIMITS = {
    "max_bytes": 100_000,
    "max_pixels": 10_000,
    "queue_size": 64,
    "batch_size": 4,
    "max_batch_delay": 2.0,
    "timeout": 20.0,
}
BOUNDARY = "limit"


@contextlib.contextmanager
def served(artifact, limits=None, **options):
    """A server of an artifact: its `service`, `server`, `port` and `ask`."""
    service = Service(
        artifact, Limits(**{**LIMITS, **(limits or {})}), **options
    )
    server = uvicorn.Server(uvicorn.Config(new_app(service), log_config=None))
    with service, network.bound("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield SimpleNamespace(
                service=service,
                server=server,
                thread=thread,
                port=port,
                ask=lambda *args, **kwargs: ask(port, *args, **kwargs),
            )
        finally:
            server.should_exit = True
            thread.join(SECONDS)
    assert not thread.is_alive()


def ask(port, path="/predict", body=None, kind=None, method=None):
    """The status, the headers and the content of an answer.

    Args:
        body: bytes; without them it is a GET.
        kind: content type of the body.
        method: of HTTP, where it is another.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    method = method or ("GET" if body is None else "POST")
    headers = {"Content-Type": kind} if kind else {}
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        return answer_of(connection.getresponse())


def answer_of(response):
    content = response.read()
    if response.headers.get_content_type() == "application/json":
        content = json.loads(content)
    return response.status, response.headers, content


def form(*files, name="image"):
    """The body and the content type of a form of files: `(name, bytes)`."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'
        f"{f'; filename={chr(34)}{x}{chr(34)}' if x else ''}\r\n\r\n".encode()
        + content
        + b"\r\n"
        for x, content in files
    ]
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    return {"body": body, "kind": f"multipart/form-data; boundary={BOUNDARY}"}


def encoded(number, format="PNG"):
    """The image of a number, as `TableClassifier` knows it."""
    return encode(table_classifier.colored(number), format)


def encode(pixels, format="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(buffer, format, **options)
    return buffer.getvalue()


def wait_until(is_so):
    until = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < until, "too long"
        time.sleep(0.005)
