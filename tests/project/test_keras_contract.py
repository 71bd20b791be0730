"""What the package takes from Keras beyond its public API still is there.

`docs/decisions/borrowed_from_keras.md` lists it in a table, with the reasons.
Each of its rows is one test here, which fails by the row's name: a hook that
Keras no longer calls does nothing any more, and says nothing either.
"""

import ast
import functools
import inspect
import re
import zipfile
from collections import Counter
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import keras_convnext
from keras_convnext.models.execution import HOOKS
from keras_convnext.training.optimizers import AdamW

ROOT = Path(__file__).parents[2]
BACKEND = keras.backend.backend()
VERSION = tuple(int(x) for x in keras.__version__.split(".")[:2])
KERAS_OPTIMIZER = keras.optimizers.AdamW
STEPS, VARIABLES = 2, 2  # of the model below
SLOTS = 3 * VARIABLES  # momentum, velocity and average
# How often a `fit` of two steps calls the methods of `AdamW`. Those are
# the numbers on torch; the others trace a step, and run their trace.
CALLS = {
    "_apply_weight_decay": STEPS,
    "_backend_apply_gradients": STEPS,
    "_backend_update_step": STEPS,
    "_clip_gradients": STEPS,
    "_get_current_learning_rate": STEPS,
    "_update_model_variables_moving_average": STEPS,
    "add_variable_from_reference": SLOTS,
    "finalize_variable_values": 1,
}
PUBLIC = {"build", "exclude_from_weight_decay", "get_config"}
PUBLIC |= {"stateless_apply", "update_step"}


@functools.cache
def tiny_convnext():
    return keras_convnext.ConvNeXt(
        (1,), (8,), input_shape=(16, 16, 3), classes=2, drop_path_rate=0.5
    )


class Fitted:
    """A Dense layer after a `fit` of two steps, and who was called in it.

    Attributes:
        calls: how often, by method of the optimizer.
        rates: the third argument of the last `update_step`.
        error: what stopped the `fit`, or `None`; one row must not fail for
            another.
    """

    def __init__(self):
        self.calls, self.rates, self.error = Counter(), None, None
        methods = {name: self.counted(name) for name in (*CALLS, "update_step")}
        kind = type("Counted", (AdamW,), methods)
        self.model = keras.Sequential([keras.Input((3,)), dense()])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = kind(0.1, use_ema=True, global_clipnorm=1.0)
        self.model.compile(optimizer, loss, metrics=["accuracy"])
        images, labels = np.ones((2 * STEPS, 3), "float32"), np.zeros(2 * STEPS)
        try:
            self.model.fit(images, labels, batch_size=2, verbose=0)
        except Exception as error:
            self.error = error

    def counted(self, name):
        own = getattr(AdamW, name)

        def method(optimizer, *args, **kwargs):
            self.calls[name] += 1
            if name == "update_step":
                self.rates = args[2]
            return own(optimizer, *args, **kwargs)

        return method


def dense():
    return keras.layers.Dense(2)


@pytest.fixture(scope="module")
def fitted():
    return Fitted()


def is_called(name):
    def check(fitted):
        assert hasattr(KERAS_OPTIMIZER, name), f"Keras has no {name}"
        assert fitted.calls[name], f"Keras does not call {name}: {fitted.error}"
        if BACKEND == "torch":
            assert fitted.calls[name] == CALLS[name], f"calls of {name}"

    return check


def update_step(fitted):
    """It gets from `_backend_update_step` what that was given: our rates."""
    if BACKEND == "torch":  # has a step of its own
        assert not fitted.calls["update_step"]
        return
    assert fitted.calls["update_step"] >= VARIABLES, fitted.error
    assert len(fitted.rates) == 3


def names_of_slots(_):
    """By the name "average" the optimizer knows which ones begin as copies."""
    parameters = inspect.signature(
        KERAS_OPTIMIZER.add_variable_from_reference
    ).parameters
    assert {"name", "initializer"} <= parameters.keys()
    names = []

    class Named(KERAS_OPTIMIZER):
        def add_variable_from_reference(self, *args, **kwargs):
            names.append(kwargs.get("name", args[1:2]))
            return super().add_variable_from_reference(*args, **kwargs)

    built(Named(use_ema=True))
    assert names.count("average") == VARIABLES, names


def built(optimizer):
    layer = dense()
    layer.build((None, 3))
    optimizer.build(layer.trainable_variables)
    return optimizer


def has_slots(name):
    def check(_):
        optimizer = KERAS_OPTIMIZER(use_ema=True, gradient_accumulation_steps=2)
        slots = getattr(built(optimizer), name)
        shapes = [tuple(slot.shape) for slot in slots]
        assert shapes == [(3, 2), (2,)], f"{name}: {shapes}"

    return check


def variable_index(_):
    optimizer = built(KERAS_OPTIMIZER())
    variables = optimizer._trainable_variables
    assert [optimizer._get_variable_index(x) for x in variables] == [0, 1]


def iterations(_):
    """It counts micro-batches; the public property counts steps."""
    optimizer = built(KERAS_OPTIMIZER(gradient_accumulation_steps=2))
    optimizer._iterations.assign(7)
    assert int(optimizer.iterations) == 3


def learning_rate(_):
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    assert KERAS_OPTIMIZER(schedule)._learning_rate is schedule


def inner_optimizer(_):
    inner = KERAS_OPTIMIZER()
    outer = keras.optimizers.LossScaleOptimizer(inner)
    assert outer.inner_optimizer is inner


def metric_variables(fitted):
    """Sums, which may be added up over processes and epochs."""
    metric = keras.metrics.Mean()
    for values in ([1.0, 2.0], [6.0]):
        metric.update_state(values)
    sums = {x.name: float(np.array(x)) for x in metric.variables}
    assert sums == {"total": 9.0, "count": 3.0}
    names = [x.name for x in fitted.model.metrics_variables]
    assert sorted(names) == ["count", "count", "total", "total"]


def averaged_by_keras(fitted):
    """`distribution/gradients.py` switches it off."""
    since = BACKEND == "torch" and VERSION >= (3, 16)
    assert hasattr(fitted.model, "ddp_model") == since
    if since:
        assert fitted.model.ddp_model is None
    assert fitted.model.get_metrics_result().keys() == {"loss", "accuracy"}


def remat_mode(_):
    with keras.RematScope(mode="full"):
        within = dense()
    assert within._remat_mode is not None
    assert dense()._remat_mode is None


def quantization_mode(_):
    policy = keras.dtype_policies.get("int8_from_float32")
    assert policy.quantization_mode == "int8"
    parameters = inspect.signature(keras.layers.Dense.quantize).parameters
    assert {"mode", "type_check", "config"} <= parameters.keys()


def lora(_):
    layer = dense()
    layer.build((None, 3))
    assert layer.lora_enabled is False
    layer.enable_lora(1, lora_alpha=2)
    assert layer.lora_enabled
    config = layer.get_config()
    assert (config["lora_rank"], config["lora_alpha"]) == (1, 2)
    layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    kernel, _, a, b = layer.get_weights()
    names = [weight.name for weight in layer.weights]
    assert names == ["kernel", "bias", "lora_kernel_a", "lora_kernel_b"]
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(layer.kernel), kernel + 2 * a @ b, rtol=1e-6
    )


def seed_generator_state(_):
    names = [x.name for x in keras.layers.Dropout(0.5).variables]
    assert names == ["seed_generator_state"]


def constructor(_):
    """A subclass with these arguments is a Functional model, with a graph."""
    config = tiny_convnext().get_config()
    assert {"layers", "input_layers", "output_layers"} <= config.keys()


def names_in_errors(_):
    """Ours raise first; Keras' own words would be others."""
    image = keras.Input((16, 16, 3))
    both = [
        keras_convnext.ConvNeXt((1,), (8,), include_top=False, name="same")
        for _ in range(2)
    ]
    with pytest.raises(ValueError, match="two called 'same'"):
        keras.Model(image, [model(image) for model in both])
    with pytest.raises(ValueError, match="two called 'same'"):
        keras.Sequential(both)


def saved_names(folder):
    model = tiny_convnext()
    model.save(folder / "tiny.keras")
    with zipfile.ZipFile(folder / "tiny.keras") as archive:
        archive.extract("model.weights.h5", folder)
    with h5py.File(folder / "model.weights.h5") as file:
        for kind, name in (
            ("conv2d", "stem_conv"),
            ("depthwise_conv2d", "stage_0_block_0_depthwise"),
            ("layer_scale", "stage_0_block_0_layer_scale"),
            ("dense_1", "stage_0_block_0_project"),
        ):
            saved = file["layers"][kind]["vars"]
            assert saved.attrs["name"] == name
            values = model.get_layer(name).get_weights()
            assert saved.keys() == {str(i) for i in range(len(values))}
            for i, value in enumerate(values):
                np.testing.assert_array_equal(saved[str(i)], value)


def clone_of_the_same_layers(_):
    model = tiny_convnext()
    called = []

    def call(layer, *args, **kwargs):
        called.append(layer)
        return layer(*args, **kwargs)

    clone = keras.models.clone_model(
        model, clone_function=lambda layer: layer, call_function=call
    )
    assert type(clone) is type(model)
    # The first is the input.
    assert clone.layers[1:] == model.layers[1:] == called


def callback_list(_):
    """Who calls `set_model` holds all callbacks, which it iterates over."""
    others = [keras.callbacks.TerminateOnNaN(), keras.callbacks.History()]
    swap = keras_convnext.optimizers.SwapAveragedWeights()
    listed = keras.callbacks.CallbackList(
        [*others, swap], model=tiny_convnext()
    )
    assert listed.callbacks == [swap, *others]


def torch_hooks(_):
    from torch import nn
    from torch.nn.modules import module

    layer = nn.Linear(1, 1)
    for name in HOOKS:
        assert not getattr(layer, name)
    layer.register_forward_hook(print)
    layer.register_forward_pre_hook(print)
    layer.register_full_backward_hook(print)
    layer.register_full_backward_pre_hook(print)
    for name in HOOKS:
        assert len(getattr(layer, name)) == 1
    assert not module._has_any_global_hook()
    handle = module.register_module_forward_hook(print)
    assert module._has_any_global_hook()
    handle.remove()


# In the order of the table in borrowed_from_keras.md, by its first column.
CONTRACT = {
    **{f"Optimizer.{name}": is_called(name) for name in sorted(CALLS)},
    "Optimizer.update_step": update_step,
    'add_variable_from_reference(name="average")': names_of_slots,
    "Optimizer._get_variable_index": variable_index,
    "Optimizer._iterations": iterations,
    "Optimizer._learning_rate": learning_rate,
    **{
        f"Optimizer.{name}": has_slots(name)
        for name in (
            "_accumulated_gradients",
            "_momentums",
            "_velocities",
            "_model_variables_moving_average",
            "_trainable_variables",
        )
    },
    "LossScaleOptimizer.inner_optimizer": inner_optimizer,
    "Model.metrics_variables": metric_variables,
    "Model.ddp_model": averaged_by_keras,
    "Layer._remat_mode": remat_mode,
    "DTypePolicy.quantization_mode": quantization_mode,
    "Layer.lora_enabled": lora,
    "seed_generator_state": seed_generator_state,
    "Model(inputs, outputs, name)": constructor,
    "map_graph`, `_is_layer_name_unique": names_in_errors,
    "layers/<class>/vars/<i>": saved_names,
    "clone_model(clone_function, call_function)": clone_of_the_same_layers,
    "CallbackList.callbacks": callback_list,
    "torch.nn.modules.module._has_any_global_hook": torch_hooks,
}


@pytest.mark.parametrize("row", CONTRACT)
def test_keras_still_has(row, fitted, tmp_path):
    check = CONTRACT[row]
    check(tmp_path if check is saved_names else fitted)


def test_the_table_is_what_is_tested():
    decisions = ROOT / "docs" / "decisions"
    page = (decisions / "borrowed_from_keras.md").read_text()
    assert re.findall(r"^\| `(.+?)` \|", page, re.MULTILINE) == [*CONTRACT]


def test_all_overridden_hooks_are_in_the_table():
    own = {name for name in vars(AdamW) if not name.startswith("__")}
    hooks = {name for name in own if hasattr(KERAS_OPTIMIZER, name)}
    assert hooks - PUBLIC == CALLS.keys()


def test_all_private_attributes_are_in_the_table():
    used, own = set(), set()
    for path in ROOT.glob("keras_convnext/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case (
                    ast.FunctionDef(name=name)
                    | ast.AsyncFunctionDef(name=name)
                    | ast.ClassDef(name=name)
                ):
                    own.add(name)
                case ast.Attribute(attr=name, ctx=ast.Store()):
                    own.add(name)
                case ast.Attribute(value=ast.Name(id="os"), attr="_exit"):
                    pass  # Python's, and documented
                case (
                    ast.Attribute(attr=name)
                    | ast.Call(
                        func=ast.Name(id="getattr" | "hasattr"),
                        args=[_, ast.Constant(value=name), *_],
                    )
                ):
                    used.add(name)
    private = {x for x in used - own if re.match("_[a-z]", x)}
    assert private, "the search finds nothing any more"
    assert private <= {row.split(".")[-1] for row in CONTRACT}
