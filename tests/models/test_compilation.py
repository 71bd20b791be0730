"""Compiled by PyTorch a model is one graph, and computes what it did.

These compilers make the graphs that Inductor gets and run them by PyTorch's own
functions, which takes no C++ compiler; a long proof has one.
"""

import shutil
from functools import partial

import keras
import numpy as np
import pytest
from families import FAMILIES
from families import every_weight_matters

import keras_convnext
from keras_convnext.models.construction import build

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="others compile by themselves"
)

SIZE = 32
LOSS = "sparse_categorical_crossentropy"
has_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")),
    reason="Inductor needs a C++ compiler",
)


@pytest.fixture
def counts():
    """How many graphs there were, and breaks between them."""
    import torch
    from torch._dynamo.utils import counters

    def counted():
        return (
            counters["stats"]["unique_graphs"],
            sum(counters["graph_break"].values()),
        )

    torch.compiler.reset()
    counters.clear()
    yield counted
    torch.compiler.reset()


@pytest.fixture
def compiler(monkeypatch):
    import torch

    compiler = partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", compiler)
    return compiler


def small(name="v1", **options):
    options = {"input_shape": (SIZE, SIZE, 3), "classes": 3, **options}
    return every_weight_matters(build(FAMILIES[name], weights=None, **options))


def images(count, size=SIZE):
    import torch

    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, size, size, 3, generator=generator) * 255


def assert_close(found, expected, atol=1e-5):
    found, expected = map(keras.ops.convert_to_numpy, (found, expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


# One of each version; recording takes seconds.
FEW = ("v1", "v2")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(x, marks=() if x in FEW else pytest.mark.long)
        for x in FAMILIES
    ],
)
def test_every_family_is_recorded_for_any_batch(name, monkeypatch):
    """As the compiler records it; how it gets there is the same for all."""
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    model = small(name)
    recorded = model._compilable
    with torch.no_grad():
        recorded._prepare()
        weights = recorded._weights
        graph = make_fx(
            lambda given, *weights: recorded._compute(given, weights, []),
            tracing_mode="symbolic",
            # Sizes that are alike are taken for one: no kernel has this.
        )(images(11), *weights)
        monkeypatch.undo()
        for batch in (2, 7):
            found = graph(images(batch), *weights)
            assert_close(found, model(images(batch)))


def test_a_model_is_one_graph_for_any_batch(compiler, counts):
    import torch

    model = small("v2")
    compiled = compiler(model, fullgraph=True)
    with torch.no_grad():
        for batch in (3, 2, 5):
            assert_close(compiled(images(batch)), model(images(batch)))
    # The second is for batches of any size.
    assert counts() == (2, 0)


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_bfloat16"])
def test_every_family_is_one_graph_in_every_dtype(
    name, dtype, compiler, counts
):
    model = small(name, dtype=dtype, input_shape=(None, None, 3))
    compiled = compiler(model, dynamic=True, fullgraph=True)
    tolerance = {"float32": 1e-5, "float64": 1e-12, "mixed_bfloat16": 1e-2}
    for batch, size in ((2, 32), (3, 64)):
        given = images(batch, size)
        assert_close(compiled(given), model(given), atol=tolerance[dtype])
    assert counts() == (1, 0)


@pytest.mark.long
@has_compiler
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("freezing", [False, True])
def test_inductor_computes_the_same(name, freezing, counts):
    import torch

    model = keras_convnext.optimize_for_inference(small(name))
    with torch.no_grad(), torch._inductor.config.patch(freezing=freezing):
        compiled = torch.compile(model)
        for batch in (2, 3):
            given = images(batch)
            assert_close(compiled(given), model(given), atol=1e-4)
    assert counts() == (2, 0)


def gradients(model, call, given):
    """After a step whose draws are always the same."""
    reset_draws(model)
    model.zero_grad()
    call(given, training=True).square().sum().backward()
    return [x.value.grad.clone() for x in model.trainable_variables]


def reset_draws(model):
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.seed_generator.state.assign([7, 5])


def test_training_draws_and_learns_as_before(compiler, counts):
    model = least()
    expected = gradients(model, model, images(4))
    found = gradients(model, compiler(model), images(4))
    for one, other in zip(found, expected):
        assert_close(one, other, atol=1e-5 * float(other.abs().max()))
    # The images before the draws, and the model behind them.
    assert counts()[0] == 2


def least():
    """The smallest of models, with draws."""
    model = keras_convnext.ConvNeXt(
        (2,),
        (8,),
        input_shape=(SIZE, SIZE, 3),
        classes=3,
        drop_path_rate=0.5,
    )
    return every_weight_matters(model)


def test_changed_layers_are_noticed(compiler, counts):
    model = least()
    compiled = compiler(model, backend="eager")
    compiled(images(2))
    model.get_layer("head_norm").gamma.assign([2.0] * 8)
    assert_close(compiled(images(2)), model(images(2)))
    assert counts()[0] == 1
    model.get_layer("stage_0_block_0_expand").enable_lora(2)
    every_weight_matters(model)
    assert_close(compiled(images(2)), model(images(2)))
    assert counts()[0] == 2


@pytest.mark.long
def test_hooks_are_called(compiler):
    model = least()
    calls = []
    model.get_layer("stem_conv").register_forward_hook(
        lambda *arguments: calls.append(arguments)
    )
    compiler(model)(images(2))
    assert calls


def fitted(jit_compile):
    model = least()
    reset_draws(model)
    model.compile("sgd", LOSS, metrics=["accuracy"], jit_compile=jit_compile)
    given, labels = images(8).numpy(), np.arange(8) % 3
    given = given / np.linspace(1, 2, 8)[:, None, None, None]
    options = {"batch_size": 4, "verbose": 0}
    history = model.fit(given, labels, epochs=2, shuffle=False, **options)
    scores = model.evaluate(given, labels, **options)
    return history.history["loss"], scores, model.predict(given, **options)


def test_fit_evaluate_and_predict_compile_the_model_alone(monkeypatch):
    import torch

    graphs = []

    def backend(graph, inputs):
        graphs.append([str(node.target) for node in graph.graph.nodes])
        return graph

    torch.compiler.reset()
    monkeypatch.setattr(
        torch, "compile", partial(torch.compile, backend=backend)
    )
    expected = fitted(False)
    assert not graphs
    for found, other in zip(fitted(True), expected):
        np.testing.assert_allclose(found, other, rtol=1e-4, atol=1e-5)
    # One for training, one for both others.
    assert sum("Compilable" in str(graph) for graph in graphs) == 2
    assert max(map(len, graphs)) < 40  # the weights, and three operations


def test_without_a_compiler_the_error_says_what_to_install(monkeypatch):
    import torch
    from torch._inductor.exc import InvalidCxxCompiler

    def backend(graph, inputs):
        raise InvalidCxxCompiler

    torch.compiler.reset()
    monkeypatch.setattr(
        torch, "compile", partial(torch.compile, backend=backend)
    )
    model = least()
    model.compile(jit_compile=True)
    with pytest.raises(RuntimeError, match=r"C\+\+ compiler.*g\+\+"):
        model.predict(images(1).numpy(), verbose=0)
    torch.compiler.reset()
