import keras
import numpy as np
import pytest
from sklearn import datasets

from keras_convnext.data import array_batches
from keras_convnext.data import load_digits


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


def batches_of(dataset):
    return [
        (keras.ops.convert_to_numpy(x), keras.ops.convert_to_numpy(y))
        for x, y in (
            dataset
            if not hasattr(dataset, "on_epoch_end")
            else [dataset[i] for i in range(len(dataset))]
        )
    ]


def test_batches_hold_every_image_once_and_repeat_under_a_seed():
    images, labels = np.arange(23)[:, None, None, None], np.arange(23)
    runs = [
        batches_of(array_batches(images, labels, 5, shuffle=True, seed=seed))
        for seed in (1, 1, 2)
    ]
    orders = [np.concatenate([y for _, y in run]).tolist() for run in runs]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(23))
    for x, y in runs[0]:
        np.testing.assert_array_equal(x[:, 0, 0, 0], y)
    assert [len(y) for _, y in runs[0]] == [5, 5, 5, 5, 3]


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="same length"):
        array_batches(np.zeros((3, 2, 2, 1)), np.zeros(2), 2)
