"""Detectors and segmenters that learn from composed pictures.

Image size, backbone and head widths are small enough for minutes on a CPU.
"""

import contextlib
import io

import keras
import numpy as np

from keras_convnext import ConvNeXt
from keras_convnext import create_model
from keras_convnext import data
from keras_convnext import detection
from keras_convnext import optimizers
from keras_convnext import segmentation

WIDTH = 64  # channels of the heads
SIZE = 96  # of the images, pixels
CLASSES = 10


def backbone():
    """Atto from random weights."""
    return create_model(
        "convnext_atto",
        weights=None,
        include_top=False,
        input_shape=(SIZE, SIZE, 3),
        # The published 1e-6 is for hundreds of epochs.
        layer_scale_init_value=1.0,
    )


def head(filters, bias=0.0):
    """As keras-cv's own, narrower."""
    convolutions = [
        keras.layers.Conv2D(WIDTH, 3, padding="same", activation="relu")
        for _ in range(2)
    ]
    bias = keras.initializers.Constant(bias)
    last = keras.layers.Conv2D(
        filters, 3, padding="same", bias_initializer=bias
    )
    # The channels of keras-cv's feature pyramid, at any level.
    maps = keras.Input((None, None, 256))
    return keras.Sequential([maps, *convolutions, last])


def detector():
    """A RetinaNet with square anchors of 24 pixels and more."""
    import keras_cv

    scales = [1.0, 1.33]
    anchors = keras_cv.layers.AnchorGenerator(
        bounding_box_format="xyxy",
        sizes=[24.0, 48.0, 96.0, 192.0, 384.0],
        scales=scales,
        aspect_ratios=[1.0],
        strides=[8, 16, 32, 64, 128],
        clip_boxes=True,
    )
    return keras_cv.models.RetinaNet(
        backbone=backbone(),
        num_classes=CLASSES,
        bounding_box_format="xyxy",
        anchor_generator=anchors,
        # Nine in ten anchors show the ground.
        classification_head=head(len(scales) * CLASSES, bias=-4.6),
        box_head=head(len(scales) * 4),
        # All detections count, however unsure, in an average precision.
        prediction_decoder=keras_cv.layers.NonMaxSuppression(
            "xyxy", from_logits=True, confidence_threshold=0.01
        ),
    )


def train_detector(model, train, epochs, batch_size=8, learning_rate=1e-3):
    steps = epochs * (len(train.images) // batch_size)
    schedule = optimizers.WarmupCosine(learning_rate, steps // 20, steps)
    model.compile(
        optimizer=optimizers.AdamW(
            schedule, weight_decay=0.05, global_clipnorm=1.0
        ),
        box_loss="smoothl1",
        classification_loss="focal",
    )
    return model.fit(
        train.images,
        # keras-cv, too, has the class -1 where there is no object.
        {"boxes": train.boxes, "classes": train.classes.astype("float32")},
        batch_size=batch_size,
        epochs=epochs,
        verbose=0,
    )


def small_backbone(
    depths=(2, 2, 2, 2), dims=(32, 64, 128, 128), input_shape=None
):
    return ConvNeXt(
        depths,
        dims,
        include_top=False,
        input_shape=input_shape,
        layer_scale_init_value=1.0,
    )


def segmenter(classes):
    """An UperNet without dropout, which learns more slowly with it."""
    return segmentation.UperNet(
        small_backbone(input_shape=(SIZE, SIZE, 3)),
        classes,
        channels=WIDTH,
        crop=SIZE,
        dropout_rate=0.0,
    )


def train_segmenter(model, train, epochs, batch_size=8, learning_rate=0.01):
    steps = epochs * (len(train.images) // batch_size)
    recipe = segmentation.ade20k.replace(
        steps=steps,
        warmup_steps=steps // 10,
        batch_size=batch_size,
        learning_rate=learning_rate,
        beta_2=0.95,
        global_clipnorm=1.0,
        layer_decay=1.0,
        drop_path_rate=0.0,
    )
    recipe.compile(model)
    return model.fit(
        train.images,
        train.class_masks,
        batch_size=batch_size,
        epochs=epochs,
        verbose=0,
    )


def mask_rcnn(classes, size, channels=48, units=128, **sizes):
    """A Mask R-CNN with narrow heads; `sizes` are those of its backbone."""
    return detection.MaskRCNN(
        small_backbone(**sizes),
        classes,
        channels=channels,
        units=units,
        short_side=size,
        proposals=64,
    )


def train_mask_rcnn(
    model,
    source,
    size,
    epochs,
    batch_size=8,
    objects=4,
    learning_rate=2e-3,
    regions=32,
):
    """By COCO's recipe, but for a network that knows nothing yet and pictures
    that hold few boxes."""
    batches = data.ObjectLoader(
        source,
        batch_size,
        epochs,
        scales=data.RandomScales((size,), size, (size,), (size, size)),
        max_objects=objects,
    )
    recipe = detection.coco_mask_rcnn.replace(
        steps=batches.steps,
        warmup_steps=batches.steps // 10,
        drops=(0.6, 0.85),
        batch_size=batch_size,
        learning_rate=learning_rate,
        global_clipnorm=5.0,
        layer_decay=1.0,
        drop_path_rate=0.0,
        anchors=128,
        anchor_positives=64,
        candidates=200,
        proposals=64,
        regions=regions,
        region_positives=regions // 4,
    )
    recipe.compile(model)
    return model.fit(batches, epochs=epochs, verbose=0)


def non_max_suppression(boxes, scores, iou_threshold):
    """torchvision's `nms`, whose compiled operator a CPU build may lack."""
    import torch
    from torchvision.ops import box_iou

    kept = []
    left = scores.argsort(descending=True)
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        overlaps = box_iou(boxes[best][None], boxes[left])[0]
        left = left[overlaps <= iou_threshold]
    return torch.stack(kept)


def average_precision(predictions, held_out):
    """AP at an intersection over union of 0.5, by COCO's own code.

    Args:
        predictions: dict of `boxes` (xyxy), `classes` and `confidence`, each
            with an axis of images; -1 as class where there is none.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def as_xywh(box):
        left, top, right, bottom = (float(x) for x in box)
        return [left, top, right - left, bottom - top]

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": i} for i in range(len(held_out.images))],
            "categories": [{"id": number} for number in range(CLASSES)],
            "annotations": [
                {
                    "id": 1 + len(held_out.boxes[0]) * i + j,
                    "image_id": i,
                    "category_id": int(held_out.classes[i, j]),
                    "bbox": as_xywh(box),
                    "area": as_xywh(box)[2] * as_xywh(box)[3],
                    "iscrowd": 0,
                }
                for i, boxes in enumerate(held_out.boxes)
                for j, box in enumerate(boxes)
                if held_out.classes[i, j] >= 0
            ],
        }
        truth.createIndex()
        found = [
            {
                "image_id": i,
                "category_id": int(number),
                "bbox": as_xywh(box),
                "score": float(confidence),
            }
            for i, rows in enumerate(
                zip(
                    predictions["boxes"],
                    predictions["classes"],
                    predictions["confidence"],
                )
            )
            for box, number, confidence in zip(*rows)
            if number >= 0
        ]
        if not found:
            return 0.0
        judge = COCOeval(truth, truth.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[1])


def constant_detections(train, count):
    """The best that knows no image: the commonest box and class."""
    there = train.classes >= 0
    boxes, counts = np.unique(train.boxes[there], axis=0, return_counts=True)
    number = np.bincount(train.classes[there]).argmax()
    return {
        "boxes": np.tile(boxes[counts.argmax()], (count, 1, 1)),
        "classes": np.full((count, 1), number),
        "confidence": np.ones((count, 1)),
    }
