"""Graphs of several inputs on PyTorch, run as Keras runs them, with less."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_convnext.layers import plain
from keras_convnext.layers.activations import gelu
from keras_convnext.models.graph_execution import GraphExecution

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="others run graphs"
)


@keras.saving.register_keras_serializable()
class Halves(layers.Layer):
    """Gives out several tensors, one of which nobody reads."""

    def call(self, x, scale=None):
        scale = 1.0 if scale is None else scale
        return {"a": x[:, :2] * scale, "b": x[:, 2:], "unread": x}


@pytest.fixture
def model():
    first = keras.Input((4,), name="first")
    second = keras.Input((1,), name="second")
    shared = plain.Dense(4)
    x = layers.Activation(gelu)(shared(first))
    halves = Halves()(x, scale=second)
    again = shared(x)
    outputs = {
        "sum": layers.Add()([halves["a"], halves["b"]]),
        "again": [again, x],
    }
    return keras.Model({"first": first, "second": second}, outputs)


@pytest.fixture
def inputs():
    generator = np.random.default_rng(0)
    return {
        "first": generator.normal(size=(3, 4)).astype("float32"),
        "second": generator.normal(size=(3, 1)).astype("float32"),
    }


def test_outputs_are_those_of_keras(model, inputs):
    import torch

    expected = model(inputs)
    execution = GraphExecution(model)
    assert execution.is_free()
    for _ in range(2):  # nothing of the first time is left
        with torch.no_grad():
            found = execution(inputs)
        keras.tree.assert_same_structure(found, expected)
        for one, other in zip(*map(keras.tree.flatten, (found, expected))):
            np.testing.assert_allclose(
                one.numpy(), other.detach().numpy(), rtol=1e-6, atol=1e-6
            )
    gradients = torch.autograd.grad(
        execution(inputs)["sum"].sum(), model.trainable_variables[0].value
    )
    assert gradients[0].abs().sum() > 0


def test_who_listens_to_a_layer_is_noticed(model, inputs):
    execution = GraphExecution(model)
    handle = model.layers[2].register_forward_hook(lambda *_: None)
    assert not execution.is_free()
    handle.remove()
    assert execution.is_free()


def test_what_is_read_is_forgotten():
    """Of a chain of layers at most two tensors live at a time."""
    import weakref

    made, living = [], []

    class Counted(layers.Layer):
        def call(self, x):
            result = x + 1.0
            made.append(weakref.ref(result))
            living.append(sum(one() is not None for one in made))
            return result

    image = x = keras.Input((4,), name="image")
    for _ in range(6):
        x = Counted()(x)
    execution = GraphExecution(keras.Model({"image": image}, {"out": x}))
    made.clear()
    living.clear()
    execution({"image": np.ones((1, 4), "float32")})
    assert len(living) == 6 and max(living) <= 2
