"""`keras-convnext serve`, from the arguments to the exit status."""

import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import served_model
from conftest import BACKEND
from conftest import LONG_WHERE_COMPILED
from dense_models import mask_rcnn
from dense_models import segmenter
from served_model import encode
from served_model import form
from table_classifier import TableClassifier
from table_classifier import named

import keras_convnext
from keras_convnext._util import subprocesses
from keras_convnext.artifacts import open_artifact
from keras_convnext.artifacts.serving import server
from keras_convnext.cli import loading

pytestmark = LONG_WHERE_COMPILED

OTHERS = {"segment": lambda: segmenter(3), "detect": lambda: mask_rcnn(2, 64)}


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)],
)
def test_a_signal_ends_it_when_all_is_answered(number, tmp_path):
    """A real process: its line, its answers, its end with status 0."""
    model = keras_convnext.ConvNeXt(
        (1,),
        (32,),
        patch_size=4,
        input_shape=(96, 96, 3),
        classes=5,
        head_init_scale=50,
    )
    file = tmp_path / "m.onnx"
    keras_convnext.export(model, file, verify=False, verbose=False)
    command = ("-m", "keras_convnext", "serve", file, "--port", "0")
    process = subprocess.Popen(
        [sys.executable, *subprocesses.program(*command)],
        env=subprocesses.environment(BACKEND),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        found = re.fullmatch(
            rf"serving {file} on http://127\.0\.0\.1:(\d+)/predict\n", line
        )
        assert found, process.communicate(timeout=60)
        port = int(found[1])
        pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), "uint8")
        many = form(*[(str(i), encode(pixels + i)) for i in range(120)])
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(served_model.ask, port, **many)
            served_model.wait_until(
                lambda: (
                    b"waiting_images 120.0" in metrics(port) or answer.done()
                )
            )
            process.send_signal(number)
            status, _, content = answer.result()
        printed, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, printed, said) == (0, "", "")
    assert status == 200 and len(content["results"]) == 120
    image = model.preprocessing(pixels + 7)
    expected = open_artifact(file).predict(image[None])[0]
    scores = {
        int(x["id"]): x["score"] for x in content["results"][7]["predictions"]
    }
    np.testing.assert_allclose(
        [scores[i] for i in range(5)], expected, rtol=0, atol=1e-5
    )


def metrics(port):
    return served_model.ask(port, "/metrics")[2]


@pytest.fixture
def started(monkeypatch):
    """What would answer requests; the model is a table."""
    services = []

    def run(service, listener, started):
        started()
        with service:
            services.append((service, listener.getsockname()))

    artifact = TableClassifier(np.eye(2), named("ant", "bee"))
    monkeypatch.setattr(loading, "open_classifier", lambda *_, **__: artifact)
    monkeypatch.setattr(server, "run", run)
    return services


@pytest.mark.once
def test_options_reach_the_service(run_command, started):
    options = {
        "batch-size": 3,
        "queue-size": 9,
        "max-bytes": 1000,
        "max-pixels": 100,
        "max-batch-delay": 2.5,
        "timeout": 0.5,
    }
    arguments = [x for k, v in options.items() for x in (f"--{k}", v)]
    status, printed, said = run_command("serve", "m", "--port", 0, *arguments)
    ((service, (host, port)),) = started
    assert (status, said, host) == (0, "", "127.0.0.1")
    assert printed == f"serving m on http://127.0.0.1:{port}/predict\n"
    limits = service.limits.as_dict()
    assert {k.replace("_", "-"): x for k, x in limits.items()} == options
    # It was warm: a batch of one, and a full one.
    assert [len(x) for x in service.artifact.seen] == [1, 3]


@pytest.mark.once
def test_who_lets_others_in_is_warned(run_command, started):
    status, _, said = run_command(
        "serve", "m", "--port", 0, "--host", "0.0.0.0"
    )
    assert status == 0 and said.startswith("warning: whoever reaches")
    status, printed, said = run_command(
        "serve", "m", "--port", 0, "--host", "::1"
    )
    assert (status, said) == (0, "") and "http://[::1]:" in printed


@pytest.mark.once
@pytest.mark.parametrize(
    "options, message",
    [
        (["--host", "nowhere.invalid"], "--host nowhere.invalid"),
        (["--host", "192.0.2.1"], "--host 192.0.2.1, --port 0"),
        (["--batch-size", 200], "`--batch-size` may be at most `--queue-size`"),
        (["--threshold", 0.5], "`--threshold` is for models of many labels"),
        (["--timeout", 0], "`--timeout` must be a positive"),
    ],
)
def test_what_cannot_be_is_told_at_once(options, message, run_command, started):
    status, printed, said = run_command("serve", "m", "--port", 0, *options)
    assert (status, printed, started) == (2, "", [])
    assert message in said, said


@pytest.mark.once
def test_a_port_that_is_taken(run_command, started):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, printed, said = run_command("serve", "m", "--port", port)
    assert (status, printed) == (2, "")
    assert f"--port {port} (Address already in use). Choose another" in said


@pytest.mark.once
def test_exported_detectors_are_told_theirs(monkeypatch):
    metadata = {"outputs": ["boxes", "scores", "classes"]}
    artifact = TableClassifier(np.eye(2), named("ant", "bee"), **metadata)
    monkeypatch.setattr(loading.running, "open_artifact", lambda *_: artifact)
    with pytest.raises(ValueError, match="Run it with `keras-convnext detect`"):
        loading.open_classifier("m.onnx", "imagenet", is_rgb=True)


@pytest.mark.long
@pytest.mark.parametrize("kind", OTHERS)
def test_other_models_are_told_their_command(kind, run_command, tmp_path):
    OTHERS[kind]().save(tmp_path / "m.keras")
    status, printed, said = run_command(
        "serve", tmp_path / "m.keras", "--port", 0
    )
    assert (status, printed) == (2, "")
    assert f"Run it with `keras-convnext {kind}`" in said
