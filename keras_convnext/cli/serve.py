"""`keras-convnext serve`: a model that answers over HTTP."""

import warnings
from typing import Annotated

import typer

from keras_convnext import cli
from keras_convnext._util import network
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import Positive
from keras_convnext._util.requirements import require
from keras_convnext.cli import options

PACKAGES = ("fastapi", "prometheus_client", "python_multipart", "uvicorn")


def serve(
    model: Annotated[
        str,
        typer.Argument(
            help="A name, see `models`, a `.keras` file, or the result of "
            "`export`."
        ),
    ],
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; 0.0.0.0 for all networks."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0 for any that is free.")
    ] = 8000,
    weights: options.Weights = "imagenet",
    engine: options.Engine = "keras",
    top: options.TopOrReached = None,
    threshold: options.Threshold = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images at a time, at most.")
    ] = 16,
    max_batch_delay: Annotated[
        NotNegative,
        typer.Option(help="Milliseconds that an image waits for others."),
    ] = 5.0,
    queue_size: Annotated[
        int,
        typer.Option(
            min=1,
            help="Images that are taken before others are refused (status "
            "503); also the most of one request.",
        ),
    ] = 128,
    max_bytes: Annotated[
        int, typer.Option(min=1, help="Of one request.")
    ] = 20_000_000,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Of one image, before it is decoded.")
    ] = 50_000_000,
    timeout: Annotated[
        Positive,
        typer.Option(
            help="Seconds for a request to arrive, and for its answer."
        ),
    ] = 30.0,
    apply_exif: options.Exif = True,
    trust: options.Trust = False,
) -> None:
    """Answer images over HTTP with classes and scores, until Ctrl-C.

    POST /predict takes the bytes of one image, or a form with one or several,
    and answers in JSON; /predict?top=3 asks for three classes. GET /health,
    /metadata and /metrics tell of the server. It answers what it has taken
    before it ends, with status 0.

    Example: keras-convnext serve run/best.keras

    Example: keras-convnext serve model.onnx --port 9000 --batch-size 32
    """

    # Before Keras starts, which takes seconds.
    for package in PACKAGES:
        require(package, "serving")
    with network.bound(host, port) as listener:
        if not network.is_local(listener):
            warnings.warn(
                f"whoever reaches the address {host} can send images: there "
                "is no password and no encryption. Put a proxy that has both "
                "before it, or leave out --host",
                stacklevel=1,
            )
        cli.start_keras()
        from keras_convnext.artifacts.acceleration.accelerated import (
            of_artifact,
        )
        from keras_convnext.artifacts.serving import server
        from keras_convnext.artifacts.serving.limits import Limits
        from keras_convnext.artifacts.serving.service import Service
        from keras_convnext.cli.loading import open_classifier

        limits = Limits(
            max_bytes=max_bytes,
            max_pixels=max_pixels,
            queue_size=queue_size,
            batch_size=batch_size,
            max_batch_delay=max_batch_delay,
            timeout=timeout,
        )
        artifact = open_classifier(model, weights, is_rgb=True, trust=trust)
        artifact = of_artifact(artifact, engine)
        service = Service(artifact, limits, top, threshold, apply_exif)
        service.warm_up()
        address, port = listener.getsockname()[:2]
        address = f"[{address}]" if ":" in address else address
        line = f"serving {model} on http://{address}:{port}/predict"
        server.run(service, listener, lambda: typer.echo(line))
