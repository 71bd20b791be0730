"""Recipes as data, and what `build`, `compile` and `callbacks` make of them."""

import math

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import long_where_compiled
from conftest import random_images

import keras_convnext
from keras_convnext import ConvNeXt
from keras_convnext import optimizers
from keras_convnext import recipes

# Figures of the published tables: recipe, size, field, value.
PUBLISHED = [
    ("imagenet1k", "tiny", {"epochs": 300, "warmup_epochs": 20}),
    ("imagenet1k", "tiny", {"batch_size": 4096, "learning_rate": 4e-3}),
    ("imagenet1k", "tiny", {"weight_decay": 0.05, "layer_decay": 1.0}),
    ("imagenet1k", "tiny", {"mixup_alpha": 0.8, "cutmix_alpha": 1.0}),
    ("imagenet1k", "tiny", {"drop_path_rate": 0.1, "ema_decay": 0.9999}),
    ("imagenet1k", "large", {"drop_path_rate": 0.5, "label_smoothing": 0.1}),
    ("imagenet1k", "small", {"drop_path_rate": 0.4}),
    ("imagenet1k", "base", {"drop_path_rate": 0.5}),
    ("imagenet22k", "xlarge", {"drop_path_rate": 0.2, "epochs": 90}),
    ("imagenet22k", "base", {"warmup_epochs": 5, "ema_decay": None}),
    ("finetune_384", "large", {"drop_path_rate": 0.95, "layer_decay": 0.7}),
    ("finetune_384", "base", {"image_size": 384, "weight_decay": 1e-8}),
    ("finetune_from_22k", "xlarge", {"ema_decay": 0.9999, "layer_decay": 0.8}),
    ("finetune_from_22k", "base", {"ema_decay": None, "mixup_alpha": 0.0}),
    ("finetune_from_22k", "base", {"batch_size": 512, "learning_rate": 5e-5}),
    ("finetune_from_22k_384", "tiny", {"image_size": 384, "epochs": 30}),
    ("isotropic", "large", {"layer_scale_init_value": 1e-6}),
    ("isotropic", "base", {"layer_scale_init_value": 0.0, "epochs": 300}),
    ("isotropic", "small", {"warmup_epochs": 50, "drop_path_rate": 0.1}),
    ("v2_finetune", "atto", {"weight_decay": 0.3, "mixup_alpha": 0.0}),
    ("v2_finetune", "atto", {"epochs": 600, "learning_rate": 2e-4 * 4}),
    ("v2_finetune", "femto", {"weight_decay": 0.05, "cutmix_alpha": 0.3}),
    ("v2_finetune", "nano", {"mixup_alpha": 0.5, "label_smoothing": 0.2}),
    ("v2_finetune", "tiny", {"learning_rate": 8e-4 * 4, "epochs": 300}),
    ("v2_finetune", "base", {"learning_rate": 6.25e-4 * 4, "layer_decay": 0.6}),
    ("v2_finetune", "huge", {"learning_rate": 1.25e-3 * 4, "epochs": 50}),
    ("v2_finetune", "huge", {"layer_decay_groups": "single"}),
    ("v2_imagenet22k", "huge", {"drop_path_rate": 0.3, "layer_decay": 0.8}),
    ("v2_imagenet22k", "nano", {"learning_rate": 2.5e-4 * 16}),
    ("v2_finetune_from_22k", "huge", {"ema_decay": None, "epochs": 30}),
    ("v2_finetune_from_22k", "nano", {"learning_rate": 2.5e-5 * 2}),
]


@pytest.mark.once
@pytest.mark.parametrize(
    "name,size,values", PUBLISHED, ids=lambda x: x if isinstance(x, str) else ""
)
def test_figures_are_the_published_ones(name, size, values):
    recipe = recipes.get_recipe(name).for_model(size)
    for field, value in values.items():
        found = getattr(recipe, field)
        assert found == value or math.isclose(found, value), field


@pytest.mark.once
def test_what_all_recipes_of_the_papers_share():
    for name, recipe in recipes.RECIPES.items():
        if name in ("digits", "regression", "small_data"):
            continue
        assert recipe.rand_augment == "rand-m9-mstd0.5-inc1"
        assert recipe.random_erasing == 0.25
        assert (recipe.beta_1, recipe.beta_2) == (0.9, 0.999)
        assert recipe.epsilon == 1e-8 and recipe.global_clipnorm is None
        assert recipe.minimum_learning_rate == 1e-6
        expected = "exclusive" if name.startswith("v2") else "linspace"
        assert recipe.warmup == expected


@pytest.mark.once
def test_every_name_finds_its_recipe():
    assert recipes.RECIPES["imagenet1k"] is recipes.imagenet1k
    for name, recipe in recipes.RECIPES.items():
        assert recipe.name == name
        assert getattr(recipes, name) is recipes.get_recipe(name) is recipe
    with pytest.raises(ValueError, match="Did you mean imagenet1k"):
        recipes.get_recipe("imagenet_1k")


@pytest.mark.once
@pytest.mark.parametrize(
    "name,size",
    [
        ("convnext_tiny", 0.1),
        ("convnext_small", 0.4),
        ("convnext_tiny_hnf", 0.1),
        ("convnext_large_mlp", 0.5),
    ],
)
def test_the_size_follows_from_the_architecture(name, size):
    assert recipes.imagenet1k.for_model(name).drop_path_rate == size


def test_the_size_of_an_outer_model_is_that_of_the_one_inside():
    image = keras.Input((32, 32, 3))
    inner = keras_convnext.create_model(
        "convnext_tiny", weights=None, include_top=False
    )
    outer = keras.Model(image, inner(image), name="mine")
    assert recipes.imagenet1k.for_model(outer).drop_path_rate == 0.1
    assert recipes.finetune_384.for_model("base").drop_path_rate == 0.8
    with pytest.raises(ValueError, match="the model 'convnext_tiny'"):
        recipes.finetune_384.for_model(outer)


@pytest.mark.once
def test_sizes_without_figures_say_what_to_do():
    with pytest.raises(ValueError, match=r"recipe.replace\(drop_path_rate="):
        recipes.imagenet1k.for_model("convnext_xxlarge")
    chosen = recipes.imagenet1k.replace(drop_path_rate=0.5)
    assert chosen.for_model("convnext_xxlarge").drop_path_rate == 0.5


@pytest.mark.once
def test_replace_refuses_what_is_no_field():
    with pytest.raises(ValueError, match="Did you mean epochs"):
        recipes.imagenet1k.replace(epoch=3)


@pytest.mark.once
@pytest.mark.parametrize(
    "recipe, changes, expected",
    [
        (recipes.small_data, {"epochs": 1}, 0.1),
        (recipes.small_data, {"epochs": 2}, 0.2),
        (recipes.small_data, {"epochs": 3}, 2),  # fits
        (recipes.small_data, {"epochs": 2, "warmup_epochs": 1}, 1),
        (recipes.v2_finetune, {"epochs": 15}, {"atto": 0, "base": 3.0}),
        (keras_convnext.segmentation.ade20k, {"steps": 1000}, 9),
    ],
)
def test_the_warm_up_fits_into_shorter_runs(recipe, changes, expected, capsys):
    shorter = recipe.replace(**changes)
    part = recipe.SPANS[0]
    found = getattr(shorter, part)
    if isinstance(expected, dict):
        found = {size: found[size] for size in expected}
    assert found == expected and type(found) is type(expected)
    is_told = getattr(recipe, part) != getattr(shorter, part)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (is_told and part not in changes)
    assert all(f"{part}=" in line for line in lines)


@pytest.mark.once
@pytest.mark.parametrize(
    "changes", [{"warmup_epochs": 20}, {"epochs": 2, "warmup_epochs": 2}]
)
def test_a_warm_up_that_is_given_must_fit(changes):
    message = "`warmup_epochs` must be fewer than `epochs`"
    with pytest.raises(ValueError, match=message):
        recipes.small_data.replace(**changes)


@pytest.mark.once
@pytest.mark.parametrize("count, size", [(1, 1), (3, 1), (26, 8), (31, 8)])
def test_few_images_get_a_batch_that_they_fill(count, size, capsys):
    recipe = recipes.small_data.for_images(count)
    assert recipe.batch_size == size
    assert recipe.learning_rate == pytest.approx(2e-4 * size / 32, rel=1e-12)
    (line,) = capsys.readouterr().err.splitlines()
    assert f"batch_size={size}, and the learning rate falls" in line
    kept = recipes.small_data.for_images(count, scales_rate=False)
    assert kept.learning_rate == recipes.small_data.learning_rate
    assert recipes.small_data.for_images(32) is recipes.small_data


@pytest.mark.once
def test_micro_batches_are_what_images_fill():
    halves = recipes.small_data.replace(gradient_accumulation_steps=2)
    assert halves.for_images(16) is halves
    assert halves.for_images(15).batch_size == 8


@pytest.mark.once
def test_the_minimum_rate_stays_below_that_of_a_small_batch():
    recipe = recipes.imagenet1k.for_images(2).for_model("tiny")
    assert recipe.minimum_learning_rate == recipe.learning_rate < 1e-6


def test_every_short_run_has_a_schedule():
    recipe = recipes.small_data.replace(
        epochs=4, warmup_epochs=3.9, gradient_accumulation_steps=2
    )
    schedule = recipe.schedule(steps_per_epoch=1)
    assert (schedule.warmup_steps, schedule.total_steps) == (1, 2)
    with pytest.raises(ValueError, match="must have a step of the optimizer"):
        recipe.replace(epochs=1).schedule(steps_per_epoch=1)
    with pytest.raises(ValueError, match="`minimum_learning_rate` must be at"):
        recipe.replace(learning_rate=1e-7).schedule(steps_per_epoch=9)


def test_recipes_add_no_layer_scale_where_there_is_none():
    recipe = recipes.imagenet1k.replace(drop_path_rate=0.1)
    for name in ("convnextv2_atto", "convnext_atto"):
        model = recipe.build(name)
        has_scale = any("layer_scale" in x.path for x in model.weights)
        assert has_scale == (name == "convnext_atto")


@pytest.mark.once
def test_the_rate_scales_with_the_batch():
    smaller = recipes.v2_finetune.with_batch_size(256)
    assert smaller.batch_size == 256
    assert smaller.for_model("tiny").learning_rate == pytest.approx(8e-4)
    assert smaller.minimum_learning_rate == 1e-6


@pytest.mark.once
def test_a_printed_recipe_shows_every_figure():
    text = str(recipes.imagenet1k)
    assert text.startswith("imagenet1k: ImageNet-1k from random weights\n")
    for row in (
        "learning rate 0.004",
        "drop path rate 0.1 (tiny), 0.4 (small), 0.5 (base/large)",
        "rand augment rand-m9-mstd0.5-inc1",
        "crop scale 0.08 to 1",
    ):
        assert row in " ".join(text.split())
    assert "arXiv:2201.03545" in text


# --- schedule ---------------------------------------------------------------


def official_linspace(peak, warm, total, least):
    cosine = [
        least + 0.5 * (peak - least) * (1 + math.cos(math.pi * i / n))
        for n in [total - warm]
        for i in range(n)
    ]
    return np.concatenate([np.linspace(0, peak, warm), cosine])


def official_exclusive(peak, warm, total, least):
    rates = []
    for i in range(total):
        if i < warm:
            rates.append(peak * i / warm)
        else:
            done = (i - warm) / (total - warm)
            rates.append(
                least + (peak - least) * 0.5 * (1 + math.cos(math.pi * done))
            )
    return np.array(rates)


@pytest.mark.parametrize(
    "warmup,official",
    [("linspace", official_linspace), ("exclusive", official_exclusive)],
)
@pytest.mark.parametrize(
    "warm,total", [(0, 50), (1, 50), (2, 50), (20, 300), (6240, 93600)]
)
def test_schedules_equal_the_official_arrays(warmup, official, warm, total):
    schedule = optimizers.WarmupCosine(4e-3, warm, total, 1e-6, warmup)
    steps = np.arange(total)
    ours = keras.ops.convert_to_numpy(schedule(steps))
    np.testing.assert_allclose(
        ours, official(4e-3, warm, total, 1e-6), rtol=1e-6, atol=1e-12
    )
    after = keras.ops.convert_to_numpy(schedule(np.array([total, 2 * total])))
    np.testing.assert_allclose(after, 1e-6, rtol=1e-6)


def test_schedules_survive_serialization():
    schedule = optimizers.WarmupCosine(1e-3, 3, 30, 1e-5, "exclusive")
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(schedule)
    )
    assert copy.get_config() == schedule.get_config()


@pytest.mark.parametrize(
    "arguments,message",
    [
        ((1e-3, 30, 30), "fewer than `total_steps`"),
        ((1e-3, -1, 30), "`warmup_steps` must be an int"),
        ((1e-3, 1.5, 30), "`warmup_steps` must be an int"),
        ((1e-7, 1, 30), "minimum_learning_rate <= peak"),
        ((1e-3, 1, 30, 1e-6, "linear"), "`warmup` must be one of"),
    ],
)
def test_schedules_refuse_what_makes_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        optimizers.WarmupCosine(*arguments)


def test_steps_of_a_recipe_count_optimizer_steps():
    recipe = recipes.small_data.replace(
        epochs=10, warmup_epochs=2.5, gradient_accumulation_steps=4
    )
    schedule = recipe.schedule(steps_per_epoch=40)
    assert (schedule.warmup_steps, schedule.total_steps) == (25, 100)


# --- layer decay --------------------------------------------------------------


def model_of(depths, **options):
    return ConvNeXt(
        depths,
        (4,) * len(depths),
        input_shape=(None, None, 3),
        **{"layer_scale_init_value": 1e-6, "kernel_size": 3, **options},
    )


def ids_of(model, groups):
    """Group ids, recovered from the factors of a decay of one half."""
    scales = optimizers.layer_decay_scales(model, 0.5, groups)
    head = 1 + round(-math.log2(min(scales.values())))
    return {
        name: head - 1 + round(math.log2(scale))
        for name, scale in scales.items()
    }


@pytest.mark.parametrize(
    "depths,last",
    [
        ((3, 3, 27, 3), 12),
        ((3, 4, 30, 3), 13),
        ((3, 3, 9, 3), 6),
        ((2, 2, 6, 2), 5),
        ((1, 1, 5, 1), 5),
    ],
)
def test_v1_groups(depths, last):
    ids = ids_of(model_of(depths), "group")
    assert ids["stem_conv"] == ids["stem_norm"] == 0
    assert ids["stage_0_block_0_depthwise"] == 1
    assert ids["stage_1_downsample_conv"] == ids["stage_1_block_0_expand"] == 2
    assert ids["stage_2_downsample_norm"] == 3
    for block in range(depths[2]):
        assert ids[f"stage_2_block_{block}_project"] == 3 + block // 3
    assert ids["stage_3_downsample_conv"] == last
    assert ids["stage_3_block_0_layer_scale"] == last
    assert max(ids.values()) == last
    assert not [name for name in ids if name.startswith("head")]


def test_v2_single_groups():
    ids = ids_of(model_of((2, 2, 6, 2)), "single")
    # The stem shares the first block's id 1; id 0 is unused.
    first = ids["stem_conv"]
    assert ids["stage_0_block_0_norm"] == first
    assert ids["stage_0_block_1_norm"] == first + 1
    assert ids["stage_1_downsample_conv"] == ids["stage_1_block_0_norm"]
    assert ids["stage_3_block_1_norm"] == first + 11
    scales = optimizers.layer_decay_scales(
        model_of((2, 2, 6, 2)), 0.9, "single"
    )
    assert scales["stem_conv"] == pytest.approx(0.28243, abs=1e-5)


def test_published_factors_of_layer_decay():
    base = optimizers.layer_decay_scales(model_of((3, 3, 27, 3)), 0.7)
    for name, value in (
        ("stem_conv", 0.009689),
        ("stage_2_block_3_norm", 0.040354),
        ("stage_2_block_26_norm", 0.49),
        ("stage_3_block_2_norm", 0.7),
    ):
        assert base[name] == pytest.approx(value, abs=1e-6)


def test_isotropic_models_have_a_group_for_every_block():
    ids = ids_of(model_of((4,), patch_size=16, stem_norm=False), "group")
    assert ids["stem_conv"] == 0
    assert [ids[f"stage_0_block_{b}_norm"] for b in range(4)] == [1, 2, 3, 4]


def test_layer_decay_finds_nested_and_prefixed_backbones():
    plain = optimizers.layer_decay_scales(model_of((1, 1, 3, 1)), 0.5)
    backbone = model_of((1, 1, 3, 1), layer_prefix="left_", include_top=False)
    image = keras.Input((32, 32, 3))
    nested = keras.Model(image, keras.layers.Flatten()(backbone(image)))
    assert optimizers.layer_decay_scales(nested, 0.5) == {
        f"left_{name}": scale for name, scale in plain.items()
    }


@pytest.mark.parametrize("prefix", ["", "left_", "left", "system_", "stem_"])
def test_layer_decay_tells_layers_of_others_by_their_names(prefix):
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(3, 1, name="ecosystem_conv")(image)
    x = model_of(
        (1, 1, 3, 1),
        layer_prefix=prefix,
        include_top=False,
        pooling="avg",
    )(x)
    x = keras.layers.Dense(4, name="system_dense")(x)
    x = keras.layers.Dense(4, name="my_stage_9_downsample_dense")(x)
    model = keras.Model(image, x)
    for groups in ("group", "single"):
        expected = optimizers.layer_decay_scales(
            model_of((1, 1, 3, 1)), 0.5, groups
        )
        assert optimizers.layer_decay_scales(model, 0.5, groups) == {
            f"{prefix}{name}": scale for name, scale in expected.items()
        }


def test_layer_decay_says_what_it_cannot_do():
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="learning_rate_scales"):
        optimizers.layer_decay_scales(other, 0.5)
    assert optimizers.layer_decay_scales(other, 1.0) == {}
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        optimizers.layer_decay_scales(other, 1.5)
    with pytest.raises(ValueError, match="`groups` must be one of"):
        optimizers.layer_decay_scales(other, 0.5, "stage")


# --- build and compile --------------------------------------------------------

QUICK = recipes.Recipe(
    "quick",
    "a test",
    "none",
    epochs=2,
    warmup_epochs=1,
    batch_size=8,
    learning_rate=1e-3,
    mixup_alpha=0.0,
    cutmix_alpha=0.0,
    ema_decay=0.5,
)


def small(**options):
    """Few layers: JAX compiles every one of them, in every test."""
    return ConvNeXt(
        (1, 1),
        (4, 8),
        **{
            "input_shape": (32, 32, 3),
            "classes": 3,
            "classifier_activation": None,
            **options,
        },
    )


def test_build_takes_what_the_recipe_says():
    recipe = recipes.imagenet1k.replace(
        image_size=64, head_init_scale=0.5, drop_path_rate=0.25
    )
    model = recipe.build("convnext_atto", classes=7)
    assert model.input_shape == (None, 64, 64, 3)
    assert model.layers[-1].name == "head_classifier"
    assert model.output_shape == (None, 7)
    last = model.get_layer("stage_3_block_1_drop_path")
    assert last.rate == pytest.approx(0.25)
    scale = model.get_layer("stage_0_block_0_layer_scale").get_weights()[0]
    np.testing.assert_allclose(scale, 1e-6)
    head = model.get_layer("head_classifier").get_weights()[0]
    assert head.std() == pytest.approx(0.01, rel=0.1)


def test_compile_refuses_models_that_contradict_the_recipe():
    with pytest.raises(ValueError, match="classifier_activation=None"):
        QUICK.compile(small(classifier_activation="softmax"), 2)
    with pytest.raises(ValueError, match=r"replace\(drop_path_rate=0.2\)"):
        QUICK.compile(small(drop_path_rate=0.2), 2)
    with pytest.raises(ValueError, match=r"replace\(drop_path_rate=0\)"):
        QUICK.replace(drop_path_rate=0.3).compile(small(), 2)
    with pytest.raises(ValueError, match="`drop_path_rate` for the sizes"):
        recipes.imagenet1k.compile(small(), 2)


def with_softmax(form):
    """Probabilities, in the ways in which Keras' users write them."""
    backbone = small(include_top=False, pooling="avg", classes=None)
    if form == "layer":
        head = [keras.layers.Dense(3), keras.layers.Softmax()]
    elif form == "nested":
        head = [keras.Sequential([keras.layers.Dense(3, "softmax")])]
    else:
        head = [keras.Sequential([keras.Sequential([keras.layers.Softmax()])])]
    return keras.Sequential([keras.Input((32, 32, 3)), backbone, *head])


@pytest.mark.parametrize("form", ["layer", "nested", "twice"])
def test_compile_finds_a_softmax_wherever_it_is(form):
    with pytest.raises(ValueError, match="from logits.*applies softmax"):
        QUICK.compile(with_softmax(form), 2)


def test_compile_takes_logits_of_nested_models():
    image = keras.Input((32, 32, 3))
    nested = keras.Model(image, small()(image))
    assert QUICK.compile(nested, 2) is nested


@pytest.mark.parametrize(
    "mixup,smoothing", [(0.0, 0.1), (0.8, 0.0)], ids=["plain", "mixing"]
)
def test_the_loss_smooths_only_what_mixing_has_not(mixup, smoothing):
    model = QUICK.replace(mixup_alpha=mixup).compile(small(), 2)
    assert model.loss.label_smoothing == smoothing


def test_top5_is_shown_where_there_are_many_classes():
    def metrics_of(classes):
        model = QUICK.compile(small(classes=classes), 2)
        images = random_images((2, 32, 32, 3))
        labels = np.arange(2)
        return set(model.evaluate(images, labels, verbose=0, return_dict=True))

    assert metrics_of(3) == {"loss", "accuracy"}
    assert metrics_of(20) == {"loss", "accuracy", "top5_accuracy"}


def test_loss_and_metrics_take_numbers_and_distributions():
    import torch

    logits = np.random.default_rng(0).normal(size=(6, 7)).astype("float32")
    labels = np.array([0, 3, 6, 2, 2, 5])
    one_hot = np.eye(7, dtype="float32")[labels]
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(labels), label_smoothing=0.1
    ).item()
    loss = recipes.SoftTargetCrossEntropy(label_smoothing=0.1)
    orders = np.argsort(-logits)
    hits = [(orders[:, :k] == labels[:, None]).any(1).mean() for k in (1, 4)]
    assert hits[0] < hits[1] < 1
    for y in (labels, labels[:, None], one_hot, one_hot.astype(int)):
        assert float(loss(y, logits)) == pytest.approx(expected, rel=1e-6)
        for k, expected_hits in zip((1, 4), hits):
            metric = recipes.TopKAccuracy(k)
            metric.update_state(y, logits)
            assert float(metric.result()) == pytest.approx(expected_hits)
    for thing in (loss, metric):
        copy = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(thing)
        )
        assert copy.get_config() == thing.get_config()


def test_a_compiled_recipe_takes_any_data_that_fit_takes():
    """Arrays and generators, class numbers and distributions."""
    images, labels = random_images((16, 32, 32, 3)), np.arange(16) % 3
    recipe = QUICK.replace(ema_decay=None)
    model = recipe.compile(small(), 2)
    one_hot = np.eye(3, dtype="float32")[labels]
    for y, validation in ((labels, one_hot), (one_hot, labels)):
        history = model.fit(
            images,
            y,
            batch_size=8,
            validation_data=(images, validation),
            verbose=0,
        )
        assert np.isfinite(history.history["loss"]).all()
    model.fit(
        ((images[:8], one_hot[:8]) for _ in range(2)),
        steps_per_epoch=2,
        verbose=0,
    )


@pytest.mark.parametrize(
    "weighted",
    ["samples", pytest.param("classes", marks=LONG_WHERE_COMPILED)],
)
def test_weights_and_losses_of_ones_own_are_as_keras_has_them(weighted):
    images, labels = random_images((16, 32, 32, 3)), np.arange(16) % 3
    weights = {
        "samples": {"sample_weight": np.linspace(0, 3, 16)},
        "classes": {"class_weight": {0: 0.0, 1: 1.0, 2: 5.0}},
    }[weighted]
    losses = []
    for compile_ in (QUICK.compile, keras.Model.compile):
        keras.utils.set_random_seed(1)
        model = small()
        options = {
            "loss": keras.losses.SparseCategoricalCrossentropy(True),
            "metrics": ["sparse_categorical_accuracy"],
        }
        if compile_ == QUICK.compile:
            compile_(model, 1, **options)
        else:
            compile_(model, **options)
        # Before the first step: both have the same weights still.
        history = model.fit(
            images, labels, batch_size=16, verbose=0, **weights
        ).history
        assert "sparse_categorical_accuracy" in history
        losses.append(history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5, atol=0)


# --- optimizer: what Keras 3.15 does otherwise --------------------------------


@pytest.mark.parametrize("betas", [(0.0, 0.999), (0.9, 0.0), (0.0, 0.0)])
def test_betas_may_be_zero(betas):
    import torch

    start, slopes = np.linspace(1, 2, 5), np.linspace(-1, 1, 5)
    ours = keras.Variable(start.astype("float32"))
    optimizer = optimizers.AdamW(0.1, 0.0, *betas)
    theirs = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32))
    peer = torch.optim.AdamW([theirs], 0.1, betas, eps=1e-8, weight_decay=0.0)
    for scale in (1.0, -0.5, 2.0):
        slope = (scale * slopes + 0.1).astype("float32")
        optimizer.apply([keras.ops.convert_to_tensor(slope)], [ours])
        theirs.grad = torch.tensor(slope)
        peer.step()
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(ours),
        theirs.detach().numpy(),
        rtol=1e-5,
        atol=1e-6,
    )


def weights_of(model):
    return [keras.ops.convert_to_numpy(w) for w in model.trainable_variables]


def fitted(
    *callbacks, model=None, recipe=QUICK, epochs=3, validation=True, **options
):
    """A model after `fit` with callbacks, its history, its loss afterwards."""
    images, labels = random_images((16, 32, 32, 3)), np.arange(16) % 3
    if model is None:
        keras.utils.set_random_seed(1)
        model = recipe.compile(small(), 2)
    history = model.fit(
        images,
        labels,
        batch_size=8,
        epochs=epochs,
        shuffle=False,
        validation_data=(images, labels) if validation else None,
        callbacks=[*callbacks],
        verbose=0,
        **options,
    ).history
    return model, history, loss_of(model)


def loss_of(model):
    images, labels = random_images((16, 32, 32, 3)), np.arange(16) % 3
    return model.evaluate(images, labels, verbose=0, return_dict=True)["loss"]


def same(a, b):
    return all(map(np.array_equal, a, b))


def test_fit_validates_the_average_and_ends_with_it():
    model, history, loss = fitted(*QUICK.callbacks())
    assert loss == pytest.approx(history["val_loss"][-1], rel=1e-5)
    in_model = weights_of(model)
    with optimizers.averaged_weights(model):
        assert same(in_model, weights_of(model))
    raw, raw_history, raw_loss = fitted()
    assert abs(raw_loss - loss) > 1e-4
    # The steps are those of a `fit` without the callback.
    assert history["loss"] == pytest.approx(raw_history["loss"], rel=1e-6)
    before = weights_of(raw)
    with optimizers.averaged_weights(raw):
        for average, other in zip(weights_of(raw), in_model):
            np.testing.assert_allclose(average, other, rtol=1e-5, atol=1e-7)
    assert same(before, weights_of(raw))
    assert QUICK.replace(ema_decay=None).callbacks() == []


@long_where_compiled
def test_the_next_fit_continues_from_the_raw_weights():
    callbacks = QUICK.callbacks()
    whole, _, _ = fitted(*callbacks, epochs=3)
    parts, _, _ = fitted(*callbacks, epochs=2)
    fitted(*QUICK.callbacks(), model=parts, epochs=3, initial_epoch=2)
    assert same(weights_of(whole), weights_of(parts))
    # Not where the weights were changed in between.
    parts.set_weights([np.zeros_like(x) for x in parts.get_weights()])
    fitted(*callbacks, model=parts, epochs=1, initial_epoch=1)
    assert not any(x.any() for x in weights_of(parts))


@pytest.mark.parametrize(
    "order, validation",
    [
        (1, True),
        pytest.param(-1, True, marks=LONG_WHERE_COMPILED),
        pytest.param(1, False, marks=LONG_WHERE_COMPILED),
        pytest.param(-1, False, marks=LONG_WHERE_COMPILED),
    ],
)
def test_the_model_kept_is_the_one_measured(order, validation, tmp_path):
    """`ModelCheckpoint` and `EarlyStopping`, before and behind the recipe's."""
    monitor = "val_loss" if validation else "loss"
    seen, path = [], str(tmp_path / "best.keras")
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(loss_of(watch.model))
    )
    callbacks = [
        keras.callbacks.ModelCheckpoint(
            path, monitor=monitor, save_best_only=True
        ),
        watch,
        *QUICK.callbacks(),
        # The first epoch is the best: it stops after the second.
        keras.callbacks.EarlyStopping(
            monitor, mode="min", min_delta=9, restore_best_weights=True
        ),
    ]
    model, history, loss = fitted(*callbacks[::order], validation=validation)
    assert len(history["loss"]) == 2
    if validation:
        assert seen == pytest.approx(history["val_loss"], rel=1e-5)
    assert loss == pytest.approx(seen[0], rel=1e-5)
    kept = keras.saving.load_model(path, compile=False)
    best = np.argmin(history[monitor])
    QUICK.compile(kept, 2)
    assert loss_of(kept) == pytest.approx(seen[best], rel=1e-5)
    assert abs(seen[0] - seen[1]) > 1e-4


@long_where_compiled
@pytest.mark.parametrize("order", [1, -1])
def test_backups_continue_from_the_raw_weights(order, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def callbacks():
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        return [*QUICK.callbacks(), backup][::order]

    whole, _, _ = fitted(*QUICK.callbacks())
    with pytest.raises(KeyboardInterrupt):
        fitted(Stop(), *callbacks())
    continued, _, _ = fitted(*callbacks())
    assert same(weights_of(whole), weights_of(continued))


def test_averaged_weights_need_an_average():
    model = QUICK.replace(ema_decay=None).compile(small(), 2)
    with (
        pytest.raises(ValueError, match="ema_decay"),
        optimizers.averaged_weights(model),
    ):
        pass


@pytest.mark.parametrize(
    "dtype",
    [
        "mixed_float16",
        pytest.param("mixed_bfloat16", marks=LONG_WHERE_COMPILED),
    ],
)
def test_mixed_precision_trains_with_everything_on(dtype):
    images, labels = random_images((16, 32, 32, 3)), np.arange(16) % 3
    recipe = QUICK.replace(
        gradient_accumulation_steps=2, layer_decay=0.7, global_clipnorm=1.0
    )
    model = recipe.compile(small(dtype=dtype), 2)
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (dtype == "mixed_float16")
    before = weights_of(model)
    history = model.fit(images, labels, batch_size=4, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    changed = [
        not np.array_equal(a, b) for a, b in zip(before, weights_of(model))
    ]
    assert sum(changed) > 0.9 * len(changed)
    assert int(model.optimizer.iterations) == 4


@pytest.mark.parametrize(
    "accumulation", [pytest.param(1, marks=LONG_WHERE_COMPILED), 2]
)
def test_training_goes_on_after_load_model_as_if_nothing_happened(
    accumulation, tmp_path
):
    """Decay rules, layer decay, slots, average and schedule come back."""
    images, labels = random_images((24, 32, 32, 3)), np.arange(24) % 3
    recipe = QUICK.replace(
        layer_decay=0.5,
        weight_decay=0.5,
        gradient_accumulation_steps=accumulation,
    )

    def fit(model, part):
        x, y = images[part], labels[part]
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0)

    model = recipe.compile(small(), 6)
    fit(model, slice(0, 12))
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    ours, theirs = model.optimizer.get_config(), copy.optimizer.get_config()
    assert ours == theirs and ours["learning_rate_scales"]
    for each in (model, copy):
        fit(each, slice(12, 24))
    for a, b in zip(model.optimizer.variables, copy.optimizer.variables):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(a),
            keras.ops.convert_to_numpy(b),
            rtol=1e-5,
            atol=1e-7,
        )
    for a, b in zip(weights_of(model), weights_of(copy)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_decay_spares_vectors_and_biases_also_those_named_later():
    kernel = keras.Variable(np.ones((2, 2)), name="kernel")
    table = keras.Variable(np.ones((2, 2)), name="table")
    vector = keras.Variable(np.ones(2), name="gamma")
    square_bias = keras.Variable(np.ones((2, 2)), name="bias")
    variables = [kernel, table, vector, square_bias]
    optimizer = optimizers.AdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["table"])
    optimizer = optimizers.AdamW.from_config(optimizer.get_config())
    optimizer.apply([keras.ops.zeros(v.shape) for v in variables], variables)
    values = [keras.ops.convert_to_numpy(v).max() for v in variables]
    np.testing.assert_allclose(values, [0.95, 1, 1, 1], rtol=1e-6)
    with pytest.raises(ValueError, match="before the optimizer is built"):
        optimizer.exclude_from_weight_decay(var_names=["kernel"])


def test_the_learning_rate_is_that_of_the_optimizer_step():
    schedule = optimizers.WarmupCosine(1.0, 4, 8, 0.0, "exclusive")
    optimizer = optimizers.AdamW(schedule, gradient_accumulation_steps=2)
    variable = keras.Variable(np.zeros((2, 2), "float32"))
    rates = []
    for _ in range(6):
        rates.append(float(optimizer.learning_rate))
        optimizer.apply([keras.ops.ones((2, 2))], [variable])
    np.testing.assert_allclose(rates, [0, 0, 0.25, 0.25, 0.5, 0.5])


@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="the others do so in Keras"
)
def test_micro_batches_compute_no_step_on_jax():
    """All roots, which steps alone have, are in one branch."""
    import jax

    optimizer = optimizers.AdamW(
        gradient_accumulation_steps=4, global_clipnorm=1.0
    )
    weights = [keras.Variable(np.ones((3, 5)))]
    optimizer.build(weights)
    state, values = (
        [x.value for x in y] for y in (optimizer.variables, weights)
    )
    step = jax.make_jaxpr(optimizer.stateless_apply)(state, values, values)

    def roots(program, branch=None):
        for equation in program.eqns:
            name, parts = equation.primitive.name, equation.params
            if name == "sqrt":
                yield branch
            for number, part in enumerate(parts.get("branches", ())):
                yield from roots(part.jaxpr, number)
            if "jaxpr" in parts:
                yield from roots(parts["jaxpr"].jaxpr, branch)

    assert {*roots(step.jaxpr)} == {1}


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="the others step one by one"
)
def test_torch_updates_whole_groups(monkeypatch):
    def one_by_one(*_):
        raise AssertionError("one variable at a time")

    monkeypatch.setattr(optimizers.AdamW, "update_step", one_by_one)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    before = model.get_weights()[0].copy()
    model.compile(optimizers.AdamW(0.1), "mse")
    model.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    assert np.abs(model.get_weights()[0] - before).min() > 0.05


def test_arguments_that_the_recipe_does_not_know_are_refused():
    with pytest.raises(ValueError, match="keras.optimizers.AdamW"):
        optimizers.AdamW(amsgrad=True)
    with pytest.raises(ValueError, match="at least 0"):
        optimizers.AdamW(learning_rate_scales={"stem": -1.0})


@pytest.mark.once
def test_the_package_exports_recipes():
    assert keras_convnext.recipes is recipes
