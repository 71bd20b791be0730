"""Composed digits: what is said of them holds. Emoji can be learned."""

import time

import dense_models
import keras
import numpy as np
import pytest
from composed_digits import compose_digits
from composed_emoji import CLASSES
from composed_emoji import compose_emoji
from composed_emoji import write_coco
from peers import import_timm
from scipy import ndimage
from sklearn.metrics import confusion_matrix

import keras_convnext
from keras_convnext import detection
from keras_convnext import open_artifact
from keras_convnext.data import load_digits
from keras_convnext.data import read_coco

BACKEND = keras.backend.backend()


@pytest.fixture(scope="module")
def both():
    return compose_digits(40, 40)


@pytest.mark.once
@pytest.mark.parametrize("part", [0, 1])
def test_boxes_and_masks_are_those_of_the_digits(both, part):
    scans, labels = load_digits()[part]
    scans = {scan.tobytes(): label for scan, label in zip(scans, labels)}
    images, boxes, classes, masks = both[part]
    for image, mask, places, digits in zip(images, masks, boxes, classes):
        area = 0
        for (left, top, right, bottom), digit in zip(
            places.astype(int), digits
        ):
            assert right - left == bottom - top in (24, 32)
            zoom = (right - left) // 8
            cut = image[top:bottom:zoom, left:right:zoom]
            # The scan of this set, and of this digit.
            assert scans[cut[..., :1].tobytes()] == digit
            assert (cut == cut[..., :1]).all()
            assert (mask[top:bottom, left:right] == digit + 1).all()
            area += (right - left) ** 2
        assert (mask > 0).sum() == area


@pytest.mark.once
def test_places_are_held_out(both):
    places = [set(map(tuple, x.boxes.reshape(-1, 4))) for x in both]
    assert not places[0] & places[1]


@pytest.mark.once
def test_one_digit_fills_a_small_picture_alone():
    train, _ = compose_digits(20, 1, image_size=48, digits=1, seed=3)
    for mask, (box,) in zip(train.masks, train.boxes.astype(int)):
        ((rows, columns),) = ndimage.find_objects((mask > 0).astype(int))
        edges = columns.start, rows.start, columns.stop, rows.stop
        assert edges == tuple(box)


@pytest.mark.once
def test_seeds_repeat(both):
    for found, expected in zip(compose_digits(40, 40), both):
        for a, b in zip(found, expected):
            np.testing.assert_array_equal(a, b)
    other, _ = compose_digits(40, 1, seed=1)
    assert (other.classes != both[0].classes).any()


@pytest.mark.once
@pytest.mark.parametrize(
    "arguments",
    [{"digits": 0}, {"digits": 5}, {"image_size": 95}]
    + [{"image_size": 47, "digits": 1}],
)
def test_what_does_not_fit_is_refused(arguments):
    with pytest.raises(ValueError, match="Received: image_size="):
        compose_digits(1, 1, **arguments)


@pytest.mark.long
def test_a_retinanet_finds_emoji(record_property, monkeypatch):
    if BACKEND == "torch":
        import_timm()  # declares what torchvision's import asks for
        from torchvision import ops

        monkeypatch.setattr(ops, "nms", dense_models.non_max_suppression)
    train, held_out = compose_emoji(2400, 200)
    _, others = compose_emoji(1, 200, test_hand="twemoji")
    model = dense_models.detector()
    started = time.process_time()
    dense_models.train_detector(model, train, epochs=4)
    minutes = (time.process_time() - started) / 60

    def precision_on(pictures):
        found = model.predict(pictures.images, batch_size=50, verbose=0)
        return dense_models.average_precision(found, pictures)

    constant = dense_models.constant_detections(train, len(held_out.images))
    precision = precision_on(held_out)
    by_chance = dense_models.average_precision(constant, held_out)
    record_property("AP50", f"{precision:.3f}")
    record_property("of a constant", f"{by_chance:.3f}")
    record_property("on the other hand's", f"{precision_on(others):.3f}")
    record_property("CPU minutes of training", f"{minutes:.1f}")
    assert precision >= 0.80
    assert by_chance < 0.1


@pytest.mark.long
def test_a_segmenter_outlines_emoji(record_property):
    train, held_out = compose_emoji(2400, 200)
    _, others = compose_emoji(1, 200, test_hand="twemoji")
    model = dense_models.segmenter(len(CLASSES) + 1)
    started = time.process_time()
    dense_models.train_segmenter(model, train, epochs=2)
    minutes = (time.process_time() - started) / 60

    def iou(pictures):
        values = model.evaluate(
            pictures.images, pictures.class_masks, verbose=0, return_dict=True
        )
        return values["decode_mean_iou"]

    # Ground everywhere: the other ten have nothing in common with the truth.
    constant = (held_out.class_masks == 0).mean() / (len(CLASSES) + 1)
    found = iou(held_out)
    record_property("mIoU", f"{found:.3f}")
    record_property("of a constant", f"{constant:.3f}")
    record_property("on the other hand's", f"{iou(others):.3f}")
    record_property("CPU minutes of training", f"{minutes:.1f}")
    assert found >= 0.65
    assert constant < 0.1


@pytest.mark.long
def test_files_of_eight_bits_outline_emoji(record_property, tmp_path):
    """At most half a point below the file of float32."""
    train, held_out = compose_emoji(2400, 200)
    model = dense_models.segmenter(len(CLASSES) + 1)
    dense_models.train_segmenter(model, train, epochs=2)
    found = {}
    for ending, quantization in (
        ("onnx", None),
        ("onnx", "int8_weight_only"),
        ("onnx", "int8"),
        ("tflite", "dynamic"),
        ("tflite", "int8"),
    ):
        path = tmp_path / f"{quantization}.{ending}"
        is_int8 = quantization == "int8"
        keras_convnext.export(
            model,
            path,
            quantization=quantization,
            representative_data=train.images[:200] if is_int8 else None,
            verify=False,
            verbose=False,
        )
        outputs = open_artifact(path).outputs_of(held_out.images)["decode"]
        counts = confusion_matrix(
            held_out.class_masks.ravel(), outputs.argmax(-1).ravel()
        )
        both = np.diag(counts)
        union = counts.sum(0) + counts.sum(1) - both
        found[ending, quantization] = iou = np.mean(both / union)
        record_property(f"{ending} {quantization}", f"{iou:.4f}")
    float32 = found["onnx", None]
    assert float32 >= 0.65
    assert min(found.values()) >= float32 - 0.005


def sources(folder, train_count, test_count, size):
    """Pictures of one hand to train on and held out ones, and the other's."""
    sets = compose_emoji(train_count, test_count, size)
    _, others = compose_emoji(1, test_count, size, test_hand="twemoji")
    names = ("train", "held_out", "other_hand")
    return [
        read_coco(write_coco(pictures, folder / name))
        for name, pictures in zip(names, (*sets, others))
    ]


def precisions(model, source):
    """AP50 of boxes and of masks."""
    result = detection.evaluate(model, source, verbose=False)
    return result.boxes["ap50"], result.masks["ap50"]


@pytest.mark.long
def test_a_mask_rcnn_learns_some_emoji(tmp_path):
    """In eighty steps a very small one finds some; untrained it finds none."""
    train, held_out, _ = sources(tmp_path, 640, 24, 96)
    small = {"depths": (1, 1, 1, 1), "dims": (16, 32, 48, 64)}
    model = dense_models.mask_rcnn(CLASSES, 96, 24, 64, **small)
    assert max(precisions(model, held_out)) < 0.02
    dense_models.train_mask_rcnn(
        model, train, 96, epochs=1, learning_rate=5e-3, regions=16
    )
    # The least of boxes and masks is 0.08 to 0.19, over four seeds.
    assert min(precisions(model, held_out)) >= 0.05


@pytest.mark.long
def test_a_mask_rcnn_finds_emoji(tmp_path, record_property):
    started = time.process_time()
    train, held_out, other_hand = sources(tmp_path, 4000, 200, 96)
    model = dense_models.mask_rcnn(CLASSES, 96)
    dense_models.train_mask_rcnn(model, train, 96, epochs=2)
    minutes = (time.process_time() - started) / 60
    boxes, masks = precisions(model, held_out)
    record_property("CPU minutes of training", f"{minutes:.1f}")
    record_property("box AP50", f"{boxes:.3f}")
    record_property("mask AP50", f"{masks:.3f}")
    others = precisions(model, other_hand)
    record_property("on the other hand's", "{:.3f}, {:.3f}".format(*others))
    assert boxes >= 0.90 and masks >= 0.85
