"""The ceilings: which products there are, and what the table says of them."""

import contextlib
import json

import ceilings
import keras
import numpy as np
import peers
import pytest
import torch
from conftest import COMPILES
from race import in_products
from race import worker
from race.process import Failure
from race.tasks import Task

from keras_convnext import VARIANTS

pytestmark = pytest.mark.once


def timms_products(name, size, count):
    """Of timm's modules, called in order."""
    found = []

    def listen(module, inputs, output):
        kernel = module.weight
        if getattr(module, "groups", 1) == 1:
            columns, inner = len(kernel), kernel[0].numel()
            found.append((output.numel() // columns, inner, columns))

    model = peers.timm_peer(VARIANTS[name], 1000)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.register_forward_hook(listen)
    with torch.no_grad():
        model(torch.zeros(count, 3, size, size))
    return found


@pytest.mark.every_backend
@pytest.mark.skipif(COMPILES, reason="they are the same on each")
def test_products_are_those_of_timm(monkeypatch):
    monkeypatch.setattr(ceilings, "MODEL", "test_convnext3")
    expected = timms_products("test_convnext3", 64, 2)
    forward = ceilings.products(Task("inference", 2, 64))
    assert forward == expected and forward[-1] == (2, 128, 1000)
    step = ceilings.products(Task("training", 2, 64))
    assert step[: len(forward)] == forward
    # Each product has two gradients of as many multiply-adds, but the first.
    counts = [np.prod(x) for x in step]
    assert sum(counts) == 3 * sum(counts[: len(forward)]) - counts[0]
    (rows, inner, columns), *_ = forward
    assert step[-1] == (inner, rows, columns)


@pytest.mark.every_backend
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_products_are_computed_one_after_the_other(mode):
    shapes = [(5, 3, 4), (5, 3, 4), (2, 4, 1000)]
    job = {"mode": mode, "batch_size": 2, "threads": 1, "products": shapes}
    name = f"{keras.backend.backend().title()}Products"
    model = getattr(in_products, name)(job)
    assert model.pairs[0][0] is model.pairs[1][0]
    run = model.prepare()
    result = run()
    worker.check(result, job)
    left, right = map(np.asarray, model.pairs[-1])
    expected = left @ right
    expected = expected[0, 0] if mode == "training" else expected
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


class FakeProcess:
    """The whole model takes twice the time of its products."""

    def __init__(self, contestant):
        self.contestant = contestant

    def answer(self):
        if "jax" in self.contestant.name and "opt" in self.contestant.name:
            raise Failure("no memory")

    def run(self):
        is_products = self.contestant.name.startswith(ceilings.PRODUCTS)
        return {"seconds": 0.1 if is_products else 0.2}


@pytest.fixture
def started(monkeypatch):
    """Names of what was started; no process is."""
    found = []

    @contextlib.contextmanager
    def start(self, contestant, task):
        found.append((str(task), contestant.name))
        yield FakeProcess(contestant)

    monkeypatch.setattr(ceilings.Starter, "start", start)
    monkeypatch.setattr(ceilings, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(ceilings, "TASKS", ceilings.TASKS[1::2])
    monkeypatch.setattr(ceilings, "products", lambda task: [])
    return found


def test_shares_are_of_the_products_on_the_same_backend(started, tmp_path):
    asked = ["--output", str(tmp_path), "--rounds", "2"]
    jax = [*asked, "--group", "jax"]
    ceilings.main([*jax, "--minutes", "-1"])
    assert not started
    ceilings.main(jax)
    assert started == [
        ("inference, batch 8, 224 px", "products/jax"),
        ("inference, batch 8, 224 px", "ours/jax"),
        ("inference, batch 8, 224 px", "ours-keeping/jax"),
        ("inference, batch 8, 224 px", "ours-optimized/jax"),
        ("training, batch 8, 128 px", "products/jax"),
        ("training, batch 8, 128 px", "ours/jax"),
        ("training, batch 8, 128 px", "ours-keeping/jax"),
    ]
    results = json.loads((tmp_path / "ceilings.json").read_text())
    row = results["inference, batch 8, 224 px, jax"]
    assert row["seconds"]["ours/jax"] == [0.2, 0.2]
    assert row["failures"] == {"ours-optimized/jax": "no memory"}
    text = (tmp_path / "ceilings.md").read_text()
    assert "| products/jax | 80 | 80 |" in text
    assert "| ours/jax | 40 (50%) | 40 (50%) |" in text
    assert "| ours-optimized/jax | – | – |" in text
    before = len(started)
    ceilings.main(jax)
    assert len(started) == before
    ceilings.main([*asked, "--group", "tensorflow"])
    assert {x.partition("/")[2] for _, x in started[before:]} == {"tensorflow"}
    assert "| ours/jax | 40" in (tmp_path / "ceilings.md").read_text()
