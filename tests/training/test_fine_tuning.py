"""Fields of recipes that train a part of a model, for a while or for good."""

import math
import signal

import keras
import numpy as np
import pytest
from conftest import BACKEND
from conftest import long_where_compiled
from conftest import predict
from conftest import random_images
from conftest import short_on
from devices import finish
from devices import two_devices
from runs import Stop
from runs import check_equal
from runs import command
from runs import invoke
from runs import start
from runs import stop_at
from runs import write_photographs
from safetensors.numpy import load_file

import keras_convnext
from keras_convnext import optimizers
from keras_convnext import training
from keras_convnext.data import Arrays
from keras_convnext.data import TrainLoader
from keras_convnext.layers import states
from keras_convnext.training import Checkpoints
from keras_convnext.training import callbacks
from keras_convnext.training import freezing
from keras_convnext.training import state
from keras_convnext.training.distribution.cluster import Cluster
from keras_convnext.training.distribution.in_tensorflow import TensorFlowCluster
from keras_convnext.training.early_stopping import EarlyStopping
from keras_convnext.training.recipes import digits
from keras_convnext.training.recipes import small_data

SIZE, EPOCHS, STEPS = 16, 2, 4
# Everything that could move a weight, and everything that has a state.
RECIPE = small_data.replace(
    epochs=EPOCHS,
    warmup_epochs=0,
    batch_size=8,
    learning_rate=2e-3,
    weight_decay=0.1,
    image_size=SIZE,
    mixup_alpha=0.8,
    ema_decay=0.9,
    gradient_accumulation_steps=2,
    rand_augment=None,
)
HEAD = "head_"


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(callbacks, "drawing", lambda run: [])


@pytest.fixture(scope="module")
def data():
    pixels = random_images((16, SIZE, SIZE, 3)).astype("uint8")
    return Arrays(pixels, np.arange(16) % 2)


def new_model(**options):
    keras.utils.set_random_seed(0)
    model = keras_convnext.ConvNeXt(
        (1, 1),
        (4, 8),
        **{
            "input_shape": (SIZE, SIZE, 3),
            "classes": 2,
            "classifier_activation": None,
            "drop_path_rate": RECIPE.drop_path_rate,
            "name": "small",
            **options,
        },
    )
    generator = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign(generator.normal(0, 0.3, weight.shape))
    return model


def train(model, recipe, data, output, validation=None, **options):
    options = {"loader": "python", **options}
    return keras_convnext.train(
        model, recipe, data, output, validation, **options
    )


def weights_of(model):
    return {
        x.path: np.array(keras.ops.convert_to_numpy(x)) for x in model.weights
    }


def moved(before, after):
    return {
        path for path in before if not np.array_equal(before[path], after[path])
    }


def paths(model, *starts):
    return {x.path for x in model.weights if x.path.startswith(starts)}


def test_what_is_frozen_stays_bit_for_bit(data, tmp_path, capsys):
    """For good, or while the head is trained; and with it all state."""
    model = new_model()
    before = weights_of(model)
    recipe = RECIPE.replace(freeze="stage_0", head_epochs=1)
    train(model, recipe, data, tmp_path)
    late, head = paths(model, "stage_1"), paths(model, HEAD)
    assert moved(before, weights_of(model)) == late | head
    assert len(model.trainable_variables) == len(before)
    # Nothing else has an average or moments.
    learning = model.optimizer._trainable_variables
    assert {x.path for x in learning} == late | head
    tensors = load_file(
        tmp_path / "checkpoints" / f"step_{STEPS:010d}.safetensors"
    )
    for number, variable in enumerate(learning):
        is_same = np.array_equal(
            tensors[f"trainable/{number}"], before[variable.path]
        )
        assert is_same == (variable.path in late), variable.path
    for number, slot in enumerate(model.optimizer.variables):
        for path in late:
            if path.replace("/", "_") in slot.path:
                is_average = slot.path.endswith("average")
                np.testing.assert_array_equal(
                    tensors[f"optimizer/{number}"],
                    before[path] if is_average else np.zeros(slot.shape),
                    err_msg=slot.path,
                )
    trained = sum(np.prod(before[x.path].shape) for x in learning)
    said = capsys.readouterr().err
    assert f"trains {trained:,} parameters; the model has 1,718\n" in said
    assert f" {trained:,} parameters" in training.describe(model, recipe, STEPS)


def test_weights_trained_later_have_steps_of_their_own():
    """As in PyTorch, where parameters without a gradient are left out."""
    import torch

    start = np.linspace(1, 2, 6).reshape(2, 3).astype("float32")
    layers = [keras.layers.Dense(3, use_bias=False, name=x) for x in "ab"]
    for layer in layers:
        layer.build((None, 2))
        layer.set_weights([start])
    ours = [layer.kernel for layer in layers]
    theirs = [torch.nn.Parameter(torch.tensor(start)) for _ in layers]
    optimizer = optimizers.AdamW(0.1, 0.5, trained_from={"b": 2})
    optimizer.build(ours)
    config = optimizers.AdamW.from_config(optimizer.get_config())
    assert config.trained_from == {"b": 2}
    with pytest.raises(ValueError, match="callbacks=recipe.callbacks()"):
        optimizer.apply([x.value for x in ours], ours)
    optimizer.is_staged = True
    peer = torch.optim.AdamW(theirs, 0.1, eps=1e-8, weight_decay=0.5)
    for step in range(5):
        slope = np.cos(start + step).astype("float32")
        count = 1 if step < 2 else 2
        slopes = [keras.ops.convert_to_tensor(slope)] * count
        optimizer.apply(slopes, ours[:count])
        for parameter in theirs[:count]:
            parameter.grad = torch.tensor(slope)
        peer.step()
    for variable, parameter in zip(ours, theirs):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(variable),
            parameter.detach().numpy(),
            rtol=1e-5,
            atol=1e-6,
        )


@pytest.mark.skipif(BACKEND != "jax", reason="of JAX")
@pytest.mark.parametrize("optimizer", [optimizers.AdamW, keras.optimizers.Lion])
def test_weights_rest_in_a_step_that_leaves_them_out(optimizer):
    """They do not decay, nor do their average and slots move."""
    layers = [keras.layers.Dense(2, name=x) for x in "abc"]
    resting, learning = [], []

    class Model(keras.Sequential):
        def train_step(self, *inputs):
            return freezing.jax_step(
                self, learning, super().train_step, *inputs
            )

    model = Model(layers)
    model.build((None, 2))
    is_ours = optimizer is optimizers.AdamW
    model.compile(optimizer(0.1, weight_decay=0.5, use_ema=is_ours), "mse")
    learning += [*layers[0].trainable_variables, layers[2].kernel]
    resting += [*layers[1].trainable_variables, layers[2].bias]
    before = [keras.ops.convert_to_numpy(x) for x in resting + learning]
    x = np.ones((4, 2), "float32")
    model.fit(x, x, epochs=2, verbose=0)
    assert len(model.trainable_variables) == 6
    after = [keras.ops.convert_to_numpy(x) for x in resting + learning]
    same = [np.array_equal(*pair) for pair in zip(before, after)]
    assert same == [True] * 3 + [False] * 3
    if not is_ours:
        return
    averages = model.optimizer._model_variables_moving_average
    for variable, average in zip(model.trainable_variables, averages):
        moved = not np.array_equal(variable, average)
        assert moved == any(variable is x for x in learning)


@long_where_compiled
def test_fit_trains_the_head_first_by_the_callbacks(data):
    model = new_model()
    recipe = RECIPE.replace(head_epochs=1, freeze="stem", ema_decay=None)
    recipe.compile(model, STEPS)
    batches = recipe.train_data(data, classes=2)
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(weights_of(self.model))

    before = weights_of(model)
    watchers = [*recipe.callbacks(), Watch()]
    model.fit(batches, epochs=2, verbose=0, callbacks=watchers)
    first, second = (moved(before, after) for after in seen)
    assert first == paths(model, HEAD)
    assert second == paths(model, HEAD, "stage_")
    # TensorFlow sets no attribute to what it is.
    model.trainable = False
    model.trainable = True
    assert len(model.trainable_variables) == len(before)
    recipe.compile(model, STEPS)
    with pytest.raises(ValueError, match="callbacks=recipe.callbacks()"):
        model.fit(batches, epochs=1, verbose=0)


def test_low_rank_runs_save_ordinary_models(data, tmp_path, capsys):
    """With merged kernels, of the averaged weights where they are the best."""
    model = new_model()
    before = weights_of(model)
    recipe = RECIPE.replace(lora_rank=2, lora_alpha=6, freeze="stem")
    adapted, merge = recipe.adapted(model, seed=0)
    assert all(not states.has_lora(x) for x in model.layers)
    train(model, recipe, data, tmp_path, data, rematerialize=True)
    dense = ("expand/kernel", "project/kernel")
    merged = {x for x in before if x.endswith(dense)}
    assert len(merged) == 4
    assert moved(before, weights_of(model)) == merged | paths(model, HEAD)
    # By hand, from what the last checkpoint holds.
    recipe.compile(adapted, STEPS)
    tensors = load_file(
        tmp_path / "checkpoints" / f"step_{EPOCHS * STEPS:010d}.safetensors"
    )
    state.restore(adapted, tensors)
    for layer in adapted.layers:
        if states.has_lora(layer):
            base = before[f"{layer.name}/kernel"]
            a, b = map(
                keras.ops.convert_to_numpy,
                (layer.lora_kernel_a, layer.lora_kernel_b),
            )
            assert a.shape[1] == 2 and np.abs(b).max() > 1e-4
            np.testing.assert_allclose(
                model.get_layer(layer.name).get_weights()[0],
                base + a @ b * 6 / 2,
                rtol=0,
                atol=1e-6,
            )
    images = random_images((4, SIZE, SIZE, 3))
    expected = predict(adapted, images)
    for name in ("last", "best", "best_raw"):
        loaded = keras.saving.load_model(tmp_path / f"{name}.keras")
        assert [x.path for x in loaded.weights] == [
            x.path for x in model.weights
        ]
        assert len(loaded.trainable_variables) == len(before)
        found = predict(loaded, images)
        if name == "last":
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    lean = keras_convnext.optimize_for_inference(adapted)
    np.testing.assert_allclose(
        predict(lean, images), expected, rtol=0, atol=1e-5
    )
    trained = sum(np.prod(x.shape) for x in recipe.trained_variables(adapted))
    assert f"trains {trained:,} parameters" in capsys.readouterr().err


def test_kernels_are_merged_as_precisely_as_they_are_kept():
    """Not rounded to bfloat16, in which the layer computes."""
    layer = keras_convnext.layers.plain.Dense(4, dtype="mixed_bfloat16")
    layer.build((None, 8))
    layer.enable_lora(2, lora_alpha=3)
    generator = np.random.default_rng(0)
    kernel, bias, a, b = (
        generator.normal(size=x.shape).astype("float32") for x in layer.weights
    )
    layer.set_weights([kernel, bias, a, b])
    merged, _ = states.plain_weights(layer)
    np.testing.assert_allclose(merged, kernel + 1.5 * a @ b, rtol=0, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("rank", [None, 2])
def test_scaled_losses_move_the_same_weights(rank, data, tmp_path):
    """Their optimizer stands around the one that trains by stages."""
    model = new_model(dtype="mixed_float16")
    before = weights_of(model)
    recipe = RECIPE.replace(
        epochs=4, head_epochs=1, freeze="stem", lora_rank=rank
    )
    train(model, recipe, data, tmp_path)
    expected = paths(model, HEAD, "stage_")
    if rank:
        dense = ("expand/kernel", "project/kernel")
        expected = {x for x in expected if x.endswith(dense)}
        expected |= paths(model, HEAD)
    assert moved(before, weights_of(model)) == expected


def shapes_seen(monkeypatch):
    """Collects the shapes of the images that `fit` gets, fit by fit."""
    seen = []
    batches = TrainLoader.batches

    def watched(self, first_step=0):
        for images, labels in batches(self, first_step):
            seen.append((first_step, tuple(images.shape)))
            yield images, labels

    monkeypatch.setattr(TrainLoader, "batches", watched)
    return seen


@long_where_compiled
def test_crops_grow_with_the_epochs(data, tmp_path, monkeypatch):
    seen = shapes_seen(monkeypatch)
    model = new_model(input_shape=(None, None, 3))
    recipe = RECIPE.replace(image_sizes=(8, 8, SIZE), epochs=3)
    train(model, recipe, data, tmp_path)
    begins = {first: shape for first, shape in seen}
    assert begins == {0: (4, 8, 8, 3), 2 * STEPS: (4, SIZE, SIZE, 3)}
    # The same images, and the same draws.
    pipelines = [
        recipe.replace(image_size=x, image_sizes=None).train_pipeline(2)
        for x in (SIZE, 8)
    ]
    large = TrainLoader(data, pipelines[0], 1, loader="python")
    small = TrainLoader(data, pipelines[1], 1, loader="python")
    assert next(iter(large.batches()))[0].shape == (4, SIZE, SIZE, 3)
    for found, expected in zip(
        large.with_pipeline(pipelines[1]).batches(), small.batches()
    ):
        for one, other in zip(found, expected):
            np.testing.assert_array_equal(one, other)


def test_models_are_built_for_all_sizes():
    recipe = RECIPE.replace(image_size=96, image_sizes=[64, 96])
    model = recipe.build("test_convnext", 2)
    assert model.input_shape == (None, None, None, 3)
    assert model.preprocessing.image_size == (96, 96)
    with pytest.raises(ValueError, match="must be at least 32 .*image_size=8"):
        RECIPE.replace(image_sizes=(8, SIZE)).build("test_convnext", 2)


def worse(monkeypatch, *accuracies):
    """Gives the epochs of a run these accuracies."""
    add = callbacks.History.on_epoch_end

    def told(self, epoch, logs=None):
        logs["val_accuracy"] = accuracies[epoch]
        add(self, epoch, logs)

    monkeypatch.setattr(callbacks.History, "on_epoch_end", told)


@long_where_compiled
def test_a_run_ends_when_it_gets_no_better(data, tmp_path, monkeypatch, capsys):
    """Also one that is killed after its last epoch; and then it is over."""
    worse(monkeypatch, 0.9, 0.2, 0.5, 0.4, 0.4, 0.9)
    recipe = RECIPE.replace(
        epochs=6, early_stopping_patience=2, head_epochs=1, ema_decay=None
    )
    result = train(new_model(), recipe, data, tmp_path / "a", data)
    assert (result["status"], result["epochs"]) == ("complete", 3)
    reason = "val_accuracy has not risen for 2 epochs: it was highest after "
    assert result["reason"] == f"{reason}epoch 1, 0.9000"
    assert "ended after epoch 3: val_accuracy" in capsys.readouterr().err
    again = train(new_model(), recipe, data, tmp_path / "a", data)
    assert (again["step"], again["reason"]) == (3 * STEPS, result["reason"])
    said = capsys.readouterr().err
    assert f"a complete run, of 3 epochs and {3 * STEPS} steps" in said
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(EarlyStopping, "on_epoch_end", stop_after(3))
        train(new_model(), recipe, data, tmp_path / "b", data)
    result = train(new_model(), recipe, data, tmp_path / "b", data)
    assert (result["status"], result["epochs"]) == ("complete", 3)


def stop_after(epochs):
    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == epochs:
            raise Stop

    return on_epoch_end


@pytest.mark.once
@pytest.mark.parametrize(
    "values, first, epochs",
    [
        ([0.1, 0.2, 0.3], 0, None),
        ([0.3, 0.2, 0.1], 0, 3),
        ([0.3, 0.2, 0.3, 0.3], 0, 3),  # the first of equal ones is the best
        ([0.3, 0.2, 0.1], 2, None),  # the last size is new
        ([0.3, 0.2, 0.1, 0.1], 2, 4),
        ([math.nan, 0.2, 0.1], 0, None),
        ([math.nan] * 4, 0, 3),
        ([], 0, None),
    ],
)
def test_patience_counts_from_the_best_epoch(values, first, epochs, tmp_path):
    run = training.run.Run(tmp_path, {})
    stopping = EarlyStopping(run, "x", 2, first)
    ends = None
    for number, value in enumerate(values, 1):
        run.history.append({"x": value})
        if ends is None and stopping.is_over():
            ends = number
    assert ends == epochs
    assert not EarlyStopping(run, "x", None).is_over()


@pytest.mark.once
def test_the_process_that_writes_ends_all(tmp_path):
    class Other(Cluster):
        process_index = 1
        process_count = 2

        def largest(self, numbers):
            asked.append(numbers)
            return [1]

    asked = []
    run = training.run.Run(tmp_path, {}, cluster=Other())
    run.history = [{"x": 0.1}] * 5  # of its own images
    assert EarlyStopping(run, "x", 2).is_over()
    assert asked == [[False]]


def test_fit_ends_early_by_the_callbacks(data):
    (callback,) = RECIPE.replace(
        early_stopping_patience=3, ema_decay=None
    ).callbacks()
    assert isinstance(callback, keras.callbacks.EarlyStopping)
    assert (callback.monitor, callback.patience) == ("val_accuracy", 3)
    (callback,) = RECIPE.replace(
        early_stopping_patience=3, ema_decay=None, loss="binary"
    ).callbacks()
    assert callback.monitor == "val_loss"
    recipe = RECIPE.replace(image_sizes=(8, SIZE))
    with pytest.raises(ValueError, match="`fit` takes images of one size"):
        recipe.train_data(data, classes=2)


# All at once, as they compose; then each alone.
HABITS = {
    "all": {
        "freeze": "stem",
        "head_epochs": 1,
        "lora_rank": 2,
        "image_sizes": (8, SIZE),
        "early_stopping_patience": 1,
    },
    "head first": {"head_epochs": 1},
    "freeze": {"freeze": "stage_0"},
    "lora": {"lora_rank": 2},
    "sizes": {"image_sizes": (8, SIZE)},
    "early stopping": {"early_stopping_patience": 1},
}


def as_options(habits):
    return [
        text
        for name, value in habits.items()
        for text in (
            f"--{name.replace('_', '-')}",
            ",".join(map(str, value)) if name == "image_sizes" else str(value),
        )
    ]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(
        tmp_path_factory.mktemp("photographs"), ((8, 8), (2, 2))
    )


def saved_model(folder, **options):
    new_model(input_shape=(None, None, 3), **options).save(
        folder / "small.keras"
    )
    return folder / "small.keras"


def end_of(output):
    """State and history of a run, but for what depends on the clock."""
    step, tensors, record = Checkpoints(output / "checkpoints").latest()
    for row in record["history"]:
        del row["images_per_second"]
    return step, tensors, record["history"]


def check_ends(found, expected):
    assert (found[0], found[2]) == (expected[0], expected[2])
    check_equal(found[1], expected[1])


def two_commands(name, photographs, folder):
    """Of one run that nothing disturbs, and of one that is cut short."""
    model = saved_model(folder)
    more = ("--loader", "python", "--checkpoint-steps", "2", "--epochs", "4")
    more += (*as_options(HABITS[name]), "--rand-augment", "none")
    return [
        command(photographs, model, folder / x, *more) for x in ("whole", "cut")
    ]


def check_both_end_alike(commands, folder):
    for arguments in commands:
        result = invoke(*arguments)
        assert result.exit_code == 0, result.output
    check_ends(end_of(folder / "cut"), end_of(folder / "whole"))
    one, other = (
        keras.saving.load_model(folder / x / "last.keras").get_weights()
        for x in ("whole", "cut")
    )
    for found, expected in zip(one, other):
        np.testing.assert_array_equal(found, expected)


@short_on("torch")
def test_a_stopped_run_ends_as_the_whole_one(
    photographs, tmp_path, monkeypatch
):
    whole, cut = two_commands("all", photographs, tmp_path)
    with monkeypatch.context() as patch:
        stop_at(STEPS + 1, patch)
        assert isinstance(invoke(*cut).exception, Stop)
    check_both_end_alike((whole, cut), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", HABITS)
def test_a_killed_run_ends_as_the_whole_one(name, photographs, tmp_path):
    """Killed as it saves its first epoch, then as it saves its second."""
    whole, cut = two_commands(name, photographs, tmp_path)
    for saves in (2, 3):
        process = start(cut, kill_in_save=saves)
        printed = process.communicate(timeout=170)[0]
        assert process.returncode == -signal.SIGKILL, printed
    check_both_end_alike((whole, cut), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", HABITS)
def test_two_devices_train_as_one(name, photographs, tmp_path, float64):
    # LoRA is float32, and TensorFlow adds up gradients of one type.
    is_float32 = BACKEND == "tensorflow" and "lora_rank" in HABITS[name]
    dtype = "float32" if is_float32 else "float64"
    model = saved_model(tmp_path, dtype=dtype)
    more = ["--mixup-group", "2", *as_options(HABITS[name])]
    more += ["--rand-augment", "none"]
    if is_float32:  # whose first steps are the signs of rounding
        more += ["--warmup-epochs", "2.5"]
    if BACKEND == "tensorflow":  # which accumulates nothing there
        more += ["--gradient-accumulation-steps", "1", "--batch-size", "4"]
    one, two = (
        command(photographs, model, tmp_path / x, *more) for x in ("one", "two")
    )
    result = invoke(*one)
    assert result.exit_code == 0, result.output
    finish(*two_devices(two), seconds=500)
    step, tensors, history = end_of(tmp_path / "one")
    found = end_of(tmp_path / "two")
    assert found[0] == step and len(found[2]) == len(history)
    assert found[1].keys() == tensors.keys()
    rtol, atol = (1e-3, 1e-5) if is_float32 else (2e-6, 1e-8)
    for key, values in tensors.items():
        np.testing.assert_allclose(
            found[1][key], values, rtol=rtol, atol=atol, err_msg=key
        )


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow")
def test_lora_in_float64_on_several_devices_is_refused():
    recipe = RECIPE.replace(lora_rank=2, gradient_accumulation_steps=1)
    cluster = TensorFlowCluster(2)
    cluster.check(new_model(), recipe, None)
    with pytest.raises(ValueError, match="lora_rank=2 for the model 'small'"):
        cluster.check(new_model(dtype="float64"), recipe, None)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"head_epochs": EPOCHS}, "`head_epochs` must be fewer than"),
        ({"lora_alpha": 2.0}, "`lora_alpha` is of LoRA, which needs a rank"),
        ({"lora_rank": 0}, "`lora_rank` must be a positive int"),
        ({"freeze": "stage_2"}, "one of 'stem', 'stage_0', 'stage_1'"),
        ({"freeze": "stage_1", "lora_rank": 2}, "needs Dense layers in what"),
        ({"image_sizes": 16}, "`image_sizes` must be a tuple of sizes"),
        ({"image_sizes": (8, 32)}, "The last of `image_sizes` must be"),
        ({"image_sizes": (8, 12, 16)}, "an epoch for each of `image_sizes`"),
        (
            {"image_sizes": (8, 16), "crop_scale": None},
            r"are crops.*crop_scale=\(1, 1\)",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RECIPE.replace(**changes).compile(new_model(), STEPS)


def test_models_without_a_backbone_or_with_lora_are_refused(tmp_path, data):
    plain = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    plain.add(keras.layers.Dense(2))
    recipe = digits.replace(drop_path_rate=0.0, freeze="stem")
    with pytest.raises(ValueError, match="Received: freeze='stem' for"):
        recipe.compile(plain, STEPS)
    recipe = RECIPE.replace(lora_rank=2)
    model = new_model()
    recipe.compile(model, STEPS)
    recipe.compile(model, STEPS)  # which has it by now
    with pytest.raises(ValueError, match="layers have it of rank 2"):
        RECIPE.replace(lora_rank=3).compile(model, STEPS)
    lean = keras_convnext.rematerialized(new_model())
    with pytest.raises(ValueError, match="`rematerialize=True`"):
        train(lean, recipe, data, tmp_path / "run")
    fixed = RECIPE.replace(image_sizes=(8, SIZE))
    with pytest.raises(ValueError, match=r"input_shape=\(None, None, 3\)"):
        train(new_model(), fixed, data, tmp_path / "run")
    patient = RECIPE.replace(early_stopping_patience=2)
    with pytest.raises(ValueError, match="Hold some out"):
        train(new_model(), patient, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    head = new_model()
    head.get_layer("head_classifier").trainable = False
    head.get_layer("head_norm").trainable = False
    with pytest.raises(ValueError, match="of which none can be trained"):
        freezing.head_of(head, head.trainable_variables)
