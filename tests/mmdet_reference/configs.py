"""The official detectors as mmdetection's configurations, of any width.

What the official files write out beside mmdetection's base files is here in
one place: no sampling (every candidate is taken), and BatchNorm in place of
SyncBN, which is the same on one device.
"""

MANY = 10**6
NMS = {"type": "nms", "iou_threshold": 0.7}
STDS = (
    (0.1, 0.1, 0.2, 0.2),
    (0.05, 0.05, 0.1, 0.1),
    (0.033, 0.033, 0.067, 0.067),
)
STAGE_WEIGHTS = (1, 0.5, 0.25)
CROSS_ENTROPY = {"type": "CrossEntropyLoss", "loss_weight": 1.0}


def detector(
    kind, depths, dims, channels, units, classes, proposals, training_proposals
):
    """The configuration of `"mask_rcnn"` or `"cascade"`."""
    cascade = kind == "cascade"
    box_head = cascade_box_head if cascade else plain_box_head
    heads = [
        box_head(channels, units, classes, STDS[stage])
        for stage in range(3 if cascade else 1)
    ]
    roi_head = {
        "type": "CascadeRoIHead" if cascade else "StandardRoIHead",
        "bbox_roi_extractor": extractor(channels, 7),
        "bbox_head": heads if cascade else heads[0],
        "mask_roi_extractor": extractor(channels, 14),
        "mask_head": mask_head(channels, classes),
    }
    training = [roi_training(0.5, low_quality=True)]
    if cascade:
        roi_head.update(num_stages=3, stage_loss_weights=STAGE_WEIGHTS)
        training = [roi_training(x, low_quality=False) for x in (0.5, 0.6, 0.7)]
    return {
        "type": "CascadeRCNN" if cascade else "MaskRCNN",
        "backbone": {"type": "Reference", "depths": depths, "dims": dims},
        "neck": {
            "type": "FPN",
            "in_channels": list(dims),
            "out_channels": channels,
            "num_outs": 5,
        },
        "rpn_head": rpn_head(cascade, channels),
        "roi_head": roi_head,
        "train_cfg": {
            "rpn": {
                "assigner": assigner(0.7, 0.3, 0.3, low_quality=True),
                "sampler": sampler(add_objects=False),
                "allowed_border": 0 if cascade else -1,
                "pos_weight": -1,
                "debug": False,
            },
            "rpn_proposal": {
                "nms_pre": 2000,
                "max_per_img": training_proposals,
                "nms": NMS,
                "min_bbox_size": 0,
            },
            "rcnn": training if cascade else training[0],
        },
        "test_cfg": {
            "rpn": {
                "nms_pre": 1000,
                "max_per_img": proposals,
                "nms": NMS,
                "min_bbox_size": 0,
            },
            "rcnn": {
                "score_thr": 0.05,
                "nms": {"type": "nms", "iou_threshold": 0.5},
                "max_per_img": 100,
                "mask_thr_binary": 0.5,
            },
        },
    }


def rpn_head(cascade, channels):
    box_loss = {"type": "L1Loss", "loss_weight": 1.0}
    if cascade:
        box_loss = {
            "type": "SmoothL1Loss",
            "beta": 1 / 9,
            "loss_weight": 1.0,
        }
    return {
        "type": "RPNHead",
        "in_channels": channels,
        "feat_channels": channels,
        "anchor_generator": {
            "type": "AnchorGenerator",
            "scales": [8],
            "ratios": [0.5, 1.0, 2.0],
            "strides": [4, 8, 16, 32, 64],
        },
        "bbox_coder": coder((1.0, 1.0, 1.0, 1.0)),
        "loss_cls": {**CROSS_ENTROPY, "use_sigmoid": True},
        "loss_bbox": box_loss,
    }


def coder(stds):
    return {
        "type": "DeltaXYWHBBoxCoder",
        "target_means": (0.0, 0.0, 0.0, 0.0),
        "target_stds": stds,
    }


def extractor(channels, size):
    return {
        "type": "SingleRoIExtractor",
        "roi_layer": {
            "type": "RoIAlign",
            "output_size": size,
            "sampling_ratio": 0,
        },
        "out_channels": channels,
        "featmap_strides": [4, 8, 16, 32],
    }


def plain_box_head(channels, units, classes, stds):
    return {
        "type": "Shared2FCBBoxHead",
        "in_channels": channels,
        "fc_out_channels": units,
        "roi_feat_size": 7,
        "num_classes": classes,
        "bbox_coder": coder(stds),
        "reg_class_agnostic": False,
        "loss_cls": CROSS_ENTROPY,
        "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
    }


def cascade_box_head(channels, units, classes, stds):
    return {
        **plain_box_head(channels, units, classes, stds),
        "type": "ConvFCBBoxHead",
        "num_shared_convs": 4,
        "num_shared_fcs": 1,
        "conv_out_channels": channels,
        "reg_decoded_bbox": True,
        "norm_cfg": {"type": "BN", "requires_grad": True},
        "loss_bbox": {"type": "GIoULoss", "loss_weight": 10.0},
    }


def mask_head(channels, classes):
    return {
        "type": "FCNMaskHead",
        "num_convs": 4,
        "in_channels": channels,
        "conv_out_channels": channels,
        "num_classes": classes,
        "loss_mask": {**CROSS_ENTROPY, "use_mask": True},
    }


def roi_training(iou, low_quality):
    return {
        "assigner": assigner(iou, iou, iou, low_quality),
        "sampler": sampler(add_objects=True),
        "mask_size": 28,
        "pos_weight": -1,
        "debug": False,
    }


def assigner(positive, negative, least, low_quality):
    return {
        "type": "MaxIoUAssigner",
        "pos_iou_thr": positive,
        "neg_iou_thr": negative,
        "min_pos_iou": least,
        "match_low_quality": low_quality,
        "ignore_iof_thr": -1,
    }


def sampler(add_objects):
    return {
        "type": "RandomSampler",
        "num": MANY,
        "pos_fraction": 0.5,
        "neg_pos_ub": -1,
        "add_gt_as_proposals": add_objects,
    }
