"""Feature maps of every stage against timm's, weights randomized."""

import itertools

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import random_images
from families import FAMILIES
from families import SMALL
from peers import import_timm
from peers import timm_peer
from safetensors.torch import save_file

from keras_convnext import ConvNeXt
from keras_convnext import feature_pyramid
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD
from keras_convnext.models.construction import build
from keras_convnext.training.optimizers import layer_decay_scales

pytestmark = LONG_WHERE_COMPILED

LEVELS = ("P2", "P3", "P4", "P5")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Returns a function from a family to its timm model and weights file."""
    made = {}

    def make(name):
        if name not in made:
            variant = FAMILIES[name]
            peer = timm_peer(variant)
            path = tmp_path_factory.mktemp(name) / "timm.safetensors"
            save_file(peer.state_dict(), path)
            made[name] = variant, peer, path
        return made[name]

    return make


def ours(checkpoint, name, include_top=False, **options):
    variant, _, path = checkpoint(name)
    return build(variant, include_top=include_top, weights=path, **options)


def features_of(checkpoint, name, output_stride=32):
    """timm's `features_only` model of the same weights."""
    variant, peer, _ = checkpoint(name)
    features = import_timm().create_model(
        # Arguments of None are dropped: only V2's own has no layer scale.
        "convnextv2_base" if variant.grn else "convnext_base",
        features_only=True,
        output_stride=output_stride,
        depths=variant.depths,
        dims=variant.dims,
        kernel_sizes=variant.kernel_sizes,
        ls_init_value=variant.layer_scale_init_value or None,
        stem_type=variant.stem,
        act_layer=variant.activation,
        norm_layer=variant.norm.replace("_", ""),
        norm_eps=variant.epsilon,
        use_grn=variant.grn,
        conv_mlp=variant.norm != "layer_norm",
    )
    state = {
        name.replace("stem.", "stem_", 1).replace("stages.", "stages_", 1): x
        for name, x in peer.state_dict().items()
        if not name.startswith(("head.", "norm_pre."))
    }
    features.load_state_dict(state, strict=True)
    return features.eval()


def theirs(checkpoint, name, images, output_stride=32):
    """Its four maps, channels_last, for NHWC images of 0–255."""
    import torch

    features = features_of(checkpoint, name, output_stride)
    with torch.no_grad():
        maps = features(normalized(images))
    return [x.permute(0, 2, 3, 1).numpy() for x in maps]


def normalized(images):
    """NHWC images of 0–255 as PyTorch takes them."""
    import torch

    values = (images / 255 - IMAGENET_MEAN) / IMAGENET_STD
    return torch.from_numpy(values.astype("float32").transpose(0, 3, 1, 2))


def computed(pyramid, images):
    maps = pyramid(images, training=False)
    return [keras.ops.convert_to_numpy(x) for x in maps.values()]


def assert_maps_agree(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        assert ours.shape == theirs.shape
        # Maps of untouched stages would agree by being nearly constant.
        assert theirs.std() > 0.1
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "name, output_stride",
    [
        *itertools.product(("v1", "v2"), (32, 16, 8)),
        *itertools.product(("overlap",), (16, 8)),  # 32 in odd sizes below
        ("overlap_act", 32),
        ("overlap_tiered", 32),
        ("silu", 8),  # a kernel size for each stage
    ],
)
def test_maps_equal_timm(checkpoint, name, output_stride):
    images = random_images((2, 64, 96, 3))
    model = ours(checkpoint, name, output_stride=output_stride)
    pyramid = feature_pyramid(model)
    assert list(pyramid.output) == list(LEVELS)
    expected = theirs(checkpoint, name, images, output_stride)
    strides = [min(stride, output_stride) for stride in (4, 8, 16, 32)]
    assert [64 // x.shape[1] for x in expected] == strides
    assert_maps_agree(computed(pyramid, images), expected)


@pytest.mark.parametrize(
    "name, size, output_stride",
    [("v1", (33, 47), 8), ("overlap", (63, 94), 32)],
)
def test_odd_sizes(checkpoint, name, size, output_stride):
    images = random_images((1, *size, 3))
    model = ours(checkpoint, name, output_stride=output_stride)
    assert_maps_agree(
        computed(feature_pyramid(model), images),
        theirs(checkpoint, name, images, output_stride),
    )


@pytest.mark.every_backend
def test_a_training_step_under_dilation_equals_torch(checkpoint):
    images = random_images((2, 64, 64, 3))
    pyramid = feature_pyramid(ours(checkpoint, "v1", output_stride=8), ("P5",))
    model = keras.Model(pyramid.inputs, pyramid.output["P5"])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    names = ("stage_3_downsample_conv", "stage_3_block_0_depthwise")
    before = {name: model.get_layer(name).get_weights()[0] for name in names}
    model.train_on_batch(images, np.zeros((2, 8, 8, 32)))
    features = features_of(checkpoint, "v1", 8)
    features(normalized(images))[3].square().mean().backward()
    torch_names = ("stages_3.downsample.1", "stages_3.blocks.0.conv_dw")
    for name, torch_name in zip(names, torch_names):
        step = before[name] - model.get_layer(name).get_weights()[0]
        axes = (2, 3, 1, 0) if "conv" in name else (2, 3, 0, 1)
        gradient = features.get_submodule(torch_name).weight.grad.numpy()
        assert gradient.std() > 1e-3
        np.testing.assert_allclose(step, gradient.transpose(axes), atol=1e-5)


def test_models_with_a_top_and_some_levels(checkpoint):
    images = random_images((1, 64, 64, 3))
    model = ours(checkpoint, "v1", include_top=True, input_shape=(64, 64, 3))
    pyramid = feature_pyramid(model, ["P4", "P2"])
    maps = pyramid(images)
    expected = theirs(checkpoint, "v1", images)
    for level, index in (("P4", 2), ("P2", 0)):
        found = keras.ops.convert_to_numpy(maps[level])
        assert_maps_agree([found], [expected[index]])
    assert not [x for x in pyramid.layers if x.name.startswith("stage_3")]
    with pytest.raises(ValueError, match="shape"):
        pyramid(random_images((1, 96, 96, 3)))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_norms_are_those_of_the_official_dense_models(checkpoint, data_format):
    """`norm{stage}` over the channels, also where RMS norms are inside."""
    import torch
    from torch.nn.functional import layer_norm

    images = random_images((1, 64, 96, 3))
    model = ours(checkpoint, "rms", data_format=data_format)
    pyramid = feature_pyramid(model, ("P2", "P3", "P5"), norm=True)
    generator = np.random.default_rng(0)
    expected = []
    for stage in (0, 1, 3):
        norm = pyramid.get_layer(f"norm{stage}")
        assert norm.epsilon == 1e-6
        width = SMALL["dims"][stage]
        norm.set_weights(
            [generator.normal(mean, 0.3, width) for mean in (1, 0)]
        )
        features = torch.from_numpy(theirs(checkpoint, "rms", images)[stage])
        weights = [torch.from_numpy(w) for w in norm.get_weights()]
        expected.append(
            layer_norm(features, features.shape[-1:], *weights, 1e-6).numpy()
        )
    if data_format == "channels_first":
        images = images.transpose(0, 3, 1, 2)
        expected = [x.transpose(0, 3, 1, 2) for x in expected]
    assert_maps_agree(computed(pyramid, images), expected)


def test_layers_and_weights_are_shared():
    model = ConvNeXt(**SMALL, include_top=False)
    plain, normed = feature_pyramid(model), feature_pyramid(model, norm=True)
    for pyramid in (plain, normed):
        for layer in model.layers:
            if layer.name != "head_norm":
                assert pyramid.get_layer(layer.name) is layer
    assert {x.name for x in normed.layers} - {x.name for x in plain.layers} == {
        f"norm{stage}" for stage in range(4)
    }
    scales = layer_decay_scales(normed, 0.5)
    assert scales["stage_3_block_0_project"] == 0.5
    assert "norm3" not in scales  # the full rate, as in the official code


def test_a_pyramid_returns_whole_with_its_outputs_by_level():
    """As KerasHub's `RetinaNetBackbone` and others take them."""
    model = ConvNeXt(**SMALL, include_top=False)
    pyramid = feature_pyramid(model, ("P3", "P5"))
    again = keras.layers.deserialize(keras.layers.serialize(pyramid))
    for x in (pyramid, again):
        assert list(x.pyramid_outputs) == ["P3", "P5"]
        maps = keras.Model(x.inputs, x.pyramid_outputs["P5"])
        assert maps(random_images((1, 64, 64, 3))).shape[1] == 2


def test_two_towers_in_one_model():
    image = keras.Input((64, 64, 3))
    pyramids = [
        feature_pyramid(
            ConvNeXt(
                **SMALL,
                include_top=False,
                input_tensor=image,
                layer_prefix=prefix,
                data_format="channels_last",
            ),
            norm=True,
        )
        for prefix in ("left_", "stage_2_")
    ]
    both = keras.Model(image, [pyramid.output for pyramid in pyramids])
    assert both.get_layer("left_norm0") is pyramids[0].get_layer("left_norm0")
    assert both.get_layer("stage_2_norm3")


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_saved_pyramids_return_whole(data_format, tmp_path):
    model = ConvNeXt(
        **SMALL,
        include_top=False,
        data_format=data_format,
        output_stride=16,
        drop_path_rate=0.1,
    )
    pyramid = feature_pyramid(model, norm=True)
    generator = np.random.default_rng(0)
    for variable in pyramid.trainable_variables:
        noise = generator.normal(0, 0.3, variable.shape)
        variable.assign(variable + noise.astype("float32"))
    pyramid.save(tmp_path / "pyramid.keras")
    again = keras.saving.load_model(tmp_path / "pyramid.keras")
    shape = {"channels_last": (1, 64, 64, 3), "channels_first": (1, 3, 64, 64)}
    images = random_images(shape[data_format])
    assert list(again(images)) == list(LEVELS)
    maps = zip(computed(again, images), computed(pyramid, images))
    for found, expected in maps:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "dtype",
    [pytest.param("mixed_bfloat16", marks=LONG_WHERE_COMPILED), "float64"],
)
def test_the_dtype_is_that_of_the_model(dtype, float64):
    model = ConvNeXt(**SMALL, include_top=False, dtype=dtype)
    pyramid = feature_pyramid(model, norm=True)
    maps = pyramid(random_images((1, 64, 64, 3)))
    expected = keras.dtype_policies.get(dtype).compute_dtype
    for x in maps.values():
        assert keras.backend.standardize_dtype(x.dtype) == expected


def test_models_of_other_strides():
    isotropic = build(FAMILIES["isotropic"], weights=None, include_top=False)
    maps = feature_pyramid(isotropic, ("P4",))(random_images((1, 64, 64, 3)))
    assert maps["P4"].shape[1] == 4
    two = ConvNeXt(
        (1, 1), (8, 8), patch_size=2, input_shape=(2, 8, 3), output_stride=2
    )
    maps = feature_pyramid(two, ("P1", "P2"))(random_images((1, 2, 8, 3)))
    assert [tuple(x.shape[1:3]) for x in maps.values()] == [(1, 4)] * 2


@pytest.mark.parametrize(
    "levels",
    [("P1",), ("P2", "P6"), "P3", (), ("P3", "P3"), 3, None, (2, 3), (["P2"],)],
)
def test_unknown_levels(levels):
    model = ConvNeXt(**SMALL, include_top=False)
    allowed = r"some of \('P2', 'P3', 'P4', 'P5'\).*Received"
    with pytest.raises(ValueError, match=allowed):
        feature_pyramid(model, levels)


def test_models_without_these_levels():
    isotropic = build(FAMILIES["isotropic"], weights=None, include_top=False)
    with pytest.raises(ValueError, match=r"some of \('P4',\)"):
        feature_pyramid(isotropic)
    with pytest.raises(ValueError, match="powers of two"):
        feature_pyramid(ConvNeXt((1,), (8,), patch_size=14), ("P4",))
    with pytest.raises(ValueError, match="Received: <Sequential"):
        feature_pyramid(keras.Sequential([ConvNeXt(**SMALL)]))


@pytest.mark.parametrize("output_stride", [4, 12, 64, 0, "16"])
def test_unreachable_output_strides(output_stride):
    allowed = r"`output_stride` must be one of \[32, 16, 8\]. Received"
    if output_stride in (0, "16"):
        allowed = "`output_stride` must be a positive int. Received"
    with pytest.raises(ValueError, match=allowed):
        ConvNeXt(**SMALL, output_stride=output_stride)
