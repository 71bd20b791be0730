"""Masked autoencoders: what they see, against sparse code, and their bounds.

The reference knows no maps: it has a dict from visible positions to vectors,
as sparse convolutions do, and loops over pairs of positions.
"""

import math

import keras
import numpy as np
import pytest
import torch
from conftest import LONG_WHERE_COMPILED
from conftest import long_where_compiled
from conftest import random_images
from families import every_weight_matters
from torch.nn import functional as F

from keras_convnext import ConvNeXt
from keras_convnext import ConvNeXtV2Atto
from keras_convnext import create_model
from keras_convnext import pretraining
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD
from keras_convnext.tasks.pretraining import encoder as encoders
from keras_convnext.tasks.pretraining import patches

# A patch is of 4 pixels, 2 positions of the first stage and 1 of the second.
SMALL = {"depths": (1, 2), "dims": (4, 6), "patch_size": 2}
V2 = {"grn": True, "layer_scale_init_value": 0.0}
SIZE, GRID, PATCH, WIDTH = 16, (4, 4), 4, 8


def new_encoder(**options):
    options = {**SMALL, **V2, "include_top": False, **options}
    return every_weight_matters(ConvNeXt(**options))


def new_model(statistics="image", **options):
    model = pretraining.FCMAE(
        new_encoder(**options),
        SIZE,
        width=WIDTH,
        grn_statistics=statistics,
    )
    return every_weight_matters(model)


def some_inputs(model, count=3):
    total = math.prod(model.grid)
    visible = [
        pretraining.visible_patches(total, model.visible_count, 0, i)
        for i in range(count)
    ]
    images = random_images((count, SIZE, SIZE, 3))
    return {"images": images, "visible": np.stack(visible)}


def called(model, inputs):
    return keras.ops.convert_to_numpy(model(inputs, training=False))


def is_hidden(inputs):
    """Per pixel, `(batch, height, width, 1)`."""
    mask = np.ones((len(inputs["images"]), math.prod(GRID)), bool)
    np.put_along_axis(mask, inputs["visible"], False, axis=1)
    mask = mask.reshape(-1, *GRID, 1)
    return mask.repeat(PATCH, axis=1).repeat(PATCH, axis=2)


@long_where_compiled
@pytest.mark.parametrize(
    "statistics", ["image", pytest.param("batch", marks=LONG_WHERE_COMPILED)]
)
def test_hidden_pixels_change_nothing(statistics):
    """Bit for bit; visible ones do, and the targets are the hidden ones."""
    model = new_model(statistics)
    inputs = some_inputs(model)
    hidden = is_hidden(inputs)
    assert hidden.mean() == 10 / 16  # int(16 · 0.4) are visible
    others = 255 - inputs["images"]
    unseen = np.where(hidden, others, inputs["images"])
    seen = np.where(hidden, inputs["images"], others)
    predictions = called(model, inputs)
    changed = called(model, {**inputs, "images": unseen})
    np.testing.assert_array_equal(changed, predictions)
    changed = called(model, {**inputs, "images": seen})
    assert np.abs(changed - predictions).max(axis=(1, 2, 3)).min() > 1e-3

    def loss(images):
        given = {**inputs, "images": images}
        return float(
            model.compute_loss(given, y_pred=keras.ops.array(predictions))
        )

    np.testing.assert_allclose(loss(seen), loss(inputs["images"]), rtol=1e-6)
    assert abs(loss(unseen) - loss(inputs["images"])) > 1e-3


def of_encoder(encoder, inputs, statistics="image"):
    """The map of the last stage, zero where nothing is visible."""
    images, visible = (
        keras.Input(x.shape[1:], dtype=dtype)
        for x, dtype in zip(
            (inputs["images"], inputs["visible"]),
            (encoder.input.dtype, "int32"),
        )
    )
    maps = encoders.masked(encoder, images, visible, GRID, statistics)
    model = keras.Model([images, visible], maps)
    maps = model([inputs["images"], inputs["visible"]])
    visible = keras.ops.array(inputs["visible"])
    return keras.ops.convert_to_numpy(patches.unpacked(maps, visible, GRID))


@long_where_compiled
def test_with_nothing_hidden_it_is_the_plain_model(float64):
    encoder = new_encoder(dtype="float64")
    images = random_images((2, SIZE, SIZE, 3))
    # In whatever order they come.
    orders = [np.random.default_rng(i).permutation(16) for i in range(2)]
    inputs = {"images": images, "visible": np.array(orders, "int32")}
    plain = keras.Model(
        encoder.input, encoder.get_layer(encoders.end_of(encoder)).output
    )
    expected = called(plain, images)
    found = of_encoder(encoder, inputs)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@long_where_compiled
def test_images_of_a_batch_do_not_know_of_one_another(float64):
    model = new_model(dtype="float64")
    inputs = some_inputs(model)
    order = [2, 0, 1]
    permuted = {name: x[order] for name, x in inputs.items()}
    np.testing.assert_allclose(
        called(model, permuted),
        called(model, inputs)[order],
        rtol=0,
        atol=1e-12,
    )
    alone = {name: x[:1] for name, x in inputs.items()}
    first = called(model, inputs)[:1]
    np.testing.assert_allclose(called(model, alone), first, rtol=0, atol=1e-12)
    # Statistics of a batch are those of its company.
    of_batch = new_model("batch", dtype="float64")
    assert np.abs(called(of_batch, inputs)[:1] - first).max() > 1e-3
    np.testing.assert_allclose(
        called(of_batch, alone), first, rtol=0, atol=1e-12
    )


# --- a sparse reference ------------------------------------------------------


class Sparse:
    """The published model over lists of positions, in PyTorch's float64."""

    def __init__(self, model):
        self.weights = {
            x.path: torch.from_numpy(
                np.array(keras.ops.convert_to_numpy(x))
            ).requires_grad_()
            for x in model.trainable_variables
        }

    def of(self, layer, *names):
        return [self.weights[f"{layer}/{name}"] for name in names]

    def norm(self, layer, x):
        gamma, beta = self.of(layer, "gamma", "beta")
        return F.layer_norm(x, x.shape[-1:], gamma, beta, 1e-6)

    def dense(self, layer, x):
        kernel, bias = self.of(layer, "kernel", "bias")
        return x @ kernel + bias

    def grn(self, layer, rows, groups):
        """`groups` says which rows share their norms."""
        gamma, beta = self.of(layer, "gamma", "beta")
        groups, out = np.array(groups), [None] * len(groups)
        for group in np.unique(groups):
            places = np.flatnonzero(groups == group)
            x = rows[places]
            norms = x.square().sum(0).sqrt()
            scaled = gamma * (x * norms / (norms.mean() + 1e-6)) + beta + x
            for place, row in zip(places, scaled):
                out[place] = row
        return torch.stack(out)

    def block(self, name, sites, statistics):
        """`sites`: dict from (image, row, column) to a vector."""
        kernel, bias = self.of(f"{name}depthwise", "kernel", "bias")
        reach = kernel.shape[0] // 2
        rows = []
        for image, row, column in sites:
            total = bias
            for other, y, x in sites:
                is_near = max(abs(y - row), abs(x - column)) <= reach
                if other == image and is_near:
                    tap = kernel[y - row + reach, x - column + reach, :, 0]
                    total = total + sites[other, y, x] * tap
            rows.append(total)
        x = self.norm(f"{name}norm", torch.stack(rows))
        x = F.gelu(self.dense(f"{name}expand", x))
        groups = [site[0] if statistics == "image" else 0 for site in sites]
        x = self.grn(f"{name}grn", x, groups)
        x = self.dense(f"{name}project", x)
        return {
            site: vector + branch
            for (site, vector), branch in zip(sites.items(), x)
        }

    def encoded(self, images, visible, statistics):
        mean, std = (
            torch.tensor(x, dtype=torch.float64)
            for x in (IMAGENET_MEAN, IMAGENET_STD)
        )
        pixels = (torch.from_numpy(images).double() / 255 - mean) / std
        self.pixels = pixels
        kernel, bias = self.of("stem_conv", "kernel", "bias")
        sites = {}
        for image, numbers in enumerate(visible.tolist()):
            for number in numbers:
                for y, x in np.ndindex(2, 2):
                    row = number // GRID[1] * 2 + y
                    column = number % GRID[1] * 2 + x
                    corner = pixels[image, 2 * row :, 2 * column :][:2, :2]
                    vector = (corner[..., None] * kernel).sum((0, 1, 2)) + bias
                    sites[image, row, column] = self.norm("stem_norm", vector)
        sites = self.block("stage_0_block_0_", sites, statistics)
        kernel, bias = self.of("stage_1_downsample_conv", "kernel", "bias")
        coarse = {}
        for (image, row, column), vector in sites.items():
            vector = self.norm("stage_1_downsample_norm", vector)
            product = vector @ kernel[row % 2, column % 2]
            site = image, row // 2, column // 2
            coarse[site] = coarse.get(site, bias) + product
        for block in range(2):
            name = f"stage_1_block_{block}_"
            coarse = self.block(name, coarse, statistics)
        return coarse

    def loss(self, images, visible, statistics):
        sites = self.encoded(images, visible, statistics)
        (token,) = self.of("decoder_mask_token", "token")
        every = {
            (image, *place): (
                self.dense("decoder_embedding", sites[image, *place])
                if (image, *place) in sites
                else token
            )
            for image in range(len(images))
            for place in np.ndindex(*GRID)
        }
        every = self.block("decoder_stage_0_block_0_", every, "image")
        errors = []
        for site, vector in every.items():
            if site in sites:
                continue
            image, row, column = site
            patch = self.pixels[image, PATCH * row :, PATCH * column :]
            patch = patch[:PATCH, :PATCH].reshape(-1)
            patch = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
            predicted = self.dense("decoder_prediction", vector)
            errors.append((predicted - patch).square().mean())
        return torch.stack(errors).mean()


@pytest.mark.parametrize(
    "statistics", ["image", pytest.param("batch", marks=LONG_WHERE_COMPILED)]
)
def test_it_computes_what_sparse_code_does(statistics, float64):
    """Features, loss, and the gradient of every weight."""
    model = new_model(statistics, dtype="float64")
    inputs = some_inputs(model, 2)
    reference = Sparse(model)
    sites = reference.encoded(**inputs, statistics=statistics)
    maps = of_encoder(model.encoder, inputs, statistics)
    expected = np.zeros_like(maps)
    for site, vector in sites.items():
        expected[site] = vector.detach().numpy()
    assert len(sites) == 12 and np.ptp(expected) > 1
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-10)

    loss = reference.loss(**inputs, statistics=statistics)
    loss.backward()
    predictions = keras.ops.array(called(model, inputs))
    found = model.compute_loss(inputs, y_pred=predictions)
    np.testing.assert_allclose(float(found), loss.item(), rtol=0, atol=1e-10)
    before = [keras.ops.convert_to_numpy(x) + 0 for x in model.weights]
    # One step of size 1 is the gradient.
    model.compile(keras.optimizers.SGD(1.0), auto_scale_loss=False)
    model.train_on_batch(inputs)
    for variable, start in zip(model.weights, before):
        step = start - keras.ops.convert_to_numpy(variable)
        gradient = reference.weights[variable.path].grad.numpy()
        assert np.abs(gradient).max() > 1e-8, variable.path
        np.testing.assert_allclose(
            step, gradient, rtol=0, atol=1e-8, err_msg=variable.path
        )


# --- its parts ---------------------------------------------------------------


def test_the_encoder_is_the_users_own():
    encoder = new_encoder(layer_prefix="left_")
    before = {x.path: x for x in encoder.weights}
    model = pretraining.FCMAE(encoder, SIZE, width=WIDTH)
    assert model.encoder is encoder and model.variant == encoder.variant
    shared = {x.path for x in model.weights if before.get(x.path) is x}
    # All but the norm of the head, of which no loss depends.
    assert before.keys() - shared == {
        "left_head_norm/gamma",
        "left_head_norm/beta",
    }
    others = {x.path for x in model.weights} - shared
    assert all(x.startswith("left_decoder_") for x in others)
    images = random_images((1, SIZE, SIZE, 3))
    assert called(encoder, images).shape == (1, 4, 4, 6)


@long_where_compiled
def test_the_count_of_weights_is_the_official_one():
    """That of the official code's dense equivalent."""
    encoder = ConvNeXtV2Atto(weights=None, include_top=False)
    model = pretraining.FCMAE(encoder)
    assert model.count_params() == 7_257_992
    assert model.visible_count == 19 and model.grid == (7, 7)


def test_patches_go_out_and_come_back():
    maps = random_images((2, 8, 12, 5))
    grid = (2, 3)
    visible = np.array([[4, 1], [0, 5]], "int32")
    packed = patches.packed(
        keras.ops.array(maps), keras.ops.array(visible), grid
    )
    found = keras.ops.convert_to_numpy(packed)
    np.testing.assert_array_equal(found[0, :4], maps[0, 4:, 4:8])
    np.testing.assert_array_equal(found[1, 4:], maps[1, 4:, 8:])
    back = patches.unpacked(packed, keras.ops.array(visible), grid)
    back = keras.ops.convert_to_numpy(back)
    np.testing.assert_array_equal(back[1, :4, :4], maps[1, :4, :4])
    assert not back[1, 4:, :8].any()
    hidden = patches.hidden(keras.ops.array(visible), grid)
    expected = [[[1, 0, 1], [1, 0, 1]], [[0, 1, 1], [1, 1, 0]]]
    hidden = keras.ops.convert_to_numpy(hidden)[..., 0]
    np.testing.assert_array_equal(hidden, expected)
    rows = keras.ops.convert_to_numpy(
        patches.patchified(keras.ops.array(maps), grid)
    )
    np.testing.assert_array_equal(rows[1, 1, 2], maps[1, 4:, 8:].reshape(-1))


@long_where_compiled
def test_a_saved_autoencoder_predicts_the_same(tmp_path):
    model = new_model("batch")
    inputs = some_inputs(model)
    model.save(tmp_path / "model.keras")
    saved = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(called(saved, inputs), called(model, inputs))
    assert saved.grn_statistics == "batch" and saved.decoder_width == WIDTH
    with pytest.raises(ValueError, match="and not the encoder"):
        saved.encoder  # noqa: B018


@long_where_compiled
def test_half_precision_predicts_in_float32():
    model = new_model(dtype="mixed_bfloat16")
    inputs = some_inputs(model)
    predictions = model(inputs)
    assert keras.backend.standardize_dtype(predictions.dtype) == "float32"
    exact = new_model()
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(predictions),
        called(exact, inputs),
        rtol=0,
        atol=0.2,
    )


def test_reconstructions_keep_what_is_seen():
    model = new_model()
    inputs = some_inputs(model)
    images, visible = inputs["images"], inputs["visible"]
    found = pretraining.reconstructed(model, images, visible)
    hidden = np.broadcast_to(is_hidden(inputs), images.shape)
    assert (found["masked"][hidden] == 127).all()
    for name in ("masked", "pasted"):
        np.testing.assert_array_equal(found[name][~hidden], images[~hidden])
    np.testing.assert_array_equal(
        found["pasted"][hidden], found["predicted"][hidden]
    )
    # Predictions are of a patch' own mean and variance.
    predictions = called(model, inputs)
    rows = images.reshape(3, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5)
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    rows = ((rows / 255 - mean) / std).reshape(3, 4, 4, -1)
    deviation = np.sqrt(rows.var(-1, ddof=1, keepdims=True) + 1e-6)
    rows = predictions * deviation + rows.mean(-1, keepdims=True)
    pixels = rows.reshape(3, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5)
    pixels = (pixels.reshape(images.shape) * std + mean) * 255
    np.testing.assert_allclose(
        found["predicted"], pixels.clip(0, 255), rtol=0, atol=0.51
    )
    picture = pretraining.side_by_side(model, images, visible)
    assert picture.shape == (3 * (SIZE + 4), 4 * (SIZE + 4), 3)
    np.testing.assert_array_equal(picture[:SIZE, :SIZE], images[0])
    for wrong in (visible * 0, visible + 10, visible[:, 1:], visible[1:]):
        with pytest.raises(ValueError, match="6 different numbers of 0 to 15"):
            pretraining.reconstructed(model, images, wrong)
        with pytest.raises(ValueError, match="6 different numbers of 0 to 15"):
            model.fit({"images": images, "visible": wrong})


# --- bad input ---------------------------------------------------------------


@pytest.mark.parametrize(
    "options, said",
    [
        ({"grn": False}, "the paper finds no gain"),
        ({"stem": "overlap", "patch_size": 4}, "looks from one patch into"),
        ({"include_preprocessing": False}, "Build it without that"),
        ({"data_format": "channels_first"}, "data_format='channels_last'"),
        ({"drop_path_rate": 0.5}, "`output_stride` and `drop_path_rate`"),
        ({"output_stride": 2}, "the layer 'stage_1_downsample_conv'"),
    ],
)
def test_encoders_that_do_not_fit_are_refused(options, said):
    encoder = ConvNeXt(**{**SMALL, **V2, "include_top": False, **options})
    with pytest.raises(ValueError, match=said):
        pretraining.FCMAE(encoder, SIZE)


def test_other_models_are_refused():
    plain = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="Expected a ConvNeXt V2 of this"):
        pretraining.FCMAE(plain, SIZE)
    with pytest.raises(ValueError, match="as `pretraining.FCMAE` returns it"):
        pretraining.v2_pretrain.compile(plain, 1)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"image_size": 18}, "a multiple of 4, .*image_size=18. Take .*=16"),
        ({"mask_ratio": 0.97}, "of 16 patches, of which 0 would be visible"),
        ({"mask_ratio": 0.0}, "of which 16 would be visible"),
        ({"mask_ratio": 1.5}, "`mask_ratio` must be a number of at least 0"),
        ({"grn_statistics": "all"}, "`grn_statistics` must be one of"),
        ({"width": 0}, "`width` must be a positive int"),
    ],
)
def test_figures_that_do_not_fit_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        pretraining.FCMAE(new_encoder(), **{"image_size": SIZE, **options})


@long_where_compiled
def test_create_model_takes_the_weights(tmp_path):
    """Of an encoder without a head, for one with another."""
    path = tmp_path / "encoder.keras"
    encoder = every_weight_matters(
        create_model("convnextv2_atto", weights=None, include_top=False)
    )
    encoder.save(path)
    model = create_model("convnextv2_atto", weights=path, classes=3)
    for layer in encoder.layers:
        for one, other in zip(
            layer.weights, model.get_layer(layer.name).weights
        ):
            np.testing.assert_array_equal(
                keras.ops.convert_to_numpy(one),
                keras.ops.convert_to_numpy(other),
            )
