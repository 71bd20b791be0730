"""A service on a socket, from its start to its end."""

import contextlib
import math
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from keras_convnext._util.telling import is_verbose
from keras_convnext.artifacts.serving.app import new_app
from keras_convnext.artifacts.serving.service import Service

BACKLOG = 2048


def run(
    service: Service, listener: socket.socket, started: Callable[[], Any]
) -> None:
    """Answers requests until SIGTERM or Ctrl-C, and those that were taken.

    A second Ctrl-C does not wait for them.

    Args:
        service: one that is warm.
        listener: a bound socket, which is closed at the end.
        started: called when requests may come.
    """
    server = uvicorn.Server(
        uvicorn.Config(
            new_app(service),
            log_config=None,
            log_level="info" if is_verbose() else "warning",
            access_log=is_verbose(),
            # A request has its time to arrive, and its time to be answered.
            timeout_graceful_shutdown=math.ceil(2 * service.limits.timeout) + 1,
        )
    )
    listener.listen(BACKLOG)
    started()
    with service, _asked_to_stop(server):
        server.run(sockets=[listener])


@contextlib.contextmanager
def _asked_to_stop(server):
    """Signals end the server and not the process.

    uvicorn has handlers of its own while it runs. When it has stopped it
    raises the signals again, for those that were there before.
    """

    def stop(number, frame):
        server.should_exit = True

    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
