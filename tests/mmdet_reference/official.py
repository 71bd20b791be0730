"""Writes what mmdetection 2.11.0 answers under the official configuration.

Usage: python -m mmdet_reference.official CONFIGS FOLDER   (in `tests`)

CONFIGS is `object_detection/configs` of github.com/facebookresearch/ConvNeXt,
048efce. The environment has Python 3.11, torch 2.13.0 on CPU, onnxruntime
1.31.1 and, built without compiling (`pip install --no-deps
--no-build-isolation`, beside setuptools below 81), mmdet 2.11.0 and mmcv
1.3.18 with addict, yapf, terminaltables, opencv-python-headless.
"""

import runpy
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from mmdet_reference import formula
from mmdet_reference import operators  # noqa: F401  before mmcv is imported
from mmdet_reference.answers import STEP
from mmdet_reference.backbone import ConvNeXt

FILES = {
    "mask_rcnn": (
        "mask_rcnn_convnext_fpn",
        "mask_rcnn_convnext_tiny_patch4_window7_mstrain_480-800_adamw_3x_"
        "coco_in1k",
    ),
    "cascade": (
        "cascade_mask_rcnn_convnext_fpn",
        "cascade_mask_rcnn_convnext_tiny_patch4_window7_mstrain_480-800_giou_"
        "4conv1f_adamw_3x_coco_in1k",
    ),
}
# The only changes: narrow layers, and the same norm on one device.
NARROW = {256: formula.CHANNELS, 1024: formula.UNITS}
WIDTHS = (
    "in_channels",
    "out_channels",
    "feat_channels",
    "conv_out_channels",
    "fc_out_channels",
)


def main():
    configs, folder = map(Path, sys.argv[1:])
    result = {}
    for kind, (base, own) in FILES.items():
        model = build(
            configs / "_base_" / "models" / f"{base}.py",
            configs / "convnext" / f"{own}.py",
        )
        for name, values in found(model).items():
            result[f"{kind}/{name}"] = values
    np.savez_compressed(folder / "official.npz", **result)


def build(base, own):
    # mmcv imports it, and needs nothing of it here.
    sys.modules.setdefault("torchvision", mock.MagicMock())
    from mmcv import Config
    from mmcv import ConfigDict
    from mmdet.models import BACKBONES
    from mmdet.models import build_detector

    BACKBONES.register_module("ConvNeXt", force=True, module=ConvNeXt)
    config = Config(runpy.run_path(str(base))["model"])
    config.merge_from_dict(runpy.run_path(str(own))["model"])
    model = build_detector(ConfigDict(narrow(config._cfg_dict.to_dict())))
    shapes = {k: tuple(x.shape) for k, x in model.state_dict().items()}
    values = formula.weights(shapes, formula.OFFICIAL_SALT).items()
    model.load_state_dict({k: torch.from_numpy(x) for k, x in values})
    return model.eval()


def narrow(config):
    """The configuration with other widths."""
    if isinstance(config, (list, tuple)):
        return [narrow(x) for x in config]
    if not isinstance(config, dict):
        return "BN" if config == "SyncBN" else config
    result = {key: narrow(value) for key, value in config.items()}
    for key in WIDTHS:
        if key in result and not isinstance(result[key], list):
            result[key] = NARROW[result[key]]
    if result.get("type") == "FPN":
        result["in_channels"] = list(formula.DIMS)
    if result.get("type") == "ConvNeXt":
        result["dims"] = list(formula.DIMS)
    return result


def found(model):
    (height, width), original = (
        formula.OFFICIAL_SIZE,
        formula.OFFICIAL_ORIGINAL_SIZE,
    )
    factors = width / original[1], height / original[0]
    meta = {
        "img_shape": (height, width, 3),
        "ori_shape": (*original, 3),
        "pad_shape": (*formula.OFFICIAL_CANVAS, 3),
        "scale_factor": np.float32(factors * 2),
        "flip": False,
        "flip_direction": None,
    }
    x = torch.from_numpy(formula.official_batch())
    x = x.permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        boxes, masks = model.simple_test(x, [meta], rescale=True)[0]
    # By class there; here by falling score.
    classes = np.repeat(np.arange(len(boxes)), [len(one) for one in boxes])
    rows = np.concatenate(boxes)
    order = np.argsort(-rows[:, 4], kind="stable")
    masks = np.stack([mask for one in masks for mask in one])[order]
    return {
        "boxes": rows[order, :4],
        "scores": rows[order, 4],
        "classes": classes[order].astype("int8"),
        "masks": np.packbits(masks[::STEP]),
        "areas": masks.sum((1, 2)),
    }


if __name__ == "__main__":
    main()
