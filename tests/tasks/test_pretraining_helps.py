"""Pre-training teaches an encoder more than the same steps without a task.

The same network learns from handwritten digits twice: to fill in what is
hidden, and to predict zeros there. The second is the control: its steps move
random features, too, and no mask teaches it anything.
"""

from unittest import mock

import keras
import numpy as np
from conftest import long_where_compiled
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_convnext import ConvNeXt
from keras_convnext import data
from keras_convnext import pretraining
from keras_convnext.tasks.pretraining import objective

SIZE = 16
# Of accuracy. Measured: 0.23 over random weights and 0.22 over zeros.
BOUND = 0.1
RECIPE = pretraining.v2_pretrain.replace(
    epochs=8,
    warmup_epochs=0.8,
    batch_size=64,
    learning_rate=4e-3,
    image_size=SIZE,
    decoder_width=32,
    crop_scale=None,
    horizontal_flip=0.0,
)


def digits():
    """Larger, bright on dark by a brightness and a contrast of chance.

    To learn from, and to test on: images and labels.
    """
    generator = np.random.default_rng(0)
    for images, labels in data.load_digits():
        larger = images.repeat(SIZE // 8, axis=1).repeat(SIZE // 8, axis=2)
        shape = (len(images), 1, 1, 1)
        dark = generator.integers(0, 128, shape)
        contrast = generator.integers(64, 128, shape)
        drawn = np.round(dark + contrast * (larger / 255)).astype("uint8")
        yield drawn.repeat(3, axis=-1), labels


def new_encoder():
    keras.utils.set_random_seed(0)
    return ConvNeXt(
        **{"depths": (1, 1), "dims": (16, 32), "patch_size": 2, "grn": True},
        layer_scale_init_value=0.0,
        include_top=False,
        input_shape=(SIZE, SIZE, 3),
    )


def accuracy(encoder, train, test):
    """Of logistic regression on the mean features of the encoder."""
    rows = [
        encoder.predict(images, batch_size=256, verbose=0).mean(axis=(1, 2))
        for images, _ in (train, test)
    ]
    model = LogisticRegression(C=0.1, max_iter=300)
    model = make_pipeline(StandardScaler(), model).fit(rows[0], train[1])
    return model.score(rows[1], test[1])


@long_where_compiled
def test_features_are_better_than_without_a_task():
    train, test = digits()

    def trained():
        encoder = new_encoder()
        model = RECIPE.on(encoder)
        source = data.Arrays(*train)
        batches = RECIPE.train_data(source, model, loader="python")
        RECIPE.compile(model, len(batches))
        model.fit(batches, epochs=RECIPE.epochs, verbose=0)
        return accuracy(encoder, train, test)

    targets = objective.targets
    with mock.patch.object(
        objective, "targets", lambda *args: 0 * targets(*args)
    ):
        of_zeros = trained()
    found = {
        "random": accuracy(new_encoder(), train, test),
        "zeros": of_zeros,
        "FCMAE": trained(),
    }
    others = max(found["random"], found["zeros"])
    assert found["FCMAE"] > others + BOUND, found
