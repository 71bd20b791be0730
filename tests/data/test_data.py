import numpy as np
import pytest
from sklearn import datasets

from keras_convnext.data import load_digits

pytestmark = pytest.mark.once


def test_digits_are_those_of_scikit_learn_split_once():
    (train, train_labels), (test, test_labels) = load_digits()
    digits = datasets.load_digits()
    assert train.shape == (1438, 8, 8, 1) and test.shape == (359, 8, 8, 1)
    assert train.dtype == "uint8" and test.max() == 255
    np.testing.assert_array_equal(test_labels, digits.target[4::5])
    np.testing.assert_allclose(
        test[..., 0] / 255, digits.images[4::5] / 16, atol=0.5 / 255
    )
    assert len(train_labels) + len(test_labels) == len(digits.target)
    known = {image.tobytes() for image in train}
    assert not [image for image in test if image.tobytes() in known]
