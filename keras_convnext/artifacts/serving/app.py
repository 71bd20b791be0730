"""The paths of a server, and what it reads of a request."""

import asyncio
import time
from typing import Annotated

import fastapi
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from python_multipart.exceptions import FormParserError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from keras_convnext._util.version import __version__
from keras_convnext.artifacts import metadata as embedded
from keras_convnext.artifacts.serving.service import Refused
from keras_convnext.artifacts.serving.service import Service

Top = Annotated[
    int | None, fastapi.Query(ge=1, description="Classes for each image.")
]
MULTIPART = "multipart/form-data"
BINARY = {"schema": {"type": "string", "format": "binary"}}
FILES = {
    "schema": {
        "type": "object",
        "properties": {
            "image": {"type": "array", "items": BINARY["schema"]},
        },
    }
}
# What `/openapi.json` says of the body, which is read by hand: no image is
# decoded, or written to a file, before its size is known.
BODY = {
    "requestBody": {
        "required": True,
        "content": {"image/*": BINARY, MULTIPART: FILES},
    }
}


def new_app(service: Service) -> fastapi.FastAPI:
    """An ASGI application of these paths.

    `POST /predict` takes the bytes of one image, or a form of one or several.
    `GET /health`, `/metadata` and `/metrics` tell of the server. Errors have
    the key `error`.
    """
    # The pages of its documentation load scripts of another server.
    app = fastapi.FastAPI(
        title="keras_convnext",
        version=__version__,
        docs_url=None,
        redoc_url=None,
    )

    @app.post("/predict", openapi_extra=BODY)
    async def predict(
        request: fastapi.Request, top: Top = None
    ) -> fastapi.Response:
        """Classes and scores of images."""
        start = time.perf_counter()
        try:
            results = await _answered(service, request, top)
            response = JSONResponse({"results": results})
        except Refused as error:
            response = _error(error.status, str(error), error.headers)
        seconds = time.perf_counter() - start
        service.metrics.request(response.status_code, seconds)
        return response

    @app.get("/health")
    async def health() -> fastapi.Response:
        """Whether images are answered."""
        if service.is_alive:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "the model has stopped"}, 503)

    @app.get("/metadata")
    async def metadata() -> fastapi.Response:
        """What the model knows of itself, and the server's limits."""
        told = {
            **service.artifact.metadata,
            "limits": service.limits.as_dict(),
        }
        text = embedded.to_json(told)
        return fastapi.Response(text, media_type="application/json")

    @app.get("/metrics")
    async def metrics() -> fastapi.Response:
        """Counters in the text format of Prometheus."""
        content, kind = service.metrics.text()
        return fastapi.Response(content, media_type=kind)

    @app.exception_handler(HTTPException)
    async def told(_: fastapi.Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(
        _: fastapi.Request, error: RequestValidationError
    ) -> JSONResponse:
        texts = [
            f"`{x['loc'][-1]}`: {x['msg']}. Received: {x['input']!r}"
            for x in error.errors()
        ]
        return _error(400, " ".join(texts))

    return app


def _error(status, text, headers=None):
    return JSONResponse({"error": text}, status, headers=headers)


async def _answered(service, request, top):
    """The results for a request, from its first byte on."""
    # One before it is read, so that waiting requests do not fill the memory.
    with service.place_for(1):
        images = await _received(request, service.limits)
        if len(images) > service.limits.queue_size:
            raise Refused(
                413,
                "Expected at most as many images as the server takes at a "
                f"time, {service.limits.queue_size}. Received: {len(images)}",
            )
        with service.place_for(len(images) - 1):
            return await service.results(images, top)


async def _received(request, limits):
    """Names and contents of the images in a request."""
    kind = request.headers.get("content-type", "").partition(";")[0].lower()
    is_form = kind.strip() == MULTIPART
    counted = fastapi.Request(
        request.scope, _counted(request, limits.max_bytes)
    )
    try:
        async with asyncio.timeout(limits.timeout):
            if is_form:
                images = await _of_form(counted, limits)
            else:
                images = [(None, await counted.body())]
    except TimeoutError as error:
        raise Refused(
            408,
            f"Expected the whole request within {limits.timeout:g} s. "
            "Send smaller images",
        ) from error
    except ClientDisconnect as error:
        raise Refused(400, "The request ended before its body") from error
    # Starlette's, and in older ones what its parser raises.
    except (HTTPException, FormParserError) as error:
        text = getattr(error, "detail", error)
        raise Refused(400, f"The form is damaged: {text}") from error
    if not any(content for _, content in images):
        raise Refused(
            400,
            "Expected an image as the body, or images in a form "
            f"({MULTIPART}). Received: no bytes. With curl: -F image=@cat.jpg",
        )
    return images


async def _of_form(request, limits):
    """Names and contents of the files in a form."""
    async with request.form(max_files=limits.queue_size + 1) as form:
        items = form.multi_items()
        texts = [name for name, value in items if isinstance(value, str)]
        if texts:
            raise Refused(
                400,
                "Expected files in the form, with names such as cat.jpg. "
                f"Received: the text {texts[0]!r}. With curl: "
                "-F image=@cat.jpg",
            )
        return [(file.filename, await file.read()) for _, file in items]


def _counted(request, limit):
    """The `receive` of a request, which refuses more bytes than allowed."""
    told = request.headers.get("content-length", "")
    taken = int(told) if told.isdecimal() and int(told) > limit else 0

    async def receive():
        nonlocal taken
        if taken <= limit:
            message = await request.receive()
            taken += len(message.get("body", b""))
        if taken > limit:
            raise Refused(
                413,
                f"Expected a request of at most {limit} bytes. Received: "
                "more. Send smaller images, or fewer",
            )
        return message

    return receive
