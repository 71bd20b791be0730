"""Converts published checkpoints, and proves each equal to its original.

    python conversion/convert_checkpoints.py 'convnext_tiny.*' --output out

For every row of the registry that the pattern selects: downloads it, builds
our model with it and timm's with the same file, compares their logits on fixed
images, and saves the model as `.keras`. `manifest.json` and `manifest.md` in
the output folder say what happened, with hashes and versions. Rows that are
done are skipped when it runs again; a row that fails is reported, and the rest
go on. Needs torch and timm.
"""

import argparse
import importlib.metadata
import sys
from pathlib import Path

import keras
import numpy as np
import resumable

from keras_convnext import create_model
from keras_convnext._util.writing import sha256_of
from keras_convnext._util.writing import written_aside
from keras_convnext.weights import hub
from keras_convnext.weights import registry

PACKAGES = ("keras", "keras-convnext", "timm", "torch")
BOUND = 1e-4


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pattern", nargs="?", default="*")
    parser.add_argument("--output", type=Path, default=Path("converted"))
    options = parser.parse_args(arguments)
    rows = registry.matching(options.pattern)
    if not rows:
        parser.error(f"no checkpoint matches {options.pattern!r}")
    jobs = {
        row.name: (row, options.output / f"{row.name}.keras") for row in rows
    }
    return resumable.run(
        jobs, options.output, is_done, convert, as_markdown, "converted"
    )


def convert(row, target):
    model = create_model(
        row.model,
        weights=row.tag,
        include_top=row.classes > 0,
        pooling=None if row.classes else "avg",
        input_shape=(row.image_size, row.image_size, 3),
        classifier_activation=None,
    )
    images = fixed_images(row.image_size)
    ours = keras.ops.convert_to_numpy(model(images))
    theirs = original_logits(row, images)
    entry = {
        "versions": {p: importlib.metadata.version(p) for p in PACKAGES},
        "backend": keras.backend.backend(),
    }
    if theirs is None:
        entry["status"] = "not compared: timm has no such architecture"
    else:
        difference = float(np.abs(ours - theirs).max())
        scale = max(1.0, float(np.abs(theirs).max()))
        if difference > BOUND * scale:
            raise ValueError(
                f"the largest difference is {difference:.1e}, with outputs up "
                f"to {scale:.1f}"
            )
        entry.update(status="equal", largest_difference=difference)
    with written_aside(target) as unfinished:
        model.save(unfinished)
        entry["sha256"] = sha256_of(unfinished)
    return entry


def original_logits(row, images):
    """timm's outputs with the same file, or `None` where timm has no model."""
    if row.model.startswith("convnext_isotropic"):
        return None
    import timm
    import torch
    from timm.models.convnext import checkpoint_filter_fn

    original = timm.create_model(row.model, num_classes=row.classes).eval()
    state = timm.models.load_state_dict(hub.fetch_checkpoint(row))
    # Masked pre-training leaves the last norm at its initial value.
    strict = row.tag != "fcmae"
    original.load_state_dict(
        checkpoint_filter_fn(state, original), strict=strict
    )
    mean, std = (
        np.array(values, "float64")
        for values in registry.NORMALIZATIONS[row.normalization]
    )
    normalized = (images.astype("float64") / 255 - mean) / std
    batch = torch.from_numpy(normalized).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        return original(batch).numpy()


def fixed_images(size):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (2, size, size, 3)).astype("float32")


def is_done(entry, row, target):
    return (
        entry is not None
        and entry["status"] != "failed"
        and target.exists()
        and entry["sha256"] == sha256_of(target)
    )


def as_markdown(manifest):
    yield "# Converted checkpoints"
    yield ""
    yield "| checkpoint | result | largest difference | SHA-256 |"
    yield "| --- | --- | ---: | --- |"
    for name, entry in sorted(manifest.items()):
        difference = entry.get("largest_difference")
        shown = "" if difference is None else f"{difference:.1e}"
        result = entry.get("error", entry["status"]).splitlines()[0]
        digest = entry.get("sha256", "")[:12]
        yield f"| {name} | {result} | {shown} | {digest} |"


if __name__ == "__main__":
    sys.exit(main())
