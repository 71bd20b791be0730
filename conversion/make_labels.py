"""Writes `keras_convnext/facts/label_sets` from timm's tables.

The order of the classes is that of timm (Apache-2.0, by Ross Wightman), in
whose `data/_info` folder the tables lie; the names are WordNet's (Princeton
University, see `WORDNET_LICENSE.txt` beside the label sets).
"""

import argparse
import bz2
import importlib.util
import json
from pathlib import Path

LABEL_SETS = Path(__file__).parents[1] / "keras_convnext" / "label_sets"
SYNSETS = {
    "imagenet1k": "imagenet_synsets.txt",
    "imagenet12k": "imagenet12k_synsets.txt",
    "imagenet22k": "imagenet22k_synsets.txt",
}
LEMMAS = "imagenet_synset_to_lemma.txt"


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description="Write the label sets of ImageNet-1k, 12k and 22k.",
        epilog="Example: python conversion/make_labels.py --output /tmp/labels",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=LABEL_SETS,
        help="folder for the label sets; default: that of the package",
    )
    parser.add_argument(
        "--tables",
        type=Path,
        help="timm's data/_info folder; default: that of the installed timm",
    )
    options = parser.parse_args(arguments)
    tables = options.tables or timm_tables()
    options.output.mkdir(parents=True, exist_ok=True)
    for name, content in label_sets(tables).items():
        path = options.output / f"{name}.json.bz2"
        path.write_bytes(content)
        print(f"{path}: {len(content)} bytes")


def timm_tables():
    """The folder of tables in the installed timm, found without importing."""
    timm = importlib.util.find_spec("timm")
    if timm is None:
        raise ImportError(
            "timm, whose tables are read, is not installed. Run "
            "`pip install timm` or pass `--tables`."
        )
    return Path(timm.origin).parent / "data" / "_info"


def label_sets(tables):
    """Content of each file by name: JSON rows `[wnid, name]` under bzip2.

    bzip2's encoder is frozen: the same tables give the same bytes anywhere.
    """
    names = dict(
        line.split("\t") for line in _lines(tables / LEMMAS) if line.strip()
    )
    contents = {}
    for name, file in SYNSETS.items():
        rows = [
            [wnid, first_name(names[wnid])] for wnid in _lines(tables / file)
        ]
        text = json.dumps(rows, separators=(",", ":"))
        contents[name] = bz2.compress(text.encode())
    return contents


def first_name(lemmas):
    """`"great white shark, white shark"` is a `"great_white_shark"`."""
    return lemmas.split(",")[0].strip().replace(" ", "_")


def _lines(path):
    return path.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    main()
