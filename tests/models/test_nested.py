"""A backbone inside another model, and every function that takes a model.

A cell either computes what the flat twin does, the same layers in one model,
or is refused with the remedy.
"""

import functools

import keras
import numpy as np
import pytest
from conftest import COMPILES
from conftest import long_where_compiled
from conftest import predict
from conftest import random_images
from families import every_weight_matters
from keras import layers

import keras_convnext
from keras_convnext import artifacts
from keras_convnext import evaluate
from keras_convnext import export
from keras_convnext import feature_pyramid
from keras_convnext import imagenet1k_from_22k
from keras_convnext import optimize_for_inference
from keras_convnext import optimizers
from keras_convnext import profile
from keras_convnext import rematerialized
from keras_convnext import visualize
from keras_convnext.data import Arrays
from keras_convnext.models import inspection
from keras_convnext.models import rebuilding

IMAGES = random_images((2, 32, 64, 3))
LAYER = "stage_1_block_0_add"


def backbone(shape=(32, 64, 3), **options):
    """A small model in which every weight matters."""
    options = {"include_top": False, "name": "backbone", **options}
    return every_weight_matters(
        keras_convnext.ConvNeXt((1, 1), (8, 16), input_shape=shape, **options)
    )


def head():
    kernel = keras.initializers.RandomNormal(seed=1)
    dense = layers.Dense(5, "softmax", kernel_initializer=kernel, name="top")
    return [layers.GlobalAveragePooling2D(), dense]


def through(x, *steps):
    for step in steps:
        x = step(x)
    return x


def flat(model, top):
    return keras.Model(model.input, through(model.output, *top))


def image():
    return keras.Input((32, 64, 3))


def sequential(model, top):
    return keras.Sequential([image(), model, *top])


def functional(model, top):
    x = image()
    return keras.Model(x, through(x, model, *top))


def in_inference(model, top):
    x = image()
    return keras.Model(x, through(model(x, training=False), *top))


def augmented(model, top):
    augmentation = keras.Sequential(
        [layers.RandomFlip(), layers.RandomRotation(0.2)], name="augmentation"
    )
    rescaled = layers.Rescaling(2.0, -1.0), layers.Rescaling(0.5, 0.5)
    return keras.Sequential([image(), augmentation, *rescaled, model, *top])


def nested_twice(model, top):
    pool, dense = top
    features = keras.Sequential([image(), model, pool], name="features")
    x = image()
    return keras.Model(x, through(x, features, layers.Dropout(0.5), dense))


def frozen(model, top):
    model.trainable = False
    return functional(model, top)


def by_operations(model, top):
    x = image()
    maps = model(x * 2.0 / 2.0)
    return keras.Model(x, top[1](keras.ops.mean(maps, (1, 2))))


KINDS = {
    "sequential": sequential,
    "functional": functional,
    "in_inference": in_inference,
    "augmented": augmented,
    "nested_twice": nested_twice,
    "frozen": frozen,
    "by_operations": by_operations,
}


def shown(figure):
    return [
        np.asarray(picture.get_array())
        for axis in figure.axes
        for picture in axis.get_images()
    ]


def check_shown(found, expected):
    for ours, theirs in zip(shown(found), shown(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


# Functions: of the nested model and its flat twin.


def has_heat(model, twin, folder):
    for layer in (None, LAYER, "stage_0_block_0_add"):
        heat, classes = visualize.grad_cam(model, IMAGES, layer=layer)
        expected, same = visualize.grad_cam(twin, IMAGES, layer=layer)
        assert heat.std() > 0.05
        np.testing.assert_array_equal(classes, same)
        np.testing.assert_allclose(heat, expected, rtol=0, atol=1e-5)


def is_explained(model, twin, folder):
    found, expected = (
        visualize.explanation(x, IMAGES[0], top=2) for x in (model, twin)
    )
    check_shown(found, expected)


def is_drawn(model, twin, folder):
    for draw in (
        lambda x: visualize.feature_maps(x, IMAGES[0], LAYER),
        visualize.filters,
        lambda x: visualize.filters(x, "stage_1_block_0_depthwise"),
    ):
        check_shown(draw(model), draw(twin))


def is_optimized(model, twin, folder):
    found = predict(optimize_for_inference(model), IMAGES)
    np.testing.assert_allclose(found, predict(twin, IMAGES), rtol=0, atol=1e-5)


def is_exported(model, twin, folder):
    export(model, folder / "model.onnx", verbose=False)
    found = artifacts.open_artifact(folder / "model.onnx").run(IMAGES)
    expected = predict(twin, IMAGES)
    np.testing.assert_allclose(found["scores"], expected, rtol=0, atol=1e-5)


def is_profiled(model, twin, folder):
    found, expected = profile(model), profile(twin)
    assert found.as_dict() == expected.as_dict()


def has_rates(model, twin, folder):
    scales = optimizers.layer_decay_scales(model, 0.7)
    assert scales == optimizers.layer_decay_scales(twin, 0.7)


def is_evaluated(model, twin, folder):
    labels = predict(twin, IMAGES).argmax(-1)
    source = Arrays(IMAGES.astype("uint8"), labels, "abcde")
    assert evaluate(model, source, verbose=False).accuracy["top1"] == 1


def is_refused(function, remedy, model, twin, folder):
    with pytest.raises(ValueError, match=remedy):
        function(model)


refused = functools.partial
FUNCTIONS = {
    "grad_cam": has_heat,
    "explanation": is_explained,
    "visualize": is_drawn,
    "optimize_for_inference": is_optimized,
    "export": is_exported,
    "profile": is_profiled,
    "layer_decay": has_rates,
    "evaluate": is_evaluated,
    "rematerialized": refused(
        is_refused, rematerialized, r"Build upon `rematerialized\(backbone\)`"
    ),
    "feature_pyramid": refused(
        is_refused, feature_pyramid, r"get_layer\('backbone'\)"
    ),
    "imagenet1k_from_22k": refused(
        is_refused, imagenet1k_from_22k, "must have the 21841 outputs"
    ),
}


# Every function on the plainest kind, every kind with Grad-CAM, and what is
# particular to a kind.
CELLS = [
    *(("functional", function) for function in FUNCTIONS),
    *((kind, "grad_cam") for kind in KINDS if kind != "functional"),
    ("augmented", "export"),
    ("nested_twice", "visualize"),
]
QUICK = [("functional", "grad_cam"), ("nested_twice", "visualize")]


def cells():
    for kind in KINDS:
        for function in FUNCTIONS:
            is_quick = (kind, function) in (QUICK if COMPILES else CELLS)
            marks = [] if is_quick else [pytest.mark.long]
            yield pytest.param(kind, function, marks=marks)


@pytest.mark.parametrize("kind, function", list(cells()))
def test_a_nested_model_is_as_its_flat_twin(kind, function, tmp_path):
    model, top = backbone(), head()
    twin = flat(model, top)
    model = KINDS[kind](model, top)
    FUNCTIONS[function](model, twin, tmp_path)


@long_where_compiled
def test_the_remedy_names_the_inner_model():
    model = nested_twice(backbone(), head())
    inner = r"`model.get_layer\('features'\).get_layer\('backbone'\)`"
    with pytest.raises(ValueError, match=inner):
        feature_pyramid(model)


@long_where_compiled
def test_maps_of_a_nested_model_in_channels_first():
    options = {"data_format": "channels_first"}
    last, first = backbone(), backbone((3, 32, 64), **options)
    pools = (layers.GlobalAveragePooling2D(**x) for x in ({}, options))
    dense = head()[1]
    expected, found = (
        keras.Sequential([keras.Input(x.input_shape[1:]), x, pool, dense])
        for x, pool in zip((last, first), pools)
    )
    images = IMAGES.transpose(0, 3, 1, 2)
    heat, _ = visualize.grad_cam(found, images)
    same, _ = visualize.grad_cam(expected, IMAGES)
    assert heat.shape == (2, 32, 64)
    np.testing.assert_allclose(heat, same, rtol=0, atol=1e-5)
    for name in ("to_channels_first", "backbone"):
        with pytest.raises(ValueError, match=f"'{name}', channels first"):
            visualize.feature_maps(found, images[0], name)


@long_where_compiled
def test_names_that_several_nested_models_have():
    left, right = (backbone(name=name) for name in ("left", "right"))
    x = image()
    maps = layers.Average()([left(x), right(x)])
    model = keras.Model(x, through(maps, *head()))
    for draw in (visualize.feature_maps, visualize.grad_cam):
        with pytest.raises(ValueError, match="Pass one of .*'right/stem_norm'"):
            draw(model, IMAGES[:1], layer="stem_norm")
    with pytest.raises(ValueError, match="Pass one of .*'left/stem_conv'"):
        visualize.filters(model, "stem_conv")
    with pytest.raises(ValueError, match="another branch"):
        visualize.grad_cam(model, IMAGES)
    check_shown(
        visualize.feature_maps(model, IMAGES[0], "right/stem_norm"),
        visualize.feature_maps(right, IMAGES[0], "stem_norm"),
    )
    # A nested model has a name as well, and is a layer.
    check_shown(
        visualize.feature_maps(model, IMAGES[0], "left"),
        visualize.feature_maps(left, IMAGES[0], "head_norm"),
    )


@long_where_compiled
def test_a_softmax_in_the_dense_layer_is_left_out():
    model, (pool, dense) = backbone(), head()
    one = flat(model, [pool, dense])
    apart = layers.Dense(5, name="apart")
    logits = through(model.output, pool, apart)
    apart.set_weights(dense.get_weights())
    whole = keras.Model(model.input, layers.Softmax()(logits))
    expected, _ = visualize.grad_cam(whole, IMAGES, 2)
    found, _ = visualize.grad_cam(one, IMAGES, 2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert dense.activation is keras.activations.softmax


@long_where_compiled
def test_models_without_a_graph_are_refused():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = backbone()

        def call(self, inputs):
            return self.inner(inputs)

    unbuilt = keras.Sequential([layers.Dense(2)])
    for model in (Own(), unbuilt):
        with pytest.raises(ValueError, match="Begin a Sequential model with"):
            visualize.grad_cam(model, IMAGES)
    x, y = image(), image()
    model = backbone()
    pair = keras.Model([x, y], layers.Subtract()([model(x), model(y)]))
    with pytest.raises(ValueError, match="model of one input"):
        visualize.grad_cam(pair, IMAGES)
    twice = keras.Model(x, layers.Average()([model(x), model(2 * x)]))
    with pytest.raises(ValueError, match="calls 2 times"):
        visualize.feature_maps(twice, IMAGES[0], LAYER)


@pytest.mark.long
def test_explain_takes_a_transfer_model(tmp_path, run_command):
    # The backbone knows another size than the model around it.
    inner = keras_convnext.ConvNeXt((1,), (8,), include_top=False)
    model = keras.Sequential([image(), inner, *head()])
    model.save(tmp_path / "model.keras")
    keras.utils.save_img(tmp_path / "photo.png", IMAGES[0])
    status, out, _ = run_command(
        "explain",
        tmp_path / "photo.png",
        "--model",
        tmp_path / "model.keras",
        "--output",
        tmp_path / "out.png",
    )
    assert status == 0
    assert (tmp_path / "out.png").stat().st_size > 1000


ENSEMBLES = {
    "two_inputs": lambda left, right: keras.Model(
        [x := image(), y := image()],
        layers.Concatenate()([left(x), right(y)]),
    ),
    "one_input": lambda left, right: keras.Model(
        x := image(), layers.Average()([left(x), right(x)])
    ),
    "sequential": lambda left, right: keras.Sequential([left, right]),
}


@pytest.mark.parametrize("kind", ENSEMBLES)
def test_models_of_one_name_are_refused_with_the_remedy(kind):
    first, second = (backbone(pooling="avg") for _ in range(2))
    with pytest.raises(ValueError, match="two called 'backbone'.*`name='sec"):
        ENSEMBLES[kind](first, second)
    if kind != "sequential":
        second.name = "second"
        assert ENSEMBLES[kind](first, second).get_layer("second") is second
        # One model twice is one layer.
        assert ENSEMBLES[kind](first, first)


def test_options_of_a_call_stay_in_a_rebuilt_graph():
    base = backbone()
    rows = layers.Reshape((-1, 16))(base.output)
    rows = layers.MultiHeadAttention(2, 8)(rows, rows, use_causal_mask=True)
    outputs = layers.Dense(5, name="top")(layers.Flatten()(rows))
    model = keras.Model(base.input, outputs)
    image = keras.Input((32, 64, 3))
    again = rebuilding.rebuild(model, image, rebuilding.step)
    np.testing.assert_allclose(
        predict(again, IMAGES), predict(model, IMAGES), rtol=0, atol=1e-5
    )


def test_a_nested_model_is_cropped_as_one_of_its_size():
    built = {"include_top": True, "classes": 5}
    flat = backbone((384, 384, 3), **built)
    inner = backbone((None, None, 3), include_top=False, weights=None)
    nested = keras.Sequential([keras.Input((384, 384, 3)), inner, *head()])
    found = inspection.preprocessing_of(nested)
    assert found == flat.preprocessing
    assert artifacts.metadata.of_model(nested)["preprocessing"] == found
