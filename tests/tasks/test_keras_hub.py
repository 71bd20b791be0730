"""Pyramids as image encoders of KerasHub's detectors and segmenters."""

import keras
import numpy as np
import pytest
from conftest import long_where_compiled
from conftest import random_images
from families import SMALL

from keras_convnext import ConvNeXt
from keras_convnext import feature_pyramid
from keras_convnext.training.optimizers import layer_decay_scales

keras_hub = pytest.importorskip("keras_hub", exc_type=ImportError)

SIZE, CLASSES = 64, 2


def encoder(levels):
    backbone = ConvNeXt(
        **SMALL,
        include_top=False,
        input_shape=(SIZE, SIZE, 3),
        layer_scale_init_value=1.0,
    )
    return feature_pyramid(backbone, levels, norm=True)


def retinanet():
    backbone = keras_hub.models.RetinaNetBackbone(
        encoder(("P3", "P4", "P5")),
        min_level=3,
        max_level=5,
        use_p5=False,
        image_shape=(SIZE, SIZE, 3),
    )
    model = keras_hub.models.RetinaNetObjectDetector(
        backbone,
        num_classes=CLASSES,
        bounding_box_format="xyxy",
        pre_logits_num_conv_layers=1,
    )
    model.compile(optimizer="sgd")
    return model


def deeplab():
    backbone = keras_hub.models.DeepLabV3Backbone(
        encoder(("P2", "P3", "P4", "P5")),
        spatial_pyramid_pooling_key="P5",
        upsampling_size=8,
        dilation_rates=[1, 2],
        low_level_feature_key="P2",
        image_shape=(SIZE, SIZE, 3),
    )
    model = keras_hub.models.DeepLabV3ImageSegmenter(
        backbone, num_classes=CLASSES
    )
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model


BOXES = {
    "boxes": np.array([[[4, 4, 40, 40]], [[8, 8, 50, 50]]], "float32"),
    "labels": np.array([[0], [1]], "float32"),
}
MASKS = np.tile(np.arange(SIZE) > 32, (2, SIZE, 1))[..., None].astype("int32")
TASKS = {"retinanet": (retinanet, BOXES), "deeplab": (deeplab, MASKS)}


def outputs(model, images):
    found = keras.tree.flatten(model(images, training=False))
    return [keras.ops.convert_to_numpy(x) for x in found]


@long_where_compiled
@pytest.mark.parametrize("name", TASKS)
def test_they_train_and_return_whole(name, tmp_path):
    make, labels = TASKS[name]
    model = make()
    images = random_images((2, SIZE, SIZE, 3))
    stem = model.backbone.image_encoder.get_layer("stem_conv")
    before = stem.get_weights()[0]
    history = model.fit(images, labels, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert np.abs(stem.get_weights()[0] - before).max() > 0
    scales = layer_decay_scales(model, 0.5)
    assert scales["stage_3_block_0_project"] == 0.5
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    for found, expected in zip(outputs(again, images), outputs(model, images)):
        assert expected.std() > 0
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
