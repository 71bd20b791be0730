"""Writes `docs/model_zoo.md` from the tables of variants and checkpoints.

python conversion/make_model_zoo.py            # writes the page
python conversion/make_model_zoo.py --check    # exit status 1 if stale
"""

import argparse
import contextlib
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"  # counts without memory

from keras_convnext.facts.variants import VARIANTS
from keras_convnext.models.applications import create_model
from keras_convnext.models.profiling import profile
from keras_convnext.models.profiling import without_numbers
from keras_convnext.weights import registry

PAGE = Path(__file__).parent.parent / "docs" / "model_zoo.md"
INTRODUCTION = """\
| column | meaning |
| --- | --- |
| tag | the name of the weights, as in timm where timm has them; bold is \
`imagenet` |
| size | height and width in pixels at which the weights are evaluated |
| crop | `center 0.875`: the short side is resized to size ÷ 0.875, and the \
center is cut out. `squash 1`: both sides are resized to the size, and \
nothing is cut off. |
| classes | the number of outputs; – for weights without a classifier |
| top-1 | the percentage of ImageNet-1k's validation images whose class is \
right; – if none is reported |
| license | the license of the weights |
| alias | another name of the tag, of this architecture |

top-1 is ImageNet-1k accuracy at the given size, as reported by timm or by the
official repositories. The weights whose tags begin with `clip_` and have no
`ft_in` compare images with texts. They return 640 to 1024 numbers, which are
no classes.

Tags and names are made of these parts:

| part | meaning |
| --- | --- |
| `fb`, `mm` | trained by the authors at Facebook, or by the mmpretrain \
project |
| `in1k`, `in12k`, `in22k` | trained on ImageNet with 1,000, 11,821 or \
21,841 classes |
| `ft` | fine-tuned: `in12k_ft_in1k` learned from ImageNet-12k, then \
ImageNet-1k |
| `160`, `224`, `320`, `384`, `512`, also after an `r` | the size of the \
images |
| `noema` | the last weights of the training, not their moving average |
| `fcmae` | pre-trained without labels, as ConvNeXt V2 is |
| `clip_laion2b`, `clip_laiona` | pre-trained on pairs of images and texts \
of LAION |
| `dinov3`, `eupe` | pre-trained by other methods, without a classifier |
| `a2h`, `d1`, `ra4` and the like | recipes of timm; the package does not \
have them |
| `_ols`, `_hnf`, `_mlp`, `_rms` in a model | another stem; the norm of the \
head before its pooling; a hidden layer in the head; another norm than \
LayerNorm |

Each section has the cost of an architecture with 1000 classes. GMACs are 10⁹
multiply-adds, and M activations are 10⁶ outputs. Both count convolutions and
dense layers, for one image.""".splitlines()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    page = make_page()
    if check:
        if not PAGE.exists() or PAGE.read_text() != page:
            sys.exit(f"{PAGE} is stale: run python {sys.argv[0]}")
        return
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page)
    print(f"wrote {PAGE}")


def make_page():
    rows = registry.checkpoints()
    models = {row.model for row in rows}
    lines = [
        "# Model zoo",
        "",
        "<!-- Written by conversion/make_model_zoo.py; do not edit. -->",
        "",
        f"{len(rows)} published checkpoints of {len(models)} of the "
        f"{len(VARIANTS)} architectures. The argument `weights=` takes a tag "
        "or an alias. To choose one for your images, see "
        "[weights](how_to/weights.md).",
        "",
        *INTRODUCTION,
    ]
    for variant in VARIANTS.values():
        lines += [
            "",
            f"## {variant.name}",
            "",
            f"Depths {variant.depths}, dims {variant.dims}. " + costs(variant),
            "",
        ]
        own = [row for row in rows if row.model == variant.name]
        if not own:
            lines.append("No published weights.")
            continue
        lines += [
            "| tag | size | crop | classes | top-1 | license | alias |",
            "| --- | ---: | --- | ---: | ---: | --- | --- |",
        ]
        aliases = aliases_of(variant.name)
        for row in own:
            names = [x for x, tag in aliases.items() if tag == row.tag]
            tag = f"**{row.tag}**" if "imagenet" in names else row.tag
            lines.append(
                f"| {tag} | {row.image_size} | {row.crop_mode} "
                f"{row.crop_pct:g} | {row.classes or '–'} | "
                f"{'–' if row.top1 is None else row.top1} | {row.license} | "
                f"{', '.join(f'`{x}`' for x in names)} |"
            )
    return "\n".join(lines) + "\n"


def costs(variant):
    """Parameters, multiply-adds and activations at the variant's own size."""
    with without_numbers():
        found = profile(create_model(variant.name, weights=None))
    return (
        f"{found.parameters / 1e6:.1f} M parameters, {found.macs / 1e9:.3g} "
        f"GMACs and {found.activations / 1e6:.3g} M activations at "
        f"{variant.image_size} pixels."
    )


def aliases_of(model):
    """From each alias that a model has to its tag."""
    found = {}
    for alias in registry.ALIASES:
        with contextlib.suppress(ValueError):
            found[alias] = registry.find(model, alias).tag
    return found


if __name__ == "__main__":
    main()
