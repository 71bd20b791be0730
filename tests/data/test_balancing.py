"""Rare classes drawn more often, and weighed: beside PyTorch, scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.utils import compute_class_weight
from torch.utils.data import WeightedRandomSampler

from keras_convnext import recipes
from keras_convnext.data import Arrays
from keras_convnext.data import TrainLoader
from keras_convnext.data import balancing

pytestmark = pytest.mark.once

COUNTS = (60, 25, 9, 1)
LABELS = np.random.default_rng(0).permutation(np.repeat(range(4), COUNTS))
RECIPE = recipes.digits.replace(batch_size=10, class_sampling_exponent=0.7)


def drawn(labels, exponent, epochs=1, seed=0):
    order = balancing.BalancedOrder(labels, exponent)
    return np.stack([order(seed, epoch) for epoch in range(epochs)])


def source_of(labels):
    """Images that tell their number."""
    images = np.zeros((len(labels), 8, 8, 1), "uint8")
    images[:] = np.arange(len(labels))[:, None, None, None]
    return Arrays(images, labels)


def test_weights_are_those_of_scikit_learn():
    expected = compute_class_weight("balanced", classes=np.arange(4), y=LABELS)
    found = balancing.class_weights(COUNTS, 1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=0)
    for exponent in (0.0, 0.3, 1.0):
        weights = balancing.class_weights(COUNTS, exponent)
        assert weights[LABELS].mean() == pytest.approx(1.0, rel=1e-12)
        ratio = (60 / 9) ** exponent
        assert weights[2] / weights[0] == pytest.approx(ratio, rel=1e-12)


def test_positive_weights_are_negatives_for_one_positive():
    found = balancing.positive_weights([10, 50, 100, 0], 100, 1.0)
    np.testing.assert_allclose(found, [9, 1, 0.01, 99], rtol=1e-15, atol=0)
    found = balancing.positive_weights([10, 50], 100, 0.5)
    np.testing.assert_allclose(found, [3, 1], rtol=1e-15, atol=0)


def test_draws_are_as_frequent_as_those_of_pytorch():
    """Of many draws each; ours are also even in every single epoch."""
    epochs, exponent = 400, 0.7
    weights = np.array(COUNTS)[LABELS] ** -exponent
    generator = torch.Generator().manual_seed(0)
    sampler = WeightedRandomSampler(
        weights, len(LABELS) * epochs, generator=generator
    )
    theirs = np.bincount(LABELS[[*sampler]], minlength=4) / epochs
    ours = drawn(LABELS, exponent, epochs)
    found = np.bincount(LABELS[ours.reshape(-1)], minlength=4) / epochs
    # Five standard errors of theirs: draws of one class of all.
    part = found / len(LABELS)
    error = np.sqrt(len(LABELS) * part * (1 - part) / epochs)
    assert (np.abs(found - theirs) < 5 * error).all()
    expected = balancing.BalancedOrder(LABELS, exponent).expected
    assert expected.sum() == pytest.approx(len(LABELS), rel=1e-12)
    for numbers in ours[:20]:
        times = np.bincount(numbers, minlength=len(LABELS))
        assert (np.abs(times - expected) < 1).all()
        of_class = np.bincount(LABELS[numbers], minlength=4)
        due = np.bincount(LABELS, expected)
        assert (np.abs(of_class - due) < 1 + 1e-9).all()
    # In the long run no image of a class comes more often than another.
    mean = np.bincount(ours.reshape(-1), minlength=len(LABELS)) / epochs
    assert np.abs(mean - expected).max() < 5 * 0.5 / epochs**0.5


def test_exponents_end_at_all_once_and_at_classes_alike():
    (once,) = drawn(LABELS, 0.0)
    assert sorted(once) == list(range(len(LABELS)))
    (alike,) = drawn(LABELS, 1.0)
    counts = np.bincount(LABELS[alike], minlength=4)
    assert counts.max() - counts.min() <= 1


def test_draws_follow_from_seed_and_epoch():
    first, second = drawn(LABELS, 1.0, 2)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, drawn(LABELS, 1.0)[0])
    assert not np.array_equal(first, drawn(LABELS, 1.0, seed=1)[0])
    # In the order of the images there is no trace of their classes.
    assert np.abs(np.diff(LABELS[first])).mean() > 1


def test_of_several_labels_the_rarest_counts():
    labels = np.zeros((40, 3), "uint8")
    labels[:20, 0] = 1
    labels[18:22, 1] = 1
    labels[0, 2] = 1
    expected = balancing.BalancedOrder(labels, 1.0).expected
    relative = expected / expected[1]
    assert relative[1] == relative[30] == 1.0  # like the most frequent
    np.testing.assert_allclose(relative[18:22], 5, rtol=1e-12, atol=0)
    assert relative[0] == pytest.approx(20)
    none = balancing.BalancedOrder(np.zeros((4, 2)), 1.0)
    assert sorted(none(0, 0)) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["tf", "python"])
def test_loaders_draw_alike_from_any_step_and_in_any_number(name):
    source = source_of(LABELS)
    pipeline = RECIPE.train_pipeline(4, mean=(0.3,), std=(0.35,))

    def batches(first=0, **options):
        options = {"loader": name, **options}
        loader = TrainLoader(source, pipeline, 3, 5, **options)
        return [(np.array(x), np.array(y)) for x, y in loader.batches(first)]

    whole = batches()
    assert len(whole) == 27
    labels = np.concatenate([y for _, y in whole])
    due = np.bincount(
        LABELS, balancing.BalancedOrder(LABELS, 0.7).expected * 270 / 95
    )
    assert np.abs(np.bincount(labels, minlength=4) - due).max() < 12
    order = balancing.BalancedOrder(LABELS, 0.7)
    numbers = np.concatenate([order(5, epoch)[:90] for epoch in range(3)])
    seen = np.concatenate([x[:, 0, 0, 0] for x, _ in whole])
    np.testing.assert_array_equal(seen, numbers)
    for (images, y), (expected, of_expected) in zip(batches(13), whole[13:]):
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(y, of_expected)
    parts = [batches(process_index=i, process_count=2) for i in range(2)]
    for (x, _), (first, _), (second, _) in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(x, np.concatenate([first, second]))


def test_fit_draws_from_arrays_and_not_from_a_stream():
    import tensorflow as tf

    source = source_of(LABELS)
    options = {"mean": (0.3,), "std": (0.35,), "seed": 3}
    for data in (source, (source.images, LABELS)):
        batches = RECIPE.train_data(data, 4, **options)
        seen = np.concatenate([batches[i][0][:, 0, 0, 0] for i in range(9)])
        order = balancing.BalancedOrder(LABELS, 0.7)
        np.testing.assert_array_equal(seen, order(3, 0)[:90])
    stream = tf.data.Dataset.from_tensor_slices((source.images, LABELS))
    with pytest.raises(ValueError, match="known before.*class_weight_exponent"):
        RECIPE.train_data(stream, 4, **options)
    # What is validated on is never drawn.
    assert len(RECIPE.eval_data(stream).take(1)) == 1
