"""Every published checkpoint: the table in `registry.csv`, and its lookup.

To add a checkpoint, add a row. Tags follow timm; `hub_repository` holds
safetensors on the Hugging Face hub, `url` the official file.
"""

import csv
import fnmatch
import functools
from dataclasses import dataclass
from dataclasses import fields
from importlib import resources

from keras_convnext._util.checks import guess
from keras_convnext._util.checks import some
from keras_convnext.facts.variants import APACHE
from keras_convnext.facts.variants import MIT
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD
from keras_convnext.images.preprocessing import Preprocessing

NORMALIZATIONS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "clip": (
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    ),
    "half": ((0.5,) * 3, (0.5,) * 3),
}
# What each alias means: the first of these tags that a model has.
SEGMENTATION_ALIASES = {"ade20k": ("fb_in1k_ade20k_512", "fb_in22k_ade20k_640")}
MASK_RCNN_ALIASES = {"coco": ("fb_in1k_coco_mask",)}
CASCADE_ALIASES = {"coco": ("fb_in1k_coco_cascade", "fb_in22k_coco_cascade")}
ALIASES = {
    "imagenet": ("fb_in1k", "fcmae_ft_in1k"),
    "imagenet22k": ("fb_in22k",),
    "imagenet22k_ft_imagenet": ("fb_in22k_ft_in1k", "fcmae_ft_in22k_in1k"),
    "imagenet22k_ft_imagenet_384": (
        "fb_in22k_ft_in1k_384",
        "fcmae_ft_in22k_in1k_384",
    ),
}
# What weights are for: how errors call a model that takes them, and aliases.
TASKS = {
    "classify": ("{!r}", ALIASES),
    "segment": ("an UperNet on {!r}", SEGMENTATION_ALIASES),
    "mask_rcnn": ("a Mask R-CNN on {!r}", MASK_RCNN_ALIASES),
    "cascade_mask_rcnn": ("a Cascade Mask R-CNN on {!r}", CASCADE_ALIASES),
}
FREE_LICENSES = (APACHE, MIT, "bsd-3-clause")


@dataclass(frozen=True)
class Checkpoint:
    """One published set of weights.

    Attributes:
        task: a key of `TASKS`.
        model, tag: name of the variant, and of the weights.
        hub_repository: Hugging Face repository, `""` if not hosted there.
        url: official file, `""` if there is none.
        image_size: side in pixels of the evaluation images, or of the windows
            that slide over them; of detectors' images the short side.
        crop_pct, crop_mode, interpolation, normalization: see
            `Preprocessing`; `normalization` is a key of `NORMALIZATIONS`.
        classes: outputs of the classifier, 0 without one.
        label_set: what the outputs are, `""` if no classes.
        license: SPDX-like id.
        top1, top5: reported ImageNet-1k accuracy in percent at `image_size`,
            or `None`.
        dtype: of the published parameters.
        miou, miou_multi_scale: reported mean IoU in percent: sliding window at
            one scale; whole images at six scales and mirrored.
        box_ap, mask_ap: reported average precision on COCO val2017 in percent.
    """

    task: str
    model: str
    tag: str
    hub_repository: str
    url: str
    image_size: int
    crop_pct: float
    crop_mode: str
    interpolation: str
    normalization: str
    classes: int
    label_set: str
    license: str
    top1: float | None
    top5: float | None
    dtype: str
    miou: float | None
    miou_multi_scale: float | None
    box_ap: float | None
    mask_ap: float | None

    @property
    def name(self):
        return f"{self.model}.{self.tag}"

    @property
    def preprocessing(self):
        mean, std = NORMALIZATIONS[self.normalization]
        return Preprocessing(
            image_size=(self.image_size, self.image_size),
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
            interpolation=self.interpolation,
            mean=mean,
            std=std,
        )


@functools.cache
def checkpoints(task="classify"):
    """All checkpoints of a task, for each model timm's default first."""
    return tuple(row for row in _rows() if row.task == task)


def _rows():
    table = resources.files(__package__) / "registry.csv"
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield Checkpoint(
                **{x.name: _as(x.type, row[x.name]) for x in fields(Checkpoint)}
            )


def _as(kind, text):
    """A cell of the table as what its field holds; empty ones are `None`."""
    if kind == float | None:
        return float(text) if text else None
    return kind(text)


def is_name(weights, task="classify"):
    """Whether this is an alias, or a tag of any model."""
    _, aliases = TASKS[task]
    tags = {checkpoint.tag for checkpoint in checkpoints(task)}
    return weights in aliases or weights in tags


def matching(pattern="*"):
    """Checkpoints of the models, or with the full names, that match."""
    return [
        checkpoint
        for checkpoint in checkpoints()
        if fnmatch.fnmatch(checkpoint.model, pattern)
        or fnmatch.fnmatch(checkpoint.name, pattern)
    ]


def find(model, weights, task="classify"):
    """The checkpoint that an alias or tag means for a model.

    Raises:
        ValueError: if the model has no such weights, with those it has.
    """
    form, aliases = TASKS[task]
    called = form.format(model)
    rows = {c.tag: c for c in checkpoints(task) if c.model == model}
    if not rows:
        models = list(dict.fromkeys(c.model for c in checkpoints(task)))
        raise ValueError(
            f"There are no published weights for {called}, only for "
            f"{some(models)}. Pass `weights=None` for random weights, or a "
            f"file. Received: weights={weights!r}"
        )
    tags = list(aliases.get(weights, (weights,)))
    if weights == "imagenet":
        tags += [tag for tag, c in rows.items() if c.label_set == "imagenet1k"]
    for tag in tags:
        if tag in rows:
            return rows[tag]
    raise ValueError(
        f"{guess(weights, rows)}`weights` of {called} must be None, a file, "
        f"a URL, 'hf://org/repo', an alias of {list(aliases)} that it has, or "
        f"one of its tags {list(rows)}. Received: weights={weights!r}"
    )


def preprocessing_of(weights):
    """The `Preprocessing` of a full name, tag or alias.

    `"convnext_tiny.fb_in1k"` and `"convnext_xxlarge.imagenet"` are full names;
    a tag or alias alone stands for the first model that has it.
    """
    model, _, tag = weights.partition(".")
    if tag:
        return find(model, tag).preprocessing
    for tag in ALIASES.get(weights, (weights,)):
        for checkpoint in checkpoints():
            if checkpoint.tag == tag:
                return checkpoint.preprocessing
    tags = sorted({checkpoint.tag for checkpoint in checkpoints()})
    raise ValueError(
        f"{guess(weights, tags)}`weights` must be a tag of "
        f"`keras_convnext.list_weights()`, an alias of {list(ALIASES)}, or "
        f"'model.tag'. Received: weights={weights!r}"
    )


def list_weights(pattern: str = "*") -> list[str]:
    """Names of the published weights that match a shell-style pattern.

    `keras-convnext weights` prints them with size, classes, accuracy and
    license.

    Args:
        pattern: of model names, or of names such as `"convnext_tiny.fb_*"`.

    Returns:
        A list of names that `create_model` takes, for each model timm's
        default first.

    Examples:
        >>> keras_convnext.list_weights("convnext_tiny.fb_in22k*")
        ['convnext_tiny.fb_in22k_ft_in1k', 'convnext_tiny.fb_in22k_ft_in1k_384', 'convnext_tiny.fb_in22k']
    """  # noqa: E501
    return [checkpoint.name for checkpoint in matching(pattern)]
