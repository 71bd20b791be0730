"""Training on several devices and processes is the training on one."""

import contextlib
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import x64
from devices import SECONDS
from devices import finish
from devices import free_port
from devices import jax_environment
from devices import start
from devices import two_devices
from devices import two_jax_processes
from runs import SIZE
from runs import command
from runs import splits
from runs import write_photographs
from typer.testing import CliRunner

import keras_convnext
from keras_convnext import distribution
from keras_convnext._util.telling import tell
from keras_convnext.cli import app
from keras_convnext.data import EvalLoader
from keras_convnext.training import Checkpoints
from keras_convnext.training import sharing
from keras_convnext.training.distribution import cluster as cluster_module
from keras_convnext.training.distribution import shared_draws
from keras_convnext.training.distribution import validation
from keras_convnext.training.distribution.keeping import LAYER_BY_LAYER
from keras_convnext.training.distribution.replicas import Replicas
from keras_convnext.training.recipes import small_data

BACKEND = keras.backend.backend()
ONLY = {
    name: pytest.mark.skipif(name != BACKEND, reason=f"of {name}")
    for name in ("jax", "tensorflow", "torch")
}
# With branches that count from the first step on, and are dropped often.
VERSIONS = {"v1": {"layer_scale_init_value": 0.5}, "v2": {"grn": True}}
VERSIONS["v2"]["layer_scale_init_value"] = 0.0
# Groups that two processes share, and gradients that are always clipped.
EPOCHS = 3
OPTIONS = ("--mixup-group", "4", "--epochs", f"{EPOCHS}")
OPTIONS += ("--global-clipnorm", "0.1", "--class-weight-exponent", "0.5")
# What no number of devices divides.
COUNTS = ((26, 11), (4, 3))
STEPS = 9
LAST = EPOCHS * STEPS
# TensorFlow's optimizers accumulate nothing on several devices.
PLAIN = ("--gradient-accumulation-steps", "1", "--batch-size", "4")
FLAGS = os.environ.get("XLA_FLAGS", "")
# XLA's program for a depthwise gradient on a batch that two devices share.
KERNEL_GRADIENT = """
import jax
import numpy as np
import keras_convnext
layer = keras_convnext.layers.DepthwiseConv2D(3, implementation="shifted")
layer.build((4, 6, 6, 8))
keras_convnext.distribution.setup()
mesh = jax.make_mesh((2,), ("batch",))
spec = jax.sharding.PartitionSpec
images = jax.ShapeDtypeStruct(
    (4, 6, 6, 8), np.float32, sharding=jax.NamedSharding(mesh, spec("batch"))
)
whole = jax.NamedSharding(mesh, spec())
kernel = jax.ShapeDtypeStruct((3, 3, 8, 1), np.float32, sharding=whole)
def loss(kernel, images):
    outputs, _ = layer.stateless_call([kernel, layer.bias], [], images)
    return (outputs**2).sum()
gradient = jax.jit(jax.grad(loss), out_shardings=whole)
print(gradient.lower(kernel, images).compile().as_text())
"""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"), COUNTS)


def small_model(version="v1", dtype="float64"):
    keras.utils.set_random_seed(0)
    return keras_convnext.ConvNeXt(
        depths=(1, 1),
        dims=(8, 16),
        input_shape=(SIZE, SIZE, 3),
        classes=2,
        classifier_activation=None,
        drop_path_rate=0.5,
        dtype=dtype,
        name="small",
        **VERSIONS[version],
    )


def arguments(
    photographs, folder, output, version="v1", *more, dtype="float64"
):
    path = folder / f"{version}_{dtype}.keras"
    if not path.exists():
        small_model(version, dtype).save(path)
    more = (PLAIN if BACKEND == "tensorflow" else ()) + more
    return command(photographs, path, output, *OPTIONS, *more)


def alone(words):
    """The command in this process, on one device."""
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (result.output, result.exception)


def end_of(output):
    """State and history of a run that is over."""
    step, tensors, record = Checkpoints(output / "checkpoints").latest()
    assert step == LAST
    return tensors, record["history"]


def check_same(found, expected, atol=1e-8, rtol=2e-6):
    """Weights, averages, slots and random state; then every epoch's row."""
    (tensors, rows), (whole_tensors, whole_rows) = found, expected
    assert tensors.keys() == whole_tensors.keys()
    largest = 0.0
    for name, values in whole_tensors.items():
        difference = tensors[name].astype("float64") - values
        largest = max(largest, float(np.abs(difference).max(initial=0.0)))
        assert largest <= atol, f"{name}: {largest}"
    assert len(rows) == len(whole_rows) == EPOCHS
    for row, whole in zip(rows, whole_rows):
        assert row.keys() == whole.keys()
        for name in row.keys() - {"images_per_second"}:
            # Metrics are sums in float32.
            assert row[name] == pytest.approx(whole[name], rel=rtol, abs=1e-7)
    return largest


@pytest.fixture(scope="module")
def whole(photographs, tmp_path_factory):
    """The end of the runs on one device, by version."""
    ends = {}

    def end(version):
        if version not in ends:
            folder = tmp_path_factory.mktemp(version)
            alone(arguments(photographs, folder, folder / "run", version))
            ends[version] = end_of(folder / "run")
        return ends[version]

    with x64():
        yield end


def check_two_devices(version, photographs, whole, tmp_path):
    expected = whole(version)
    output = tmp_path / "run"
    finish(*two_devices(arguments(photographs, tmp_path, output, version)))
    names = {path.name for path in output.iterdir()}
    assert names >= {"best.keras", "best_raw.keras", "curves.png", "run.json"}
    return check_same(end_of(output), expected)


@pytest.mark.skipif(BACKEND == "jax", reason="four devices in one process")
def test_two_devices_train_as_one(photographs, whole, tmp_path):
    check_two_devices("v2", photographs, whole, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("version", VERSIONS)
def test_two_devices_or_processes_train_as_one(
    version, photographs, whole, tmp_path, record_property
):
    difference = check_two_devices(version, photographs, whole, tmp_path)
    record_property("largest difference", f"{difference:.1e}")


def four_devices(words):
    return start(
        [*words, "--devices", "all"],
        XLA_FLAGS=f"{FLAGS} --xla_force_host_platform_device_count=4",
    )


@ONLY["jax"]
@pytest.mark.parametrize(
    "version", ["v2", pytest.param("v1", marks=pytest.mark.long)]
)
def test_four_devices_train_as_one(version, photographs, whole, tmp_path):
    expected = whole(version)
    output = tmp_path / "run"
    finish(four_devices(arguments(photographs, tmp_path, output, version)))
    check_same(end_of(output), expected)


@pytest.mark.long
def test_two_devices_or_processes_train_as_one_in_float32(
    photographs, tmp_path, record_property
):
    # AdamW's first steps are the signs of gradients, also of those that are
    # nothing but rounding: the rate rises from 0 over most of the run.
    more = ("--warmup-epochs", "2.5")
    words = [
        arguments(photographs, tmp_path, x, "v2", *more, dtype="float32")
        for x in (tmp_path / "one", tmp_path / "two")
    ]
    alone(words[0])
    finish(*two_devices(words[1]))
    ends = [end_of(tmp_path / x) for x in ("two", "one")]
    difference = check_same(*ends, atol=1e-5, rtol=1e-3)
    record_property("largest difference", f"{difference:.1e}")


@ONLY["jax"]
@pytest.mark.long
@pytest.mark.parametrize("parts", ["2", "4"])
def test_sharded_kernels_train_as_whole_ones(
    parts, photographs, whole, tmp_path
):
    output = tmp_path / "run"
    words = arguments(
        photographs, tmp_path, output, "v1", "--model-parallel", parts
    )
    finish(four_devices(words))
    check_same(end_of(output), whole("v1"))


@ONLY["jax"]
def test_kernel_gradients_are_exchanged_once():
    flags = "--xla_force_host_platform_device_count=2"
    (text,) = finish(
        start([], ("-c", KERNEL_GRADIENT), XLA_FLAGS=f"{FLAGS} {flags}")
    )
    loops, _, whole = text.partition("ENTRY ")
    assert " while(" in text, "the rows are no loop any more"
    assert whole.count(" all-reduce(") == 1
    assert " all-reduce(" not in loops


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """Arrays of images with two labels, one, or none."""
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 4 * STEPS), ("test", 7)):
        labels = generator.integers(0, 2, (count, 2), "uint8")
        labels[::3, 1] = 0
        images = generator.integers(0, 90, (count, SIZE, SIZE, 3), "uint8")
        images[..., :2] += 160 * labels[:, None, None]
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    path = tmp_path_factory.mktemp("tagged") / "tagged.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.long
def test_many_labels_train_on_several_devices_as_on_one(
    tagged, tmp_path, record_property
):
    with x64():
        words = [
            [*arguments(tagged, tmp_path, tmp_path / x)]
            + ["--task", "multi-label"]
            for x in ("one", "several")
        ]
        alone(words[0])
    if BACKEND == "jax":  # whose processes do not see all scores
        finish(four_devices(words[1]))
    else:
        finish(*two_devices(words[1]))
    ends = [end_of(tmp_path / x) for x in ("several", "one")]
    assert {"val_map_macro", "val_raw_f1_macro"} <= ends[0][1][0].keys()
    record_property("largest difference", f"{check_same(*ends):.1e}")


def test_one_device_is_no_distribution(monkeypatch):
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    before = distribution.current()
    try:
        # Which has neither filled-up batches nor exchanges.
        assert type(distribution.setup(devices=1)) is distribution.Cluster
        assert keras.distribution.distribution() is None
    finally:
        cluster_module.make_current(before)


class Second(distribution.Cluster):
    """The second of two processes, whose writer has these settings."""

    process_index, process_count = 1, 2

    def __init__(self, settings):
        self.settings = settings

    def from_writer(self, value):
        return self.settings


def test_processes_of_other_settings_are_refused():
    settings = {"seed": 0, "data": {"digest": "a"}}
    sharing.check_same(Second(settings), settings)
    other = {"seed": 0, "data": {"digest": "b"}}
    with pytest.raises(ValueError, match="data.digest: b in process 0, a here"):
        sharing.check_same(Second(other), settings)


@ONLY["jax"]
@pytest.mark.long
def test_one_process_of_other_images_ends_all(photographs, tmp_path):
    other = write_photographs(tmp_path / "other")
    port = free_port()
    processes = [
        start(
            arguments(folder, tmp_path, tmp_path / "run"),
            **jax_environment(port, index),
        )
        for index, folder in enumerate((photographs, other))
    ]
    printed = [x.communicate(timeout=SECONDS)[0] for x in processes]
    assert [x.returncode for x in processes] == [2, 2]
    assert "those of process 0, unlike another process" in printed[0]
    assert "data.images: 37 in process 0, 36 here" in printed[1]


def wait_for(path, processes, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        for process in processes:
            assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.01)


def torch_worker(launcher, rank):
    """The process id of one of torchrun's workers."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    for child in children.read_text().split():
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if f"RANK={rank}".encode() in variables:
            return int(child)
    raise AssertionError(f"no worker {rank}")


def run_and_kill(words, folder):
    """Kills the second of two workers within an epoch; returns what is said."""
    slowly = [
        str(Path(__file__).parents[1] / "killable_training.py"),
        "0.1",
        "0",
    ]
    if BACKEND == "torch":
        torchrun = ["-m", "torch.distributed.run", "--standalone"]
        words = [*words, "--oversubscribe"]
        processes = [start(words, [*torchrun, "--nproc-per-node=2", *slowly])]
    else:
        processes = two_jax_processes(words, slowly)
    try:
        wait_for(folder / "step_0000000012.json", processes)
        victim = processes[-1].pid
        if BACKEND == "torch":
            victim = torch_worker(processes[0], 1)
        os.kill(victim, signal.SIGKILL)
        printed, _ = processes[0].communicate(timeout=60)
    finally:
        for process in processes:
            process.terminate()
    assert processes[0].returncode != 0
    last = Checkpoints(folder).steps()[-1]
    assert last % STEPS and last < LAST
    return printed


def check_death(resumed, photographs, whole, tmp_path):
    expected = whole("v1")
    output = tmp_path / "run"
    words = arguments(photographs, tmp_path, output, "v1")
    words += ["--checkpoint-steps", "1"]
    printed = run_and_kill(words, output / "checkpoints")
    names = {"torch": "rank      : 1", "jax": "Task 1 heartbeat timeout"}
    assert names[BACKEND] in printed
    for number in resumed:
        copy = tmp_path / f"resumed_{number}"
        shutil.copytree(output, copy)
        words = arguments(photographs, tmp_path, copy, "v1")
        if number == 1:
            alone(words)
        else:
            finish(*two_devices(words))
        check_same(end_of(copy), expected)


@pytest.mark.long
@pytest.mark.skipif(BACKEND == "tensorflow", reason="one process")
def test_a_dead_worker_is_named_and_any_number_goes_on(
    photographs, whole, tmp_path
):
    check_death([2, 1], photographs, whole, tmp_path)


def test_draws_are_those_of_the_whole_batch():
    model = small_model(dtype="float32")
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 255, (64, SIZE, SIZE, 3)).astype("float32")
    states = [x for x in model.non_trainable_variables if "seed" in x.path]
    assert len(states) == 1

    def outputs(model, images):
        for state in states:
            state.assign([3, 5])
        return keras.ops.convert_to_numpy(model(images, training=True))

    expected = outputs(model, images)
    assert np.ptp(expected - outputs(model, images[::-1])[::-1]) > 1e-3
    for place in range(2):
        shared = shared_draws.with_shared_draws(
            model, Replicas(2, lambda place=place: place)
        )
        own = slice(32 * place, 32 * place + 32)
        np.testing.assert_allclose(
            outputs(shared, images[own]), expected[own], atol=1e-5
        )
        assert [id(x) for x in shared.variables] == [
            id(x) for x in model.variables
        ]


@pytest.mark.skipif(BACKEND == "torch", reason="no batch is filled up")
def test_what_fills_batches_up_does_not_count(photographs):
    _, images = splits(photographs)
    model = small_model(dtype="float32")
    recipe = small_data.replace(
        drop_path_rate=0.5, mixup_alpha=0.0, cutmix_alpha=0.0
    )
    assert recipe.label_smoothing
    recipe.compile(model, 10)
    plain = EvalLoader(images, model.preprocessing, 3)
    expected = model.evaluate(plain, verbose=0, return_dict=True)

    padded = validation.PaddedLoader(images, model.preprocessing, 5, "raise")
    assert len(padded) == 2 and padded[1][0].shape == (5, SIZE, SIZE, 3)
    whole = validation.WholeValidation(distribution.Cluster(), padded)
    found = model.evaluate(
        padded, verbose=0, return_dict=True, callbacks=[whole]
    )
    assert found == pytest.approx(expected, rel=1e-6)
    padded.skipped["in an earlier pass"] = "truncated"
    again = model.evaluate(
        padded, verbose=0, return_dict=True, callbacks=[whole]
    )
    assert again == pytest.approx(expected, rel=1e-6)
    uncorrected = model.evaluate(padded, verbose=0, return_dict=True)
    assert uncorrected != pytest.approx(expected, rel=1e-2)


def test_every_process_has_as_many_padded_batches(photographs):
    _, images = splits(photographs)
    preprocessing = small_model(dtype="float32").preprocessing
    parts = [
        validation.PaddedLoader(images, preprocessing, 1, "raise", index, 3)
        for index in range(3)
    ]
    assert [len(part) for part in parts] == [3, 3, 3]
    weights = [part[i][2] for part in parts for i in range(3)]
    assert np.sum(weights) == len(images) == 7


@pytest.fixture
def one_process():
    """A process group of this process alone."""
    from torch import distributed

    distributed.init_process_group(
        "gloo", store=distributed.HashStore(), rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


@ONLY["torch"]
def test_gradients_arrive_in_buckets(one_process, monkeypatch):
    from keras_convnext.training.distribution import gradients

    monkeypatch.setattr(gradients, "BUCKET_BYTES", 1000)
    model = small_model(dtype="float32")
    images = np.ones((2, SIZE, SIZE, 3), "float32")

    def backward():
        model.zero_grad()
        model(images).square().sum().backward()
        return [x.value.grad.clone() for x in model.trainable_variables]

    expected = backward()
    # As of two processes, of which the other has none.
    averaged = gradients.AveragedGradients(model.trainable_variables, 2)
    assert len(averaged._buckets) > 5
    with averaged:
        for _ in range(2):
            for found, whole in zip(backward(), expected):
                np.testing.assert_array_equal(2 * found, whole)
    for found, whole in zip(backward(), expected):
        np.testing.assert_array_equal(found, whole)


@ONLY["torch"]
def test_gradients_are_averaged_once(one_process, monkeypatch):
    from torch import distributed
    from torch.nn import parallel

    from keras_convnext.training.distribution.in_torch import TorchCluster

    def refused(*_, **__):
        raise AssertionError("Keras averages too")

    def all_reduce(tensor, *args, **kwargs):
        sent.append(tensor.numel())
        return exchanged(tensor, *args, **kwargs)

    sent, exchanged = [], distributed.all_reduce
    monkeypatch.setattr(distributed, "all_reduce", all_reduce)
    monkeypatch.setattr(parallel.DistributedDataParallel, "__init__", refused)
    model = small_model(dtype="float32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    data = np.ones((4, SIZE, SIZE, 3), "float32"), np.zeros(4)
    with TorchCluster().training(model, model.trainable_variables):
        model.fit(*data, batch_size=2, verbose=0)
        # Two steps' gradients, each once, and no metrics.
        count = sum(x.value.numel() for x in model.trainable_variables)
        assert sum(sent) == 2 * count
        found = model.evaluate(*data, verbose=0, return_dict=True)
    assert found.keys() == {"loss", "accuracy"}
    assert sum(sent) == 2 * count
    assert "get_metrics_result" not in vars(model)
    assert not getattr(model, "ddp_model", None)


@ONLY["torch"]
def test_weights_without_gradients_are_named(one_process):
    from keras_convnext.training.distribution.gradients import AveragedGradients

    used, unused = keras.layers.Dense(1), keras.layers.Dense(1, name="unused")
    for layer in (used, unused):
        layer.build((None, 2))
    variables = used.trainable_variables + unused.trainable_variables
    with AveragedGradients(variables, 1):
        used(np.ones((1, 2))).sum().backward()
        with pytest.raises(RuntimeError, match="none for unused/bias"):
            used(np.ones((1, 2))).sum().backward()


OF_HOSTS = [
    ({"hosts": "far,away"}, "Pass `host_index`"),
    ({"hosts": "far,away", "host_index": 2}, "below the number of hosts"),
]
WRONG = {
    "jax": [
        *OF_HOSTS,
        ({"devices": 99}, "devices=99, and . CPU devices .* Take at most ."),
        ({"devices": 1, "model_parallel": 2}, "must divide the number of"),
    ],
    "tensorflow": [
        ({"devices": 99}, "devices=99, and . CPU devices .* Take at most ."),
        ({"hosts": "a,b"}, "Take JAX or PyTorch"),
        ({"model_parallel": 2}, "Take JAX or PyTorch"),
    ],
    "torch": [
        *OF_HOSTS,
        ({"devices": 2}, "Run `torchrun --nproc-per-node=2 SCRIPT`"),
        ({"model_parallel": 2}, "on the JAX backend only"),
    ],
}


@pytest.mark.parametrize(
    "options, message",
    [
        *WRONG[BACKEND],
        ({"devices": 0}, "`devices` must be a positive int"),
        ({"host_index": 1}, "below the number of hosts"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        distribution.setup(**options)
    assert distribution.current().device_count == 1


def test_one_process_must_not_train_alone_by_mistake(monkeypatch):
    variables = {
        "jax": {"KERAS_DISTRIBUTION_NUM_PROCESSES": "2"},
        "tensorflow": {"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:1"]}}'},
        "torch": {"RANK": "0", "WORLD_SIZE": "2"},
    }
    message = {
        "jax": "without KERAS_DISTRIBUTION_JOB_ADDRESSES",
        "tensorflow": "2 workers in TF_CONFIG",
        "torch": "without LOCAL_WORLD_SIZE",
    }
    for name, value in variables[BACKEND].items():
        monkeypatch.setenv(name, value)
    words = ["train", "--data", "digits", "--output", "never"]
    result = CliRunner().invoke(app, words)
    assert message[BACKEND] in str(result.exception)


@ONLY["jax"]
def test_kernels_are_sharded_also_without_devices(monkeypatch):
    asked = []
    monkeypatch.setattr(distribution, "start", lambda *x: asked.append(x))
    words = ["train", "--data", "nowhere", "--output", "never"]
    CliRunner().invoke(app, [*words, "--model-parallel", "4"])
    assert asked == [(None, None, None, 4, False)]


def test_batches_that_cannot_be_shared_are_refused():
    cluster = distribution.Cluster()
    cluster.device_count = 3
    assert cluster.share_of(12) == 4
    with pytest.raises(ValueError, match="4 images .* on 3 devices"):
        cluster.share_of(4)


@ONLY["tensorflow"]
@pytest.mark.parametrize(
    "steps, loader, message",
    [
        (2, None, "accumulate no gradients on TensorFlow"),
        (1, "python", "Take the loader 'tf'"),
    ],
)
def test_what_tensorflow_cannot_do_is_refused(steps, loader, message):
    from keras_convnext.training.distribution.in_tensorflow import (
        TensorFlowCluster,
    )

    recipe = small_data.replace(gradient_accumulation_steps=steps)
    with pytest.raises(ValueError, match=message):
        TensorFlowCluster(2).check(small_model(), recipe, loader)


@ONLY["tensorflow"]
def test_float16_on_several_tensorflow_devices_is_refused():
    from keras_convnext.training.distribution.in_tensorflow import (
        TensorFlowCluster,
    )

    model = small_model(dtype="mixed_float16")
    with pytest.raises(ValueError, match="Take mixed_bfloat16"):
        TensorFlowCluster(2).check(model, small_data, None)


@ONLY["tensorflow"]
@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": "a"}'])
def test_a_broken_tf_config_is_named(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="TF_CONFIG must hold a JSON object"):
        distribution.is_launched()


@ONLY["torch"]
def test_commands_of_torchrun(monkeypatch):
    from keras_convnext.training.distribution import in_torch

    monkeypatch.setattr(in_torch, "number_of_cores", lambda: 8)
    assert in_torch.command(4, ["localhost:29400"], 0)[2:] == [
        "--nproc-per-node=4",
        "--standalone",
    ]
    assert in_torch.command(8, ["a:1", "b:29400"], 1)[2:] == [
        "--nproc-per-node=8",
        "--nnodes=2",
        "--node-rank=1",
        "--master-addr=a",
        "--master-port=1",
    ]


@ONLY["torch"]
def test_more_processes_than_cores_are_refused(monkeypatch):
    from keras_convnext.training.distribution import in_torch

    monkeypatch.setattr(in_torch, "number_of_cores", lambda: 3)
    monkeypatch.setattr(os, "execv", lambda *words: pytest.fail("it starts"))
    words = ["train", "--data", "digits", "--output", "never", "--devices"]
    result = CliRunner().invoke(app, [*words, "4"])
    message = (
        "devices[= ]4, and 3 cores. Take at most 3, or .*`--oversubscribe`"
    )
    assert re.search(message, str(result.exception))
    started = []
    monkeypatch.setattr(os, "execv", lambda _, words: started.append(words))
    for more in (["3"], ["4", "--oversubscribe"]):
        CliRunner().invoke(app, [*words, *more])
        assert f"--nproc-per-node={more[0]}" in started[-1]
    # And where torchrun was called by hand.
    environment = {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}
    environment["TORCHELASTIC_RUN_ID"] = "0"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        distribution.setup()


@ONLY["torch"]
@pytest.mark.parametrize(
    "by_hand", [False, pytest.param(True, marks=pytest.mark.long)]
)
def test_no_process_outlives_its_launcher(by_hand, photographs, tmp_path):
    output = tmp_path / "run"
    words = arguments(photographs, tmp_path, output, "v1", "--epochs", "999")
    if by_hand:
        torchrun = ["-m", "torch.distributed.run", "--standalone"]
        program = ["--nproc-per-node=2", "-m", "keras_convnext"]
        launcher = start([*words, "--oversubscribe"], [*torchrun, *program])
    else:
        (launcher,) = two_devices(words)
    try:
        wait_for(output / "run.json", [launcher])
        workers = [torch_worker(launcher, rank) for rank in range(2)]
    finally:
        launcher.kill()
    # Its end comes when no worker can print any more.
    launcher.communicate(timeout=30)
    for worker in workers:
        with contextlib.suppress(FileNotFoundError):
            assert not Path(f"/proc/{worker}/cmdline").read_bytes()


def test_of_several_processes_the_first_speaks(capsys):
    class Second(cluster_module.Cluster):
        is_writer = False

    for cluster, told in ((Second(), ""), (cluster_module.Cluster(), "so\n")):
        cluster_module.make_current(cluster)
        tell("so")
        assert capsys.readouterr().err == told


def test_alone_nothing_is_shared():
    cluster = cluster_module.Cluster()
    model = small_model(dtype="float32")
    assert cluster.for_training(model) is model
    assert cluster.largest([False, 2, 0.5]) == [False, 2, 0.5]
    assert cluster.is_writer and not distribution.is_launched()


def test_parts_divide_by_the_mean_part():
    """Three programs with 1, 0 and 5 that count, seen from the second."""
    replicas = Replicas(3, lambda: 1, lambda x: x + 6.0)
    found = keras.ops.convert_to_numpy(replicas.places(4))
    assert found.tolist() == [4, 5, 6, 7]
    assert float(replicas.divisor(keras.ops.zeros(()))) == 2.0
    nowhere = Replicas(3, lambda: 1, lambda x: x)
    found = float(nowhere.divisor(keras.ops.zeros(())))
    assert found == pytest.approx(1 / 3)


@ONLY["tensorflow"]
def test_batches_of_several_tensorflow_devices_have_no_booleans():
    import tensorflow as tf

    from keras_convnext.training.distribution.in_tensorflow import (
        TensorFlowCluster,
    )

    batch = {"x": [1.5]}, {"valid": [True, False]}
    dataset = tf.data.Dataset.from_tensors(batch)
    ((x, y),) = TensorFlowCluster(2).batches(dataset)
    assert x["x"].dtype == "float32" and y["valid"].dtype == "uint8"
    assert y["valid"].numpy().tolist() == [1, 0]


@ONLY["jax"]
def test_several_jax_processes_train_no_detectors():
    from keras_convnext.training.distribution.in_jax import JaxCluster

    cluster = JaxCluster(2)
    cluster.check_detectors()
    cluster.process_count = 2
    with pytest.raises(ValueError, match="take PyTorch for several hosts"):
        cluster.check_detectors()


def invoke(*words):
    return CliRunner().invoke(app, ["plan", *words])


@pytest.mark.skipif(BACKEND != "torch", reason="models without memory")
def test_plans_of_the_largest_models():
    words = ["--model", "huge", "--devices", "64", "--memory", "80GB"]
    words += ["--image-size", "512"]
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    assert "--gradient-accumulation-steps 4 --dtype mixed_bf" in result.output
    found = json.loads(invoke(*words, "--json").output)
    parameters = found["parameters"]
    assert parameters == 660_289_640  # V2, table 1: 659 M
    assert found["state"] == {
        "weights": 4 * parameters,
        "weights in half precision": 2 * parameters,
        "accumulated gradients": 4 * parameters,
        "gradients": 4 * parameters,
        "moments": 8 * parameters,
        "average": 4 * parameters,
        "all-reduce buckets": 4 * parameters,
    }
    micro = found["device_batch"] * found["gradient_accumulation_steps"]
    assert 64 * micro == 4096
    assert found["needed"] <= 0.9 * 80e9
    # The next larger micro-batch would not have fitted.
    assert found["gradient_accumulation_steps"] > 1
    assert found["needed"] + found["activations"] > 0.9 * 80e9


def test_time_is_that_of_a_ring():
    found = distribution.plan(
        "convnext_atto", 4, "80GB", batch_size=512, rate=1000, bandwidth="1 GB"
    )
    assert found.gradient_accumulation_steps == 1 and not found.rematerialize
    ring = 2 * 3 / 4 * 4 * found.parameters / 1e9
    assert found.step_seconds == pytest.approx((0.128, 0.128 + ring))
    assert "0.128 to" in str(found)


def test_what_does_not_fit_is_made_smaller():
    plans = [
        distribution.plan("convnext_atto", 8, memory, average=False)
        for memory in ("64GB", "8GB", "2GB")
    ]
    assert [plan.gradient_accumulation_steps for plan in plans][0] == 1
    assert all(plan.needed <= 0.9 * plan.memory for plan in plans)
    assert plans[0].device_batch > plans[1].device_batch
    assert "accumulated gradients" in plans[1].state
    with pytest.raises(ValueError, match="needs at least .* GB"):
        distribution.plan("convnext_atto", 8, "50MB")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"model": "base"}, "convnext_base, convnextv2_base"),
        ({"model": "resnet50"}, "name of an architecture"),
        ({"memory": "many"}, "Received: memory='many'"),
        ({"devices": 3}, "divisible by the number of devices"),
        ({"rate": 100}, "together"),
        ({"rate": 0, "bandwidth": "1GB"}, "`rate` must be a positive number"),
        ({"dtype": "int8"}, "`dtype` must be one of"),
    ],
)
def test_plans_that_cannot_be_are_refused(options, message):
    asked = {
        "model": "convnext_atto",
        "devices": 4,
        "memory": "80GB",
        **options,
    }
    with pytest.raises(ValueError, match=message):
        distribution.plan(**asked)


@ONLY["torch"]
@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto"])
@pytest.mark.parametrize("again", [False, True])
def test_planned_activations_are_those_that_torch_keeps(name, again):
    import torch

    model = keras_convnext.create_model(
        name, weights=None, input_shape=(64, 64, 3), drop_path_rate=0.1
    )
    between, inside, _ = LAYER_BY_LAYER.elements(
        keras_convnext.profile(model), 4
    )
    expected = between if again else between + inside
    if again:
        model = keras_convnext.rematerialized(model)
    weights = {x.value.data_ptr() for x in model.variables}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = np.ones((4, 64, 64, 3), "float32")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        outputs = model(images, training=True)
    assert outputs.requires_grad
    assert sum(kept.values()) == pytest.approx(4 * 4 * expected, rel=0.3)
