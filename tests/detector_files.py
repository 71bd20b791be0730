"""Small detectors, and files as mmdetection writes them."""

import functools

from families import SMALL
from mmdet_reference import formula
from safetensors.numpy import save_file

from keras_convnext import Variant
from keras_convnext import detection
from keras_convnext.models.construction import build

# By the names of the answers of mmdetection.
DETECTORS = {
    "mask_rcnn": detection.MaskRCNN,
    "cascade": detection.CascadeMaskRCNN,
}
WIDTHS = {
    "classes": formula.CLASSES,
    "channels": formula.CHANNELS,
    "units": formula.UNITS,
}
# As the official repository calls the parts of a block, and as mmpretrain.
BLOCKS = {
    "official": ("dwconv", "pwconv1", "pwconv2"),
    "mmpretrain": ("depthwise_conv", "pointwise_conv1", "pointwise_conv2"),
}


def shapes(
    detector,
    depths,
    dims,
    classes=80,
    channels=256,
    units=1024,
    names="official",
):
    """Names and shapes of a detector's state in mmdet, in its order."""
    found = {}

    def add(name, *shape, bias=True):
        found[f"{name}.weight"] = shape
        if bias:
            found[f"{name}.bias"] = shape[:1]

    depthwise, expand, project = BLOCKS[names]
    add("backbone.downsample_layers.0.0", dims[0], 3, 4, 4)
    add("backbone.downsample_layers.0.1", dims[0])
    for s in (1, 2, 3):
        add(f"backbone.downsample_layers.{s}.0", dims[s - 1])
        add(f"backbone.downsample_layers.{s}.1", dims[s], dims[s - 1], 2, 2)
    for s, (depth, d) in enumerate(zip(depths, dims)):
        for b in range(depth):
            block = f"backbone.stages.{s}.{b}"
            found[f"{block}.gamma"] = (d,)
            add(f"{block}.{depthwise}", d, 1, 7, 7)
            add(f"{block}.norm", d)
            add(f"{block}.{expand}", 4 * d, d)
            add(f"{block}.{project}", d, 4 * d)
    for s, d in enumerate(dims):
        add(f"backbone.norm{s}", d)
    for i, d in enumerate(dims):
        add(f"neck.lateral_convs.{i}.conv", channels, d, 1, 1)
    for i in range(4):
        add(f"neck.fpn_convs.{i}.conv", channels, channels, 3, 3)
    add("rpn_head.rpn_conv", channels, channels, 3, 3)
    add("rpn_head.rpn_cls", 3, channels, 1, 1)
    add("rpn_head.rpn_reg", 12, channels, 1, 1)
    is_cascade = detector == "cascade"
    for stage in (".0", ".1", ".2") if is_cascade else ("",):
        box = f"roi_head.bbox_head{stage}"
        add(f"{box}.fc_cls", classes + 1, units)
        add(f"{box}.fc_reg", 4 * classes, units)
        for i in range(4 if is_cascade else 0):
            conv = f"{box}.shared_convs.{i}"
            add(f"{conv}.conv", channels, channels, 3, 3, bias=False)
            add(f"{conv}.bn", channels)
            found[f"{conv}.bn.running_mean"] = (channels,)
            found[f"{conv}.bn.running_var"] = (channels,)
            found[f"{conv}.bn.num_batches_tracked"] = ()
        add(f"{box}.shared_fcs.0", units, channels * 49)
        if not is_cascade:
            add(f"{box}.shared_fcs.1", units, units)
    for stage in (".0", ".1", ".2") if is_cascade else ("",):
        mask = f"roi_head.mask_head{stage}"
        for i in range(4):
            add(f"{mask}.convs.{i}.conv", channels, channels, 3, 3)
        found[f"{mask}.upsample.weight"] = (channels, channels, 2, 2)
        found[f"{mask}.upsample.bias"] = (channels,)
        add(f"{mask}.conv_logits", classes, channels, 1, 1)
    return found


@functools.cache
def weights(detector, names="official"):
    """A small detector's arrays, by the formula of the official names."""
    official = shapes(detector, **SMALL, **WIDTHS)
    own = shapes(detector, **SMALL, **WIDTHS, names=names)
    values = formula.weights(official)
    return {name: values[key] for name, key in zip(own, official)}


def file_of(detector, folder, names="official", **sizes):
    """The path of a file with these arrays, or those of other sizes."""
    values = weights(detector, names)
    if sizes:
        salt = formula.OFFICIAL_SALT
        values = formula.weights(shapes(detector, **sizes), salt)
    path = folder / f"{detector}.safetensors"
    save_file(values, path)
    return path


def backbone(depths=SMALL["depths"], name="v1", **options):
    variant = Variant(name, depths, SMALL["dims"])
    return build(variant, include_top=False, weights=None, **options)


def small(detector, weights=None, **options):
    """A detector on the small backbone, as the weights or by `WIDTHS`."""
    if weights is None:
        options = {**WIDTHS, **options}
    build_detector = DETECTORS[detector]
    return build_detector(backbone(), weights=weights, **options)
