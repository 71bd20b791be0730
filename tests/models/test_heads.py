import numpy as np
import pytest
from conftest import predict
from conftest import random_images
from families import SMALL

from keras_convnext import ConvNeXt
from keras_convnext import imagenet1k_from_22k


def test_the_1k_classes_are_cut_out_of_22k():
    options = {"input_shape": (32, 32, 3), "classifier_activation": None}
    model = ConvNeXt(**SMALL, classes=21841, **options)
    images = random_images((2, 32, 32, 3))
    whole = predict(model, images)
    smaller = imagenet1k_from_22k(model)
    part = predict(smaller, images)
    assert part.shape == (2, 1000)
    # Published: where the first and last classes are in the larger set.
    np.testing.assert_allclose(
        part[:, [0, 1, 2, 9, -2, -1]],
        whole[:, [359, 368, 460, 525, 21367, 21815]],
        atol=1e-5,
    )
    assert (part[:, 850] < -1000).all()
    assert smaller.class_names[2] == "great_white_shark"


def test_other_models_are_refused():
    with pytest.raises(ValueError, match="21841 outputs"):
        imagenet1k_from_22k(ConvNeXt(**SMALL, classes=10))
