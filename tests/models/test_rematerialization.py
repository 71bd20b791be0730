"""Rematerialized models compute the same, and keep less."""

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import predict
from conftest import random_images

import keras_convnext
from keras_convnext import optimizers
from keras_convnext import recipes
from keras_convnext import rematerialized
from keras_convnext.facts.layer_names import parse
from keras_convnext.layers.jax_functions import compiling_for
from keras_convnext.models.rematerialization import Rematerialized
from keras_convnext.models.rematerialization import for_training
from keras_convnext.tasks import roadmap

pytestmark = LONG_WHERE_COMPILED


def new_model(**options):
    keras.utils.set_random_seed(0)
    return keras_convnext.ConvNeXt(
        **{
            "depths": (1, 2),
            "dims": (8, 16),
            "input_shape": (32, 32, 3),
            "classes": 4,
            "classifier_activation": None,
            "layer_scale_init_value": 0.5,
            **options,
        }
    )


def trained(model, lean=None, steps=2):
    """Weights after steps on noise; of the second model if there is one."""
    subject = lean or model
    recipe = recipes.small_data.replace(
        epochs=1, warmup_epochs=0, drop_path_rate=0.2, mixup_alpha=0.0
    )
    recipe.compile(subject, steps)
    images, labels = random_images((4, 32, 32, 3)), np.arange(4)
    losses = [subject.train_on_batch(images, labels) for _ in range(steps)]
    return np.array(losses, "float32"), model.get_weights()


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=LONG_WHERE_COMPILED),
        {"grn": True, "layer_scale_init_value": 0.0},
    ],
)
def test_training_is_the_same(options):
    options = {"drop_path_rate": 0.2, **options}
    losses, weights = trained(new_model(**options))
    model = new_model(**options)
    lean_losses, lean_weights = trained(model, rematerialized(model))
    np.testing.assert_allclose(lean_losses, losses, rtol=1e-5)
    for found, expected in zip(lean_weights, weights):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_weights_are_shared_and_saved_by_either(tmp_path):
    model = new_model()
    lean = rematerialized(model)
    assert {id(x) for x in lean.weights} == {id(x) for x in model.weights}
    assert sum(isinstance(x, Rematerialized) for x in lean.layers) == 3
    images = random_images((2, 32, 32, 3))
    np.testing.assert_allclose(
        predict(lean, images), predict(model, images), atol=1e-6
    )
    lean.save(tmp_path / "lean.keras")
    loaded = keras.saving.load_model(tmp_path / "lean.keras")
    np.testing.assert_allclose(
        predict(loaded, images), predict(model, images), atol=1e-6
    )


def test_layer_decay_finds_the_layers_inside():
    model = new_model()
    scales = optimizers.layer_decay_scales(model, 0.8)
    assert optimizers.layer_decay_scales(rematerialized(model), 0.8) == scales


@pytest.mark.every_backend
@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="counts what autograd keeps"
)
def test_torch_keeps_less():
    import torch

    def kept(model):
        total = 0

        def pack(tensor):
            nonlocal total
            total += tensor.numel()
            return tensor

        images = torch.from_numpy(random_images((4, 32, 32, 3)))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            model(images, training=True)
        return total

    model = new_model()
    assert kept(rematerialized(model)) < kept(model) / 3


@pytest.mark.every_backend
@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="counts what a vjp holds"
)
@pytest.mark.parametrize("is_whole, less", [(True, 2.5), (False, 1.3)])
def test_jax_keeps_less(is_whole, less):
    """XLA on CPUs may still merge the second computation with the first."""
    import jax

    def kept(model):
        def outputs(trainable):
            state = [x.value for x in model.non_trainable_variables]
            results, _ = model.stateless_call(
                trainable, state, images, training=True
            )
            return results

        trainable = [x.value for x in model.trainable_variables]
        results, backward = jax.vjp(outputs, trainable)
        arrays = {id(x): x.size for x in jax.tree.leaves(backward)}
        return sum(arrays.values()), backward(results)

    images = random_images((16, 32, 32, 3))
    model = new_model(grn=not is_whole)
    with compiling_for("tpu"):
        lean = for_training(model, is_whole)
    size, gradients = kept(model)
    lean_size, lean_gradients = kept(lean)
    # Of a GELU the plain model keeps the input alone: it has less to save.
    assert lean_size < size / less
    for found, expected in zip(
        *map(jax.tree.leaves, (lean_gradients, gradients))
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.every_backend
def test_tpus_compute_activations_again():
    model = new_model(grn=True)
    assert for_training(model, False) is model
    with compiling_for("tpu"):
        lean = for_training(model, False)
        assert for_training(lean, False) is lean
    inside = [
        [parse(layer.name).part for layer in whole.layers]
        for whole in lean.layers
        if isinstance(whole, Rematerialized)
    ]
    # Which of the other backends knows what it will run on?
    is_jax = keras.backend.backend() == "jax"
    assert inside == 3 * is_jax * [["activation", "grn", "project"]]


@pytest.mark.every_backend
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="reads the graph"
)
def test_tensorflow_computes_blocks_again():
    import tensorflow as tf

    def erfs(model):
        @tf.function
        def step(images):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model(images, training=True))
            return tape.gradient(loss, [x.value for x in model.weights])

        graph = step.get_concrete_function(
            tf.TensorSpec((4, 32, 32, 3))
        ).graph.as_graph_def()
        nodes = list(graph.node)
        for function in graph.library.function:
            nodes += function.node_def
        return sum(node.op in ("Erf", "Erfc") for node in nodes)

    model = new_model()
    assert erfs(rematerialized(model)) >= 2 * erfs(model) > 0


def test_models_without_blocks_are_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="blocks of a ConvNeXt"):
        rematerialized(model)


@pytest.mark.every_backend
def test_blocks_in_another_order_are_refused():
    model = roadmap.build("resnet", "small", classes=2)
    with pytest.raises(ValueError, match="blocks of a ConvNeXt"):
        rematerialized(model)
