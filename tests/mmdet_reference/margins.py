"""How far the reference's decisions are from where rounding changes them.

A distance is of IoUs or of scores; levels are distances in powers of two, and
sides of boxes in pixels. `write.py` asks for `LEAST` of each.
"""

import copy

import numpy as np
import torch
from mmdet.structures.bbox import bbox2roi

LEAST = {
    "iou": 1e-4,
    "score": 2e-5,
    "logit": 1e-4,
    "level": 1e-4,
    "side": 1e-2,
}


def predicting(model, x, samples):
    """Smallest distances, by name, of all that predicting decides."""
    found = {}
    with torch.no_grad():
        maps = model.extract_feat(x)
        scores, deltas = model.rpn_head(maps)
        metas = [sample.metainfo for sample in samples]
        proposals = _proposals(
            model, scores, deltas, metas, model.test_cfg.rpn, found
        )
        rois = bbox2roi([one.bboxes for one in proposals])
        _levels(rois[:, 1:], found)
        head = model.roi_head
        if hasattr(head, "num_stages"):
            for stage in range(2):
                boxes = head._bbox_forward(stage, maps, rois)
                logits = boxes["cls_score"][:, :-1]
                best = logits.topk(2, dim=1).values
                _note(found, "logit", (best[:, 0] - best[:, 1]).min())
                rois = _refined(head, stage, rois, boxes, metas)
                _levels(rois[:, 1:], found)
        raw = head.predict_bbox(maps, metas, proposals, rcnn_test_cfg=None)
    for boxes, scores in ((x.bboxes, x.scores) for x in raw):
        _detections(boxes.numpy(), scores.numpy(), found)
    return found


def training(model, proposals, objects, anchors, sizes):
    """The same of the matching of anchors and proposals with objects.

    Args:
        proposals: arrays by stage and image, before the objects are added.
        objects: the boxes of each image.
        anchors: those of the canvas.
        sizes: height and width of each image.
    """
    found = {}
    heads = model.roi_head.bbox_assigner
    heads = heads if isinstance(heads, list) else [heads]
    for (stage, index), boxes in proposals.items():
        _note(found, "side", (boxes[:, 2:] - boxes[:, :2]).min())
        _levels(torch.from_numpy(boxes), found)
        _assignment(heads[stage], boxes, objects[index], found)
    for boxes, (height, width) in zip(objects, sizes):
        inside = (anchors[:, :2] >= 0).all(1)
        inside &= (anchors[:, 2:] < (width, height)).all(1)
        strict = model.train_cfg.rpn.allowed_border >= 0
        part = anchors[inside] if strict else anchors
        _assignment(model.rpn_head.assigner, part, boxes, found)
    return found


def _note(found, name, distance):
    found[name] = min(found.get(name, np.inf), float(distance))


def _proposals(model, scores, deltas, metas, cfg, found):
    """Those of the model, and how clear the choice among candidates is."""
    # Deep: an update would reach into the dict of the model's own NMS.
    everything = copy.deepcopy(cfg)
    everything.nms.iou_threshold, everything.max_per_img = 1.0, 10**6
    head = model.rpn_head
    candidates = head.predict_by_feat(
        scores, deltas, batch_img_metas=metas, cfg=everything
    )
    for index, one in enumerate(candidates):
        boxes, values = one.bboxes.numpy(), one.scores.numpy()
        level_of = {}
        for number, level in enumerate(scores):
            flat = level[index].sigmoid().numpy().ravel()
            _cut(flat, cfg.nms_pre, found)
            level_of.update(dict.fromkeys(flat.tolist(), number))
        levels = np.array([level_of[x] for x in values.tolist()])
        _suppression(boxes, values, levels, 0.7, cfg.max_per_img, found)
        _note(found, "side", (boxes[:, 2:] - boxes[:, :2]).min())
    return head.predict_by_feat(scores, deltas, batch_img_metas=metas, cfg=cfg)


def _refined(head, stage, rois, boxes, metas):
    labels = boxes["cls_score"][:, :-1].argmax(1)
    moved = [
        head.bbox_head[stage].regress_by_class(
            rois[rois[:, 0] == index, 1:],
            labels[rois[:, 0] == index],
            boxes["bbox_pred"][rois[:, 0] == index],
            meta,
        )
        for index, meta in enumerate(metas)
    ]
    return bbox2roi(moved)


def _detections(boxes, scores, found):
    """Of the boxes (n, 4·classes) and scores (n, classes + 1) of an image."""
    count = scores.shape[1] - 1
    boxes, scores = boxes.reshape(-1, count, 4), scores[:, :-1]
    rows, classes = np.nonzero(scores > 0.05)
    kept = _suppression(
        boxes[rows, classes], scores[rows, classes], classes, 0.5, 100, found
    )
    if kept <= 100:
        _note(found, "score", np.abs(scores - 0.05).min())


def _suppression(boxes, scores, groups, threshold, count, found):
    """A candidate's fate hangs on its largest IoU with what is kept.

    Returns how many are kept, `count + 1` if the last are cut off.
    """
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        same = [x for x in kept if groups[x] == groups[index]]
        largest = iou(boxes[same], boxes[[index]]).max() if same else 0.0
        _note(found, "iou", abs(largest - threshold))
        if largest <= threshold:
            kept.append(index)
        if len(kept) > count:
            break
    _cut(scores[kept], count, found)
    return len(kept)


def _cut(scores, count, found):
    scores = np.sort(scores)[::-1]
    if len(scores) > count:
        _note(found, "score", scores[count - 1] - scores[count])


def _levels(boxes, found):
    """Of the choice of a pyramid level, at sides of 112, 224 and 448."""
    sides = (boxes[:, 2:] - boxes[:, :2]).double()
    level = torch.log2(sides.prod(1).sqrt() / 56 + 1e-6)
    near = min((level - x).abs().min() for x in (1, 2, 3))
    _note(found, "level", near)


def _assignment(assigner, boxes, objects, found):
    if not len(objects):
        return
    overlaps = iou(np.float64(objects), boxes)
    best = overlaps.max(0)
    positive, negative = assigner.pos_iou_thr, assigner.neg_iou_thr
    for threshold in {positive, negative}:
        _note(found, "iou", np.abs(best - threshold).min())
    if len(objects) > 1 and (best >= positive).any():
        ranked = np.sort(overlaps[:, best >= positive], axis=0)
        _note(found, "iou", (ranked[-1] - ranked[-2]).min())
    if not assigner.match_low_quality:
        return
    ranked = np.sort(overlaps, axis=1)
    _note(found, "iou", np.abs(ranked[:, -1] - assigner.min_pos_iou).min())
    # Which box is an object's best, where that alone makes it positive.
    weak = ranked[ranked[:, -1] < positive]
    if len(weak):
        _note(found, "iou", (weak[:, -1] - weak[:, -2]).min())


def iou(a, b):
    """IoU of every box of `a` with every box of `b`."""
    a, b = np.float64(a)[:, None], np.float64(b)[None]
    start = np.maximum(a[..., :2], b[..., :2])
    end = np.minimum(a[..., 2:], b[..., 2:])
    overlap = (end - start).clip(0).prod(-1)
    area_a, area_b = ((x[..., 2:] - x[..., :2]).prod(-1) for x in (a, b))
    return overlap / (area_a + area_b - overlap).clip(1e-9)
