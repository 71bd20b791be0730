"""The published UperNets, one row each.

Source: the official repository's `semantic_segmentation/README.md`. The
project is MIT; no licence of its own goes with these files.
"""

from dataclasses import dataclass

from keras_convnext._util.checks import did_you_mean
from keras_convnext.facts.variants import MIT

# The first that a model has.
ALIAS = "ade20k"
_URL = "https://dl.fbaipublicfiles.com/convnext/ade20k/"


@dataclass(frozen=True)
class Checkpoint:
    """One published UperNet.

    Attributes:
        model, tag: name of the backbone's variant, and of the weights.
        file: at the official address.
        crop: side of the training crops and test windows in pixels.
        miou: reported mean IoU in percent on ADE20K's validation images:
            sliding window, one scale.
        miou_multi_scale: the same of whole images, six scales and mirrored.
        classes: of ADE20K; class `i` is the label `i + 1` of its files, whose
            0 is none.
        licence: SPDX-like id.
        hub_repository: none holds these files.
    """

    model: str
    tag: str
    file: str
    crop: int
    miou: float
    miou_multi_scale: float
    classes: int = 150
    licence: str = MIT
    hub_repository: str = ""

    @property
    def name(self):
        return f"{self.model}.{self.tag}"

    @property
    def url(self):
        return _URL + self.file


CHECKPOINTS = tuple(
    Checkpoint(
        f"convnext_{size}",
        f"fb_in{data}_ade20k_{crop}",
        f"upernet_convnext_{size}_{data}_{crop}x{crop}.pth",
        crop,
        miou,
        multi_scale,
    )
    for size, data, crop, miou, multi_scale in (
        ("tiny", "1k", 512, 46.0, 46.7),
        ("small", "1k", 512, 48.7, 49.6),
        ("base", "1k", 512, 49.1, 49.9),
        ("base", "22k", 640, 52.6, 53.1),
        ("large", "22k", 640, 53.2, 53.7),
        ("xlarge", "22k", 640, 53.6, 54.0),
    )
)


def is_name(weights):
    """Whether this is the alias, or a tag of any model."""
    return weights == ALIAS or any(c.tag == weights for c in CHECKPOINTS)


def find(model, weights):
    """The checkpoint that the alias or a tag means for a variant's name.

    Raises:
        ValueError: if the model has no such weights, with those it has.
    """
    own = {c.tag: c for c in CHECKPOINTS if c.model == model}
    for tag, checkpoint in own.items():
        if weights in (tag, ALIAS):
            return checkpoint
    models = dict.fromkeys(c.model for c in CHECKPOINTS)
    raise ValueError(
        f"`weights` of an UperNet on {model!r} must be None, a file, a URL, "
        f"'hf://org/repo', or one of its tags {list(own)}; there are "
        f"published ones for {list(models)}. Received: weights={weights!r}"
        f"{did_you_mean(weights, own)}"
    )
