"""Pictures, and the numbers behind them against PyTorch's."""

import json
import warnings

import keras
import numpy as np
import pytest
import torch
from conftest import LONG_WHERE_COMPILED
from conftest import long_where_compiled
from conftest import random_images
from families import FAMILIES
from peers import timm_peer
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F
from typer.testing import CliRunner

import keras_convnext
from keras_convnext import recipes
from keras_convnext import visualize
from keras_convnext.cli import app
from keras_convnext.images import levels
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD
from keras_convnext.models.construction import build

pytestmark = LONG_WHERE_COMPILED

SIZE = 96


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """timm's model, and ours with its weights and a softmax."""
    variant = FAMILIES["v2"]
    peer = timm_peer(variant)
    path = tmp_path_factory.mktemp("timm") / "timm.safetensors"
    save_file(peer.state_dict(), path)
    ours = build(
        variant,
        weights=path,
        classes=11,
        input_shape=(SIZE, SIZE, 3),
        classifier_activation="softmax",
    )
    return peer, ours


@pytest.fixture(scope="module")
def images():
    return random_images((2, SIZE, SIZE, 3))


def their_grad_cam(peer, images, classes):
    """Grad-CAM's two equations, by PyTorch's gradient of timm's model."""
    normalized = (images / 255 - IMAGENET_MEAN) / IMAGENET_STD
    x = torch.from_numpy(normalized.transpose(0, 3, 1, 2)).float()
    features = peer.forward_features(x).detach().requires_grad_()
    logits = peer.forward_head(features)
    chosen = logits[torch.arange(len(images)), torch.tensor(classes)]
    (slopes,) = torch.autograd.grad(chosen.sum(), features)
    weights = slopes.mean((2, 3), keepdim=True)
    heat = F.relu((weights * features).sum(1, keepdim=True)).detach()
    return (heat / heat.amax((2, 3), keepdim=True)).numpy()[:, 0]


@pytest.mark.every_backend
def test_grad_cam_equals_pytorchs(pair, images):
    peer, model = pair
    maps, classes = visualize.grad_cam(model, images)
    np.testing.assert_array_equal(
        classes, np.argmax(model.predict(images, verbose=0), -1)
    )
    expected = their_grad_cam(peer, images, classes)
    assert maps.shape == (2, SIZE, SIZE) and maps.dtype == np.float32
    assert maps.min() >= 0 and maps.max() <= 1
    small = [
        Image.fromarray(one).resize((SIZE, SIZE), Image.BILINEAR)
        for one in expected
    ]
    np.testing.assert_allclose(maps, small, atol=2e-3)
    # The maps of other classes are others.
    other, _ = visualize.grad_cam(model, images, (classes + 1) % 11)
    assert np.abs(other - maps).max() > 0.05


@long_where_compiled
def test_grad_cam_takes_a_layer_and_one_class(pair, images):
    _, model = pair
    layer = model.pyramid_level_inputs["P4"]
    maps, classes = visualize.grad_cam(model, images[:1], 3, layer)
    assert classes.tolist() == [3]
    default, _ = visualize.grad_cam(model, images[:1], 3)
    assert np.abs(maps - default).max() > 0.05


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((np.zeros((8, 8, 3)),), "Add an axis"),
        ((np.zeros((1, SIZE, SIZE, 3)), 11), "class numbers of 0 to 10"),
        ((np.zeros((1, SIZE, SIZE, 3)), 1.5), "`classes` must be an int"),
        ((np.zeros((1, SIZE, SIZE, 3)), 1, "head_pool"), "layer with maps"),
        (
            (np.zeros((1, SIZE, SIZE, 3)), 1, "stage_0_block_0_depthwise"),
            "a shortcut leads around",
        ),
        ((np.zeros((1, SIZE, SIZE, 3)), 1, "nowhere"), "nowhere"),
    ],
)
def test_grad_cam_says_what_it_expects(pair, arguments, message):
    with pytest.raises(ValueError, match=message):
        visualize.grad_cam(pair[1], *arguments)


def test_grad_cam_needs_a_classifier_with_blocks():
    headless = keras_convnext.ConvNeXtAtto(weights=None, include_top=False)
    with pytest.raises(ValueError, match="Build it with its top"):
        visualize.grad_cam(headless, np.zeros((1, 64, 64, 3)))
    image = keras.Input((8, 8, 3))
    plain = keras.Model(image, keras.layers.Flatten()(image))
    with pytest.raises(ValueError, match="Pass `layer`"):
        visualize.grad_cam(plain, np.zeros((1, 8, 8, 3)))


def shown(figure):
    """The images of a figure, in order."""
    return [
        np.asarray(picture.get_array())
        for axis in figure.axes
        for picture in axis.get_images()
    ]


def test_curves_begin_at_the_first_epoch():
    figure = visualize.learning_curves(
        {"loss": [2.0, 1.0], "accuracy": [0.3, 0.6], "val_loss": [3.0, 2.5]}
    )
    found = [
        (line.get_label(), line.get_xdata().tolist(), line.get_ydata().tolist())
        for line in figure.axes[0].get_lines()
    ]
    assert found == [
        ("training", [1, 2], [2.0, 1.0]),
        ("held out", [1, 2], [3.0, 2.5]),
    ]
    # Without labels there is no accuracy.
    figure = visualize.learning_curves([{"epoch": 3, "loss": 2.0}])
    (axis,) = figure.axes
    assert axis.get_lines()[0].get_xdata().tolist() == [3]


@pytest.mark.once
def test_a_reliability_diagram_has_a_bar_for_each_bin():
    def bins(accuracy):
        empty = {"count": 0, "confidence": None, "accuracy": None}
        full = {"count": 8, "confidence": 0.9, "accuracy": accuracy}
        return [
            {"above": 0.0, "to": 0.5, **empty},
            {"above": 0.5, "to": 1.0, **full},
        ]

    figure = visualize.reliability_diagram(bins(0.75), bins(0.875))
    bars = [
        [(x.get_x(), x.get_width(), x.get_height()) for x in axis.patches]
        for axis in figure.axes
    ]
    assert bars[:2] == [[(0.5, 0.5, 0.75)], [(0.5, 0.5, 0.875)]]
    assert bars[2:] == [[(0.5, 0.5, 8)]] * 2
    titles = [axis.get_title() for axis in figure.axes[:2]]
    assert titles == ["before", "after"]
    assert len(visualize.reliability_diagram(bins(0.75)).axes) == 2


def test_explanations_show_image_and_maps(pair, images):
    _, model = pair
    model.class_names = [f"kind {i}" for i in range(11)]
    figure = visualize.explanation(model, images[0], top=2)
    pictures = shown(figure)
    assert len(pictures) == 5  # the image, and each class over it
    np.testing.assert_allclose(pictures[0], np.round(images[0]), atol=0)
    scores = model.predict(images[:1], verbose=0)[0]
    best, second = np.argsort(-scores)[:2]
    for picture, number in ((pictures[2], best), (pictures[4], second)):
        maps, _ = visualize.grad_cam(model, images[:1], int(number))
        np.testing.assert_allclose(picture, maps[0], atol=1e-5)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[1].startswith(f"kind {best}\n{scores[best]:.3g}")


def test_feature_maps_are_the_layers_outputs(pair, images):
    _, model = pair
    figure = visualize.feature_maps(model, images[0], "stem_norm", count=4)
    part = keras.Model(model.input, model.get_layer("stem_norm").output)
    outputs = part.predict(images[:1], verbose=0)[0]
    numbers = [int(axis.get_title()) for axis in figure.axes]
    deviations = outputs.std((0, 1))
    assert numbers == np.argsort(-deviations, kind="stable")[:4].tolist()
    for picture, number in zip(shown(figure), numbers):
        np.testing.assert_allclose(picture, outputs[..., number], atol=1e-5)
    with pytest.raises(ValueError, match="layer with maps"):
        visualize.feature_maps(model, images[0], "head_pool")


def test_floats_of_0_to_1_are_told_once(pair, images, monkeypatch):
    _, model = pair
    bare = build(
        FAMILIES["v2"],
        classes=11,
        weights=None,
        input_shape=(SIZE, SIZE, 3),
        include_preprocessing=False,
    )
    for name, draw in {
        "grad_cam": lambda model, x: visualize.grad_cam(model, x[None]),
        "feature_maps": lambda model, x: visualize.feature_maps(
            model, x, "stem_norm", count=1
        ),
    }.items():
        monkeypatch.setattr(levels, "told", set())
        with pytest.warns(UserWarning, match=f"`{name}` takes.*0–255") as told:
            for _ in range(2):
                draw(model, images[0] / 255)
        assert sum(f"`{name}` takes" in str(x.message) for x in told) == 1
        levels.told.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            draw(bare, images[0] / 255)
            draw(model, images[0])


@pytest.mark.parametrize("layer", [None, "stage_1_block_0_depthwise"])
def test_filters_are_the_kernels(pair, layer):
    _, model = pair
    figure = visualize.filters(model, layer, count=3)
    kernel = np.asarray(
        keras.ops.convert_to_numpy(model.get_layer(layer or "stem_conv").kernel)
    )
    if layer:
        kernel = kernel.swapaxes(2, 3)
    strongest = np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), axis=0)
    first = kernel[..., strongest.argmax()]
    expected = (first - first.min()) / (first.max() - first.min())
    np.testing.assert_allclose(
        shown(figure)[0], np.squeeze(expected), atol=1e-6
    )
    with pytest.raises(ValueError, match="Expected kernels"):
        visualize.filters(model, "stage_1_downsample_conv")
    with pytest.raises(ValueError, match="Expected a convolution"):
        visualize.filters(model, "head_norm")


def test_augmentations_are_those_of_training():
    recipe = recipes.small_data.replace(image_size=32)
    pipeline = recipe.train_pipeline(classes=2)
    images = [random_images((48, 48, 3)).astype("uint8")]
    figure = visualize.augmentation_grid(pipeline, images, count=6, seed=3)
    pictures = shown(figure)
    assert len(pictures) == 6
    for number, picture in enumerate(pictures):
        sample = pipeline.sample((images[0], 0), (3, number))["images"]
        expected = np.clip(np.round(sample), 0, 255)
        np.testing.assert_array_equal(picture, expected)
    assert not np.array_equal(pictures[0], pictures[1])
    mixed = visualize.augmentation_grid(pipeline, images * 2, 6, seed=3)
    assert len(shown(mixed)) == 6
    with pytest.raises(ValueError, match="at least one image"):
        visualize.augmentation_grid(pipeline, [])


@pytest.fixture(scope="module")
def layouts():
    """One model in both layouts, for images that are not square."""
    last, first = (
        keras_convnext.ConvNeXt(
            (1,),
            (8,),
            classes=3,
            input_shape=shape,
            data_format=data_format,
            head_init_scale=30,
        )
        for shape, data_format in (
            ((32, 64, 3), "channels_last"),
            ((3, 32, 64), "channels_first"),
        )
    )
    first.set_weights(last.get_weights())
    return last, first, random_images((2, 32, 64, 3))


def test_grad_cam_of_channels_first(layouts):
    last, first, images = layouts
    expected, _ = visualize.grad_cam(last, images)
    maps, _ = visualize.grad_cam(first, images.transpose(0, 3, 1, 2))
    assert maps.shape == (2, 32, 64)
    np.testing.assert_allclose(maps, expected, atol=1e-5)


@pytest.mark.parametrize(
    "draw",
    [
        visualize.explanation,
        lambda *arguments: visualize.feature_maps(*arguments, "stem_norm"),
    ],
    ids=["explanation", "feature_maps"],
)
def test_pictures_of_channels_first(draw, layouts):
    last, first, images = layouts
    expected = shown(draw(last, images[0]))
    found = shown(draw(first, images[0].transpose(2, 0, 1)))
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_layers_of_channels_first_are_refused(layouts):
    _, first, images = layouts
    images = images.transpose(0, 3, 1, 2)
    with pytest.raises(ValueError, match="'card', channels first"):
        visualize.feature_maps(first, images[0], "card")
    with pytest.raises(ValueError, match="'card', channels first"):
        visualize.grad_cam(first, images, layer="card")
    body = keras_convnext.ConvNeXt(
        (1,),
        (8,),
        include_top=False,
        input_shape=(3, 32, 64),
        data_format="channels_first",
    )
    with pytest.raises(ValueError, match="'to_channels_first', channels first"):
        visualize.feature_maps(body, images[0], "to_channels_first")
    image = keras.Input((3, 32, 64))
    x = keras.layers.ZeroPadding2D(data_format="channels_first")(image)
    x = keras.layers.Activation("relu", name="other")(x)
    with pytest.raises(ValueError, match="'other', channels first"):
        visualize.feature_maps(keras.Model(image, x), images[0], "other")


@pytest.fixture
def saved(pair, tmp_path):
    model = pair[1]
    model.class_names = [f"kind {i}" for i in range(11)]
    model.save(tmp_path / "model.keras")
    Image.fromarray(random_images((120, 120, 3)).astype("uint8")).save(
        tmp_path / "photo.png"
    )
    return tmp_path


def test_explain_draws_and_tells(saved):
    arguments = ["explain", str(saved / "photo.png")]
    arguments += ["--model", str(saved / "model.keras")]
    arguments += ["--output", str(saved / "out.png")]
    result = CliRunner().invoke(app, [*arguments, "--top", "2"])
    assert result.exit_code == 0, result.output
    assert Image.open(saved / "out.png").width > 600
    again = CliRunner().invoke(app, arguments)
    assert "The file exists: pass --force" in str(again.exception)
    chosen = ["--class", "kind 4", "--class", "7", "--json", "--force"]
    result = CliRunner().invoke(app, [*arguments, *chosen])
    told = json.loads(result.stdout)["classes"]
    assert [row["number"] for row in told] == [4, 7]
    wrong = CliRunner().invoke(app, [*arguments, "--class", "11", "--force"])
    assert "number of 0 to 10" in str(wrong.exception)


@pytest.mark.parametrize("named", [True, False])
def test_explain_says_what_predict_says(saved, named, run_command):
    """Probabilities of a model of logits; names of the label set of a file."""
    kind = {"classes": 3} if named else {"classes": 1000}
    model = keras_convnext.ConvNeXt(
        *((1,), (8,), True, True),
        input_shape=(32, 32, 3),
        classifier_activation=None,
        head_init_scale=300,
        **kind,
    )
    if named:
        model.class_names = ["ant", "bee", "cat"]
    model.save(saved / "logits.keras")
    image, model = saved / "photo.png", ("--model", saved / "logits.keras")
    output = ("--output", saved / "out.png", "--force")
    _, printed, _ = run_command("predict", image, *model, "--top", 2, "--json")
    expected = json.loads(printed)[0]["predictions"]
    status, printed, said = run_command(
        "explain", image, *model, *output, "--top", 2, "--json"
    )
    assert status == 0, said
    told = json.loads(printed)["classes"]
    assert [{k: v for k, v in x.items() if k != "number"} for x in told] == [
        {**x, "score": pytest.approx(x["score"], abs=1e-6)} for x in expected
    ]
    assert 0.4 < sum(x["score"] for x in told) <= 1
    _, printed, _ = run_command("explain", image, *model, *output, "--top", 2)
    _, listed, _ = run_command("predict", image, *model, "--top", 2)
    assert printed.splitlines()[:2] == listed.splitlines()[1:]


def test_explanations_show_probabilities():
    model = keras_convnext.ConvNeXt(
        *((1,), (8,)),
        input_shape=(32, 32, 3),
        classes=4,
        classifier_activation=None,
        head_init_scale=300,
    )
    figure = visualize.explanation(model, random_images((32, 32, 3)), top=4)
    titles = [axis.get_title() for axis in figure.axes[1:5]]
    scores = [float(title.split("\n")[1]) for title in titles]
    np.testing.assert_allclose(sum(scores), 1.0, rtol=0, atol=5e-3)


def test_explain_takes_channels_first(saved, layouts):
    told = []
    for name, model in zip(("last", "first"), layouts):
        path = saved / f"{name}.keras"
        model.save(path)
        arguments = ["explain", str(saved / "photo.png"), "--json"]
        arguments += ["--model", str(path)]
        arguments += ["--output", str(saved / f"{name}.png")]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.exception
        told.append(json.loads(result.stdout)["classes"])
    for ours, theirs in zip(*told):
        assert ours["number"] == theirs["number"]
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-5)
    last, first = (
        np.asarray(Image.open(saved / f"{name}.png")).astype(int)
        for name in ("last", "first")
    )
    assert np.abs(last - first).max() <= 2


def test_explain_refuses_models_of_normalized_images(saved):
    model = keras_convnext.ConvNeXt(
        (1,), (8,), input_shape=(32, 32, 3), include_preprocessing=False
    )
    model.save(saved / "plain.keras")
    arguments = ["explain", str(saved / "photo.png")]
    arguments += ["--model", str(saved / "plain.keras")]
    arguments += ["--output", str(saved / "out.png")]
    result = CliRunner().invoke(app, arguments)
    assert "takes pixels of 0–255" in str(result.exception)
    assert not (saved / "out.png").exists()
