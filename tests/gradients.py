"""Values and gradients of losses, by this backend and by PyTorch."""

import numpy as np
import torch
from conftest import BACKEND


def value_and_gradient(loss, labels, logits):
    """Of a Keras loss on this backend, by its own differentiation."""
    if BACKEND == "torch":
        x = torch.tensor(logits, requires_grad=True)
        with torch.device("cpu"):
            value = loss(torch.tensor(labels), x)
        value.backward()
        return value.item(), x.grad.numpy()
    if BACKEND == "jax":
        import jax

        value, gradient = jax.value_and_grad(lambda x: loss(labels, x))(logits)
        return float(value), np.asarray(gradient)
    import tensorflow as tf

    x = tf.Variable(logits)
    with tf.GradientTape() as tape:
        value = loss(labels, x)
    return float(value), tape.gradient(value, x).numpy()


def of_torch(function, labels, logits):
    x = torch.tensor(logits, requires_grad=True)
    value = function(x, torch.tensor(labels))
    value.backward()
    return value.item(), x.grad.numpy()


def assert_same(ours, theirs):
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-6, atol=1e-6)
