"""`keras-convnext records`: image files into TFRecord shards."""

import json
from pathlib import Path
from typing import Annotated

import typer

from keras_convnext._util.progress import progress
from keras_convnext.cli import options
from keras_convnext.data import Records
from keras_convnext.data import splits
from keras_convnext.data import write_records


def records(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder of images, arranged as CLASS/IMAGE, or as "
            "train/CLASS/IMAGE and val/CLASS/IMAGE; or 'tfds:NAME'."
        ),
    ],
    output: Annotated[
        Path, typer.Option(help="Folder for the shards and their index.")
    ],
    shards: Annotated[
        int | None,
        typer.Option(help="How many; one for 1024 images if not given."),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Hold shards that are there to their checksums."
        ),
    ] = False,
    on_error: options.OnError = "skip",
    as_json: options.Json = False,
) -> None:
    """Write images as TFRecord shards; if killed, it resumes.

    The same command again writes what is missing. Ends with status 0, also if
    images were left out, which are named.

    Example: keras-convnext records photos --output photo_records

    Example: keras-convnext records imagenet --output records --verify
    """

    results = []
    for part, open_part in splits.parts_of(data).items():
        source, folder = open_part(), output / part
        with progress(f"writing {part}".strip(), len(source)) as advance:
            left_out = write_records(
                source, folder, shards, verify, on_error, progress=advance
            )
        written = Records(folder)
        results.append(
            {
                "folder": str(folder),
                "images": len(written),
                "classes": len(written.classes),
                "shards": len(written.shards),
                "bytes": sum(shard["bytes"] for shard in written.shards),
                "left_out": left_out,
                "ignored": source.ignored,
            }
        )
    if as_json:
        typer.echo(json.dumps(results, indent=2))
        return
    for result in results:
        typer.echo(
            f"{result['images']} images of {result['classes']} classes in "
            f"{result['shards']} shards: {result['folder']}"
        )
        if result["left_out"]:
            typer.echo(f"left out: {len(result['left_out'])} images")
        if result["ignored"]:
            typer.echo(f"no images: {result['ignored']} other files")
