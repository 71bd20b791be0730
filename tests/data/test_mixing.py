"""Mixup and CutMix against timm's `Mixup`, with the same weight and box."""

import json

import keras
import numpy as np
import peers
import pytest
import tensorflow as tf
from pipelines import mapped
from pipelines import photographs
from pipelines import within
from scipy import stats

from keras_convnext.data.augmentation import boxes
from keras_convnext.data.augmentation.mixing import CutMix
from keras_convnext.data.augmentation.mixing import MixUp
from keras_convnext.data.augmentation.mixing import MixupCutmix
from keras_convnext.data.augmentation.soft_labels import soft_labels

pytestmark = pytest.mark.once

CLASSES = 7
LAYERS = {
    "MixupCutmix": lambda **options: MixupCutmix(**options),
    "MixUp": lambda **options: MixUp(**options),
    "CutMix": lambda **options: CutMix(**options),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
both_paths = pytest.mark.parametrize("path", ["tf", "numpy"])


def sample(count=6):
    labels = np.random.default_rng(0).integers(0, CLASSES, count)
    return {"images": photographs(count), "labels": labels}


def mix(path, layer, inputs, **options):
    """The results of one batch, as NumPy."""
    if path == "numpy":
        return layer(inputs, **options)
    tensors = {key: tf.constant(values) for key, values in inputs.items()}
    return {k: v.numpy() for k, v in layer(tensors, **options).items()}


class Told(MixupCutmix):
    """Mixes with a weight and a box that it is told."""

    def tell(self, weight, box):
        self._told = weight, box
        return self

    def _draw(self, generator, height, width):
        return self._told


def timm_mixed(monkeypatch, inputs, draw, smoothing):
    """timm's images and targets for `(is_cutmix, weight, center of 0–1)`."""
    peers.import_timm()
    import torch
    from timm.data import mixup

    is_cutmix, weight, center = draw
    center = iter(center)
    monkeypatch.setattr(
        mixup.np.random,
        "randint",
        lambda low, high, size: low + int(next(center) * (high - low)),
    )
    mixer = mixup.Mixup(label_smoothing=smoothing, num_classes=CLASSES)
    mixer._params_per_batch = lambda: (weight, is_cutmix)
    images = inputs["images"].astype("float32").transpose(0, 3, 1, 2)
    images, targets = mixer(
        torch.from_numpy(images.copy()), torch.from_numpy(inputs["labels"])
    )
    return images.numpy().transpose(0, 2, 3, 1), targets.numpy()


@both_paths
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    "draw",
    [
        (False, 0.3, ()),
        (False, 0.83, ()),
        (False, 1.0, ()),
        (True, 0.3, (0.5, 0.5)),
        (True, 0.7, (0.0, 0.99)),
        (True, 0.11, (0.97, 0.2)),
        (True, 0.999, (0.4, 0.6)),
        (True, 1.0, (0.4, 0.6)),
        (True, 0.0, (0.4, 0.6)),
    ],
)
def test_mixes_are_those_of_timm(monkeypatch, path, draw, smoothing):
    inputs = sample()
    expected = timm_mixed(monkeypatch, inputs, draw, smoothing)
    is_cutmix, weight, center = draw
    box = None
    if is_cutmix:
        height, width = inputs["images"].shape[1:3]
        box = boxes.cut_box(center, weight, height, width)
        weight = 1 - box[2] * box[3] / (height * width)
    layer = Told(label_smoothing=smoothing, num_classes=CLASSES)
    result = mix(path, layer.tell(weight, box), inputs)
    for values, theirs in zip((result["images"], result["labels"]), expected):
        assert values.dtype == "float32"
        np.testing.assert_allclose(values, theirs, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(result["labels"].sum(1), 1, rtol=1e-6)


def test_boxes_are_those_of_timm(monkeypatch):
    peers.import_timm()
    from timm.data import mixup

    for number in range(300):
        generator = np.random.default_rng(number)
        height, width = generator.integers(1, 60, 2).tolist()
        weight = generator.random()
        drawn = generator.random(2)
        center = iter(drawn)
        monkeypatch.setattr(
            mixup.np.random,
            "randint",
            lambda low, high, size, center=center: int(next(center) * high),
        )
        shape = (1, 3, height, width)
        bounds, true_weight = mixup.cutmix_bbox_and_lam(shape, weight)
        top, left, *sides = boxes.cut_box(drawn, weight, height, width)
        ours = (top, top + sides[0], left, left + sides[1])
        assert ours == tuple(map(int, bounds))
        area = sides[0] * sides[1] / (height * width)
        assert 1 - area == pytest.approx(true_weight, abs=1e-12)


# Draws


def drawn(layer, count=4000, shape=(32, 48)):
    results = []
    for number in range(count):
        generator = np.random.default_rng(number)
        weight, box = layer._draw(generator, *shape)
        results.append((box is not None, weight, box or (0, 0, 0, 0)))
    is_cutmix, weights, all_boxes = (np.array(x) for x in zip(*results))
    return is_cutmix, weights, all_boxes.T


def test_mixup_weights_are_beta():
    for alpha in (0.8, 1.0, 0.2):
        is_cutmix, weights, _ = drawn(MixUp(alpha))
        assert not is_cutmix.any()
        expected = stats.beta(alpha, alpha)
        assert stats.kstest(weights, expected.cdf).pvalue > 1e-6
    _, weights, _ = drawn(MixUp(1e-4), 200)
    assert np.isfinite(weights).all()


def test_cutmix_boxes_are_distributed_as_timms():
    peers.import_timm()
    from timm.data import mixup

    height, width = shape = (32, 48)
    is_cutmix, weights, box = drawn(CutMix(1.0), shape=shape)
    assert is_cutmix.all()
    top, left, box_height, box_width = box
    area = box_height * box_width
    np.testing.assert_allclose(weights, 1 - area / (height * width))
    assert (top >= 0).all() and (top + box_height <= height).all()
    assert (left >= 0).all() and (left + box_width <= width).all()
    np.random.seed(0)
    mixer = mixup.Mixup(mixup_alpha=0, cutmix_alpha=1.0)
    expected = []
    for _ in range(len(weights)):
        weight, _ = mixer._params_per_batch()
        bounds, weight = mixup.cutmix_bbox_and_lam((1, 3, *shape), weight)
        expected.append((weight, *bounds))
    ours = (weights, top, top + box_height, left, left + box_width)
    for values, theirs in zip(ours, np.array(expected).T):
        assert stats.ks_2samp(values, theirs).pvalue > 1e-6


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({}, 0.5),
        ({"switch_probability": 0.2}, 0.2),
        ({"switch_probability": 0.0}, 0.0),
        ({"mixup_alpha": 0, "switch_probability": 0.1}, 1.0),
        ({"cutmix_alpha": 0, "switch_probability": 0.9}, 0.0),
    ],
)
def test_batches_switch_as_asked(options, part):
    is_cutmix, weights, _ = drawn(MixupCutmix(**options), 2000)
    assert (
        within(is_cutmix, part, 0.5)
        if 0 < part < 1
        else (is_cutmix == part).all()
    )
    if part == 0.5:
        mixup_weights = weights[~is_cutmix]
        expected = stats.beta(0.8, 0.8)
        assert stats.kstest(mixup_weights, expected.cdf).pvalue > 1e-6


@both_paths
def test_without_alphas_labels_are_smoothed_alone(path):
    inputs = sample()
    result = mix(path, MixupCutmix(0, 0, num_classes=CLASSES), inputs)
    np.testing.assert_array_equal(result["images"], inputs["images"])
    expected = 0.9 * np.eye(CLASSES)[inputs["labels"]] + 0.1 / CLASSES
    np.testing.assert_allclose(result["labels"], expected, rtol=1e-6)


# Batches and labels


@every_layer
@pytest.mark.parametrize("size", [1, 3, 4])
@both_paths
def test_batches_of_any_size(name, path, size):
    layer = LAYERS[name](num_classes=CLASSES, label_smoothing=0, seed=1)
    inputs = {**sample(size), "file": np.array(["a"] * size)}
    result = mix(path, layer, inputs)
    images, labels = result["images"], result["labels"]
    assert images.shape == inputs["images"].shape
    assert labels.shape == (size, CLASSES)
    assert images.dtype == labels.dtype == "float32"
    assert list(result) == list(inputs)
    if size % 2:
        middle = size // 2
        np.testing.assert_allclose(
            images[middle], inputs["images"][middle], rtol=1e-6
        )
        expected = np.eye(CLASSES)[inputs["labels"][middle]]
        np.testing.assert_allclose(labels[middle], expected, atol=1e-6)


@both_paths
def test_labels_of_every_form_become_the_same(path):
    inputs = sample()
    labels = inputs["labels"]
    one_hot = np.eye(CLASSES)[labels]
    forms = [one_hot, one_hot.astype("float16"), one_hot.astype("int32")]
    for dtype in ("int32", "uint8", "int64"):
        forms += [labels.astype(dtype), labels[:, None].astype(dtype)]
    layer = MixupCutmix(num_classes=CLASSES)
    expected = None
    for form in forms:
        batch = {**inputs, "labels": form}
        result = mix(path, layer, batch, seed=(1, 2))["labels"]
        assert result.shape == (6, CLASSES)
        expected = result if expected is None else expected
        np.testing.assert_array_equal(result, expected)
    batch = {**inputs, "labels": one_hot}
    result = mix(path, MixupCutmix(), batch, seed=(1, 2))["labels"]
    np.testing.assert_array_equal(result, expected)


def test_soft_labels_are_smoothed_like_others():
    soft = np.array([[0.25, 0.75], [1.0, 0.0]])
    expected = 0.8 * soft + 0.1
    result = soft_labels(soft, smoothing=0.2)
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    assert result.dtype == "float32"


@both_paths
@pytest.mark.parametrize(
    ("labels", "num_classes", "reason"),
    [
        (np.arange(6), None, "number of classes"),
        (np.arange(6)[:, None], None, "number of classes"),
        (np.eye(6), 5, "as many classes"),
        (np.eye(6)[:, :1], None, "as many classes"),
        (np.arange(6.0), 6, "that are ints"),
        (np.zeros((6, 2, 3)), 3, "that are ints"),
        (np.array(["cat"] * 6), 6, "that are ints"),
        (np.arange(5), 6, "6 images with 5 labels"),
    ],
)
def test_other_labels_are_refused(path, labels, num_classes, reason):
    images = photographs()
    if path == "tf":
        images, labels = tf.constant(images), tf.constant(labels)
    layer = MixupCutmix(num_classes=num_classes)
    with pytest.raises(ValueError, match=reason):
        layer({"images": images, "labels": labels})


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_classes_must_exist(label):
    inputs = {**sample(2), "labels": np.array([0, label])}
    layer = MixUp(num_classes=CLASSES)
    for path in ("numpy", "tf"):
        with pytest.raises(ValueError, match=f"below.*Received.*{label}"):
            mix(path, layer, inputs)
    with pytest.raises(tf.errors.InvalidArgumentError, match="below"):
        mapped(layer, inputs, 2)


@every_layer
@both_paths
def test_batches_and_labels_are_needed(name, path):
    images = photographs()
    if path == "tf":
        images = tf.constant(images)
    layer = LAYERS[name](num_classes=CLASSES)
    with pytest.raises(ValueError, match='"images" and "labels"'):
        layer(images)
    with pytest.raises(ValueError, match="after `batch`"):
        layer({"images": images[0], "labels": np.array(1)})


# Where layers stand


@every_layer
def test_layers_stand_in_tf_data(name):
    layer = LAYERS[name](num_classes=CLASSES)
    inputs = sample(10)
    dataset = tf.data.Dataset.from_tensor_slices(inputs).batch(4).map(layer)
    specs = dataset.element_spec
    assert specs["images"].shape.as_list() == [None, 40, 50, 3]
    assert specs["labels"].shape.as_list() == [None, CLASSES]
    assert [len(x["labels"]) for x in dataset] == [4, 4, 2]


@pytest.mark.every_backend
def test_a_model_trains_on_mixed_batches():
    inputs = sample(8)
    dataset = tf.data.Dataset.from_tensor_slices(inputs).batch(4)
    dataset = dataset.map(MixupCutmix(num_classes=CLASSES, seed=0))
    dataset = dataset.map(lambda x: (x["images"] / 255, x["labels"]))
    model = keras.Sequential(
        [
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile("sgd", "categorical_crossentropy")
    history = model.fit(dataset, epochs=2, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@every_layer
@both_paths
def test_a_seed_decides_alone(name, path):
    inputs = sample()
    layers = [LAYERS[name](num_classes=CLASSES, seed=own) for own in (1, None)]
    first, again, other = (
        mix(path, layer, inputs, seed=pair)
        for layer, pair in zip((*layers, layers[0]), ((0, 1), (0, 1), (1, 1)))
    )
    for key in first:
        np.testing.assert_array_equal(first[key], again[key])
        assert (first[key] != other[key]).any()
    np.testing.assert_array_equal(inputs["images"], photographs())
    by_arrays = mix("numpy", layers[0], inputs, seed=(0, 1))
    for key in first:
        np.testing.assert_array_equal(first[key], by_arrays[key])


@every_layer
@both_paths
def test_inference_is_the_identity(name, path):
    inputs = sample()
    result = mix(path, LAYERS[name](), inputs, training=False)
    for key, values in inputs.items():
        np.testing.assert_array_equal(result[key], values)


@pytest.mark.parametrize(
    "layer",
    [
        MixupCutmix(0.3, 0.4, 0.6, 0.2, CLASSES, seed=1),
        MixUp(0.3, 0.2, CLASSES, seed=1),
        CutMix(0.3, 0.2, CLASSES, seed=1),
    ],
    ids=lambda layer: layer.name,
)
def test_layers_return_from_their_config(layer):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    assert config["registered_name"].startswith("keras_convnext>")
    copies = [
        keras.saving.deserialize_keras_object(config),
        type(layer).from_config(layer.get_config()),
    ]
    expected = layer(sample())
    for copy in copies:
        assert copy.get_config() == layer.get_config()
        result = copy(sample())
        for key, values in expected.items():
            np.testing.assert_array_equal(result[key], values)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: MixupCutmix(mixup_alpha=-1), "at least 0"),
        (lambda: CutMix("1"), "`alpha` must be a number"),
        (lambda: MixupCutmix(switch_probability=2), "`switch_probability`"),
        (lambda: MixUp(label_smoothing=1), "`label_smoothing`"),
        (lambda: MixUp(num_classes=0), "`num_classes`"),
        (lambda: MixUp()(keras.Input((9, 9, 3))), "data pipeline"),
    ],
)
def test_constructors_check_their_arguments(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()
