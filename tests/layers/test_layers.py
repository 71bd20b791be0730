"""The package's own layers, one by one."""

import json

import keras
import numpy as np
import pytest
from conftest import random_images
from keras import ops

from keras_convnext.layers import DepthwiseConv2D
from keras_convnext.layers import GlobalResponseNormalization
from keras_convnext.layers import ImageNormalization
from keras_convnext.layers import LayerScale
from keras_convnext.layers import Normal
from keras_convnext.layers import SimpleNormalization
from keras_convnext.layers import depthwise
from keras_convnext.layers import torch_functions
from keras_convnext.layers.plain import RowBatchNormalization

BACKEND = keras.backend.backend()
ONLY_TORCH = pytest.mark.skipif(
    BACKEND != "torch", reason="written for PyTorch alone"
)


def normal(shape, scale=1.0, dtype="float32"):
    values = np.random.default_rng(0).normal(0, scale, shape)
    return values.astype(dtype)


def as_numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


LAYERS = [
    lambda: DepthwiseConv2D(5),
    lambda: DepthwiseConv2D(3, dilation_rate=2),
    lambda: LayerScale(0.3),
    GlobalResponseNormalization,
    SimpleNormalization,
    lambda: ImageNormalization([0.1, 0.2, 0.3], [1, 2, 3]),
]


@pytest.mark.parametrize("make", LAYERS)
def test_layers_return_from_their_config(make):
    layer = make()
    x = normal((2, 6, 6, 3))
    expected = as_numpy(layer(x))
    config = json.loads(json.dumps(keras.layers.serialize(layer)))
    assert config["registered_name"].startswith("keras_convnext>")
    again = keras.layers.deserialize(config)
    again.set_weights(layer.get_weights())
    assert np.array_equal(as_numpy(again(x)), expected)


# Depthwise convolution


def reference_depthwise(x, kernel, bias, dilation):
    import torch

    output = torch.nn.functional.conv2d(
        torch.from_numpy(x).permute(0, 3, 1, 2),
        torch.from_numpy(kernel).permute(2, 3, 0, 1),
        torch.from_numpy(bias),
        padding=dilation * (kernel.shape[0] // 2),
        dilation=dilation,
        groups=x.shape[-1],
    )
    return output.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("implementation", depthwise.IMPLEMENTATIONS)
@pytest.mark.parametrize(
    "size, kernel_size, dilation",
    [((9, 12), 7, 1), ((8, 8), 3, 1), ((3, 4), 7, 1), ((9, 12), 5, 2)],
)
def test_depthwise_implementations_equal_torch(
    implementation, size, kernel_size, dilation
):
    x = normal((2, *size, 6))
    layer = DepthwiseConv2D(
        kernel_size, dilation_rate=dilation, implementation=implementation
    )
    layer.build(x.shape)
    kernel, bias = normal(layer.kernel.shape), normal((6,))
    layer.set_weights([kernel, bias])
    expected = reference_depthwise(x, kernel, bias, dilation)
    np.testing.assert_allclose(as_numpy(layer(x)), expected, atol=2e-5)


@pytest.mark.parametrize("implementation", depthwise.IMPLEMENTATIONS)
def test_depthwise_kernels_need_not_be_square(implementation):
    import torch

    x, kernel = normal((2, 9, 12, 4)), normal((3, 5, 4, 1))
    layer = DepthwiseConv2D(
        *((3, 5), (1, 2)), use_bias=False, implementation=implementation
    )
    layer.build(x.shape)
    layer.set_weights([kernel])
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(x).permute(0, 3, 1, 2),
        torch.from_numpy(kernel).permute(2, 3, 0, 1),
        padding=(1, 4),
        dilation=(1, 2),
        groups=4,
    )
    expected = expected.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(
        as_numpy(layer(x)), expected, rtol=1e-5, atol=2e-5
    )


@pytest.mark.parametrize("dilation", [1, 2])
def test_depthwise_implementations_have_the_gradients_of_torch(dilation):
    """Through one step of SGD, which every backend takes in its own way."""
    import torch

    x, target = normal((2, 9, 8, 4)), normal((2, 9, 8, 4), 2.0)
    kernel = normal((5, 5, 4, 1), 0.2)
    weight = torch.from_numpy(kernel).requires_grad_()
    image = torch.from_numpy(x).requires_grad_()
    output = torch.nn.functional.conv2d(
        image.permute(0, 3, 1, 2),
        weight.permute(2, 3, 0, 1),
        padding=2 * dilation,
        dilation=dilation,
        groups=4,
    )
    expected = torch.from_numpy(target).permute(0, 3, 1, 2)
    torch.nn.functional.mse_loss(output, expected).backward()

    for implementation in depthwise.IMPLEMENTATIONS:
        # The gradient to the images reaches the offset of a layer before.
        inputs = keras.Input((9, 8, 4))
        shift = Offset()
        conv = DepthwiseConv2D(
            5,
            dilation_rate=dilation,
            use_bias=False,
            implementation=implementation,
        )
        model = keras.Model(inputs, conv(shift(inputs)))
        conv.set_weights([kernel])
        model.compile(keras.optimizers.SGD(1.0), "mse")
        model.train_on_batch(x, target)
        step = kernel - conv.get_weights()[0]
        np.testing.assert_allclose(step, weight.grad.numpy(), atol=2e-6)
        step = -shift.get_weights()[0]
        np.testing.assert_allclose(step, image.grad.sum(0).numpy(), atol=2e-6)


class Offset(keras.layers.Layer):
    """Adds one learned number to every value of an image."""

    def build(self, input_shape):
        self.offset = self.add_weight(
            shape=input_shape[1:], initializer="zeros"
        )

    def call(self, inputs):
        return inputs + self.offset


@pytest.mark.parametrize("implementation", depthwise.IMPLEMENTATIONS)
def test_depthwise_accumulates_half_precision_in_float32(implementation):
    """1 and 48 of 2⁻¹² are 1.0117; in float16 each of these is lost in 1."""
    layer = DepthwiseConv2D(
        7, dtype="mixed_float16", implementation=implementation
    )
    layer.build((1, 9, 9, 2))
    kernel = np.full((7, 7, 2, 1), 2.0**-12)
    kernel[0, 0] = 1
    layer.set_weights([kernel, np.zeros(2)])
    center = as_numpy(layer(np.ones((1, 9, 9, 2), "float16")))[0, 4, 4]
    # TensorFlow's own loses them.
    is_rough = (BACKEND, implementation) == ("tensorflow", "native")
    rtol = 2e-2 if is_rough else 5e-4
    np.testing.assert_allclose(center, 1 + 48 / 4096, rtol=rtol, atol=0)


def test_depthwise_implementation_is_chosen_in_one_place(monkeypatch):
    expected = "shifted" if keras.backend.backend() == "jax" else "native"
    assert depthwise.choose_implementation() == expected
    monkeypatch.setenv(depthwise.SETTING, "native")
    assert depthwise.choose_implementation() == "native"
    monkeypatch.setenv(depthwise.SETTING, "fastest")
    with pytest.raises(ValueError, match="KERAS_CONVNEXT_DEPTHWISE"):
        depthwise.choose_implementation()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kernel_size": 4}, "must be odd"),
        ({"kernel_size": 3, "strides": 2}, "`strides` must be"),
        ({"kernel_size": 3, "padding": "valid"}, "`padding` must be"),
        ({"kernel_size": 3, "data_format": "channels_first"}, "data_format"),
        ({"kernel_size": 3, "implementation": "magic"}, "implementation"),
    ],
)
def test_depthwise_refuses_what_it_cannot_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        DepthwiseConv2D(**arguments)


# Global response normalization


def reference_grn(x, gamma, beta):
    norms = np.sqrt((x.astype("float64") ** 2).sum((1, 2), keepdims=True))
    response = norms / (norms.mean(-1, keepdims=True) + 1e-6)
    return gamma * (x * response) + beta + x


def test_grn_is_the_frobenius_norm_over_the_mean():
    x = normal((2, 5, 7, 6))
    layer = GlobalResponseNormalization()
    layer.build(x.shape)
    gamma, beta = normal((6,)), normal((6,), 0.3)
    assert np.array_equal(as_numpy(layer(x)), x)  # identity at first
    layer.set_weights([gamma, beta])
    expected = reference_grn(x, gamma, beta)
    np.testing.assert_allclose(as_numpy(layer(x)), expected, atol=1e-5)


def test_grn_of_zeros_is_its_offset():
    layer = GlobalResponseNormalization()
    layer.build((1, 4, 4, 3))
    layer.set_weights([np.ones(3), np.array([1.0, 2.0, 3.0])])
    found = as_numpy(layer(np.zeros((1, 4, 4, 3))))
    assert np.array_equal(found[0, 0, 0], [1, 2, 3])


@ONLY_TORCH
@pytest.mark.parametrize("limit", [1, 500, 10**9])
def test_energies_are_the_same_in_parts_of_all_sizes(limit, monkeypatch):
    import torch

    monkeypatch.setattr(torch_functions, "SQUARED_BYTES", limit)
    x = normal((2, 5, 7, 3))
    inputs = torch.from_numpy(x).requires_grad_()
    found = torch_functions.sum_of_squares(inputs)
    found.sum().backward()
    expected = np.square(x).sum((1, 2), keepdims=True)
    np.testing.assert_allclose(
        found.detach().numpy(), expected, rtol=1e-6, atol=0
    )
    np.testing.assert_allclose(inputs.grad.numpy(), 2 * x, rtol=1e-6, atol=0)


def test_grn_in_float16_does_not_overflow():
    x = np.full((1, 14, 14, 8), 100.0, "float16")
    layer = GlobalResponseNormalization(dtype="mixed_float16")
    layer.build(x.shape)
    layer.set_weights([np.full(8, 0.5), np.zeros(8)])
    np.testing.assert_allclose(as_numpy(layer(x)), 150.0, rtol=2e-3)


def test_simple_normalization_divides_by_the_unbiased_deviation():
    x = normal((2, 3, 3, 8), 0.01)
    layer = SimpleNormalization(epsilon=1e-5)
    layer.build(x.shape)
    variance = x.astype("float64").var(-1, ddof=1, keepdims=True)
    expected = x / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(as_numpy(layer(x)), expected, rtol=1e-5)


def test_image_normalization_ignores_the_global_image_data_format():
    keras.config.set_image_data_format("channels_first")
    layer = ImageNormalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    pixels = random_images((2, 4, 5, 3))
    mean, std = np.array(layer.mean), np.array(layer.std)
    expected = (pixels / 255 - mean) / std
    np.testing.assert_allclose(as_numpy(layer(pixels)), expected, atol=1e-6)
    whole = pixels.astype("uint8")
    np.testing.assert_allclose(as_numpy(layer(whole)), expected, atol=1e-6)


def test_layer_scale_begins_as_in_the_paper():
    layer = LayerScale()
    layer.build((None, 3))
    np.testing.assert_array_equal(
        layer.get_weights()[0], np.float32([1e-6] * 3)
    )


@pytest.mark.skipif(BACKEND != "jax", reason="written for XLA alone")
def test_the_slope_of_gelu_is_that_of_torch():
    import jax
    import torch

    from keras_convnext.layers import jax_functions

    x = np.linspace(-4, 4, 101, dtype="float32")
    there = torch.from_numpy(x).requires_grad_()
    torch.nn.functional.gelu(there).sum().backward()
    gelu = jax_functions.exact_gelu()
    found = jax.grad(lambda x: gelu(x).sum())(x)
    np.testing.assert_allclose(found, there.grad, rtol=1e-5, atol=1e-6)


def test_normal_initializer_draws_what_it_says():
    values = as_numpy(Normal(stddev=0.02, seed=1)((300, 300)))
    assert values.std() == pytest.approx(0.02, rel=0.02)
    assert values.mean() == pytest.approx(0, abs=5e-4)
    # Not truncated at two deviations, as Keras' TruncatedNormal is.
    assert np.abs(values).max() > 0.07
    assert np.array_equal(values, Normal(stddev=0.02, seed=1)((300, 300)))


def adding(values):
    """The sums over all programs: those of the others, in their order."""
    parts = iter(values)
    return lambda x: x + next(parts)


def test_batch_norms_have_the_statistics_of_all_programs():
    """One with half of the rows, and Keras with all of them."""
    generator = np.random.default_rng(0)
    rows = generator.normal(3, 2, (8, 2, 2, 3)).astype("float32")
    rows[4:] *= 2
    some = np.array([True, True, False, True, True, False, False, True])
    shared = RowBatchNormalization(momentum=0.9)
    whole = keras.layers.BatchNormalization(momentum=0.9)
    for counts in (some, None):
        is_there = np.ones(8, bool) if counts is None else counts
        mean = rows[is_there].mean((0, 1, 2))
        others = rows[4:][is_there[4:]]
        beyond = [
            others[..., 0].size,
            others.sum((0, 1, 2)),
            ((others - mean) ** 2).sum((0, 1, 2)),
        ]
        shared.total = adding(beyond)
        if counts is not None:
            counts = counts[:, None, None]
        expected = whole(rows, training=True, mask=counts)
        own = None if counts is None else counts[:4]
        found = shared(rows[:4], own, training=True)
        for one, other in (
            (found, expected[:4]),
            (shared.moving_mean, whole.moving_mean),
            (shared.moving_variance, whole.moving_variance),
        ):
            np.testing.assert_allclose(
                ops.convert_to_numpy(one),
                ops.convert_to_numpy(other),
                rtol=1e-5,
                atol=1e-6,
            )
