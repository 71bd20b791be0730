"""Costs are those of the published tables, and of PyTorch's own layers."""

import keras
import peers
import pytest
import torch
from conftest import LONG_WHERE_COMPILED
from keras import layers

import keras_convnext
from keras_convnext import VARIANTS
from keras_convnext import create_model
from keras_convnext import profile
from keras_convnext.models.profiling import without_numbers

pytestmark = LONG_WHERE_COMPILED

# 10⁹ multiply-adds at 224 pixels: V1's and V2's README, with more digits from
# the official code run on a meta device.
MACS = {
    "convnext_tiny": 4.4555,
    "convnext_small": 8.6837,
    "convnext_base": 15.3547,
    "convnext_large": 34.3614,
    "convnext_xlarge": 60.9210,
    "convnext_isotropic_small": 4.2864,
    "convnext_isotropic_base": 16.8963,
    "convnext_isotropic_large": 59.6992,
    "convnextv2_atto": 0.5473,
    "convnextv2_femto": 0.7796,
    "convnextv2_pico": 1.3671,
    "convnextv2_nano": 2.4455,
    "convnextv2_tiny": 4.4555,
    "convnextv2_base": 15.3547,
    "convnextv2_large": 34.3614,
    "convnextv2_huge": 114.9221,
}
OTHER_SIZES = {
    ("convnext_tiny", 288): 7.3648,
    ("convnext_base", 384): 45.1221,
    ("convnextv2_atto", 384): 1.6079,
    ("convnextv2_huge", 512): 600.3974,
}


def new_model(name, **options):
    with without_numbers():
        return create_model(name, weights=None, **options)


def is_quick(name):
    depths, dims = VARIANTS[name].depths, VARIANTS[name].dims
    return sum(depths) * max(dims) ** 2 < 1e7


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if is_quick(name) else pytest.mark.long)
        for name in MACS
    ],
)
def test_multiply_adds_are_the_published_ones(name):
    found = profile(new_model(name))
    assert found.macs / 1e9 == pytest.approx(MACS[name], rel=1e-3)
    assert sum(x.macs for x in found.stages().values()) == found.macs


@pytest.mark.parametrize(
    "name, size",
    [
        pytest.param(*key, marks=() if is_quick(key[0]) else pytest.mark.long)
        for key in OTHER_SIZES
    ],
)
def test_other_sizes_cost_what_is_published(name, size):
    model = new_model(name, input_shape=(None, None, 3))
    expected = OTHER_SIZES[name, size]
    found = profile(model, (size, size, 3))
    assert found.macs / 1e9 == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ValueError, match="Pass `input_shape="):
        profile(model)


def counted_by_torch(model, size):
    """Multiply-adds and activations, seen by hooks in a PyTorch model."""
    counts = {"macs": 0, "activations": 0}

    def count(module, _, output):
        elements = output.numel()
        weights = module.weight.numel() // module.weight.shape[0]
        counts["macs"] += elements * weights
        counts["activations"] += elements

    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, size, size))
    return counts


@pytest.mark.parametrize(
    "name",
    [
        "convnext_zepto_rms_ols",
        "convnext_atto_ols",
        "convnextv2_atto",
        "test_convnext",
        "test_convnext3",
    ],
)
def test_costs_are_those_that_timm_has(name):
    timm = peers.import_timm()
    expected = timm.create_model(name)
    found = profile(new_model(name, input_shape=(64, 64, 3)))
    assert found.parameters == sum(x.numel() for x in expected.parameters())
    counts = counted_by_torch(expected, 64)
    assert found.macs == counts["macs"]
    assert found.activations == counts["activations"]


def test_other_models_of_keras_are_counted():
    """torchvision's ResNet-50 has its stride elsewhere; He's has 3.86."""
    with without_numbers():
        model = keras.applications.ResNet50(weights=None)
    found = profile(model)
    assert found.parameters == model.count_params()
    assert found.macs / 1e9 == pytest.approx(3.858, rel=1e-3)


@pytest.mark.every_backend
def test_standard_layers_are_counted_by_hand():
    image = keras.Input((8, 6, 4))
    x = layers.SeparableConv2D(5, 3, padding="same", depth_multiplier=2)(image)
    x = layers.Conv2DTranspose(3, 2, strides=2)(x)
    x = layers.Conv2D(4, 1, groups=1)(x)
    x = layers.Reshape((16 * 12, 4))(x)
    x = layers.Conv1D(2, 3, strides=2)(x)
    found = profile(keras.Model(image, layers.Flatten()(x)))
    by_hand = [
        48 * (3 * 3 * 4 * 2 + 8 * 5),
        48 * (2 * 2 * 5 * 3),
        16 * 12 * (3 * 4),
        95 * (3 * 4 * 2),
    ]
    assert [x.macs for x in found.layers if x.macs] == by_hand
    assert found.activations == 48 * 5 + 192 * 3 + 192 * 4 + 95 * 2


def test_layouts_cost_the_same():
    first = new_model(
        "test_convnext2", input_shape=(3, 64, 64), data_format="channels_first"
    )
    last = new_model("test_convnext2", input_shape=(64, 64, 3))
    assert profile(first).macs == profile(last).macs


def test_nested_shared_and_sequential_models_are_counted():
    backbone = new_model(
        "test_convnext2",
        include_top=False,
        pooling="avg",
        input_shape=(None, None, 3),
    )
    alone = profile(backbone, (64, 64, 3))
    image = keras.Input((64, 64, 3))
    left = backbone(image)
    right = backbone(layers.RandomFlip()(image))
    both = profile(keras.Model(image, layers.Add()([left, right])))
    assert both.macs == 2 * alone.macs
    assert both.parameters == alone.parameters == backbone.count_params()
    chain = keras.Sequential([image, backbone, layers.Dense(7)])
    assert profile(chain).macs == alone.macs + 128 * 7


def test_layers_of_the_same_name_are_other_layers():
    small = {"depths": (1,), "dims": (8,), "input_shape": (32, 32, 3)}
    with without_numbers():
        a, b = (
            keras_convnext.ConvNeXt(**small, classes=2, name=name)
            for name in "ab"
        )
    image = keras.Input((32, 32, 3))
    both = keras.Model(image, layers.Add()([a(image), b(image)]))
    found = profile(both)
    assert found.parameters == both.count_params() == 2 * a.count_params()
    assert found.macs == 2 * profile(a).macs


def test_a_profile_prints_and_is_json():
    found = profile(new_model("test_convnext2"))
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        "stem",
        "stage_0",
        "stage_1",
        "stage_2",
        "stage_3",
        "head",
        "total",
    ]
    total = lines[-1].replace(",", "").split()
    assert [int(x) for x in total[1:]] == [
        found.parameters,
        found.macs,
        found.activations,
    ]
    assert found.as_dict()["stages"]["head"]["macs"] == 128 * 1000


def test_what_cannot_be_counted_is_told():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    own = Own()
    own.build((None, 4))
    with pytest.raises(ValueError, match="Received: .*own"):
        profile(own, (4,))
    recurrent = keras.Sequential([keras.Input((4, 3)), layers.LSTM(2)])
    with pytest.raises(ValueError, match="'lstm' of type LSTM"):
        profile(recurrent)
    assert keras_convnext.profile is profile
