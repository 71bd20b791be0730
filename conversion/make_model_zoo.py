"""Writes `docs/model_zoo.md` from the tables of variants and checkpoints.

python conversion/make_model_zoo.py            # writes the page
python conversion/make_model_zoo.py --check    # exit status 1 if stale
"""

import argparse
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
    lines = [
        "# Model zoo",
        "",
        "<!-- Written by conversion/make_model_zoo.py; do not edit. -->",
        "",
        f"{len(rows)} published checkpoints of {len({x.model for x in rows})} "
        "architectures. `weights=` takes a tag; top-1 is ImageNet-1k accuracy "
        "in percent at the given size, as reported by timm or by the official "
        "repositories; the outputs of CLIP's towers are no classes but their "
        "projection. Multiply-adds (10⁹) and "
        "activations (10⁶) are those of convolutions and dense layers for one "
        "image, with 1000 classes. The aliases are `imagenet` "
        "(**bold**), `imagenet22k`, `imagenet22k_ft_imagenet` and "
        "`imagenet22k_ft_imagenet_384`.",
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
            "| tag | size | crop | classes | top-1 | license |",
            "| --- | ---: | --- | ---: | ---: | --- |",
        ]
        default = default_tag(variant.name)
        for row in own:
            tag = f"**{row.tag}**" if row.tag == default else row.tag
            lines.append(
                f"| {tag} | {row.image_size} | {row.crop_mode} "
                f"{row.crop_pct:g} | {row.classes or '–'} | "
                f"{'–' if row.top1 is None else row.top1} | {row.license} |"
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


def default_tag(model):
    try:
        return registry.find(model, "imagenet").tag
    except ValueError:
        return None


if __name__ == "__main__":
    main()
