"""Writes what mmdetection 3.3.0 answers.

Usage: ../.venv-mmdet/bin/python -m mmdet_reference FOLDER   (in `tests`)

`make .venv-mmdet/ready` makes the environment: Python 3.11, torch 2.13.0 on
CPU, onnxruntime 1.31.1, mmdet 3.3.0, mmcv-lite 2.1.0 and mmengine 0.10.7.
"""

import contextlib
import copy
import functools
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from mmdet.models.losses.iou_loss import giou_loss
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmdet.models.task_modules import DeltaXYWHBBoxCoder
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.registry import MODELS
from mmdet.registry import TASK_UTILS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmdet.structures.bbox import bbox_overlaps
from mmdet.structures.mask import BitmapMasks
from mmdet.structures.mask import mask_target
from mmdet.utils import register_all_modules
from mmengine import ConfigDict
from mmengine.structures import InstanceData

from mmdet_reference import configs
from mmdet_reference import formula
from mmdet_reference import margins
from mmdet_reference.answers import STEP
from mmdet_reference.backbone import ConvNeXt

torch.set_num_threads(1)
register_all_modules()
MODELS.register_module("Reference", module=ConvNeXt)
KINDS = ("mask_rcnn", "cascade")
SIZES = (
    formula.DEPTHS,
    formula.DIMS,
    formula.CHANNELS,
    formula.UNITS,
    formula.CLASSES,
    formula.PROPOSALS,
    formula.TRAINING_PROPOSALS,
)
# While predicting and while training; a Cascade trains on twice as many.
OFFICIAL_PROPOSALS = (1000, 1000)
TINY = (
    formula.OFFICIAL_DEPTHS,
    (96, 192, 384, 768),
    *(256, 1024),
    formula.OFFICIAL_CLASSES,
    *OFFICIAL_PROPOSALS,
)
NARROW = (TINY[0], *SIZES[1:4], *TINY[4:])
# Of these the gradients are saved, thinned.
WATCHED = (
    "backbone.downsample_layers.0.0.weight",
    "backbone.stages.0.0.dwconv.weight",
    "backbone.stages.2.1.pwconv1.weight",
    "backbone.stages.3.0.gamma",
    "backbone.norm0.weight",
    "backbone.norm3.bias",
    "neck.lateral_convs.1.conv.weight",
    "neck.fpn_convs.0.conv.weight",
    "neck.fpn_convs.3.conv.bias",
    "rpn_head.rpn_conv.weight",
    "rpn_head.rpn_cls.weight",
    "rpn_head.rpn_reg.bias",
    "roi_head.bbox_head.shared_fcs.0.weight",
    "roi_head.bbox_head.shared_fcs.1.bias",
    "roi_head.bbox_head.fc_cls.weight",
    "roi_head.bbox_head.fc_reg.bias",
    "roi_head.mask_head.convs.0.conv.weight",
    "roi_head.mask_head.upsample.weight",
    "roi_head.mask_head.conv_logits.bias",
    *(
        f"roi_head.bbox_head.{stage}.{name}"
        for stage in range(3)
        for name in (
            "shared_convs.0.conv.weight",
            "shared_convs.3.bn.weight",
            "shared_fcs.0.weight",
            "fc_cls.bias",
            "fc_reg.weight",
        )
    ),
    *(
        f"roi_head.mask_head.{stage}.{name}"
        for stage in range(3)
        for name in ("convs.3.conv.bias", "upsample.bias", "conv_logits.weight")
    ),
)
# Thresholds of positives, negatives and low-quality matches. The last two
# reach only an object's best box.
ASSIGNERS = {
    "rpn": (0.7, 0.3, 0.3, True),
    "mask_rcnn": (0.5, 0.5, 0.5, True),
    "cascade_2": (0.7, 0.7, 0.7, False),
    "low_quality": (0.95, 0.3, 0.3, True),
    "too_low": (0.95, 0.95, 0.95, True),
}
STATISTICS = tuple(
    f"roi_head.bbox_head.{stage}.shared_convs.{conv}.bn.running_{name}"
    for stage, conv in ((0, 0), (2, 3))
    for name in ("mean", "var")
)


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, arrays in answers().items():
        np.savez_compressed(folder / f"{name}.npz", **arrays)
    (folder / "layouts.txt").write_text(layouts())


def layouts():
    """Names and shapes of all tensors: of Tiny's official files, and of what
    the answers are of."""
    lines = []
    for name, sizes in {"": TINY, "small_": SIZES, "official_": NARROW}.items():
        for kind in KINDS:
            lines.append(f"[{name}{kind}]")
            model = MODELS.build(ConfigDict(configs.detector(kind, *sizes)))
            for key, tensor in model.state_dict().items():
                lines.append(" ".join(map(str, (key, *tensor.shape))))
    return "\n".join(lines) + "\n"


def answers():
    """All files as dicts of arrays."""
    models = {kind: build(kind) for kind in KINDS}
    for kind, model in models.items():
        check_margins(kind, model)
    results = {"trunk": trunk(models)}
    for kind, model in models.items():
        results[kind] = {
            **heads(model),
            **detections(model),
            **training(model),
        }
    results["official"] = official()
    results["steps"] = steps(models["mask_rcnn"].double())
    return results


@contextlib.contextmanager
def in_double(model):
    """mmdetection turns targets, and some of what it compares with them, into
    float32, by a method of tensors; and its anchors are made so."""
    generator = model.rpn_head.prior_generator
    priors = functools.partial(generator.grid_priors, dtype=torch.float64)
    patched = functools.partial(mock.patch.object, generator)
    with (
        mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
        patched("grid_priors", priors),
        patched("ratios", generator.ratios.double()),
        patched("scales", generator.scales.double()),
        patched("base_anchors", generator.base_anchors),
    ):
        generator.base_anchors = generator.gen_base_anchors()
        torch.set_default_dtype(torch.float64)
        yield
        torch.set_default_dtype(torch.float32)


def steps(model):
    """Losses of plain gradient descent in float64, and where it ends."""
    fill(model)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), formula.STEP_RATE)
    x, rows = inputs(dtype="float64"), []
    with in_double(model):
        for _ in range(formula.STEPS):
            losses = totals(model.loss(x, samples(x)))
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            rows.append([float(loss.detach()) for loss in losses.values()])
    weights = dict(model.named_parameters())
    return {
        "names": np.array(list(losses)),
        "losses": np.array(rows),
        **{
            key: formula.thin(weights[key].detach().numpy())
            for key in WATCHED
            if key in weights
        },
    }


def official():
    """The same as `official.py` of version 2.11.0 has it: it must stay so."""
    x = torch.from_numpy(formula.official_batch())
    x = x.permute(0, 3, 1, 2).contiguous()
    place = formula.OFFICIAL_SIZE, formula.OFFICIAL_ORIGINAL_SIZE
    result = {}
    for kind in KINDS:
        model = MODELS.build(ConfigDict(configs.detector(kind, *NARROW)))
        fill(model, formula.OFFICIAL_SALT)
        sample = without_objects(*place, formula.OFFICIAL_CANVAS)
        check(kind, [margins.predicting(model.eval(), x, [sample])])
        with torch.no_grad():
            (found,) = model.predict(x, [sample], rescale=True)
        one = found.pred_instances
        result |= {
            f"{kind}/boxes": one.bboxes.numpy(),
            f"{kind}/scores": one.scores.numpy(),
            f"{kind}/classes": one.labels.numpy().astype("int8"),
            f"{kind}/masks": np.packbits(one.masks.numpy()[::STEP]),
            f"{kind}/areas": one.masks.numpy().sum((1, 2)),
        }
    return result


def check_margins(kind, model):
    """Refuses weights and objects where rounding decides."""
    found = []
    for only in (None, 1):
        x = inputs(only)
        found.append(margins.predicting(model, x, samples(x, only)))
    for objects in formula.CASES.values():
        proposals, _ = trained(model, objects)
        boxes = [x if y else () for x, y in zip(formula.BOXES, objects)]
        found.append(
            margins.training(
                model, proposals, boxes, anchors_of(model), formula.SIZES
            )
        )
    check(kind, found)


def check(kind, found):
    for name, least in margins.LEAST.items():
        smallest = min(x.get(name, np.inf) for x in found)
        if smallest < least:
            raise ValueError(
                f"{kind}: expected every {name} at least {least} from a "
                f"decision. Received: {smallest:.1e}. Change `SALT` or "
                "`BOXES` in formula.py"
            )


def build(kind):
    model = MODELS.build(ConfigDict(configs.detector(kind, *SIZES)))
    fill(model)
    return model.eval()


def fill(model, salt=formula.SALT):
    shapes = {k: tuple(x.shape) for k, x in model.state_dict().items()}
    values = formula.weights(shapes, salt).items()
    model.load_state_dict({k: torch.from_numpy(x) for k, x in values})


def inputs(only=None, dtype="float32"):
    """The normalized images, channels first; one alone in its own canvas."""
    batch = formula.batch(dtype)
    if only is not None:
        height, width = (-(-x // 32) * 32 for x in formula.SIZES[only])
        batch = batch[only : only + 1, :height, :width]
    return torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous()


def samples(x, only=None, objects=(True, True)):
    """What mmdetection knows of each image beside its pixels."""
    canvas = tuple(x.shape[2:])
    result = []
    for index in range(len(formula.SIZES)) if only is None else [only]:
        size = formula.SIZES[index]
        sample = without_objects(size, formula.ORIGINAL_SIZES[index], canvas)
        present = slice(None if objects[index] else 0)
        masks = formula.masks(index)[present].astype("uint8")
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(formula.BOXES[index])[present],
            labels=torch.tensor(formula.LABELS[index])[present],
            masks=BitmapMasks(masks, *size).pad(canvas),
        )
        result.append(sample)
    return result


def without_objects(size, original, canvas):
    factors = size[1] / original[1], size[0] / original[0]
    return DetDataSample(
        metainfo={
            "img_shape": size,
            "ori_shape": original,
            "pad_shape": canvas,
            "batch_input_shape": canvas,
            "scale_factor": factors,
        }
    )


METAS = [x.metainfo for x in samples(inputs())]


def trunk(models):
    """Up to the proposals, which both detectors share, and the pieces."""
    model, x = models["mask_rcnn"], inputs()
    with torch.no_grad():
        maps = model.extract_feat(x)
        scores, deltas = model.rpn_head(maps)
        proposals = model.rpn_head.predict_by_feat(
            scores, deltas, batch_img_metas=METAS, cfg=model.test_cfg.rpn
        )
        result = {f"map_{k}": last(x) for k, x in enumerate(maps)}
        result["rpn_scores"] = np.concatenate(
            [last(x).reshape(2, -1) for x in scores], 1
        )
        result["rpn_deltas"] = np.concatenate(
            [last(x).reshape(2, -1, 4) for x in deltas], 1
        )
        result["formula"] = formula.fingerprint()
        result["proposals"] = stacked(proposals, "bboxes")
        result["proposal_scores"] = stacked(proposals, "scores")
    return {**result, **assignments(models), **pieces(model)}


def last(x):
    """Channels last, in NumPy."""
    return x.detach().permute(0, 2, 3, 1).contiguous().numpy()


def stacked(instances, name):
    return np.stack([x[name].numpy() for x in instances])


def anchors_of(model):
    height, width = formula.CANVAS
    grids = [(height // x, width // x) for x in (4, 8, 16, 32)]
    grids.append(tuple(-(-x // 2) for x in grids[-1]))
    head = model.rpn_head
    levels, _ = head.get_anchors(grids, METAS, device="cpu")
    return torch.cat(levels[0]).numpy()


def assignments(models):
    """The object that each anchor is assigned in training: its number from 1
    on, 0 for background, −1 for neither, −2 where it takes no part."""
    result = {"anchors": anchors_of(models["mask_rcnn"])}
    boxes = torch.from_numpy(result["anchors"])
    for kind, model in models.items():
        border = model.train_cfg.rpn.allowed_border
        result[f"{kind}_assigned"] = np.stack(
            [
                assigned(model.rpn_head.assigner, boxes, sample, border)
                for sample in samples(inputs())
            ]
        )
    return result


def assigned(assigner, boxes, sample, border):
    valid = anchor_inside_flags(
        boxes,
        torch.ones(len(boxes), dtype=torch.bool),
        sample.img_shape,
        border,
    )
    numbers = np.full(len(boxes), -2, "int8")
    numbers[valid] = assigner.assign(
        InstanceData(priors=boxes[valid]), sample.gt_instances
    ).gt_inds
    return numbers


def pieces(model):
    """Functions on boxes that the formula draws."""
    random = np.random.RandomState(0)
    corners = random.uniform(0, 100, (2, 24, 2, 2)).astype("float32")
    corners.sort(axis=2)
    a, b = torch.from_numpy(corners.reshape(2, 24, 4))
    deltas = torch.from_numpy(random.normal(0, 2, (24, 4)).astype("float32"))
    stds = configs.STDS[1]
    box_coder = DeltaXYWHBBoxCoder(target_stds=stds)
    clipped = box_coder.decode(a, deltas, max_shape=(80, 90))
    moving = a.clone().requires_grad_()
    giou_loss(moving, b, eps=1e-6, reduction="sum").backward()
    masks = formula.masks(0).astype("uint8")
    targets = mask_target(
        [torch.tensor(formula.ROIS[0])],
        [torch.arange(len(formula.ROIS[0])) % len(masks)],
        [BitmapMasks(masks, *formula.SIZES[0])],
        ConfigDict({"mask_size": 28}),
    )
    candidates = random.uniform(-12, 12, (200, 4)).astype("float32")
    objects = torch.tensor(formula.BOXES[0])
    candidates = objects.repeat(50, 1) + torch.from_numpy(candidates)
    maps = torch.from_numpy(random.uniform(0, 1, (3, 28, 28)).astype("float32"))
    places = torch.tensor(
        [(5.3, 8.1, 30.2, 33.9), (-9.5, 20.0, 15.0, 60.0), (7.0, 7.0, 7.5, 9.0)]
    )
    pasted, _ = _do_paste_mask(maps[:, None], places, 40, 50, skip_empty=False)
    return {
        "pieces/boxes": a.numpy(),
        "pieces/others": b.numpy(),
        "pieces/deltas": deltas.numpy(),
        "pieces/stds": np.float32(stds),
        "pieces/encoded": box_coder.encode(a, b).numpy(),
        "pieces/decoded": box_coder.decode(a, deltas).numpy(),
        "pieces/decoded_in_80_90": clipped.numpy(),
        "pieces/iou": bbox_overlaps(a, b).numpy(),
        "pieces/giou_loss": giou_loss(a, b, eps=1e-6, reduction="none").numpy(),
        "pieces/giou_loss_gradient": moving.grad.numpy(),
        "pieces/candidates": candidates.numpy(),
        **{
            f"pieces/assigned_{name}": TASK_UTILS.build(configs.assigner(*x))
            .assign(
                InstanceData(priors=candidates),
                InstanceData(bboxes=objects, labels=torch.zeros(4).long()),
            )
            .gt_inds.numpy()
            for name, x in ASSIGNERS.items()
        },
        "pieces/mask_targets": np.packbits(targets.numpy() > 0.5),
        "pieces/paste_maps": maps.numpy(),
        "pieces/paste_boxes": places.numpy(),
        "pieces/pasted": pasted.numpy(),
    }


def heads(model):
    """Logits and deltas of each stage on the RoIs of the formula."""
    fill(model)
    roi_head, result = model.roi_head, {}
    rois = bbox2roi([torch.tensor(x) for x in formula.ROIS])
    with torch.no_grad():
        maps = model.extract_feat(inputs())
        stages = range(getattr(roi_head, "num_stages", 1))
        for stage in stages:
            number = (stage,) if len(stages) > 1 else ()
            boxes = roi_head._bbox_forward(*number, maps, rois)
            result[f"logits_{stage}"] = boxes["cls_score"].numpy()
            result[f"deltas_{stage}"] = boxes["bbox_pred"].numpy()
            masks = roi_head._mask_forward(*number, maps, rois[:2])
            logits = masks["mask_preds"].permute(0, 2, 3, 1)
            result[f"mask_logits_{stage}"] = logits.contiguous().numpy()
        if len(stages) == 1:
            pooled = roi_head.bbox_roi_extractor(maps[:4], rois)
            result["pooled"] = last(pooled)
    return result


def detections(model):
    """What is found in both images, and in the second alone."""
    fill(model)
    result = {}
    for only in (None, 1):
        x = inputs(only)
        mask_head, given = model.roi_head.mask_head, []
        cascade = isinstance(mask_head, torch.nn.ModuleList)
        with (
            torch.no_grad(),
            before(
                mask_head[-1] if cascade else mask_head,
                "predict_by_feat",
                lambda mask_preds, given=given, **_: given.extend(mask_preds),
            ),
        ):
            found = model.predict(x, samples(x, only), rescale=True)
        for index, (sample, maps) in enumerate(zip(found, given)):
            one = sample.pred_instances
            name = f"found_{index}" if only is None else "found_alone"
            result[f"{name}/boxes"] = one.bboxes.numpy()
            result[f"{name}/scores"] = one.scores.numpy()
            result[f"{name}/classes"] = one.labels.numpy().astype("int8")
            if only is None:
                # A Cascade's are the mean of three heads' probabilities.
                maps = maps if cascade else maps.sigmoid()
                own = maps[torch.arange(len(maps)), one.labels][::STEP]
                masks = one.masks.numpy()
                result[f"{name}/maps"] = in_65535ths(own.numpy())
                result[f"{name}/masks"] = np.packbits(masks[::STEP])
                result[f"{name}/areas"] = masks.sum((1, 2))
    return result


@contextlib.contextmanager
def before(owner, name, note):
    """Has `note` see the arguments of a method before it runs."""
    method = getattr(owner, name)

    def noted(*args, **kwargs):
        note(*args, **kwargs)
        return method(*args, **kwargs)

    setattr(owner, name, noted)
    yield
    delattr(owner, name)


def in_65535ths(probabilities):
    return np.round(probabilities * 65535).astype("uint16")


def training(model):
    """Every loss, the gradient of their sum, and batch statistics.

    In float64. In float32 rounding decides on the sign of some of the 800,000
    inputs of ReLUs in a Cascade's box heads, and one sign is 1 % of a gradient.
    """
    result, model = {}, copy.deepcopy(model).double()
    for case, objects in formula.CASES.items():
        with in_double(model):
            _, losses = trained(model, objects)
            found = gradients(model, losses)
        for name, loss in losses.items():
            result[f"{case}/{name}"] = loss.detach().reshape(()).numpy()
        for key, values in found.items():
            result[f"{case}/gradients/{key}"] = values
        state = model.state_dict()
        for name in STATISTICS:
            if name in state:
                result[f"{case}/{name}"] = state[name].float().numpy()
    return result


def trained(model, objects):
    """The proposals of each stage and image, and the losses by name.

    The model keeps the batch statistics that it gathered.
    """
    fill(model)
    model.train()
    dtype = model.state_dict()["backbone.norm0.weight"].numpy().dtype
    x, proposals = inputs(dtype=dtype), {}
    with contextlib.ExitStack() as stack:
        for stage, assigner in enumerate(stages(model.roi_head.bbox_assigner)):

            def note(found, *args, stage=stage):
                index = sum(key[0] == stage for key in proposals)
                proposals[stage, index] = found.priors.detach().numpy()

            stack.enter_context(before(assigner, "assign", note))
        losses = model.loss(x, samples(x, objects=objects))
    model.eval()
    return proposals, totals(losses)


def totals(losses):
    """One number for each, where mmdetection has one for each level."""
    return {
        name: sum(loss) if isinstance(loss, list) else loss
        for name, loss in losses.items()
        if "loss" in name
    }


def stages(parts):
    return parts if isinstance(parts, list) else [parts]


def gradients(model, losses):
    """Of the sum of all losses, by weight, thinned.

    Raises:
        ValueError: if a loss has none.
    """
    parameters = dict(model.named_parameters())
    watched = [x for x in WATCHED if x in parameters]
    of_losses = [
        torch.autograd.grad(
            loss,
            [parameters[x] for x in watched],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        for loss in losses.values()
    ]
    for (name, loss), found in zip(losses.items(), of_losses):
        if loss and not any(x.any() for x in found):
            raise ValueError(f"{name} moves none of the watched weights")
    return {
        key: np.float32(formula.thin(sum(of_weight).numpy()))
        for key, of_weight in zip(watched, zip(*of_losses))
    }
