"""Arguments of the constructors: Keras' own, ours, and what is refused."""

import dataclasses
import inspect
from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import predict
from conftest import random_images
from families import FAMILIES
from families import SMALL

import keras_convnext
from keras_convnext import ConvNeXt
from keras_convnext import Variant
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.models.construction import build


def small(**options):
    options = {**SMALL, "input_shape": (64, 64, 3), "classes": 5, **options}
    return ConvNeXt(**options)


def copy_weights(source, target):
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())
    return target


def randomized(model):
    generator = np.random.default_rng(0)
    model.set_weights(
        [generator.normal(0, 0.3, w.shape) for w in model.get_weights()]
    )
    return model


def test_the_first_nine_arguments_are_those_of_keras_applications():
    theirs = inspect.signature(keras.applications.ConvNeXtTiny).parameters
    ours = inspect.signature(keras_convnext.ConvNeXtTiny).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        if name != "classes":
            assert ours[name].default == parameter.default, name
    assert ours["classes"].default is None
    extra = list(ours.values())[len(theirs) :]
    assert all(p.kind is p.KEYWORD_ONLY for p in extra)


@pytest.mark.skipif(
    keras.backend.backend() != "torch",
    reason="torch alone builds models without allocating them",
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"classes": 7},
        {"include_top": False},
        {"include_top": False, "pooling": "avg"},
        {"include_top": False, "pooling": "max", "input_shape": (64, 64, 3)},
    ],
)
def test_shapes_are_those_of_keras_applications(options):
    with keras.device("meta"):
        theirs = keras.applications.ConvNeXtTiny(weights=None, **options)
        ours = keras_convnext.ConvNeXtTiny(weights=None, **options)
    assert ours.input_shape == theirs.input_shape
    assert ours.output_shape == theirs.output_shape
    assert ours.count_params() == theirs.count_params()


def test_without_top_the_last_map_is_normalized_or_pooled(images):
    classifier = randomized(small())
    features = {
        pooling: copy_weights(
            classifier, small(include_top=False, pooling=pooling)
        )
        for pooling in (None, "avg", "max")
    }
    shapes = {name: model.output_shape for name, model in features.items()}
    assert shapes == {
        None: (None, 2, 2, 32),
        "avg": (None, 32),
        "max": (None, 32),
    }
    block = keras.Model(
        classifier.input, classifier.get_layer("stage_3_block_0_add").output
    )
    last = predict(block, images)
    for name, pooled in {
        None: last,
        "avg": last.mean((1, 2)),
        "max": last.max((1, 2)),
    }.items():
        # From Keras 3.16 on a norm takes inputs of the rank it was built for.
        norm = features[name].get_layer("head_norm")
        np.testing.assert_allclose(
            predict(features[name], images),
            keras.ops.convert_to_numpy(norm(pooled)),
            atol=1e-4,
        )


def test_channels_first_gives_the_same_result(images):
    """Square maps with as many columns as channels: the shape for which
    Keras' `LayerNormalization(axis=1)` is silently wrong on torch."""
    options = {"depths": (1, 1), "dims": (16, 8), "classes": 5}
    last = randomized(ConvNeXt(**options, input_shape=(64, 64, 3)))
    first = ConvNeXt(
        **options, input_shape=(3, 64, 64), data_format="channels_first"
    )
    copy_weights(last, first)
    np.testing.assert_allclose(
        predict(first, images.transpose(0, 3, 1, 2)),
        predict(last, images),
        atol=1e-5,
    )


def test_the_global_image_data_format_is_the_default(images):
    expected = randomized(small(include_top=False, input_shape=None))
    keras.config.set_image_data_format("channels_first")
    model = small(include_top=False, input_shape=None)
    assert model.input_shape == (None, 3, None, None)
    copy_weights(expected, model)
    features = predict(model, images.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(
        features.transpose(0, 2, 3, 1), predict(expected, images), atol=1e-4
    )


@pytest.mark.parametrize(
    "policy, output",
    [
        ("float32", "float32"),
        ("mixed_float16", "float32"),
        ("mixed_bfloat16", "float32"),
        ("bfloat16", "bfloat16"),
    ],
)
def test_dtype_policies(policy, output, images):
    reference = randomized(small())
    model = copy_weights(reference, small(dtype=policy))
    probabilities = model(images)
    assert keras.backend.standardize_dtype(probabilities.dtype) == output
    assert model.get_layer("stage_0_block_0_add").compute_dtype == (
        policy.removeprefix("mixed_")
    )
    # Neither pixels nor sums over many positions in half precision.
    assert model.input.dtype == "float32"
    assert model.get_layer("normalization").compute_dtype == "float32"
    assert model.get_layer("head_pool").output.dtype == output
    values = keras.ops.convert_to_numpy(
        keras.ops.cast(probabilities, "float32")
    )
    np.testing.assert_allclose(values, predict(reference, images), atol=0.06)


def test_the_global_dtype_policy_is_the_default():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = small()
    assert model.get_layer("stage_0_block_0_add").compute_dtype == "bfloat16"
    assert model.output.dtype == "float32"


def test_logits_of_mixed_policies_are_float32(images):
    model = small(dtype="mixed_float16", classifier_activation=None)
    assert keras.backend.standardize_dtype(model(images).dtype) == "float32"
    assert model.layers[-1].name == "head_classifier"


@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="others have float64"
)
def test_float64_on_jax_asks_for_x64():
    with pytest.raises(ValueError, match="JAX_ENABLE_X64=1"):
        small(dtype="float64")


def test_preprocessing_is_inside_or_left_to_the_caller(images):
    inside = randomized(small())
    outside = copy_weights(inside, small(include_preprocessing=False))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalized = ((images / 255 - mean) / std).astype("float32")
    np.testing.assert_allclose(
        predict(inside, images), predict(outside, normalized), atol=1e-4
    )
    np.testing.assert_allclose(
        predict(inside, images.astype("uint8")), predict(inside, images)
    )


def test_other_channels_need_mean_and_std():
    with pytest.raises(ValueError, match="`mean` and `std`"):
        small(input_shape=(64, 64, 5))
    model = small(input_shape=(64, 64, 5), mean=[0.1] * 5, std=0.2)
    assert model.preprocessing.mean == (0.1,) * 5
    assert model.preprocessing.std == (0.2,) * 5
    model = small(input_shape=(64, 64, 1), include_preprocessing=False)
    assert model.input_shape == (None, 64, 64, 1)


def test_the_smallest_image_leaves_one_position():
    model = small(input_shape=(32, 32, 3))
    assert model.get_layer("stage_3_block_0_add").output.shape == (
        *(None, 1, 1),
        SMALL["dims"][-1],
    )


def test_dynamic_and_rectangular_sizes(images):
    model = randomized(small(input_shape=(None, None, 3)))
    fixed = copy_weights(model, small(input_shape=(64, 96, 3)))
    wide = random_images((2, 64, 96, 3))
    assert predict(model, images).shape == (2, 5)
    np.testing.assert_allclose(
        predict(model, wide), predict(fixed, wide), atol=1e-5
    )


def test_an_input_tensor_may_follow_other_layers(images):
    image = keras.Input((64, 64, 3))
    darker = keras.layers.Rescaling(0.5)(image)
    model = randomized(small(input_tensor=darker, input_shape=None))
    reference = copy_weights(model, small())
    assert model.input is image
    np.testing.assert_allclose(
        predict(model, images), predict(reference, images / 2), atol=1e-5
    )


def test_layer_names_are_flat_and_independent_of_the_model_name():
    model = small(name="anything", drop_path_rate=0.2, dropout_rate=0.1)
    names = [layer.name for layer in model.layers]
    assert names[:5] == [
        "image",
        "card",
        "normalization",
        "stem_conv",
        "stem_norm",
    ]
    assert [name for name in names if name.startswith("stage_2_block_1")] == [
        "stage_2_block_1_depthwise",
        "stage_2_block_1_norm",
        "stage_2_block_1_expand",
        "stage_2_block_1_activation",
        "stage_2_block_1_project",
        "stage_2_block_1_layer_scale",
        "stage_2_block_1_drop_path",
        "stage_2_block_1_add",
    ]
    assert names[-5:] == [
        "head_pool",
        "head_norm",
        "head_dropout",
        "head_classifier",
        "head_activation",
    ]
    assert model.name == "anything"
    paths = [
        weight.path for weight in model.weights if "seed" not in weight.path
    ]
    assert all(path.count("/") == 1 for path in paths)
    assert isinstance(
        model.get_layer("stage_0_block_0_expand"), keras.layers.Dense
    )


@pytest.mark.parametrize("columns", [80, 140])
def test_a_summary_has_whole_names(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    model = ConvNeXt((1, 1), (8, 16), input_shape=(32, 32, 3), classes=3)
    model.summary()
    printed = capsys.readouterr().out
    named = [x.split("│")[1] for x in printed.splitlines() if "│" in x]
    words = {word for text in named for word in text.split()}
    assert words >= {layer.name for layer in model.layers}
    assert max(map(len, printed.splitlines())) <= columns
    if columns > 100:
        assert "…" not in printed
    # A narrow terminal, and columns that the user asks for, are Keras' own.
    monkeypatch.setenv("COLUMNS", "50")
    model.summary()
    model.summary(line_length=60, show_trainable=True)


def test_two_towers_need_a_prefix(images):
    first = small(include_top=False, pooling="avg")
    with pytest.raises(ValueError, match="layer_prefix"):
        small(
            input_tensor=first.get_layer("normalization").output,
            input_shape=None,
        )
    image = keras.Input((64, 64, 3))
    options = {"input_shape": None, "input_tensor": image}
    left = small(**options, include_top=False, pooling="avg")
    alternative = small(**options, include_top=False, pooling="avg")
    with pytest.raises(ValueError, match="layer_prefix='second_'"):
        keras.Model(image, [left.output, alternative.output])
    right = small(**options, layer_prefix="right_")
    both = keras.Model(image, [left.output, right.output])
    assert both.get_layer("right_stem_conv") is right.get_layer(
        "right_stem_conv"
    )
    assert right.pyramid_level_inputs["P2"] == "right_stage_0_block_0_add"
    assert [len(output) for output in both(images)] == [2, 2]


def test_alternatives_may_share_an_input(images):
    image = keras.Input((64, 64, 3))
    models = [
        small(input_tensor=image, input_shape=None, grn=grn)
        for grn in (False, True)
    ]
    first, second = (predict(model, images) for model in models)
    assert first.shape == second.shape and np.abs(first - second).max() > 0


def test_classes_may_be_names():
    model = small(classes=["ant", "bee"])
    assert model.output_shape == (None, 2)
    assert model.class_names == ["ant", "bee"]
    headless = small(classes=["ant", "bee"], include_top=False)
    assert headless.info.class_names is None
    with pytest.raises(ValueError, match="a list of names.*Received: classes"):
        small(classes=[])


def test_kernel_sizes_layer_scale_and_head_scale():
    model = keras_convnext.create_model(
        "test_convnext",
        weights=None,
        kernel_size=(9, 7, 5, 3),
        layer_scale_init_value=0.25,
        head_init_scale=0.001,
    )
    assert [
        model.get_layer(f"stage_{i}_block_0_depthwise").kernel_size[0]
        for i in range(4)
    ] == [9, 7, 5, 3]
    scale = model.get_layer("stage_0_block_0_layer_scale").get_weights()[0]
    assert np.all(scale == np.float32(0.25))
    kernel, bias = model.get_layer("head_classifier").get_weights()
    assert kernel.std() == pytest.approx(2e-5, rel=0.05)
    assert not bias.any()
    without = keras_convnext.create_model(
        "test_convnext", weights=None, layer_scale_init_value=0
    )
    assert not [x for x in without.layers if "layer_scale" in x.name]


def test_the_first_arguments_go_by_position():
    arguments = (False, False, None, None, (64, 64, 3), "max", 7, None, "mine")
    models = [
        ConvNeXt((1,), (8,), *arguments, kernel_size=np.int64(5)),
        keras_convnext.create_model("test_convnext2", *arguments),
    ]
    for model in models:
        assert model.name == "mine"
        assert model.layers[-1].name == "head_norm"
        assert len(model.output_shape) == 2


def test_defaults_are_those_of_a_variant():
    fields = {x.name: x.default for x in dataclasses.fields(Variant)}
    given = inspect.signature(ConvNeXt).parameters
    shared = fields.keys() & given.keys() - {"name", "depths", "dims"}
    assert len(shared) > 8
    for name in shared:
        assert given[name].default == fields[name], name


def test_any_number_of_stages_and_patch_sizes():
    model = ConvNeXt((2, 1), (8, 12), patch_size=1, input_shape=(6, 8, 3))
    assert model.get_layer("stage_1_block_0_add").output.shape[1:3] == (3, 4)
    assert model.pyramid_level_inputs == {
        "P0": "stage_0_block_1_add",
        "P1": "stage_1_block_0_add",
    }
    assert ConvNeXt((1,), (8,), patch_size=14).pyramid_level_inputs == {}


def test_drop_path_is_a_linear_ramp():
    model = small(depths=(2, 2), dims=(8, 8), drop_path_rate=0.3)
    rates = {
        layer.name: layer.rate
        for layer in model.layers
        if isinstance(layer, keras.layers.Dropout)
    }
    assert rates == pytest.approx(
        {
            "stage_0_block_1_drop_path": 0.1,
            "stage_1_block_0_drop_path": 0.2,
            "stage_1_block_1_drop_path": 0.3,
        }
    )


BAD_ARGUMENTS = [
    ({"depths": (1, 2)}, "`dims` .* one entry for each of the 2 stages"),
    ({"depths": (1, 1, 0, 1)}, "Each of `depths` must be a positive int"),
    ({"depths": (1, 1, 1.5, 1)}, "Each of `depths` must be a positive"),
    ({"dims": 7}, "one entry for each of the 4 stages"),
    ({"kernel_size": (7, 7)}, "each of the 4 stages"),
    ({"kernel_size": 6}, "must be odd"),
    ({"patch_size": 0}, "`patch_size`"),
    ({"stem": "patchy"}, "Did you mean patch"),
    ({"norm": "batch_norm"}, "`norm` must be one of"),
    ({"activation": "gelu_erf"}, "`activation` must be"),
    ({"activation": keras.activations.relu}, "must be a name"),
    ({"head": "mlp"}, "`head` must be one of"),
    ({"layer_scale_init_value": -1}, "`layer_scale_init_value`"),
    ({"layer_scale_init_value": "1"}, "`layer_scale_init_value`"),
    ({"epsilon": -1e-6}, "`epsilon` must be a positive number"),
    ({"head_hidden_size": 0}, "`head_hidden_size` must be a positive int"),
    ({"image_size": 64.5}, "`image_size` must be a positive int"),
    ({"input_shape": (31, 64, 3)}, "at least 32x32"),
    ({"input_shape": (64, 64)}, "tuple of three"),
    ({"input_shape": (64, 64, None)}, "channels must be known"),
    ({"input_shape": (64, -1, 3)}, "Each of `input_shape` must be a positive"),
    ({"pooling": "mean"}, "`pooling` must be one of"),
    ({"classes": 0}, "`classes` must be a positive int"),
    ({"classes": 2.5}, "`classes` must be a positive int"),
    ({"classes": True}, "`classes` must be a positive int"),
    ({"classifier_activation": "softmaxx"}, "`classifier_activation`"),
    ({"drop_path_rate": 1.0}, "`drop_path_rate`"),
    ({"dropout_rate": -0.1}, "`dropout_rate`"),
    ({"head_init_scale": 0}, "`head_init_scale`"),
    ({"head_init_scale": float("nan")}, "`head_init_scale`"),
    ({"data_format": "NCHW"}, "`data_format` must be one of"),
    ({"mean": [0.5] * 3}, "given together"),
    ({"mean": [0.5] * 2, "std": [1] * 2}, "each of the 3 channels"),
    (
        {"mean": [0.5] * 3, "std": [1, 1, 0]},
        "Each of `std` must be a positive",
    ),
    ({"input_tensor": np.zeros((1, 64, 64, 3))}, "must be a Keras tensor"),
    ({"input_tensor": keras.Input((32, 32, 3))}, "shape of `input_tensor`"),
    ({"weights": "no/such/file.keras"}, "path of an existing"),
    ({"weights": "imagenet"}, "no published weights"),
    ({"dtype": "float31"}, "float31"),
]


@pytest.mark.parametrize("options, message", BAD_ARGUMENTS)
def test_bad_arguments_say_what_was_expected(options, message):
    with pytest.raises(ValueError, match=message) as error:
        small(**options)
    if options.keys() != {"dtype"}:  # worded by Keras
        assert "Received: " in str(error.value)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_reports_itself(name):
    variant = FAMILIES[name]
    model = build(variant, weights=None, input_shape=(64, 64, 3))
    assert model.variant == variant
    assert model.output_shape == (None, 1000)
    assert model.preprocessing.image_size == (64, 64)
    assert model.class_names is None
    assert model.license is None
    for layer in model.pyramid_level_inputs.values():
        model.get_layer(layer)


def test_the_official_crop_is_the_default():
    for side, crop in ((224, (0.875, "center")), (384, (1.0, "squash"))):
        preprocessing = small(input_shape=(side, side, 3)).preprocessing
        assert (preprocessing.crop_pct, preprocessing.crop_mode) == crop


def test_weights_at_another_size_take_its_official_crop(tmp_path):
    path, size = tmp_path / "model.keras", (224, 320)
    model = keras_convnext.create_model(
        "test_convnext", weights=None, input_shape=(*size, 3)
    )
    model.save(path)

    def crop_of(**options):
        model = keras_convnext.create_model(
            "test_convnext", weights=path, **options
        )
        found = model.preprocessing
        return found.image_size, found.crop_pct, found.crop_mode

    assert crop_of() == (size, 0.875, "center")
    larger = crop_of(input_shape=(384, 384, 3))
    assert larger == ((384, 384), 1.0, "squash")
    # Who evaluated otherwise knew why.
    other = Preprocessing((224, 224), 0.95, "center")
    assert other.at_size((384, 384)) == replace(other, image_size=(384, 384))


def test_unknown_arguments_are_errors_with_the_nearest_name():
    message = (
        r"convnext_tiny takes no .*Received: class=5\. Did you mean classes"
    )
    with pytest.raises(TypeError, match=message):
        keras_convnext.ConvNeXtTiny(weights=None, **{"class": 5})
