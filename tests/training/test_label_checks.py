"""Data that a recipe cannot mean end `compile`, or the first batch of `fit`."""

import keras
import numpy as np
import pytest
from conftest import long_where_compiled
from conftest import random_images

from keras_convnext import ConvNeXt
from keras_convnext import recipes
from keras_convnext.training.recipes import recipe as recipe_module

RECIPE = recipes.small_data.replace(
    image_size=32,
    batch_size=4,
    epochs=1,
    warmup_epochs=0,
    drop_path_rate=0.0,
    rand_augment=None,
)
IMAGES = random_images((8, 32, 32, 3))
LABELS = np.arange(8) % 3
HAS_NO_CLASS = LABELS + (LABELS == 2)  # 3 of 3 classes
HAS_SEVERAL = np.array([[1, 1, 0], [0, 1, 0]] * 4, "float32")


def small(classes=3, **options):
    return ConvNeXt(
        (1,),
        (8,),
        patch_size=8,
        input_shape=(32, 32, 3),
        classes=classes,
        classifier_activation=None,
        **options,
    )


def compiled(recipe=RECIPE, model=None, **options):
    return recipe.compile(model or small(), steps_per_epoch=2, **options)


def pairs(labels):
    for start in (0, 4):
        yield IMAGES[start : start + 4], labels[start : start + 4]


class Pairs(keras.utils.PyDataset):
    def __init__(self, labels):
        super().__init__()
        self.batches = list(pairs(labels))

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.batches[index]


def dataset(labels):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((IMAGES, labels)).batch(4)


def loader(labels):
    import torch

    tensors = [torch.from_numpy(np.asarray(x)) for x in (IMAGES, labels)]
    data = torch.utils.data.TensorDataset(*tensors)
    return torch.utils.data.DataLoader(data, 4)


def arrays(labels):
    return IMAGES, labels


KINDS = [arrays, pairs, Pairs, dataset, loader]


def fit(model, data, **options):
    given = data if isinstance(data, tuple) else (data,)
    return model.fit(*given, batch_size=None, verbose=0, **options)


@long_where_compiled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "labels, message",
    [
        (HAS_NO_CLASS, "'small_data'.*numbers of 0 to [13].*Count"),
        (LABELS - 1, "numbers of -1 to 1"),
        (LABELS + 0.5, "numbers of 0.5 to 2.5"),
        (HAS_SEVERAL, "rows that sum to 1 to 2.*loss=.binary"),
        (np.eye(4)[LABELS], r"shape \([48], 4\)"),
    ],
    ids=["beyond", "negative", "fractions", "several", "shape"],
)
def test_labels_that_a_softmax_cannot_mean(kind, labels, message):
    with pytest.raises(ValueError, match=message):
        fit(compiled(), kind(labels), steps_per_epoch=2)


def test_a_class_that_is_none_ends_fit():
    """On every backend, as `arrays` above."""
    with pytest.raises(ValueError, match="numbers of 0 to 3"):
        compiled().fit(IMAGES, HAS_NO_CLASS, verbose=0)


def test_a_class_that_is_none_ends_validation():
    with pytest.raises(ValueError, match="numbers of 0 to 3"):
        compiled().fit(
            IMAGES, LABELS, validation_data=(IMAGES, HAS_NO_CLASS), verbose=0
        )


@long_where_compiled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "labels",
    [LABELS, LABELS.astype("float32")[:, None], np.eye(3)[LABELS]],
    ids=["numbers", "column", "rows"],
)
def test_right_labels_train(kind, labels):
    history = fit(compiled(), kind(labels), steps_per_epoch=2)
    assert np.isfinite(history.history["loss"]).all()


@long_where_compiled
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_first_batch_is_looked_at(kind, monkeypatch):
    seen = []
    monkeypatch.setattr(
        recipe_module,
        "check_labels",
        lambda labels, **options: seen.append(np.array(labels).tolist()),
    )
    model = compiled()
    for _ in range(2):
        fit(model, kind(LABELS), steps_per_epoch=2)
    first = LABELS.tolist() if kind is arrays else LABELS[:4].tolist()
    assert seen == [first, first]


def test_one_output_is_refused():
    with pytest.raises(ValueError, match="one output.*`classes=2`"):
        compiled(model=small(1))


@long_where_compiled
@pytest.mark.parametrize("metrics", [None, ["binary_accuracy"]])
def test_a_loss_of_ones_own_takes_its_own_labels(metrics):
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model = compiled(loss=loss, metrics=metrics)
    history = model.fit(IMAGES, HAS_SEVERAL, verbose=0).history
    assert history.keys() == {"loss", *(metrics or [])}
    expected = loss(HAS_SEVERAL, model(IMAGES))
    found = model.evaluate(IMAGES, HAS_SEVERAL, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(float(expected), rel=1e-4)
    compiled(model=small(1), loss=loss)


@long_where_compiled
def test_another_loss_later_is_not_watched():
    model = compiled()
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(IMAGES, HAS_SEVERAL, verbose=0)


def test_the_optimizer_is_the_recipes():
    with pytest.raises(ValueError, match="optimizer='sgd'.*model.compile"):
        compiled(optimizer="sgd")


@pytest.mark.parametrize("kind", ["train_pipeline", "eval_pipeline"])
@pytest.mark.parametrize("form", ["tf", "sequence"])
def test_a_pipeline_takes_no_batches(kind, form):
    pipeline = getattr(RECIPE, kind)()
    data = dataset(LABELS) if form == "tf" else Pairs(LABELS)
    with pytest.raises(ValueError, match=r"of shape \(.*32, 32, 3\).*unbatch"):
        batches = pipeline(data, batch_size=2)
        batches[0]


@pytest.mark.parametrize("form", ["tf", "dict", "arrays", "samples"])
def test_a_pipeline_takes_no_weights(form):
    import tensorflow as tf

    weights = np.ones(8, "float32")
    data = {
        "tf": tf.data.Dataset.from_tensor_slices((IMAGES, LABELS, weights)),
        "dict": tf.data.Dataset.from_tensor_slices(
            {"images": IMAGES, "labels": LABELS, "sample_weight": weights}
        ),
        "arrays": (IMAGES, LABELS, weights),
        "samples": list(zip(IMAGES, LABELS, weights)),
    }
    with pytest.raises(ValueError, match="no weight.*class_weight"):
        RECIPE.train_pipeline(3)(data[form])[0]


@long_where_compiled
@pytest.mark.parametrize("form", [tuple, dataset])
def test_mixing_does_not_hide_a_class_that_is_none(form):
    recipe = RECIPE.replace(mixup_alpha=0.8)
    data = (IMAGES.astype("uint8"), HAS_NO_CLASS)
    if form is dataset:
        data = dataset(HAS_NO_CLASS).unbatch()
    # TensorFlow makes an error of its own of one in its threads.
    with pytest.raises(Exception, match="labels from 0 to 3, num_classes=3"):
        compiled(recipe).fit(recipe.train_pipeline(3)(data), verbose=0)
