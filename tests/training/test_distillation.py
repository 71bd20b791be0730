"""Students that learn from a teacher: the loss, whole runs, what is refused."""

import signal

import keras
import numpy as np
import pytest
import torch
from conftest import BACKEND
from conftest import long_where_compiled
from conftest import predict
from conftest import random_images
from conftest import short_on
from conftest import x64
from devices import finish
from devices import two_devices
from gradients import assert_same
from gradients import of_torch
from gradients import value_and_gradient
from runs import Stop
from runs import check_equal
from runs import command
from runs import invoke
from runs import start
from runs import stop_at
from runs import write_photographs
from safetensors.numpy import load_file
from scipy import special
from test_multi_label_losses import sample
from torch.nn import functional as F

import keras_convnext
from keras_convnext.data import Arrays
from keras_convnext.data import TrainLoader
from keras_convnext.models.sigmoid import with_sigmoid
from keras_convnext.training import Checkpoints
from keras_convnext.training import callbacks
from keras_convnext.training.distillation import DistillationLoss
from keras_convnext.training.distillation import distilled
from keras_convnext.training.recipes import small_data
from keras_convnext.training.teachers import teacher_of

SIZE, STEPS = 16, 4
SHAPE = (SIZE, SIZE, 3)
NAMES = ["ant", "bee", "cow"]
# Everything that could move a weight, and everything that has a state.
RECIPE = small_data.replace(
    epochs=2,
    warmup_epochs=0,
    batch_size=8,
    learning_rate=2e-3,
    weight_decay=0.1,
    image_size=SIZE,
    mixup_alpha=0.8,
    ema_decay=0.9,
    gradient_accumulation_steps=2,
    rand_augment=None,
    distillation_weight=0.7,
    distillation_temperature=2.0,
)
FEATURES = RECIPE.replace(distillation_feature_weight=0.3)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(callbacks, "drawing", lambda run: [])


@pytest.fixture(scope="module")
def data():
    pixels = random_images((16, *SHAPE)).astype("uint8")
    return Arrays(pixels, np.arange(16) % 3, NAMES)


def new_model(dims=(4, 8), **options):
    keras.utils.set_random_seed(0)
    model = keras_convnext.ConvNeXt(
        (1, 1),
        dims,
        **{
            "input_shape": SHAPE,
            "classes": NAMES,
            "classifier_activation": None,
            "drop_path_rate": RECIPE.drop_path_rate,
            "name": "small",
            **options,
        },
    )
    generator = np.random.default_rng(dims[0])
    for weight in model.trainable_variables:
        weight.assign(generator.normal(0, 0.3, weight.shape))
    return model


def new_teacher(**options):
    """Of another width, with other constants, classes and order of them."""
    return new_model(
        (6, 12),
        **{
            "mean": (0.1, 0.2, 0.3),
            "std": (0.4, 0.3, 0.2),
            "classes": ["cow", "dog", "ant", "bee"],
            "name": "large",
            **options,
        },
    )


def guide_of(teacher, recipe=RECIPE, names=NAMES, **options):
    return teacher_of(teacher, recipe, [SHAPE], names, **options)


def train(model, recipe, data, output, **options):
    options = {"loader": "python", **options}
    return keras_convnext.train(model, recipe, data, output, **options)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("kind", ["labels", "sure"])
def test_the_loss_of_classes_is_hintons(kind, temperature):
    """Against PyTorch's divergence, and Keras' own loss."""
    _, student = sample(kind)
    teacher = student[::-1, ::-1].copy()

    def theirs(x, y):
        x, y = x / temperature, y / temperature
        divergence = F.kl_div(
            F.log_softmax(x, -1),
            F.log_softmax(y, -1),
            reduction="batchmean",
            log_target=True,
        )
        return temperature**2 * divergence

    loss = DistillationLoss(temperature)
    expected = of_torch(theirs, teacher, student)
    assert_same(value_and_gradient(loss, teacher, student), expected)
    if kind == "labels":  # where Keras clips no probability
        divergence = keras.losses.KLDivergence()
        peer = keras.distillation.LogitsDistillation(temperature, divergence)
        found = keras.ops.convert_to_numpy(peer.compute_loss(teacher, student))
        np.testing.assert_allclose(found, expected[0], rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", ["labels", "sure"])
def test_the_loss_of_many_labels_is_of_each_label(kind):
    """PyTorch's cross-entropy of probabilities, less that of the teacher."""
    _, student = sample(kind)
    teacher = student[::-1, ::-1].copy()

    def theirs(x, y):
        soft = torch.sigmoid(y / 3.0)
        loss = F.binary_cross_entropy_with_logits
        return 9.0 * (loss(x / 3.0, soft) - loss(y / 3.0, soft))

    loss = DistillationLoss(3.0, is_multi_label=True)
    expected = of_torch(theirs, teacher, student)
    assert_same(value_and_gradient(loss, teacher, student), expected)


def softened(logits, is_multi_label):
    logits = logits / 2.0
    if is_multi_label:
        return np.stack([special.expit(logits), special.expit(-logits)], -1)
    return special.softmax(logits, -1)


@pytest.mark.parametrize(
    "loss", ["softmax", pytest.param("binary", marks=short_on("torch"))]
)
def test_a_step_adds_up_labels_teacher_and_maps(loss, float64):
    """By hand in NumPy, from what both models return by themselves."""
    is_many = loss == "binary"
    recipe = FEATURES.replace(loss=loss, label_smoothing=0.0)
    options = {"dtype": "float64", "drop_path_rate": 0.0}
    recipe = recipe.replace(drop_path_rate=0.0)
    student = new_model(**options)
    teacher = new_teacher(
        **options, classifier_activation=None if is_many else "softmax"
    )
    given = with_sigmoid(teacher) if is_many else teacher
    before = [np.copy(x) for x in teacher.get_weights()]
    trainable = [x.trainable for x in teacher.variables]
    model = distilled(student, guide_of(given, recipe), recipe, seed=1)
    recipe.compile(model, STEPS)
    images = random_images((4, *SHAPE)).astype("float64")
    labels = np.array([[0.25, 0.75, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]])
    outputs = model(keras.ops.convert_to_tensor(images), training=True)
    found = model.compute_loss(
        keras.ops.convert_to_tensor(images),
        keras.ops.convert_to_tensor(labels),
        outputs,
    )
    own = predict(student, images)
    classifier = keras.Model(
        teacher.input, teacher.get_layer("head_classifier").output
    )
    # The teacher's places of the student's classes.
    answers = predict(classifier, images)[:, [2, 3, 0]]
    if is_many:
        logs = np.log(special.expit(own)), np.log(special.expit(-own))
        hard = -np.mean(labels * logs[0] + (1 - labels) * logs[1])
    else:
        hard = -np.mean(np.sum(labels * special.log_softmax(own, -1), -1))
    p, q = softened(answers, is_many), softened(own, is_many)
    terms = special.rel_entr(p, q)
    soft = 4.0 * terms.sum() / (labels.size if is_many else len(labels))
    end = "stage_1_block_0_add"
    maps, target = (
        predict(keras.Model(x.input, x.get_layer(end).output), images)
        for x in (student, teacher)
    )
    kernel, bias = model.get_layer("teacher_projection").get_weights()
    deviation = np.sqrt(target.var(-1, keepdims=True) + 1e-6)
    target = (target - target.mean(-1, keepdims=True)) / deviation
    features = np.mean((maps @ kernel + bias - target) ** 2)
    expected = 0.3 * hard + 0.7 * soft + 0.3 * features
    found = float(keras.ops.convert_to_numpy(found))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0)
    # Evaluated it is the student, by the loss of the labels alone.
    evaluated = model(keras.ops.convert_to_tensor(images), training=False)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(evaluated), own, rtol=1e-12, atol=0
    )
    alone = model.compute_loss(
        images, keras.ops.convert_to_tensor(labels), evaluated, training=False
    )
    alone = float(keras.ops.convert_to_numpy(alone))
    np.testing.assert_allclose(alone, hard, rtol=1e-6, atol=0)
    assert len({x.path for x in model.variables}) == len(model.variables)
    learned = {x.path for x in model.trainable_variables}
    projection = {f"teacher_projection/{x}" for x in ("kernel", "bias")}
    assert learned == {x.path for x in student.weights} | projection
    for found, expected in zip(teacher.get_weights(), before):
        np.testing.assert_array_equal(found, expected)
    assert [x.trainable for x in teacher.variables] == trainable


@long_where_compiled
def test_a_run_learns_from_a_teacher_that_stays(data, tmp_path):
    """In compiled steps; and nothing of the teacher is in any file."""
    student, teacher = new_model(), new_teacher()
    before = [np.copy(x) for x in teacher.get_weights()]
    recipe = FEATURES.replace(epochs=1, ema_decay=None)
    result = train(student, recipe, data, tmp_path, teacher=teacher)
    assert result["settings"]["teacher"]["name"] == "large"
    assert np.isfinite(result["metrics"]["loss"])
    for found, expected in zip(teacher.get_weights(), before):
        np.testing.assert_array_equal(found, expected)
    tensors = load_file(
        tmp_path / "checkpoints" / f"step_{STEPS:010d}.safetensors"
    )
    # Student and projection, each with moments and accumulated gradients.
    learned = student.count_params() + 8 * 12 + 12
    groups = {
        name: sum(x.size for key, x in tensors.items() if key.startswith(name))
        for name in ("trainable", "optimizer")
    }
    assert groups["trainable"] == learned
    assert 3 * learned <= groups["optimizer"] < 3 * learned + 10
    for key, values in tensors.items():  # beside the state of draws
        assert not key.startswith("non_trainable") or values.size <= 2
    loaded = keras.saving.load_model(tmp_path / "last.keras")
    assert [x.path for x in loaded.weights] == [x.path for x in student.weights]
    for found, expected in zip(loaded.get_weights(), student.get_weights()):
        np.testing.assert_array_equal(found, expected)


@short_on("torch")
def test_a_stopped_run_goes_on_with_the_same_teacher_alone(
    data, tmp_path, monkeypatch
):
    whole, stopped = new_model(), new_model()
    teacher = new_teacher()
    train(whole, FEATURES, data, tmp_path / "a", teacher=teacher)
    options = {"teacher": teacher, "checkpoint_steps": 1}
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_at(STEPS + 1, patch)
        train(stopped, FEATURES, data, tmp_path / "b", **options)
    again = new_model()
    train(again, FEATURES, data, tmp_path / "b", **options)
    ends = [Checkpoints(tmp_path / x / "checkpoints").latest() for x in "ab"]
    check_equal(ends[1][1], ends[0][1])
    with pytest.raises(ValueError, match="teacher.digest: .* None now"):
        train(new_model(), FEATURES, data, tmp_path / "b")
    teacher.get_layer("head_classifier").bias.assign([0.1] * 4)
    with pytest.raises(ValueError, match="teacher.digest: .* in the check"):
        train(new_model(), FEATURES, data, tmp_path / "b", teacher=teacher)
    plain = new_model()
    train(plain, RECIPE, data, tmp_path / "c")
    assert not np.array_equal(plain.get_weights()[0], whole.get_weights()[0])


@pytest.mark.parametrize(
    "format, atol",
    [
        pytest.param("onnx", 1e-5, marks=short_on("torch")),
        # AdamW divides by the size of gradients, which lets what LiteRT
        # rounds otherwise grow where they are near 0; steps are 2e-3.
        pytest.param("tflite", 1e-4, marks=pytest.mark.long),
        pytest.param("saved_model", 1e-5, marks=pytest.mark.long),
    ],
)
def test_an_exported_teacher_teaches_the_same(format, atol, data, tmp_path):
    """In the loader, whatever its runtime."""
    # LiteRT has no images of any size.
    sides = SHAPE[:2] if format == "tflite" else (None, None)
    teacher = new_teacher(input_shape=(*sides, 3))
    path = tmp_path / f"teacher.{format}"
    keras_convnext.export(teacher, path, format, verbose=False)
    recipe = RECIPE.replace(epochs=1, lora_rank=2, head_epochs=0)
    found, expected = new_model(), new_model()
    artifact = keras_convnext.open_artifact(path)
    result = train(found, recipe, data, tmp_path / "a", teacher=artifact)
    assert result["settings"]["teacher"]["name"] == path.name
    train(expected, recipe, data, tmp_path / "b", teacher=teacher)
    for one, other in zip(found.get_weights(), expected.get_weights()):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


class Exported:
    """What `open_artifact` returns, in short: logits are means of pixels."""

    path, model = __file__, None

    def __init__(self, **changes):
        self.metadata = {
            "outputs": ["scores", "logits"],
            "activation": "softmax",
            "classes": [[str(i), x] for i, x in enumerate(reversed(NAMES))],
            "channels": 3,
            "size": [None, SIZE],
            "input_dtype": "uint8",
            **changes,
        }

    def at_size(self, size):
        return self

    def outputs_of(self, images):
        logits = np.asarray(images, "uint8").mean((1, 2))
        return {"logits": logits, "scores": special.softmax(logits, -1)}


ANY = (None, None, 3)
# What a run can have beside a teacher: fields of the recipe, what builds the
# models, and options of the run.
HABITS = {
    "early stopping": (
        {
            **{"epochs": 4, "early_stopping_patience": 1},
            # Weights move, and no answer becomes another.
            **{"learning_rate": 1e-5, "minimum_learning_rate": 0.0},
        },
        {},
        {},
    ),
    "head first": ({"head_epochs": 1, "freeze": "stage_0"}, {}, {}),
    "sizes": ({"image_sizes": (24, 16)}, {"input_shape": ANY}, {}),
    "sizes, exported": (
        {"image_sizes": (24, 16), "distillation_feature_weight": 0.0},
        {"input_shape": ANY},
        {"teacher": Exported(size=[None, None])},
    ),
    "rematerialized": ({}, {}, {"rematerialize": True}),
    "many labels": ({"loss": "binary", "cutmix_alpha": 0.0}, {}, {}),
}


@short_on("torch")
@pytest.mark.parametrize("name", HABITS)
def test_a_teacher_goes_with_habits_of_runs(name, data, tmp_path):
    fields, built, options = HABITS[name]
    recipe = FEATURES.replace(**{"epochs": 2, "ema_decay": None, **fields})
    student, teacher = new_model(**built), new_teacher(**built)
    options = {"teacher": teacher, **options}
    before, known = student.get_weights(), teacher.get_weights()
    if name == "many labels":
        labels = np.random.default_rng(0).integers(0, 2, (16, 3), "uint8")
        pixels = np.stack([data.read(i) for i in range(16)])
        data = Arrays(pixels, labels, NAMES)
    held_out = data if name == "early stopping" else None
    result = train(
        *(student, recipe, data, tmp_path), validation=held_out, **options
    )
    assert result["status"] == "complete"
    assert np.isfinite(result["metrics"]["loss"])
    epochs = 2  # also where others would follow that bring nothing
    assert result["step"] == epochs * STEPS
    for one, other in zip(teacher.get_weights(), known):
        np.testing.assert_array_equal(one, other)
    moved = {
        x.path
        for x, old, new in zip(student.weights, before, student.get_weights())
        if not np.array_equal(old, new)
    }
    assert any("stage_1" in x for x in moved) and "head_norm/gamma" in moved
    assert ("stem_conv/kernel" in moved) == ("freeze" not in fields)


@pytest.mark.once
@pytest.mark.parametrize("loader", ["python", "tf"])
def test_loaders_ask_an_exported_teacher(loader, data):
    guide = guide_of(Exported())
    pipeline = RECIPE.train_pipeline(3)
    plain = TrainLoader(data, pipeline, 1, loader=loader)
    answered = plain.answered(guide.answered)
    for one, other in zip(plain.batches(1), answered.batches(1), strict=True):
        images, labels = (np.asarray(x) for x in one)
        np.testing.assert_array_equal(np.asarray(other[0]), images)
        np.testing.assert_array_equal(np.asarray(other[1]["labels"]), labels)
        # Mixed pixels are rounded, and not cut off; columns follow names.
        expected = np.rint(images).mean((1, 2))[:, ::-1]
        np.testing.assert_allclose(
            np.asarray(other[1]["teacher"]), expected, rtol=1e-6, atol=0
        )


@short_on("torch")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_teacher_in_half_precision_answers_nearly_the_same(dtype):
    teacher = new_teacher()
    whole, half = (guide_of(teacher, dtype=x).model for x in (None, dtype))
    images = random_images((2, *SHAPE))
    found, expected = predict(half, images), predict(whole, images)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.05)
    assert not np.array_equal(found, expected)
    kernels = {x.path: str(x.dtype) for x in half.weights}
    assert kernels["teacher/stage_0_block_0_expand/kernel"] == dtype
    assert kernels["teacher/head_classifier/kernel"] == "float32"


@short_on("torch")
def test_fit_learns_from_a_teacher(data):
    recipe = RECIPE.replace(ema_decay=None, epochs=1)
    student = new_model()
    before = student.get_weights()
    model = recipe.with_teacher(student, new_teacher(), seed=3)
    recipe.compile(model, STEPS)
    batches = recipe.train_data(data, classes=3)
    held_out = recipe.eval_data(data)
    history = model.fit(batches, verbose=0, validation_data=held_out).history
    found = student.get_weights()
    assert not np.array_equal(found[0], before[0])
    recipe.compile(student, STEPS)
    expected = student.evaluate(held_out, verbose=0)[0]
    np.testing.assert_allclose(
        history["val_loss"], [expected], rtol=1e-5, atol=0
    )
    with pytest.raises(ValueError, match="and not in `fit`"):
        recipe.with_teacher(student, Exported())


@pytest.mark.once
def test_an_earlier_run_without_these_fields_goes_on():
    from keras_convnext.training.settings import differences

    now = {
        "recipe": {
            name: getattr(small_data, name)
            for name in vars(small_data)
            if name.startswith("distillation")
        },
        "teacher": None,
    }
    assert len(now["recipe"]) == 3
    assert not differences({"recipe": {}}, "", now, "")
    now["teacher"] = {"digest": "1"}
    assert "teacher.digest" in differences({"recipe": {}}, "", now, "")


def plain_network():
    return keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten()])


WRONG = {
    "numbers": (
        lambda: new_teacher(),
        {"loss": "huber", "label_smoothing": 0.0, "cutmix_alpha": 0.0},
        "tells how likely each class is, which numbers have not",
    ),
    "no part": (
        lambda: new_teacher(),
        {"distillation_weight": 0.0},
        "must have a part in the loss",
    ),
    "path": (lambda: "a.onnx", {}, r"keras_convnext.open_artifact\(path\)"),
    "others": (plain_network, {}, "with a ConvNeXt of this package"),
    "pixels": (
        lambda: new_teacher(include_preprocessing=False, mean=None, std=None),
        {},
        "must normalize them itself",
    ),
    "size": (
        lambda: new_teacher(input_shape=(24, 24, 3)),
        {},
        r"of shape \(16, 16, 3\).*takes \(24, 24, 3\).*\(None, None, 3\)",
    ),
    "layout": (
        lambda: new_teacher(
            input_shape=(3, 16, 16), data_format="channels_first"
        ),
        {},
        "data_format='channels_last'",
    ),
    "classes": (
        lambda: new_teacher(classes=["ant", "bee", "fox"]),
        {},
        "Received: 'cow' among 3 classes of the data, for 'large, the teacher'",
    ),
    "fewer": (lambda: new_teacher(classes=2), {}, "for 'large, the teacher'"),
    "features": (
        lambda: new_teacher(include_top=False, classes=None),
        {},
        "must be a classifier that ends in its logits",
    ),
    "sigmoid": (
        lambda: with_sigmoid(new_teacher()),
        {},
        "ends in 'sigmoid'. Pass one that was trained for such labels",
    ),
    "softmax": (
        lambda: new_teacher(classifier_activation="softmax"),
        {"loss": "binary"},
        "ends in 'softmax'",
    ),
    "strides": (
        lambda: new_teacher(patch_size=2),
        {"distillation_feature_weight": 1.0},
        r"maps of shape \(2, 2, 8\) of the student, and \(4, 4, 12\)",
    ),
    "stages": (
        lambda: keras.Sequential(
            [
                keras.Input(SHAPE),
                new_teacher(include_top=False, pooling="avg"),
                keras.layers.Dense(3),
            ]
        ),
        {"distillation_feature_weight": 1.0},
        "that are not nested in another model",
    ),
    "exported maps": (
        Exported,
        {"distillation_feature_weight": 1.0},
        "returns its logits, and not its feature maps",
    ),
    "exported features": (
        lambda: Exported(outputs=["features"]),
        {},
        r"must return logits. Received: .*\['features'\]",
    ),
    "exported channels": (
        lambda: Exported(channels=1),
        {},
        "images of 3 channels. Received: .*distillation.py', which takes 1",
    ),
    "exported sigmoid": (
        lambda: Exported(activation="sigmoid"),
        {},
        "ends in 'sigmoid'",
    ),
}


@short_on("torch")
@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_teach_is_refused(name):
    teacher, changes, message = WRONG[name]
    recipe = RECIPE.replace(**changes)
    with pytest.raises(ValueError, match=message):
        distilled(new_model(), guide_of(teacher(), recipe), recipe)


@short_on("torch")
def test_precisions_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="teacher_dtype"):
        guide_of(new_teacher(), dtype="int8")
    with pytest.raises(ValueError, match="it was exported with"):
        guide_of(Exported(), dtype="float16")


@pytest.mark.once
def test_commands_for_numbers_and_objects_take_no_teacher():
    for task in ("regression", "detect"):
        result = invoke(
            "train",
            "--data",
            "x",
            "--output",
            "y",
            "--task",
            task,
            "--teacher",
            "z.keras",
        )
        said = str(result.exception)
        assert "`--teacher` is for `--task` single-label and multi-l" in said


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(
        tmp_path_factory.mktemp("photographs"), ((8, 8), (2, 2))
    )


def saved(folder, **options):
    """Files of a student and a teacher for the classes of photographs."""
    options = {"classes": 2, **options}
    new_model(**options).save(folder / "small.keras")
    options["classes"] = ["flower", "china"]
    new_teacher(**options).save(folder / "large.keras")
    more = ("--teacher", str(folder / "large.keras"), "--rand-augment", "none")
    return folder / "small.keras", more


@pytest.mark.long
def test_a_killed_command_ends_as_the_whole_one(photographs, tmp_path):
    model, more = saved(tmp_path)
    more += ("--distillation-feature-weight", "0.5")
    more += ("--loader", "python", "--checkpoint-steps", "2")
    more += ("--teacher-dtype", "bfloat16", "--epochs", "2")
    whole, killed = (
        command(photographs, model, tmp_path / x, *more)
        for x in ("whole", "killed")
    )
    process = start(killed, kill_in_save=2)
    printed = process.communicate(timeout=170)[0]
    assert process.returncode == -signal.SIGKILL, printed
    for arguments in (whole, killed):
        result = invoke(*arguments)
        assert result.exit_code == 0, result.output
    ends = [
        Checkpoints(tmp_path / x / "checkpoints").latest()
        for x in ("killed", "whole")
    ]
    check_equal(ends[0][1], ends[1][1])
    # Without the teacher's file.
    (tmp_path / "large.keras").unlink()
    keras.saving.load_model(tmp_path / "whole" / "best.keras")


@pytest.mark.long
@pytest.mark.parametrize("kind", [".keras", ".onnx"])
def test_two_devices_learn_from_a_teacher_as_one(kind, photographs, tmp_path):
    with x64():
        model, more = saved(tmp_path, dtype="float64")
    if kind == ".onnx":
        with x64():
            teacher = keras.saving.load_model(tmp_path / "large.keras")
            keras_convnext.export(teacher, tmp_path / "large.onnx")
        more = ("--teacher", str(tmp_path / "large.onnx"), *more[2:])
    else:
        more += ("--distillation-feature-weight", "0.5")
    more += ("--mixup-group", "2")
    if BACKEND == "tensorflow":  # which accumulates nothing there
        more += ("--gradient-accumulation-steps", "1", "--batch-size", "4")
    one, two = (
        command(photographs, model, tmp_path / x, *more) for x in ("one", "two")
    )
    with x64():
        result = invoke(*one)
    assert result.exit_code == 0, result.output
    finish(*two_devices(two))
    step, tensors, _ = Checkpoints(tmp_path / "one" / "checkpoints").latest()
    found = Checkpoints(tmp_path / "two" / "checkpoints").latest()
    assert found[0] == step
    assert found[1].keys() == tensors.keys()
    for key, values in tensors.items():
        np.testing.assert_allclose(
            found[1][key], values, rtol=2e-6, atol=1e-8, err_msg=key
        )
