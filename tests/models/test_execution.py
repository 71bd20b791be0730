"""How models run on PyTorch: as Keras runs them, and forgetting sooner."""

import weakref
from functools import partial

import keras
import numpy as np
import pytest
from keras import layers

import keras_convnext
from keras_convnext.models import execution
from keras_convnext.models.execution import execution_of

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="others run graphs"
)

SIZES = {"input_shape": (64, 64, 3), "weights": None, "classes": 5}


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3))


def as_keras_does(model, images, **kwargs):
    """The same model without an execution of its own."""
    execution, model._execution = model._execution, None
    try:
        return predict(model, images, **kwargs)
    finally:
        model._execution = execution


def predict(model, images, **kwargs):
    return keras.ops.convert_to_numpy(model(images, **kwargs))


@pytest.mark.parametrize(
    "name", ["convnext_atto_ols", "convnextv2_atto", "convnext_zepto_rms_ols"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_bfloat16"])
def test_outputs_are_those_of_keras(name, dtype, images):
    model = keras_convnext.create_model(
        name, dtype=dtype, classifier_activation="softmax", **SIZES
    )
    assert model._execution is not None
    expected = as_keras_does(model, images)
    tolerance = {"float32": 1e-6, "float64": 1e-14, "mixed_bfloat16": 2e-2}
    np.testing.assert_allclose(
        predict(model, images), expected, rtol=0, atol=tolerance[dtype]
    )


@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto"])
def test_memory_is_written_twice_without_gradients_only(name, images):
    import torch

    model = keras_convnext.create_model(name, **SIZES)
    for weight in model.trainable_variables:
        drawn = np.random.default_rng(0).uniform(0.5, 1.5, weight.shape)
        weight.assign(drawn * weight if len(weight.shape) > 1 else drawn)
    expected = as_keras_does(model, images)
    with torch.no_grad():
        for _ in range(2):  # neither images nor weights are written to
            found = predict(model, images)
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    model(images).sum().backward()


@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto"])
def test_wide_batches_go_through_blocks_in_parts(name, images, monkeypatch):
    import torch

    model = keras_convnext.create_model(name, **SIZES)
    images = np.concatenate([images, images[:1] / 2])
    expected = as_keras_does(model, images)
    widths = []
    grouped = torch.cat
    # Of one image: 16 × 16 positions, 4 × 40 channels, 4 bytes.
    monkeypatch.setattr(execution, "WIDE_BYTES", 3 * 4 * 16**2 * 160)
    monkeypatch.setattr(execution, "CACHED_BYTES", 2 * 4 * 16**2 * 160)
    monkeypatch.setattr(
        torch, "cat", lambda x: widths.append([*map(len, x)]) or grouped(x)
    )
    with torch.no_grad():
        found = predict(model, images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert widths == [[2, 1]] * 2  # the blocks of the first stage alone


def test_what_is_needed_later_is_not_written_to():
    import torch

    image = keras.Input((4, 4, 3))
    dense = keras_convnext.layers.plain.Dense(3, kernel_initializer="identity")
    scaled = keras_convnext.layers.LayerScale(2.0)(dense(image))
    shared = layers.Add()([dense.output, scaled])
    copied = layers.Identity()(image)
    alone = keras_convnext.layers.LayerScale(2.0)(copied)
    model = keras.Model(image, layers.Add()([shared, alone]))
    ones = torch.ones(1, 4, 4, 3)
    with torch.no_grad():
        found = execution_of(model)(ones, training=False)
    assert (ones == 1).all()
    assert (found == 5).all()


def test_all_kinds_of_input_are_taken(images):
    model = keras_convnext.ConvNeXtAtto(**SIZES)
    expected = predict(model, images)
    pixels = images.astype("uint8")
    for given, same in (
        ({"image": images}, expected),
        ([images], expected),
        (keras.ops.convert_to_tensor(images, "float16"), None),
        (pixels, predict(model, pixels.astype("float32"))),
    ):
        result = predict(model, given)
        np.testing.assert_allclose(
            result, expected if same is None else same, atol=1e-3
        )
    assert model(keras.Input((64, 64, 3))).shape == (None, 5)


def test_a_list_of_one_input_is_taken(images):
    model = keras_convnext.ConvNeXtAtto(**SIZES)
    again = type(model)([model.input], model.output)
    assert again._execution is not None
    for given in (images, [images]):
        np.testing.assert_array_equal(
            predict(again, given), predict(model, images)
        )


def test_training_reaches_stochastic_depth(images):
    model = keras_convnext.ConvNeXtAtto(drop_path_rate=0.9, **SIZES)
    for layer in model.layers:
        if isinstance(layer, keras_convnext.layers.LayerScale):
            layer.gamma.assign(layer.gamma * 0 + 1)
    still = predict(model, images)
    for call in (model, model.call, keras.Sequential([model])):
        drawn = keras.ops.convert_to_numpy(call(images, training=True))
        assert np.abs(drawn - still).max() > 1e-3
        kept = keras.ops.convert_to_numpy(call(images, training=False))
        np.testing.assert_array_equal(kept, still)


def test_outputs_are_forgotten_when_nothing_needs_them(images):
    import torch

    model = keras_convnext.ConvNeXtAtto(**SIZES)
    first = model.get_layer("stage_0_block_0_expand")
    later = model.get_layer("stage_1_block_0_expand")
    seen = []

    def watch(layer, note):
        call = layer.call

        def watched(*args, **kwargs):
            outputs = call(*args, **kwargs)
            note(outputs)
            return outputs

        layer.call = watched

    watch(first, lambda outputs: seen.append(weakref.ref(outputs)))
    watch(later, lambda outputs: seen.append(seen[0]() is None))
    with torch.no_grad():
        model(images)
        assert seen[1] is True
        seen.clear()
        as_keras_does(model, images)
        assert seen[1] is False  # or this test could not fail


def test_layers_that_do_more_are_called_whole(images):
    model = keras_convnext.ConvNeXtAtto(**SIZES)
    model.get_layer(
        "head_classifier"
    ).activity_regularizer = keras.regularizers.L2()
    model(images)
    assert len(model.losses) == 1
    with keras.RematScope(mode="full"):
        model = keras_convnext.ConvNeXtAtto(**SIZES)
    assert not any(step.plain for step in model._execution.steps)


def test_other_graphs_are_left_to_keras():
    image = keras.Input((8, 8, 3))
    shared = layers.Dense(3)
    assert execution_of(keras.Model(image, shared(shared(image)))) is None
    both = keras.Model(image, [image, shared(image)])
    assert execution_of(both) is None
    assert execution_of(keras.Model(image, layers.Dense(3)(image))) is not None


@pytest.fixture
def compiler():
    """Follows the code for images of any size; what torch makes of that is
    its own matter, and takes a minute."""
    import torch

    torch.compiler.reset()
    return partial(torch.compile, dynamic=True, backend="eager")


def test_response_normalization_compiles_for_any_size(compiler):
    import torch

    layer = keras_convnext.layers.GlobalResponseNormalization()
    layer.build((None, None, None, 8))
    generator = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(generator.normal(size=weight.shape))
    compiled = compiler(layer.call, fullgraph=True)
    for shape in ((2, 4, 5, 8), (3, 6, 4, 8)):
        given = torch.from_numpy(generator.normal(size=shape)).float()
        torch.testing.assert_close(compiled(given), layer(given))


@pytest.mark.long
@pytest.mark.parametrize("grn", [False, True])
def test_compiled_models_take_images_of_any_size(grn, compiler):
    import torch

    model = keras_convnext.ConvNeXt(
        (1,), (8,), grn=grn, input_shape=(None, None, 3), classes=3
    )
    generator = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign(generator.normal(0, 0.3, weight.shape))
    compiled = compiler(model)
    for size in ((32, 48), (64, 32)):
        given = generator.uniform(0, 255, (2, *size, 3)).astype("float32")
        found = compiled(torch.from_numpy(given))
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(found), predict(model, given), atol=1e-6
        )


LAYERS = ("stem_conv", "stage_0_block_0_expand", "stage_3_block_1_add")


def count(register, model, images):
    """How often a hook is called in a step forward and backward."""
    calls = []

    def hook(*arguments, **kwargs):
        calls.append(arguments[0])

    handles = [register(model.get_layer(name), hook) for name in LAYERS]
    model(images).sum().backward()
    for handle in handles:
        handle.remove()
    return len(calls)


@pytest.mark.parametrize(
    "name",
    [
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ],
)
def test_hooks_of_layers_are_called(name, images):
    model = keras_convnext.ConvNeXtAtto(**SIZES)
    expected = predict(model, images)
    calls = count(lambda layer, hook: getattr(layer, name)(hook), model, images)
    assert calls == len(LAYERS)
    # And afterwards it runs by itself again.
    assert model._execution.is_free()
    np.testing.assert_array_equal(predict(model, images), expected)


def test_hooks_of_all_modules_are_called(images):
    from torch.nn.modules import module

    model = keras_convnext.ConvNeXtAtto(**SIZES)
    names = set()
    handle = module.register_module_forward_hook(
        lambda layer, inputs, outputs: names.add(layer.name)
    )
    model(images)
    handle.remove()
    assert names.issuperset(LAYERS)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*trace:torch.jit.TracerWarning")
def test_traces_are_of_what_keras_runs(images, monkeypatch):
    import torch

    def refused(self, inputs, training):
        raise AssertionError("recorded without Keras")

    model = keras_convnext.ConvNeXtAtto(**SIZES).eval()
    images = torch.from_numpy(images).float()
    with torch.no_grad():
        expected = model(images)
        monkeypatch.setattr(type(model._execution), "__call__", refused)
        program = torch.export.export(model, (images,)).module()
        traced = torch.jit.trace(model, images, check_trace=False)
        for other in (program, traced):
            torch.testing.assert_close(
                other(images), expected, rtol=1e-5, atol=1e-5
            )
