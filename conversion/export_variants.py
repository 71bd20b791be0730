"""Exports architectures to every format, and proves each equal to its model.

    python conversion/export_variants.py 'convnext_*' --output exported

For every variant that the pattern selects and every format: builds the model,
exports it, and compares the artifact with it in its own runtime.
`manifest.json` and `manifest.md` in the output folder say what was measured.
What is done is skipped when it runs again; what fails is reported, and the rest
go on. Weights are random unless `--weights imagenet` (or any other alias or
tag) says otherwise; variants without such weights are skipped. `--measure-only`
deletes every artifact once it is measured.
"""

import argparse
import fnmatch
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import resumable

import keras_convnext
from keras_convnext import VARIANTS
from keras_convnext.artifacts.formats import FORMATS
from keras_convnext.weights import registry

# Format and quantization by the name that the command takes.
KINDS = {
    "saved_model": ("saved_model", None),
    "tflite": ("tflite", None),
    "tflite-float16": ("tflite", "float16"),
    "tflite-dynamic": ("tflite", "dynamic"),
    "onnx": ("onnx", None),
    "openvino": ("openvino", None),
    "torch": ("torch", None),
}
DEFAULT_KINDS = ("saved_model", "tflite", "tflite-float16", "onnx")


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pattern", nargs="?", default="*")
    parser.add_argument("--output", type=Path, default=Path("exported"))
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=DEFAULT_KINDS
    )
    parser.add_argument("--weights", default="none")
    parser.add_argument("--measure-only", action="store_true")
    options = parser.parse_args(arguments)
    names = [x for x in VARIANTS if fnmatch.fnmatch(x, options.pattern)]
    names = [x for x in names if has_weights(x, options.weights)]
    if not names:
        parser.error(f"no variant matches {options.pattern!r}")
    jobs = {
        f"{name}.{options.weights}.{kind}": (
            options.output / file_name(name, kind, options.weights),
            name,
            kind,
            options,
        )
        for name in names
        for kind in options.kinds
    }
    return resumable.run(
        jobs, options.output, is_done, export, as_markdown, "exported"
    )


def file_name(name, kind, weights):
    format, quantization = KINDS[kind]
    parts = (name, weights, quantization)
    ending = FORMATS[format].ending or ".saved_model"
    return ".".join(filter(None, parts)) + ending


def export(target, name, kind, options):
    format, quantization = KINDS[kind]
    keras.utils.set_random_seed(0)
    weights = None if options.weights == "none" else options.weights
    model = keras_convnext.create_model(name, weights=weights)
    if weights is None:
        randomize(model)
    report = keras_convnext.export(
        model,
        target,
        format,
        quantization=quantization,
        overwrite=True,
        verbose=False,
    )
    if options.measure_only:
        remove(target)
    return {
        "status": "equal",
        "backend": keras.backend.backend(),
        "kept": not options.measure_only,
        **report.as_dict(),
    }


def randomize(model):
    """Layer scale and GRN, which start near zero, take part."""
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if layer.name.endswith(("layer_scale", "grn")):
            layer.set_weights(
                [
                    generator.normal(0.6, 0.3, x.shape)
                    for x in layer.get_weights()
                ]
            )


def has_weights(name, weights):
    if weights == "none":
        return True
    try:
        registry.find(name, weights)
    except ValueError:
        return False
    return True


def is_done(entry, target, *_):
    if entry is None or entry["status"] == "failed":
        return False
    return not entry["kept"] or target.exists()


def remove(target):
    if target.is_dir():
        shutil.rmtree(target)
        return
    for file in (target, *target.parent.glob(f"{target.name}.data")):
        file.unlink()
    target.with_suffix(".bin").unlink(missing_ok=True)


def as_markdown(manifest):
    yield "# Exported models"
    yield ""
    yield "| model | result | max difference | allowed | agrees | MB | ms |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for key, entry in sorted(manifest.items()):
        if entry["status"] == "failed":
            yield f"| {key} | {entry['error'].splitlines()[0]} | | | | | |"
            continue
        bound = entry["bound"]
        yield (
            f"| {key} | {entry['status']} | {entry['difference']:.1e} | "
            f"{'–' if bound is None else format(bound, '.1e')} | "
            f"{entry['agreement']:.0%} | {entry['size_bytes'] / 1e6:.1f} | "
            f"{entry['latency_ms']:.0f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
