"""Headless models as backbones of keras-cv's detectors and segmenters."""

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import long_where_compiled
from conftest import random_images
from families import SMALL

from keras_convnext import ConvNeXt
from keras_convnext.training.optimizers import layer_decay_scales

keras_cv = pytest.importorskip("keras_cv", exc_type=ImportError)

BACKEND = keras.backend.backend()
CLASSES = 2


def retinanet(backbone):
    model = keras_cv.models.RetinaNet(
        num_classes=CLASSES, bounding_box_format="xyxy", backbone=backbone
    )
    model.compile(
        optimizer="sgd", box_loss="smoothl1", classification_loss="focal"
    )
    return model


def yolo(backbone):
    model = keras_cv.models.YOLOV8Detector(
        num_classes=CLASSES,
        bounding_box_format="xyxy",
        backbone=backbone,
        fpn_depth=1,
    )
    model.compile(
        optimizer="sgd",
        box_loss="ciou",
        classification_loss="binary_crossentropy",
    )
    return model


def deeplab(backbone):
    """With a head of logits: the gradient of a softmax on maps, keras-cv's
    own head, fails in torch ("grad_input must be contiguous")."""
    head = keras.Sequential(
        [
            keras.layers.Conv2D(8, 1, activation="relu"),
            keras.layers.UpSampling2D(4, interpolation="bilinear"),
            keras.layers.Conv2D(CLASSES, 1),
        ]
    )
    model = keras_cv.models.DeepLabV3Plus(
        num_classes=CLASSES, backbone=backbone, segmentation_head=head
    )
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model


def segformer(backbone):
    model = keras_cv.models.segmentation.SegFormer(
        num_classes=CLASSES, backbone=backbone, projection_filters=8
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy())
    return model


BOXES = {
    "boxes": np.array([[[4, 4, 40, 40]], [[8, 8, 50, 50]]], "float32"),
    "classes": np.array([[0], [1]], "float32"),
}
MASKS = np.tile(np.arange(64) > 32, (2, 64, 1))[..., None].astype("int32")
TASKS = {
    "retinanet": (retinanet, BOXES),
    "yolo": (yolo, BOXES),
    "deeplab": (deeplab, MASKS),
    "segformer": (segformer, MASKS),
}
NAMES = [
    pytest.param("retinanet", marks=LONG_WHERE_COMPILED),
    pytest.param("yolo", marks=pytest.mark.long),
    pytest.param("deeplab", marks=LONG_WHERE_COMPILED),
    pytest.param(
        "segformer",
        marks=[
            *LONG_WHERE_COMPILED,
            pytest.mark.skipif(
                BACKEND == "torch", reason="its softmax has no gradient there"
            ),
        ],
    ),
]


def trained(name, frozen=False):
    """A model after one step, and its backbone's weights before."""
    backbone = ConvNeXt(
        **SMALL,
        include_top=False,
        input_shape=(64, 64, 3),
        layer_scale_init_value=1.0,
    )
    backbone.trainable = not frozen
    make, labels = TASKS[name]
    model = make(backbone)
    before = backbone.get_layer("stem_conv").get_weights()[0]
    history = model.fit(random_images((2, 64, 64, 3)), labels, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    return model, before


def outputs(model, images):
    found = keras.tree.flatten(model(images, training=False))
    return [keras.ops.convert_to_numpy(x) for x in found]


@pytest.mark.parametrize("name", NAMES)
def test_they_train_and_return_whole(name, tmp_path):
    model, before = trained(name)
    stem = model.backbone.get_layer("stem_conv")
    assert np.abs(stem.get_weights()[0] - before).max() > 0
    scales = layer_decay_scales(model, 0.5)
    assert scales["stage_3_block_0_project"] == 0.5
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert again.backbone.variant == model.backbone.variant
    images = random_images((2, 64, 64, 3))
    for found, expected in zip(outputs(again, images), outputs(model, images)):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    if BACKEND != "torch" or name == "deeplab":
        # On torch boxes are chosen by operators compiled in torchvision.
        assert len(keras.tree.flatten(model.predict(images, verbose=0))[0]) == 2


@long_where_compiled
@pytest.mark.parametrize("name", NAMES)
def test_frozen_backbones_stay(name):
    model, before = trained(name, frozen=True)
    stem = model.backbone.get_layer("stem_conv")
    np.testing.assert_array_equal(stem.get_weights()[0], before)
    assert model.trainable_variables


def test_segformer_predicts_on_every_backend():
    backbone = ConvNeXt(**SMALL, include_top=False, input_shape=(64, 64, 3))
    images = random_images((2, 64, 64, 3))
    probabilities = segformer(backbone).predict(images, verbose=0)
    assert probabilities.shape == (2, 64, 64, CLASSES)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
